import json

import pytest

from layerbridge.errors import DataError, OutputError
from layerbridge.evaluation.translation.translation_memory import TranslationMemory

# What a line of JSON must survive.
ODD = {"a\nb": "one\ttwo", "ශ්‍රී": "Sri", 'quote "': "\\", "sep\u2028arator\x85": "🙂", "": ""}


def test_what_is_added_is_there_and_in_the_file(tmp_path):
    path = tmp_path / "new" / "si.jsonl"
    memory = TranslationMemory(path)
    memory.add(ODD)
    memory.add({"x": "y"})
    assert all(text in memory and memory[text] == english for text, english in ODD.items())
    again = TranslationMemory(path)
    assert {text: again[text] for text in (*ODD, "x")} == {**ODD, "x": "y"}
    assert len(again) == len(ODD) + 1
    assert "z" not in again
    lines = path.read_text(encoding="utf-8").split("\n")
    assert json.loads(lines[1]) == {"text": "ශ්‍රී", "english": "Sri"}
    assert "ශ්‍රී" in lines[1]


def test_without_a_file():
    memory = TranslationMemory()
    memory.add({"a": "b"})
    assert memory["a"] == "b"


@pytest.mark.parametrize("torn", [1, 10, 30])
def test_a_line_that_was_interrupted_is_written_again(tmp_path, torn):
    path = tmp_path / "si.jsonl"
    TranslationMemory(path).add({"one": "1", "තුන්": "three"})
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    memory = TranslationMemory(path)
    assert "one" in memory
    assert "තුන්" not in memory
    memory.add({"තුන්": "three"})
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "a"}', '{"text": "a", "english": 1}', ""])
def test_a_damaged_line_is_reported(tmp_path, line):
    path = tmp_path / "si.jsonl"
    TranslationMemory(path).add({"one": "1"})
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError) as caught:
        TranslationMemory(path)
    assert str(caught.value) == (
        f'{path}, line 2 is not a translation; allowed: {{"text": "…", "english": "…"}}; '
        "next: delete the line or the file; missing translations are redone"
    )


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError) as caught:
        TranslationMemory(tmp_path / "taken" / "si.jsonl")
    assert str(caught.value) == (
        f"{tmp_path}/taken/si.jsonl cannot be used (File exists); next: choose another folder"
    )


def test_a_path_that_is_a_folder(tmp_path):
    (tmp_path / "si.jsonl").mkdir()
    with pytest.raises(OutputError, match="cannot be used"):
        TranslationMemory(tmp_path / "si.jsonl")
