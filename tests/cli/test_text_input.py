"""Bytes that are not UTF-8, in words and on stdin: one line from every verb that reads text."""

import io
import sys

import pytest

from layerbridge.cli.text_input import stdin_lines
from layerbridge.errors import DataError

HINT = "next: convert it to UTF-8, for example with iconv"
BAD = b"caf\xe9".decode(errors="surrogateescape")


@pytest.mark.parametrize(
    "words",
    [
        ("ask", "run", BAD),
        ("ask", "run", "x", "--options", f"a,{BAD}"),
        ("ask", "run", "x", f"--instruction={BAD}"),
        ("chat", "run", "--options", BAD),
        ("train", "--data", "a.jsonl", "--template", BAD, "-o", "run"),
        ("train", "--task", "names", "--run-name", BAD, "-o", "run"),
        ("evaluate", "run", "--task-option", BAD),
        ("baseline", "zero-shot-lm", "--prompt", BAD),
        ("report", "run", "--title", BAD),
        ("compare", "run", "--against", BAD),
        ("serve", "run", BAD),
    ],
)
def test_a_word_that_is_not_utf8(command, words):
    result = command(*words)
    (word,) = (word for word in words if BAD in word)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: the argument {word!a} is not UTF-8; {HINT}\n"


@pytest.fixture
def piped(monkeypatch):
    def pipe(content):
        # A locale with another encoding must not matter.
        stream = io.TextIOWrapper(io.BytesIO(content), encoding="latin-1", errors="replace")
        monkeypatch.setattr(sys, "stdin", stream)

    return pipe


@pytest.mark.parametrize(
    ("content", "lines", "skipped"),
    [
        ("ශ්‍රී\nb\n", ["ශ්‍රී", "b"], None),
        ("\ufeffa\r\n\r\nb", ["a", "b"], "1 of 3"),
        ("a\u2028b\n\ufeffc", ["a\u2028b", "\ufeffc"], None),
        ("\n \t\n  a \n\n", ["  a "], "3 of 4"),
        ("\ufeff\n\u3000", [], "2 of 2"),
        ("", [], None),
    ],
)
def test_lines(piped, capsys, content, lines, skipped):
    piped(content.encode())
    assert list(stdin_lines()) == lines
    said = f"empty lines skipped: {skipped} on stdin\n" if skipped else ""
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("verb", ["ask", "chat"])
@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"a\nthe \xff market\n", 2, 5),
        ("ශ්".encode()[:-1], 1, 4),
        ("a\n".encode("utf-16"), 1, 1),
        (b"\xed\xa0\xbd", 1, 1),
    ],
)
def test_a_line_that_is_not_utf8(command, trained, piped, verb, content, line, byte):
    piped(content)
    result = command(verb, trained, *(("--max-new-tokens", "1") if verb == "chat" else ()))
    assert (result.code, result.out.count("\n")) == (2, line - 1 if verb == "chat" else 0)
    *far, error = result.err.splitlines()
    assert error == f"error: stdin, line {line} is not UTF-8 (byte {byte} of the line); {HINT}"
    assert all(note.startswith("far from training: ") for note in far)


@pytest.mark.parametrize("verb", ["ask", "chat"])
def test_lines_without_text_get_no_answer(command, trained, piped, verb):
    piped(
        b"\nthe market\n\n  \na crowd\n\xff" if verb == "chat" else b"\nthe market\n\n  \na crowd\n"
    )
    result = command(verb, trained, *(("--max-new-tokens", "1") if verb == "chat" else ()))
    assert result.out.count("\n") == 2
    lines = [line for line in result.err.splitlines() if not line.startswith("far from training")]
    assert lines[0] == f"empty lines skipped: 3 of {6 if verb == 'chat' else 5} on stdin"
    # Also before an error, which ends what is read.
    assert (result.code, len(lines)) == ((2, 2) if verb == "chat" else (0, 1))


def test_lines_come_as_they_are_typed(monkeypatch):
    class Slow(io.RawIOBase):
        """Ends the test if it is read further than has been asked."""

        parts = iter([b"a\n", b"b\n\xff"])

        def readable(self):
            return True

        def readinto(self, buffer):
            part = next(self.parts, b"")
            buffer[: len(part)] = part
            return len(part)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Slow())))
    lines = stdin_lines()
    assert [next(lines), next(lines)] == ["a", "b"]
    with pytest.raises(DataError, match="stdin, line 3 is not UTF-8"):
        next(lines)
