import datetime
import json
from decimal import Decimal

import pytest

from layerbridge.errors import DataError
from layerbridge.tasks import records
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.labels import Labels


@pytest.fixture
def make(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def problem(source, **options):
    with pytest.raises(DataError) as error:
        read_rows(source, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


RECORDS = [{"text": "ආයුබෝවන්", "label": "yes", "n": 1}, {"text": "", "label": "no", "n": 2}]
JSONL = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)


def parquet(path, records):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def test_every_format_gives_the_same_rows(make, tmp_path):
    sources = [
        make("a.jsonl", JSONL),
        make("a.csv", "text,label,n\nආයුබෝවන්,yes,1\n,no,2\n"),
        make("a.tsv", "\ufefftext\tlabel\tn\r\nආයුබෝවන්\tyes\t1\r\n\tno\t2\r\n"),
        parquet(tmp_path / "a.parquet", RECORDS),
    ]
    rows = read_rows(sources[0], language="si", options=("yes", "no"))
    assert [(r.id, r.text, r.target, r.language) for r in rows] == [
        ("1", "ආයුබෝවන්", "yes", "si"),
        ("2", "", "no", "si"),
    ]
    assert rows[1].fields == {"text": "", "label": "no", "n": "2"}
    for source in sources[1:]:
        assert read_rows(str(source), language="si") == rows


def test_columns_template_and_ids(make):
    path = make(
        "a.jsonl",
        '{"id": "x7", "p": "A", "h": 2.5, "y": 3}\n{"id": "x8", "p": null, "h": 1, "y": 4}\n',
    )
    rows = read_rows(path, template="P: {p} H: {h}", target="y", options=["3", "4"])
    assert [(r.id, r.text, r.target) for r in rows] == [
        ("x7", "P: A H: 2.5", "3"),
        ("x8", "P:  H: 1", "4"),
    ]
    assert [r.text for r in read_rows(path, text="h", target="y")] == ["2.5", "1"]


def test_repeated_ids_are_not_used(make):
    path = make("a.csv", "id,text,target\n7,a,x\n7,b,x\n")
    assert [row.id for row in read_rows(path)] == ["1", "2"]


def test_csv_with_line_breaks_in_cells(make):
    path = make("a.csv", 'text,label\n"a, ""b""\nc",x\n')
    assert read_rows(path)[0].text == 'a, "b"\nc'


def test_malformed_jsonl(make):
    path = make("a.jsonl", JSONL + "\n{'text': 1}\n")
    assert problem(path) == (
        f"{path}, line 4 is not JSON (Expecting property name enclosed in double quotes "
        "at character 2); allowed: one JSON object per line"
    )


@pytest.mark.parametrize(
    ("line", "kind"), [("[1]", "a list"), ('"a"', "a string"), ("3", "a number"), ("null", "null")]
)
def test_jsonl_that_is_no_object(make, line, kind):
    path = make("a.jsonl", line)
    assert problem(path) == f"{path}, line 1 is {kind}; allowed: one JSON object per line"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", ""), ("a.jsonl", "\n\n"), ("a.csv", ""), ("a.csv", "text,label\n")],
)
def test_empty_file(make, name, content):
    path = make(name, content)
    assert problem(path) == f"{path} has no rows"


def test_wrong_column(make):
    path = make("a.jsonl", JSONL)
    assert problem(path, text="txt") == f"{path} has no column 'txt'; allowed: text, label, n"
    assert problem(path, target="y") == f"{path} has no column 'y'; allowed: text, label, n"
    assert (
        problem(path, template="{text} {x}") == f"{path} has no column 'x'; allowed: text, label, n"
    )


def test_column_missing_in_one_row(make):
    path = make("a.jsonl", '{"text": "a", "label": "x"}\n{"label": "x"}\n')
    assert problem(path) == f"{path}, line 2 has no column 'text'; allowed: label"


@pytest.mark.parametrize("missing", ["text", "target"])
def test_a_default_column_that_is_missing(make, missing):
    columns = [*{"text", "target"} - {missing}, "headline"]
    path = make("a.csv", f"{','.join(columns)}\na,b\n")
    assert problem(path) == (
        f"{path} has no column {missing!r}; allowed: {', '.join(columns)}; "
        f"next: --{missing} COLUMN names another one"
    )


def test_text_and_template(make):
    assert problem(make("a.jsonl", JSONL), text="text", template="{text}") == (
        "both a text column ('text') and a template were given; allowed: one of the two"
    )


