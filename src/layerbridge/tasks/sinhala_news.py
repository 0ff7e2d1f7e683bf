"""News sentences in five categories, English to learn on, Sinhala to test on.

The data set of arXiv 2508.09091. Its authors' loader of test rows asks for the training split; here
the test split is read. It has no validation rows, so every tenth English training text is held out
for them.
"""

from __future__ import annotations

from layerbridge.tasks.benchmark import Benchmark
from layerbridge.tasks.labels import Labels

_HUB = "Themira/en_si_news_classification_with_label_name"


class SinhalaNews(Benchmark):
    """News categories in English and Sinhala; the options are ``Benchmark``'s."""

    name = "sinhala-news"
    description = "The category of a news sentence, English and Sinhala."
    labels = Labels(
        {word: word for word in ("Business", "Entertainment", "Political", "Sports", "Science")}
    )
    options = labels.options
    known = ("en", "si")
    template = "News Sentence: {sentence} Category: "
    target = "label"
    has_validation = False
    licence = "not stated on the hub"

    def hub(self, split: str, language: str) -> str | None:
        """One configuration; its splits are called by split and language."""
        return None if split == "validation" else f"{_HUB}::{split}_{language}"
