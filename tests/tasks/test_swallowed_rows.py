"""Quotes that are not closed: in random tables, against the rows that were written."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerbridge.errors import DataError
from layerbridge.tasks.files import read_rows
from layerbridge.tasks.swallowed_rows import swallowed_rows

LAYOUTS = (("text", "label"), ("label", "text"), ("n", "text", "label"), ("text", "n", "label"))
DELIMITERS = {".csv": ",", ".tsv": "\t"}
several = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def broken(draw):
    """A layout, rows, and the first and the last row of those that a quote takes in."""
    count = draw(st.integers(6, 12))
    words = st.text("abc ශ්é'", min_size=1, max_size=8)
    rows = [
        {"text": draw(words), "n": str(number), "label": ("good", "bad")[number % 2]}
        for number in range(count)
    ]
    first = draw(st.integers(0, count - 4))
    last = draw(st.integers(first + 1, count - 3))
    return draw(st.sampled_from(LAYOUTS)), rows, first, last


@several
@given(case=broken(), suffix=st.sampled_from([".csv", ".tsv"]), end=st.sampled_from(["\n", "\r\n"]))
def test_rows_in_a_quote_are_found_at_its_line(tmp_path, case, suffix, end):
    layout, rows, first, last = case
    rows[first]["text"] = '"' + rows[first]["text"]
    rows[last]["text"] += '"'
    lines = [list(layout), *([row[name] for name in layout] for row in rows)]
    path = tmp_path / f"a{suffix}"
    path.write_bytes("".join(DELIMITERS[suffix].join(line) + end for line in lines).encode())
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert str(caught.value) == (
        f"{path}, line {first + 2} begins {last - first + 1} rows that are read as one, because a "
        "quote is not closed; next: quote cells that contain quotes, separators or line breaks, "
        "and double the quotes in them"
    )


@several
@given(
    texts=st.lists(st.text('ab, "\n\r', max_size=12).filter(str.strip), min_size=1, max_size=8),
    suffix=st.sampled_from([".csv", ".tsv"]),
)
def test_texts_with_line_breaks_are_read_as_they_were_written(tmp_path, texts, suffix):
    file = io.StringIO()
    rows = [(text, ("good", "bad")[number % 2]) for number, text in enumerate(texts)]
    csv.writer(file, delimiter=DELIMITERS[suffix]).writerows([("text", "label"), *rows])
    path = tmp_path / f"a{suffix}"
    path.write_bytes(file.getvalue().encode())
    assert [(row.text, row.target) for row in read_rows(path)] == rows


def test_what_may_be_several_rows_is_said_once(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text('text,label\nx,good\n"Hi, Bob\nthanks",bad\n"so, so\nla",bad\n"a\nb",good\n')
    assert [row.text for row in read_rows(path)] == ["x", "Hi, Bob\nthanks", "so, so\nla", "a\nb"]
    assert capsys.readouterr().err == (
        f"note: 2 rows of {path} have line breaks in a cell and may be several, the first at "
        "line 3; check their quotes\n"
    )


def test_a_quote_that_takes_in_the_whole_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"x,good\ny,bad\nz",good\n')
    with pytest.raises(DataError, match=r"line 2 begins 3 rows that are read as one, because a qu"):
        read_rows(path, options=["good", "bad"])


def test_a_malformed_row_is_reported_where_it_begins(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\na\tx\n"b\tx\nc\tx\nd "e"\tx\n')
    with pytest.raises(DataError, match=r"a\.tsv, line 3 is malformed \("):
        read_rows(path)


@pytest.mark.parametrize(
    ("cells", "rows"),
    [
        (["a", "x"], []),
        (["a\nb", "x"], []),
        (["a,x\nb", "y"], [["a", "x"], ["b", "y"]]),
        (["a,x\nb,y\nc", "z"], [["a", "x"], ["b", "y"], ["c", "z"]]),
        (["a,x\nb\nc", "z"], []),
        (["x", "a\ny,b"], [["x", "a"], ["y", "b"]]),
        (["a,x\r\nb", "y"], [["a", "x"], ["b", "y"]]),
        (["a,x\u2028b", "y"], []),
    ],
)
def test_rows_of_a_cell(cells, rows):
    assert swallowed_rows(cells, ",") == rows
