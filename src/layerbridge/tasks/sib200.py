"""SIB-200: the topic of a sentence, in more than 200 languages translated by people.

Adelani et al. 2024 (arXiv 2309.07445), on sentences of FLORES-200. The data set calls a language by
its FLORES code, ``sin_Sinh``; those below go by their CLDR codes here, ``si``. Any other is asked
for by its FLORES code. Training rows are few, 701.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from layerbridge.errors import DataError
from layerbridge.tasks.benchmark import Benchmark
from layerbridge.tasks.labels import Labels

FLORES = {
    "en": "eng_Latn",
    "si": "sin_Sinh",
    "ta": "tam_Taml",
    "as": "asm_Beng",
    "am": "amh_Ethi",
    "ka": "kat_Geor",
    "th": "tha_Thai",
    "sw": "swh_Latn",
    "bn": "ben_Beng",
    "hi": "hin_Deva",
    "ar": "arb_Arab",
    "zh": "zho_Hans",
    "ru": "rus_Cyrl",
    "vi": "vie_Latn",
    "de": "deu_Latn",
}

_CODE = re.compile("[a-z]{3}_[A-Z][a-z]{3}")


class Sib200(Benchmark):
    """Topics in 15 languages, the demo's, and any other of FLORES; options as ``Benchmark``'s."""

    name = "sib200"
    description = "The topic of a sentence, in 15 languages or any of 200 by its FLORES code."
    labels = Labels(
        {
            topic: topic
            for topic in (
                *("science/technology", "travel", "politics", "sports"),
                *("health", "entertainment", "geography"),
            )
        }
    )
    options = labels.options
    known = tuple(FLORES)
    template = "Text: {text} Topic: "
    target = "category"
    parallel = True
    published: Mapping[str, int] = {"train": 701, "validation": 99, "test": 204}
    licence = "CC-BY-SA-4.0"

    def hub(self, split: str, language: str) -> str | None:
        """A configuration for each FLORES code."""
        return f"Davlan/sib200:{FLORES.get(language, language)}:{split}"

    def codes(self, language: str) -> tuple[str, ...]:
        """Its code here and that of FLORES."""
        return tuple(dict.fromkeys((language, FLORES.get(language, language))))

    def _check_known(self, language: str) -> None:
        ours = {flores: code for code, flores in FLORES.items()}
        if language in ours:
            # Two names for one language would count it twice, and English among the others.
            raise DataError(f"the task {self.name} calls {language!r} {ours[language]!r}")
        super()._check_known(language)

    def _has(self, language: str) -> bool:
        if self.folders is None:
            return _CODE.fullmatch(language) is not None
        return super()._has(language)
