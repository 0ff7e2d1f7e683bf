"""IndicXNLI: XNLI by machine translation in the 11 large languages of India.

Aggarwal, Gupta and Kunchukuttan 2022 (arXiv 2204.08776). English rows are XNLI's own, since the
data set has none: training and validation rows, and the English test rows that the others are
translations of.

The text of arXiv 2508.09091 speaks of 12 languages, its table has 11, as the data set does.
"""

from __future__ import annotations

from layerbridge.tasks.xnli import Xnli


class IndicXnli(Xnli):
    """XNLI in 11 languages of India, English from XNLI; the options are ``Benchmark``'s."""

    name = "indicxnli"
    description = (
        "XNLI in 11 languages of India, English rows from XNLI (the paper's text says 12 "
        "languages, its table and the data set have 11)."
    )
    known = ("en", "as", "bn", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te")
    english_of = "xnli"
    licence = "CC0-1.0 (translations); XNLI's licences (English)"

    def hub(self, split: str, language: str) -> str | None:
        """The hub's own Parquet copy: the data set itself is behind a loading script."""
        if language == "en":
            return super().hub(split, language)
        return (
            "hf://datasets/Divyanshu/indicxnli@refs/convert/parquet"
            f"/{language}/{split}/0000.parquet"
        )
