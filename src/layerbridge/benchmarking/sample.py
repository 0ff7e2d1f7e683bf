"""Texts to measure with: a user's own, or synthetic ones as long as real ones are.

What a text says does not change the time; how long texts are, and in which order, does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from layerbridge.benchmarking import shapes
from layerbridge.errors import ConfigError
from layerbridge.models.encoder import Encoder
from layerbridge.models.length_grouping import by_length
from layerbridge.tasks import Row, get
from layerbridge.tasks.files import read_rows

LABELS = ("Entailment", "Neutral", "Contradiction")


def rows(
    encoder: Encoder,
    count: int,
    *,
    file: str | Path | None = None,
    template: str | None = None,
) -> list[Row]:
    """Returns ``count`` rows in the order of the file, repeated when they run out.

    Args:
        encoder: whose tokens are counted.
        count: how many.
        file: JSONL, CSV, TSV or Parquet with labels; None takes the built-in lengths.
        template: the encoder's text with the file's columns in braces.

    Raises:
        DataError: the file cannot be read.
        ConfigError: a file is given, and the encoder is a shape.
    """
    if file is not None:
        if shapes.is_synthetic(encoder.tokenizer):
            raise ConfigError(
                "--data needs an encoder with a real tokenizer, not a random one",
                hint="leave --data out, or choose another --encoder",
            )
        file_rows = read_rows(file, template=template)
        return [file_rows[index % len(file_rows)] for index in range(count)]
    lengths = real_lengths()
    return [
        Row(
            id=str(index),
            text=text_of(encoder, lengths[index % len(lengths)], index),
            target=LABELS[index % len(LABELS)],
            language="en",
        )
        for index in range(count)
    ]


def batches(rows: Sequence[Row], size: int, lengths: Sequence[int] | None = None) -> list[list]:
    """Returns the rows in batches of similar length, or in their order without ``lengths``."""
    lengths = lengths or [0] * len(rows)
    return [[rows[index] for index in batch] for batch in by_length(lengths, size)]


@cache
def real_lengths() -> list[int]:
    """Returns the token counts of 512 English MultiNLI pairs, in the order of the file."""
    content = files("layerbridge.benchmarking").joinpath("lengths.json")
    return json.loads(content.read_text(encoding="utf-8"))["tokens"]


def text_of(encoder: Encoder, tokens: int, seed: int = 0) -> str:
    """Returns a text of ``tokens`` tokens, special ones included; another for another seed."""
    count = max(tokens - encoder.tokenizer.num_special_tokens_to_add(), 1)
    if shapes.is_synthetic(encoder.tokenizer):
        return shapes.text(count, seed)
    names = _names()
    start = seed * 7 % len(names)
    words = " ".join((names[start:] + names[:start]) * (1 + count // len(names)))
    spans = encoder.tokenizer(
        words, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return words[: spans["offset_mapping"][count - 1][1]]


@cache
def _names() -> list[str]:
    return [row.text for row in get("names").train()]
