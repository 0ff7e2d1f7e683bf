"""Texts of the load test."""

import pytest

from layerbridge.benchmarking.serve_texts import texts
from layerbridge.errors import DataError


def test_texts_are_of_many_scripts_and_lengths_and_none_repeats():
    found = texts(600)
    assert len(set(found)) == 600
    lengths = sorted(map(len, found))
    assert 3 * lengths[0] < 2 * lengths[300] < lengths[-1]
    for script in ("ස", "ক", "አ", "中", "к", "ع", "გ"):
        assert any(script in text for text in found[:60]), script


def test_texts_of_a_file(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("one\n\nදෙක\n", encoding="utf-8")
    assert texts(3, file=str(file)) == ["one", "දෙක", "one"]
    file.write_text("\n")
    with pytest.raises(DataError, match="has no text"):
        texts(3, file=str(file))
    with pytest.raises(DataError, match="cannot be read"):
        texts(3, file="nothing.txt")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"premise": "a", "label": "x"}\n')
    assert texts(2, file=str(rows), template="P: {premise}") == ["P: a"] * 2
