"""What a run keeps of its validation rows: a few to show, and how likely any option is in them.

The texts are in a file of their own, ``examples.json``. It is no part of the checkpoint:
``save_pretrained`` and ``push_to_hub`` leave it out, and a server shows none where it is missing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from layerbridge.errors import CheckpointError, LayerBridgeError
from layerbridge.progress import say
from layerbridge.tasks.task import Row
from layerbridge.training.atomic_write import atomic_write

if TYPE_CHECKING:
    from layerbridge.models.bridge import LayerBridge

FILE = "examples.json"
# Examples of a run, and characters of a longer text, which is no example.
MOST, MOST_CHARS = 6, 1000
# Validation rows that are classified at the end of training: as much work as a step or two.
CLASSIFIED = 32


@dataclass(frozen=True)
class Example:
    """A text to try a bridge with.

    Attributes:
        text: as the encoder reads it.
        target: the right answer.
        language: CLDR (BCP 47) code.
        meaning: the text in English, if it is in another language and that is known.
    """

    text: str
    target: str
    language: str = "en"
    meaning: str | None = None


_LIST = TypeAdapter(list[Example])


def chosen(rows: Sequence[Row]) -> list[Example]:
    """Returns the first rows of each label in turn, without empty and long texts."""
    by_target: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not row.text.strip() or len(row.text) > MOST_CHARS:
            continue
        # Of no other target, and no more of each, can any be chosen.
        is_first = row.target in by_target or len(by_target) < MOST
        if is_first and len(by_target[row.target]) < MOST:
            by_target[row.target].append(row)
    turns = chain.from_iterable(zip_longest(*by_target.values()))
    return [Example(row.text, row.target, row.language) for row in turns if row is not None][:MOST]


def write(examples: Sequence[Example], folder: Path) -> None:
    """Writes examples into a run's folder; without any, removes those that are there."""
    if not examples:
        (folder / FILE).unlink(missing_ok=True)
        return
    texts = json.dumps(_LIST.dump_python(list(examples)), ensure_ascii=False, indent=1)
    atomic_write(texts + "\n", folder / FILE)


def read(folder: Path) -> list[Example]:
    """Reads the examples in a run's folder, if there are any.

    Raises:
        CheckpointError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return []
    try:
        return _LIST.validate_json(file.read_bytes())
    except ValidationError as error:
        where = "/".join(map(str, error.errors()[0]["loc"])) or "all"
        raise CheckpointError(
            f"{str(file)!r} is damaged (at {where})",
            allowed='a list of {"text": …, "target": …}',
            hint="remove it, and there are no examples",
        ) from None


def usual_any_option(bridge: LayerBridge, rows: Sequence[Row]) -> float | None:
    """Returns the median of ``Classification.any_option`` over a sample of rows.

    None without options or rows, and if they cannot be classified, which is said.
    """
    if not bridge.config.options or not rows:
        return None
    texts = [row.text for row in rows[:: max(1, len(rows) // CLASSIFIED)][:CLASSIFIED]]
    try:
        return median(answer.any_option for answer in bridge.classify(texts))
    except LayerBridgeError as error:
        say(f"note: the validation rows cannot be classified: {error}")
        return None
