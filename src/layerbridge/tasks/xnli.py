"""XNLI: does the premise entail the hypothesis? 15 languages, translated by people.

Conneau et al. 2018 (arXiv 1809.05053). Training rows are those of MultiNLI; test row n is the same
item in every language, 1670 of each label.
"""

from __future__ import annotations

from collections.abc import Mapping

from layerbridge.tasks.benchmark import Benchmark
from layerbridge.tasks.labels import Labels


class Xnli(Benchmark):
    """Entailment of sentence pairs, in 15 languages; the options are ``Benchmark``'s."""

    name = "xnli"
    description = "Natural language inference: does the premise entail the hypothesis?"
    # In the order of the hub's class numbers.
    labels = Labels(
        {"entailment": "Entailment", "neutral": "Neutral", "contradiction": "Contradiction"},
        numbered=True,
    )
    options = labels.options
    # Fifteen as published; English first.
    known: tuple[str, ...] = (
        *("en", "ar", "bg", "de", "el", "es", "fr", "hi"),
        *("ru", "sw", "th", "tr", "ur", "vi", "zh"),
    )
    template = "Premise: {premise} Hypothesis: {hypothesis} Label: "
    target = "label"
    parallel = True
    published: Mapping[str, int] = {"train": 392702, "validation": 2490, "test": 5010}
    licence = "CC-BY-NC-4.0 (test and validation); MultiNLI's licences (training)"

    def hub(self, split: str, language: str) -> str | None:
        """Parquet by language, with class names."""
        return f"facebook/xnli:{language}:{split}"
