import json

import pytest

from layerbridge.errors import DataError
from layerbridge.tasks import records, unlabeled
from layerbridge.tasks.unlabeled import read_texts, text_files


def test_lines_fill_the_template(tmp_path):
    file = tmp_path / "si.txt"
    file.write_bytes("\ufeffපළමු\n\n  දෙවන  \r\nතුන්වන\n".encode())
    assert read_texts(file) == ["පළමු", "දෙවන", "තුන්වන"]
    assert read_texts(file, "Review: {text} Label: ")[1] == "Review: දෙවන Label: "
    # Of two columns, two lines at a time; the first line again at the end.
    assert read_texts(file, "{premise} | {hypothesis}") == ["පළමු | දෙවන", "තුන්වන | පළමු"]
    assert read_texts(file, "{a}{b}{c}{d}{e}") == ["පළමුදෙවනතුන්වනපළමුදෙවන"]
    assert read_texts(file, "no column") == read_texts(file)


def test_rows_have_columns(tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"text": "a", "other": 1}, {"text": " ", "other": None}, {"text": "b", "other": 2}]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert read_texts(file) == ["a", "b"]
    assert read_texts(file, "{text}/{other}") == ["a/1", "b/2"]
    # The only column of the bridge's template may be called otherwise.
    assert read_texts(file, "News: {sentence}") == ["News: a", "News: b"]
    with pytest.raises(DataError, match=r"has no column 'premise'; allowed: text, other"):
        read_texts(file, "{premise}{other}")


def test_what_cannot_be_read(tmp_path):
    file = tmp_path / "a.txt"
    with pytest.raises(DataError, match=r"a.txt cannot be read"):
        read_texts(file)
    file.write_text(" \n\n")
    with pytest.raises(DataError, match=r"a.txt has no text; allowed: a text file of one text a"):
        read_texts(file)
    file.write_bytes(b"fine\nnot \xff\n")
    with pytest.raises(DataError, match=r"line 2 is not UTF-8 .byte 5 of the line"):
        read_texts(file)
    other = tmp_path / "a.docx"
    other.write_text("x")
    with pytest.raises(DataError, match=r"unsupported format; allowed: a text file"):
        read_texts(other)


def test_a_folder_of_languages(tmp_path):
    for name in ("si.txt", "sw.jsonl", "notes.md"):
        (tmp_path / name).write_text("x")
    assert text_files(tmp_path) == {"si": tmp_path / "si.txt", "sw": tmp_path / "sw.jsonl"}
    (tmp_path / "si.csv").write_text("x")
    with pytest.raises(DataError, match=r"both .*si.csv and .*si.txt exist"):
        text_files(tmp_path)
    with pytest.raises(DataError, match=r"is not a folder"):
        text_files(tmp_path / "si.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no texts; allowed: files such as si.txt"):
        text_files(tmp_path / "empty")


@pytest.mark.parametrize("name", ["si.txt", "si.jsonl"])
def test_of_a_large_file_some_texts_are_drawn(tmp_path, monkeypatch, capfd, name):
    path = tmp_path / name
    lines = [f"text {n:03}" for n in range(200)]
    as_line = {".txt": str, ".jsonl": lambda line: json.dumps({"text": line})}[path.suffix]
    path.write_text("\n".join(map(as_line, lines)))
    every = read_texts(path)
    assert every == lines
    monkeypatch.setattr(records, "LARGE", 0)
    monkeypatch.setattr(unlabeled, "MOST", 20)
    some = read_texts(path)
    assert some == read_texts(path) == sorted(set(some) & set(lines))
    assert len(some) == 20
    assert f"{path} is large: 20 of its 200 texts are kept" in capfd.readouterr().err
    monkeypatch.setattr(unlabeled, "MOST", 500)
    assert read_texts(path) == every
