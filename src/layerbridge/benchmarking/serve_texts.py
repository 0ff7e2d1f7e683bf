"""Texts for a load test: in many scripts, as long as real ones are, all different."""

from __future__ import annotations

from pathlib import Path

from layerbridge.benchmarking.sample import real_lengths
from layerbridge.errors import DataError
from layerbridge.tasks import get
from layerbridge.tasks.cldr_names import LANGUAGES
from layerbridge.tasks.files import read_rows

# Of a multilingual encoder, on average.
_CHARACTERS_PER_TOKEN = 3


def texts(count: int, *, file: str | None = None, template: str | None = None) -> list[str]:
    """Returns ``count`` texts; those of a file are repeated when they run out.

    Without a file they are lists of names from the CLDR, each in one of 15 languages, about as long
    as English MultiNLI pairs (8 to some hundred tokens), no two alike.

    Args:
        count: how many.
        file: one text per line (.txt), or labeled rows (JSONL, CSV, TSV or Parquet).
        template: the text with the columns of the rows in braces.

    Raises:
        DataError: the file cannot be read or has no text.
    """
    if file is None:
        return _synthetic(count)
    if Path(file).suffix == ".txt":
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file} cannot be read ({error})") from None
        loaded = [line for line in lines if line.strip()]
    else:
        loaded = [row.text for row in read_rows(file, template=template)]
    if not loaded:
        raise DataError(f"{file} has no text")
    return [loaded[index % len(loaded)] for index in range(count)]


def _synthetic(count: int) -> list[str]:
    task, lengths = get("names"), real_lengths()
    names = {language: [row.text for row in task.test(language)] for language in LANGUAGES}
    result = []
    for number in range(count):
        turn, index = divmod(number, len(LANGUAGES))
        language_names = names[LANGUAGES[index]]
        # All first names are used with one step between names before the step grows.
        first, step = turn % len(language_names), 1 + turn // len(language_names)
        length = lengths[number % len(lengths)] * _CHARACTERS_PER_TOKEN
        words: list[str] = []
        size = 0
        while size < length:
            words.append(language_names[(first + len(words) * step) % len(language_names)])
            size += len(words[-1]) + 2
        result.append(", ".join(words))
    return result
