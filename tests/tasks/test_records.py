import pytest

from layerbridge.errors import DataError
from layerbridge.tasks import records

TEXTS = ["one", "", 'two\n"lines"', "ආයුබෝවන්"]


@pytest.fixture
def sources(write, tmp_path):
    """The same four rows in every format."""
    import csv

    import pyarrow
    import pyarrow.parquet

    write("a.jsonl", [{"text": text} for text in TEXTS])
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write("\n  \n")
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8-sig") as file:
            rows = csv.writer(file, delimiter=delimiter)
            rows.writerows([["text"], *([text or "-"] for text in TEXTS)])
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), tmp_path / "a.parquet")
    return [str(tmp_path / f"a{suffix}") for suffix in records.SUFFIXES]


def test_count_is_the_number_of_records(sources):
    for source in sources:
        assert records.count(source) == len(records.read(source).records) == 4, source
    assert records.count("facebook/xnli:en:train") is None
    assert records.count("hf://datasets/a/b/c.jsonl") is None


def test_counting_what_is_not_there_or_damaged(tmp_path):
    with pytest.raises(
        DataError, match=r"^the file .*a\.jsonl does not exist; next: check the path$"
    ):
        records.count(str(tmp_path / "a.jsonl"))
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file"):
        records.count(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("source", "local"),
    [
        ("rows.jsonl", True),
        ("a/b/ROWS.CSV", True),
        ("facebook/xnli:en:train", False),
        ("squad", False),
        ("hf://datasets/a/b/c.jsonl", False),
    ],
)
def test_is_local(source, local):
    assert records.is_local(source) is local
