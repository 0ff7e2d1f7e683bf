"""Texts to ask a server: in many scripts and of the lengths that real ones have, each another."""

from __future__ import annotations

from pathlib import Path

from layerbridge.benchmarking.sample import real_lengths
from layerbridge.errors import DataError
from layerbridge.tasks import get
from layerbridge.tasks.cldr_names import LANGUAGES
from layerbridge.tasks.files import read_rows

# About as many as a token of a multilingual encoder has.
_CHARACTERS_A_TOKEN = 3


def texts(count: int, *, file: str | None = None, template: str | None = None) -> list[str]:
    """So many texts; those of a file come again from the start when they are used up.

    Without a file they are lists of names from the CLDR, each in one of 15 languages, about as long
    as English MultiNLI pairs are (8 to some hundred tokens), and no two are alike.

    Args:
        count: how many.
        file: a text a line (.txt), or rows with labels (JSONL, CSV, TSV or Parquet).
        template: the text with the columns of the rows in braces.

    Raises:
        DataError: the file cannot be read, or has no text.
    """
    if file is None:
        return _made(count)
    if Path(file).suffix == ".txt":
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read ({error})") from None
        found = [line for line in lines if line.strip()]
    else:
        found = [row.text for row in read_rows(file, template=template)]
    if not found:
        raise DataError(f"{file} has no text")
    return [found[place % len(found)] for place in range(count)]


def _made(count: int) -> list[str]:
    task, lengths = get("names"), real_lengths()
    names = {language: [row.text for row in task.test(language)] for language in LANGUAGES}
    made = []
    for number in range(count):
        turn, place = divmod(number, len(LANGUAGES))
        own = names[LANGUAGES[place]]
        # Every other step goes round all names before one begins a text again in the same way.
        first, step = turn % len(own), 1 + turn // len(own)
        wanted = lengths[number % len(lengths)] * _CHARACTERS_A_TOKEN
        words: list[str] = []
        size = 0
        while size < wanted:
            words.append(own[(first + len(words) * step) % len(own)])
            size += len(words[-1]) + 2
        made.append(", ".join(words))
    return made
