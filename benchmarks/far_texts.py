"""Measures which texts a bridge marks as far from its training.

    python benchmarks/far_texts.py runs/demo/token-softmax --texts news.jsonl -o far-texts.json

Texts like those of training are the validation rows (English) and test rows (all languages) of its
task; others are given names, sentences and long prose, of this repository's pages or of a file with
a `text` column, and random letters. For each group: quantiles of `any_option`, the share that is
marked, and of the test rows the accuracy of those that are marked and of the others.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from layerbridge import tasks
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.inference import FAR, Classification
from layerbridge.progress import meter
from layerbridge.tasks.files import read_rows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NAMES = (
    *("pizza", "Mozart", "elephant", "Toyota Corolla", "happiness", "Mount Everest", "red"),
    *("Beethoven's Ninth", "Microsoft", "photosynthesis", "Tuesday", "Albert Einstein"),
)
PAGES = Path(__file__).parents[1] / "docs"


def prose() -> list[str]:
    """Returns the paragraphs of this repository's documentation."""
    pages = "\n\n".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md")))
    pages = re.sub(r"```.*?```", "", pages, flags=re.DOTALL)
    paragraphs = (" ".join(each.split()) for each in pages.split("\n\n"))
    return [each for each in paragraphs if each[:1].isalpha() and len(each) > 200]


def letters(count: int) -> list[str]:
    """Returns random letters and spaces, 5 to 40 of them."""
    draw = random.Random(0)
    alphabet = string.ascii_lowercase + "   "
    return ["".join(draw.choices(alphabet, k=draw.randint(5, 40))) for _ in range(count)]


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def summary(found: Sequence[Classification]) -> dict[str, Any]:
    """Returns quantiles of ``any_option`` and the marked share."""
    values = [each.any_option for each in found]
    return {
        "texts": len(found),
        "any_option": {f"{share:g}": round(quantile(values, share), 4) for share in QUANTILES},
        "marked": round(sum(each.far_from_training for each in found) / len(found), 4),
        "median probability of the choice": round(
            quantile([max(each.probabilities.values()) for each in found], 0.5), 4
        ),
    }


def main() -> None:
    """Parses the command line, measures, writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--task", default="names")
    parser.add_argument("--texts", help="a file with a text column")
    parser.add_argument("--per-group", type=int, default=60)
    parser.add_argument("--per-language", type=int, default=15)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    task, draw = tasks.get(given.task), random.Random(0)
    bridge = LayerBridge.from_pretrained(given.run, dtype=given.dtype)

    def some(texts: Sequence[Any], count: int = given.per_group) -> list[Any]:
        return draw.sample(list(texts), min(count, len(texts)))

    validation = [row.text for row in some(task.validation(), 10**6)]
    test = [row for code in task.languages for row in some(task.test(code), given.per_language)]
    groups = {"validation rows": validation, "test rows": [row.text for row in test]}
    groups |= {"other names": list(NAMES), "prose": some(prose()), "letters": letters(60)}
    if given.texts:
        texts = [row.text for row in read_rows(given.texts)]
        groups["articles"] = some(texts)
        groups["headlines"] = [text.split(". ")[0] for text in some(texts)]
    found: dict[str, list[Classification]] = {}
    with meter("classifying") as bar:
        for number, (name, texts) in enumerate(groups.items()):
            bar.update(number, len(groups), name)
            found[name] = bridge.classify(texts, batch_size=8)
            if name == "validation rows" and bridge.config.usual_any_option is None:
                # A run from before it was kept.
                values = [each.any_option for each in found[name]]
                bridge.config.usual_any_option = quantile(values, 0.5)
                found[name] = bridge.classify(texts, batch_size=8)
    result: dict[str, Any] = {
        "run": Path(given.run).name,
        "task": given.task,
        "dtype": given.dtype,
        "usual_any_option": bridge.config.usual_any_option,
        "threshold": FAR * (bridge.config.usual_any_option or 1.0),
        "groups": {name: summary(each) for name, each in found.items()},
    }
    for marked in (False, True):
        right = [
            answer.choice == row.target
            for answer, row in zip(found["test rows"], test, strict=True)
            if answer.far_from_training == marked
        ]
        name = "marked" if marked else "not marked"
        result[f"test rows {name}"] = {
            "rows": len(right),
            "accuracy": round(sum(right) / max(1, len(right)), 4),
        }
    given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
