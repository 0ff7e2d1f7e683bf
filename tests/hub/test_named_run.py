import pytest

from layerbridge.hub.named_run import split_name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("runs/x", (None, "runs/x")),
        ("mine=runs/x", ("mine", "runs/x")),
        ("lr 1e-3=runs/x=y", ("lr 1e-3", "runs/x=y")),
        ("=runs/x", (None, "=runs/x")),
        ("mine=", (None, "mine=")),
    ],
)
def test_a_name_is_what_comes_before_the_first_sign(given, expected):
    assert split_name(given) == expected


def test_what_exists_is_a_path(tmp_path):
    folder = tmp_path / "lr=1"
    folder.mkdir()
    assert split_name(folder) == (None, str(folder))
    assert split_name(f"mine={folder}") == ("mine", str(folder))
