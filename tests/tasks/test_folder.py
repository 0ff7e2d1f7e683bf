import pytest

from layerbridge.errors import DataError
from layerbridge.tasks.folder import Folders, file_names


@pytest.fixture
def make(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


@pytest.mark.parametrize(
    ("name", "split", "code"),
    [
        ("train-en.jsonl", "train", "en"),
        ("train.parquet", "train", "en"),
        ("valid-de-ba.csv", "validation", "de-ba"),
        ("dev-sw.tsv", "validation", "sw"),
        ("validation-sw.jsonl", "validation", "sw"),
        ("test-sw.tsv", "test", "sw"),
        ("sw/test.jsonl", "test", "sw"),
        ("eng_Latn/dev.tsv", "validation", "eng_Latn"),
    ],
)
def test_layout(make, name, split, code):
    folder = make(name, "test-other.jsonl", "dev-other.jsonl")
    folders = Folders.of(folder, ["xnli"])
    assert folders.find(split, [code]) == str(folder / name)
    nameless = name == "train.parquet"
    assert folders.find(split, ["xx"]) == (str(folder / name) if nameless else None)


def test_a_language_has_several_names(make):
    folder = make("test-sin_Sinh.tsv")
    assert Folders.of(folder, []).find("test", ["si", "sin_Sinh"]) == str(
        folder / "test-sin_Sinh.tsv"
    )


def test_no_other_file_will_do(make):
    folders = Folders.of(make("test-en.txt", "test.jsonl", "test-en.jsonl.bak"), [])
    assert folders.find("test", ["en"]) is None


def test_the_first_folder_wins_and_a_subfolder_comes_before_its_folder(make, tmp_path):
    make("a/xnli/test-en.csv", "a/test-en.csv", "a/test-sw.csv", "b/test-en.csv", "b/train.csv")
    folders = Folders.of([tmp_path / "a", str(tmp_path / "b")], ["xnli", "absent"])
    assert folders.paths == (tmp_path / "a" / "xnli", tmp_path / "a", tmp_path / "b")
    assert str(folders) == ", ".join(map(str, folders.paths))
    found = [folders.find("test", ["en"]), folders.find("test", ["sw"]), folders.find("train", [])]
    assert found == [
        str(tmp_path / name) for name in ("a/xnli/test-en.csv", "a/test-sw.csv", "b/train.csv")
    ]


@pytest.mark.parametrize(
    "names", [("test-en.csv", "test-en.jsonl"), ("test-en.csv", "en/test.csv")]
)
def test_two_files_of_one_split(make, names):
    folder = make(*names)
    with pytest.raises(DataError) as caught:
        Folders.of(folder, []).find("test", ["en"])
    first, second = sorted(names, key=lambda name: ("/" in name, name.endswith(".csv")))
    assert str(caught.value) == (
        f"both {folder / first} and {folder / second} exist; next: keep one of them"
    )


def test_missing_folders(tmp_path):
    with pytest.raises(DataError) as caught:
        Folders.of(tmp_path / "none", [])
    assert (
        str(caught.value) == f"the folder {tmp_path / 'none'} does not exist; next: check data_dir"
    )
    with pytest.raises(DataError, match=r"^data_dir is empty; allowed: one or more folders$"):
        Folders.of([], [])


def test_file_names():
    endings = "ending in .jsonl, .csv, .tsv, .parquet"
    assert file_names("train", "en") == f"train-en or train, {endings}"
    assert file_names("test", "sw") == f"test-sw, {endings}"