def test_rows_with_another_label_are_counted_and_left_out(make, capsys):
    path = make("a.csv", 'text,label\na,yes\nb,maybe\nc,no\nd,maybe\n"e\nf",other\n')
    rows = read_rows(path, options=["yes", "no"], skip_unknown=True)
    # Row numbers stay those of the file.
    assert [(row.id, row.text) for row in rows] == [("1", "a"), ("3", "c")]
    assert capsys.readouterr().err.splitlines()[0] == (
        f"rows left out of {path}: 3 with other labels (maybe 2, other 1)"
    )
    with pytest.raises(DataError) as caught:
        read_rows(path, options=["good"], skip_unknown=True)
    assert str(caught.value) == f"{path} has no row with a known label; allowed: good"


def test_label_outside_the_options(make):
    path = make("a.csv", "text,label\na,yes\nb,Yes\n")
    assert problem(path, options=("yes", "no")) == (
        f"{path}, line 3 has the label 'Yes'; allowed: yes, no"
    )


@pytest.mark.parametrize("label", ["null", '""', '" "', "NaN"])
def test_empty_label(make, label):
    path = make("a.jsonl", f'{{"text": "a", "label": {label}}}')
    assert problem(path, options=("yes", "no")) == (
        f"{path}, line 1 has no label in column 'label'; allowed: yes, no"
    )


@pytest.mark.parametrize(
    ("options", "column", "reader"),
    [
        ({"text": "label"}, "label", "the text column"),
        ({"text": "label", "target": "label"}, "label", "the text column"),
        ({"target": "text"}, "text", "the text column"),
        ({"template": "T: {text} {label}"}, "label", "in the template 'T: {text} {label}'"),
        ({"template": "{n}", "target": "n"}, "n", "in the template '{n}'"),
    ],
)
def test_a_text_with_the_answer_in_it(make, options, column, reader):
    path = make("a.jsonl", JSONL)
    allowed = [name for name in ("text", "label", "n") if name != column]
    assert problem(path, **options) == (
        f"the target column {column!r} is also {reader}, so the encoder would read the answer; "
        f"allowed: {', '.join(allowed)}"
    )


@pytest.mark.parametrize("template", ["", "Label: ", "{{text}}"])
def test_a_template_without_a_column(make, template):
    assert problem(make("a.jsonl", JSONL), template=template) == (
        f"the template {template!r} names no column; allowed: text with columns in braces, such "
        "as 'Review: {text} Label: '"
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"a", "binary data"),
        (["a"], "a list"),
        ({"a": 1}, "an object"),
        (datetime.timedelta(1), "a value of type timedelta"),
    ],
)
def test_values_that_are_no_text(tmp_path, value, kind):
    path = parquet(tmp_path / "a.parquet", [{"text": "a", "label": "x", "other": value}])
    assert problem(path, text="other") == (
        f"{path}, row 1 has {kind} in column 'other'; allowed: text or a number"
    )
    assert problem(path, target="other").startswith(f"{path}, row 1 has {kind} in column 'other'")
    # An image beside the text, for example.
    (row,) = read_rows(path)
    assert row.text == "a"
    assert ("other" in row.fields) == isinstance(value, (list, dict))


def test_numbers_and_dates_are_spelled(tmp_path):
    values = {
        "a": Decimal("1.50"), "b": datetime.date(2026, 1, 2), "c": datetime.time(3, 4), "d": True,
        "e": 2.5, "f": None, "g": float("nan"),
    }  # fmt: skip
    path = parquet(tmp_path / "a.parquet", [{**values, "label": "x"}])
    template = " ".join(f"{{{name}}}" for name in values)
    (row,) = read_rows(path, template=template)
    assert row.text == "1.50 2026-01-02 03:04:00 True 2.5  "


@pytest.mark.parametrize("column", ["text", "label", "id"])
@pytest.mark.parametrize("half", ["\\ud83d", "x\\udc00", "\\udce9"])
def test_half_a_character(make, column, half):
    values = {"id": "7", "text": "a", "label": "x"}
    line = json.dumps({**values, column: "HALF"}).replace("HALF", half)
    path = make("a.jsonl", f"{json.dumps(values)}\n{line}\n")
    assert problem(path) == (
        f"{path}, line 2, column {column!r}, has an unpaired surrogate ({half[-6:]}), which is "
        "half a character; next: write it again as UTF-8"
    )


def test_half_a_character_that_nobody_reads(make):
    path = make("a.jsonl", '{"text": "\\ud83d\\ude42", "label": "x", "other": "\\ud83d"}')
    assert read_rows(path)[0].text == "🙂"


@pytest.mark.parametrize("options", [("a", "a"), ("a", " "), ("", "a"), ("é", "e\u0301"), "ab"])
def test_options_that_are_none(make, options):
    assert problem(make("a.jsonl", JSONL), options=options).startswith(
        ("duplicate option", "an option is empty; allowed: label words", "options is a string")
    )


