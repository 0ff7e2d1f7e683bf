import errno
import stat

import pytest

from layerbridge.errors import OutputError
from layerbridge.training.atomic_write import atomic_write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folders_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    assert atomic_write("නැත\n", path) == path
    assert path.read_bytes() == "නැත\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert names(path.parent) == ["a.txt"]


def test_a_file_that_is_there_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a text that is longer than the next")
    assert atomic_write("after", path).read_text() == "after"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("full"), "full"),
    ],
)
def test_it_is_written_whole_or_not_at_all(tmp_path, monkeypatch, error, message):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def full(*_):
        raise error

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OutputError) as caught:
        atomic_write("after", path)
    assert str(caught.value) == f"{path} cannot be written ({message}); next: choose another folder"
    with pytest.raises(OutputError, match=r"; next: free some disk$"):
        atomic_write("after", path, hint="free some disk")
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "b").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        atomic_write("after", tmp_path / "b" / "a.txt")
    assert names(tmp_path) == ["b"]


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_write("after", tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_a_text_that_is_none_leaves_nothing_behind(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        atomic_write("half of a pair: \ud800", tmp_path / "a.txt")
    assert names(tmp_path) == []
