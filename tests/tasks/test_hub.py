import pytest

from layerbridge.errors import DataError
from layerbridge.tasks import hub as names
from layerbridge.tasks.files import read_rows

FILE = "hf://datasets/some/reviews@refs/convert/parquet/de/test/rows.jsonl"


def test_a_file_of_the_hub_is_read_like_a_local_one(write, hub):
    path = write("rows.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    hub.files["some/reviews", "de/test/rows.jsonl"] = path
    assert read_rows(FILE, language="de") == read_rows(path, language="de")
    assert hub.asked == [("some/reviews", "de/test/rows.jsonl", "dataset", "refs/convert/parquet")]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hf://datasets/a/b/c.csv", ("a/b", "c.csv", "dataset", None)),
        ("hf://datasets/a/b@v1.0/c/d.csv", ("a/b", "c/d.csv", "dataset", "v1.0")),
        ("hf://datasets/a/b@refs/pr/7/d.csv", ("a/b", "d.csv", "dataset", "refs/pr/7")),
    ],
)
def test_revision_and_path(write, hub, source, asked):
    hub.files[asked[0], asked[1]] = write("rows.csv", [])
    assert names.fetch(source) == hub.files[asked[0], asked[1]]
    assert hub.asked == [asked]


def test_complaints_name_the_data_set_and_not_the_cache(write, hub):
    hub.files["some/reviews", "de/test/rows.jsonl"] = write("x.jsonl", [{"text": "", "label": ""}])
    with pytest.raises(DataError) as caught:
        read_rows(FILE)
    assert str(caught.value) == f"{FILE}, row 1 has no label in column 'label'"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            FILE,
            f"cannot load the data set {FILE} from the hub (no network); next: check the id "
            "and the network, or give a file",
        ),
        (
            "hf://datasets/reviews.jsonl",
            "hf://datasets/reviews.jsonl does not name a file on the hub; allowed: "
            "hf://datasets/OWNER/NAME/PATH, or hf://datasets/OWNER/NAME@REVISION/PATH",
        ),
        (
            "hf://datasets/a/b/c.zip",
            "hf://datasets/a/b/c.zip has an unsupported format; allowed: .jsonl, .csv, "
            ".tsv, .parquet",
        ),
    ],
)
def test_what_cannot_be_had(hub, source, message):
    with pytest.raises(DataError) as caught:
        read_rows(source)
    assert str(caught.value) == message


def test_a_cached_file_is_one_for_the_hubs_own_client_too(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = "hf://datasets/some/reviews/en/test.jsonl"
    assert not names.is_cached(source)
    folder = tmp_path / "datasets--some--reviews"
    for commit, path, revision in (
        ("abc", "en/test.jsonl", "main"),
        ("def", "de/test.jsonl", "refs/convert/parquet"),
    ):
        (folder / "snapshots" / commit / path).parent.mkdir(parents=True)
        (folder / "snapshots" / commit / path).touch()
        (folder / "refs" / revision).parent.mkdir(parents=True)
        (folder / "refs" / revision).write_text(commit)
    seen = []
    for path in ("en/test.jsonl", "de/test.jsonl", "fr/test.jsonl"):
        for revision in (None, "refs/convert/parquet", "abc", "v1"):
            found = huggingface_hub.try_to_load_from_cache(
                "some/reviews", path, cache_dir=tmp_path, repo_type="dataset", revision=revision
            )
            at = f"@{revision}" if revision else ""
            seen.append(names.is_cached(f"hf://datasets/some/reviews{at}/{path}"))
            assert seen[-1] is isinstance(found, str), (path, revision)
    assert sum(seen) == 3


def test_a_cached_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    (tmp_path / "facebook___xnli" / "sw" / "0.0.0").mkdir(parents=True)
    (tmp_path / "me___mine" / "default" / "0.0.0").mkdir(parents=True)
    assert names.is_cached("facebook/xnli:sw:test")
    assert not names.is_cached("facebook/xnli:th:test")
    assert names.is_cached("me/mine::train")
    assert names.is_cached("me/mine")
    assert not names.is_cached("me/yours")