def test_a_label_in_another_unicode_form(make):
    path = make("a.jsonl", '{"text": "a", "label": "cafe\\u0301"}')
    assert read_rows(path, options=("café", "bar"))[0].target == "café"
    labels = Labels({"café": "coffee", "bar": "beer"})
    assert read_rows(path, labels=labels)[0].target == "coffee"


def test_label_that_is_a_list(make):
    path = make("a.jsonl", '{"text": "a", "label": ["x"]}')
    assert problem(path) == (
        f"{path}, line 1 has a list in column 'label'; allowed: text or a number"
    )


def test_missing_file(tmp_path):
    path = tmp_path / "none.csv"
    assert problem(path) == f"the file {path} does not exist; next: check the path"


def test_folder(tmp_path):
    assert problem(tmp_path) == (
        f"{tmp_path} is a folder; allowed: a file ending in .jsonl, .csv, .tsv, .parquet"
    )


def test_other_formats(make):
    allowed = ".jsonl, .csv, .tsv, .parquet, or a hub id such as facebook/xnli:en:validation"
    path = make("a.xlsx", "x")
    assert problem(path) == f"{path} has an unsupported format; allowed: {allowed}"
    assert problem("none.txt") == f"none.txt has an unsupported format; allowed: {allowed}"


def test_not_utf8(make):
    path = make("a.csv", "text,label\nné,x\n".encode("latin-1"))
    assert problem(path) == (
        f"{path}, line 2 is not UTF-8 (byte 2 of the line); next: save the file as UTF-8"
    )


def test_ragged_csv(make):
    path = make("a.csv", "text,label\na,b,c\n")
    assert problem(path) == (
        f"{path}, line 2 has 3 cells separated by commas; allowed: 2, as in the header; next: "
        "quote cells that contain quotes, separators or line breaks, and double the quotes in them"
    )


QUOTED = 'text{0}label\n"a{0} b, c; d\te"{0}x\n"1,5;2"{0}y\n'


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "A.CSV"])
@pytest.mark.parametrize("start", ["", "\ufeff", '"text"'])
def test_the_header_tells_what_separates_the_cells(make, name, delimiter, start):
    content = QUOTED.format(delimiter)
    content = start + (content.removeprefix("text") if start == '"text"' else content)
    path = make(name, content.encode())
    rows = [(row.text, row.target) for row in read_rows(path)]
    assert rows == [(f"a{delimiter} b, c; d\te", "x"), ("1,5;2", "y")]
    assert records.count(str(path)) == 2
    ragged = make(name, f"text{delimiter}label\na\n")
    words = {",": "commas", ";": "semicolons", "\t": "tabs"}
    assert f"line 2 has 1 cells separated by {words[delimiter]}; allowed: 2" in problem(ragged)


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("text\na; b\nc\n", ["text"]),  # a text has semicolons, not the header
        ("text,label;note\na;b,c\n", ["text", "label;note"]),
        ('"text; label"\na\n', ["text; label"]),
        ('"text, label"\na\n', ["text, label"]),
    ],
)
def test_semicolons_that_separate_nothing(make, content, columns):
    path = make("a.csv", content)
    data = records.read(str(path))
    assert list(data.columns) == columns
    message = problem(path)
    assert message.startswith(f"{path} has no column ")
    assert ("next: save the file with one separator" in message) == (columns != ["text"])


def test_damaged_csv(make):
    path = make("a.csv", 'text,label\n"a,b\n')
    assert problem(path).startswith(f"{path}, line 2 is malformed (unexpected end of data)")


def test_csv_with_one_column_twice(make):
    path = make("a.csv", "text,text\na,b\n")
    assert problem(path) == f"{path} has two columns named 'text'"


def test_damaged_parquet(make):
    path = make("a.parquet", "not parquet at all")
    assert problem(path).startswith(f"{path} is not a Parquet file (")


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub; what was asked for is noted."""
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    asked = []

    def load(name, config, split=None):
        asked.append((name, config, split))
        if name == "gone/away":
            raise ConnectionError("no network\nat all")
        both = datasets.DatasetDict({"train": rows, "test": rows.select([1])})
        return both if split is None else both[split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_hub_with_class_names(hub):
    rows = read_rows("some/data:si:train")
    assert [(row.id, row.text, row.target) for row in rows] == [("1", "a", "yes"), ("2", "b", "no")]
    assert [row.text for row in read_rows("some/data::test")] == ["b"]
    assert hub == [("some/data", "si", "train"), ("some/data", None, "test")]


def test_hub_with_several_splits(hub):
    assert problem("some/data:si") == (
        "some/data:si has several splits; allowed: some/data:si:train, some/data:si:test"
    )


def test_hub_out_of_reach(hub):
    assert problem("gone/away") == (
        "cannot load the data set gone/away from the hub (no network); "
        "next: check the id and the network, or give a file"
    )
