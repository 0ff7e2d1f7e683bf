"""Stars of Amazon reviews in six languages, as five words from very negative to very positive.

MARC, Keung et al. 2020 (arXiv 2010.02573), in the hub's copy. Labels there are 0 to 4, one less
than the stars; files are sorted by label, so that the first so many rows have one label only. The
reviews of the languages are not translations of each other.
"""

from __future__ import annotations

from collections.abc import Mapping

from layerbridge.tasks.benchmark import Benchmark
from layerbridge.tasks.labels import Labels


class AmazonReviews(Benchmark):
    """Sentiment of reviews in six languages; the options are ``Benchmark``'s."""

    name = "amazon-reviews"
    description = "The sentiment of a product review, in five steps."
    labels = Labels(
        {
            "0": "Very Negative",
            "1": "Negative",
            "2": "Neutral",
            "3": "Positive",
            "4": "Very Positive",
        }
    )
    options = labels.options
    known = ("en", "es", "fr", "de", "zh", "ja")
    template = "Review: {text} Label: "
    target = "label"
    published: Mapping[str, int] = {"train": 200000, "validation": 5000, "test": 5000}
    licence = "Amazon's, academic research only (docs.opendata.aws/amazon-reviews-ml/license.txt)"

    def hub(self, split: str, language: str) -> str | None:
        """The files themselves: the data set is behind a loading script."""
        return f"hf://datasets/mteb/amazon_reviews_multi/{language}/{split}.jsonl"
