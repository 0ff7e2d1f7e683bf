"""What a folder says about itself."""

from __future__ import annotations

import pytest

from layerbridge.errors import OutputError
from layerbridge.reproducing.record import FILE, UNKNOWN, Record, difference, read


def test_it_comes_back_as_it_was_written(tmp_path):
    folder = tmp_path / "new" / "run"
    assert read(folder) is None
    for kept in (Record({"a": {"b": 1}}, None), Record({}, {"c": None}, trained=True)):
        kept.write(folder)
        assert read(folder) == kept
    assert [path.name for path in folder.iterdir()] == [FILE]


def test_a_hidden_rest_of_a_broken_write_is_nothing(tmp_path):
    (tmp_path / f".{FILE}.x1").write_text("{")
    assert read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"training": {}}', '{"training": 1, "evaluation": 2}'])
def test_a_damaged_one(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(OutputError) as error:
        read(tmp_path)
    assert str(error.value) == (
        f"{str(tmp_path / FILE)!r} is damaged; next: remove {str(tmp_path)!r} to start it over"
    )


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": {"b": 1, "c": [1, 2]}}, {"a": {"b": 1, "c": (1, 2)}}, None),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ("a.b", 1, 2)),
        ({"a": 1}, {}, ("a", 1, "not set")),
        ({}, {"a": 1}, ("a", "not set", 1)),
        ({"a": 5}, {"a": None}, ("a", 5, None)),
        ({"a": 5, "b": 1}, {"a": UNKNOWN, "b": 1}, None),
    ],
)
def test_differences(old, new, found):
    assert difference(old, new) == found
