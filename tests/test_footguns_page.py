"""The messages that docs/footguns.md shows are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Words in a row; values stand between those of a message.
WINDOW = 3


def messages():
    text = (ROOT / "docs/footguns.md").read_text(encoding="utf-8")
    quotes = re.findall(r"(?:^> .*\n?)+", text, re.MULTILINE)
    return [" ".join(quote.replace("\n> ", " ").removeprefix("> ").split()) for quote in quotes]


@pytest.fixture(scope="module")
def source():
    files = sorted((ROOT / "src/layerbridge").rglob("*.py"))
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    # A message goes over several literals.
    return re.sub(r'"\s*\n\s*f?"', "", text)


@pytest.mark.parametrize("message", messages())
def test_a_message_is_in_the_code(message, source):
    words = message.removeprefix("note: ").removeprefix("error: ").split()
    size = min(WINDOW, len(words))
    windows = (" ".join(words[n : n + size]) for n in range(len(words) - size + 1))
    assert any(window in source for window in windows)


def test_the_page_has_its_messages():
    assert len(messages()) >= 12
