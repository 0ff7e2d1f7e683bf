"""Texts to measure with: a user's own, or synthetic ones as long as real ones are.

What a text says changes no time; how long it is, and in which order lengths come, does.
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
from layerbridge.tasks import Row, get
from layerbridge.tasks.files import read_rows

LABELS = ("Entailment", "Neutral", "Contradiction")


def rows(
    encoder: Encoder,
    count: int,
    *,
    file: str | Path | None = None,
    template: str | None = None,
    labels: Sequence[str] = LABELS,
) -> list[Row]:
    """``count`` rows, in the order of the file.

    Args:
        encoder: whose tokens are counted.
        count: how many; those of the sample come again from the start when they are used up.
        file: JSONL, CSV, TSV or Parquet with labels; None takes the built-in lengths.
        template: the encoder's text with the file's columns in braces.
        labels: targets of the synthetic rows.

    Raises:
        DataError: the file cannot be read.
        ConfigError: the encoder is a shape, whose tokenizer knows no real text.
    """
    if file is not None:
        if shapes.is_synthetic(encoder.tokenizer):
            raise ConfigError(
                "--data was given with an encoder of random weights, whose tokenizer knows no text",
                allowed="the built-in lengths, or an encoder with a tokenizer of its own",
            )
        found = read_rows(file, template=template)
        return [found[index % len(found)] for index in range(count)]
    lengths = real_lengths()
    return [
        Row(
            id=str(index),
            text=text_of(encoder, lengths[index % len(lengths)], index),
            target=labels[index % len(labels)],
            language="en",
        )
        for index in range(count)
    ]


def real_lengths() -> list[int]:
    """Token counts of 512 English MultiNLI pairs, in the order of the file."""
    content = files("layerbridge.benchmarking").joinpath("lengths.json")
    return json.loads(content.read_text(encoding="utf-8"))["tokens"]


def text_of(encoder: Encoder, tokens: int, seed: int = 0) -> str:
    """A text of so many tokens, specials included; another for another seed."""
    specials = encoder.tokenizer.num_special_tokens_to_add()
    wanted = max(tokens - specials, 1)
    if shapes.is_synthetic(encoder.tokenizer):
        return shapes.text(wanted, seed)
    names = _names()
    start = seed * 7 % len(names)
    words = " ".join((names[start:] + names[:start]) * (1 + wanted // len(names)))
    spans = encoder.tokenizer(
        words, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return words[: spans["offset_mapping"][wanted - 1][1]]


@cache
def _names() -> list[str]:
    return [row.text for row in get("names").train()]
