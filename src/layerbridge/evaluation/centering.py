"""Centering in an evaluation: which means move the states of which rows, and what is recorded.

none      the states stay as they are
known     by the means that the run knows; the task says the language of a row
nearest   the same, the language told by the nearest mean, as when a text comes without one
batch     by means of the evaluated rows themselves: transductive, no row is answered on its own
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import Centering, CenteringSettings
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.language_means import ENGLISH, LanguageMean, LanguageMeans, TextMeans
from layerbridge.progress import say
from layerbridge.tasks.languages import own_code
from layerbridge.tasks.task import Row

CENTERS = ("none", "known", "nearest", "batch")
# The settings of a result file with which its rows were moved, and the means that did it.
SETTINGS, MEANS = "centering", "language_means"


class RowCentering:
    """Moves the states of rows.

    Args:
        bridge: trained.
        rows: to evaluate, by language.
        center: one of ``CENTERS``; None for ``"known"`` if the bridge has the means of other
            languages than English.
        settings: None takes the bridge's own.

    Raises:
        ConfigError: an unknown ``center``, or means that are missing.
    """

    def __init__(
        self,
        bridge: LayerBridge,
        rows: Mapping[str, Sequence[Row]],
        center: str | None = None,
        settings: CenteringSettings | None = None,
    ) -> None:
        own = bridge.centering
        self.center = check_center(center, knows_means=own is not None and own.knows_others)
        self._settings: dict[str, Any] = {"center": self.center}
        self._centering: Centering | None = None
        # Of the last rows, of which it is counted if they are; and of all that were counted.
        self.recognized, self.seen = 0, 0
        self._recognized: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        if self.center == "none":
            return
        if settings is None:
            settings = CenteringSettings() if own is None else own.settings
        layers = bridge.encoder.num_layers
        if self.center == "batch":
            means = self._of_rows(bridge, rows)
        else:
            assert own is not None
            means = own.means
        self._centering = Centering(means, layers, settings)
        unknown = [code for code in rows if means.code(code) is None]
        if self.center == "known" and settings.method == "center" and unknown:
            say(f"no language mean of {', '.join(unknown)}: their states stay as they are")

    def _of_rows(self, bridge: LayerBridge, rows: Mapping[str, Sequence[Row]]) -> LanguageMeans:
        own = bridge.centering
        means = LanguageMeans(tuple(bridge.fusion.required_layers))
        for code, of_language in rows.items():
            texts = [row.text for row in of_language]
            found = TextMeans.read(bridge.encoder, texts, means.layers, most=len(texts))
            means = means.with_language(code, LanguageMean.of(found))
        if means.english is not None:
            return means
        if own is None or own.means.english is None:
            raise ConfigError(
                "centering needs the mean of English, and no English rows are evaluated",
                hint="add en to --languages, or layerbridge center RUN --language en --text FILE",
            )
        self._settings["english"] = "run"
        return means.with_language(ENGLISH, own.means.english)

    def __call__(self, states: HiddenStates, language: str) -> HiddenStates:
        """Returns the moved states of rows of one language."""
        centering = self._centering
        self.recognized, self.seen = 0, 0
        if centering is None:
            return states
        code = centering.means.code(language)
        told = centering.nearest(states)
        if code is not None:
            self.recognized, self.seen = told.count(code), len(told)
        if centering.settings.method == "remove":
            return centering(states)
        if self.center == "nearest":
            return centering.shifted(states, told)
        return centering.shifted(states, [code] * len(told))

    def count(self, language: str, recognized: int, seen: int) -> None:
        """Adds texts of a language, and how many of them the nearest mean was that language's."""
        self._recognized[language] += recognized
        self._seen[language] += seen

    def recorded(self) -> dict[str, Any]:
        """Returns what a result file says; nothing if the states stayed as they are."""
        centering = self._centering
        if centering is None:
            return {}
        means: dict[str, dict[str, Any]] = {}
        for code, mean in centering.means.by_code.items():
            language = own_code(code, self._seen)
            means[code] = {"texts": mean.texts, "tokens": mean.tokens}
            if centering.settings.method == "center":
                means[code]["shrinkage"] = round(centering.shrinkage(code).mean().item(), 4)
            if self._seen[language]:
                means[code]["recognized"] = self._recognized[language] / self._seen[language]
        return {SETTINGS: self._settings | centering.settings.recorded(), MEANS: means}


def check_center(center: str | None, *, knows_means: bool) -> str:
    """Returns the kind of centering; None is ``"known"`` for a bridge with means of languages.

    Raises:
        ConfigError: it is unknown, or needs means that the run does not have.
    """
    if center is None:
        return "known" if knows_means else "none"
    if center not in CENTERS:
        raise ConfigError(f"unknown centering {center!r}", allowed=CENTERS)
    if center in ("known", "nearest") and not knows_means:
        raise ConfigError(
            f"the centering {center!r} needs the means of other languages, and the run has none",
            hint="layerbridge center RUN --language CODE --text FILE, or --center batch",
        )
    return center
