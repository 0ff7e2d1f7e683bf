"""What each method gains over one of them, language by language, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layerbridge.errors import ConfigError, ResultError
from layerbridge.evaluation.comparison import Comparison, LanguageEffect, compare
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.plots import style
from layerbridge.tasks.languages import Corpus, corpus_of, names, script

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPS = ("script", "share")

TRAINED, OTHERS, UNKNOWN = "language of training", "other scripts", "not known"
# Upper ends of the shares of a corpus, and what they are called.
_SHARES = ((0.001, "below 0.1 %"), (0.01, "0.1 to 1 %"), (1.0, "above 1 %"))
# Rows that a group's title and the gap above it take.
_TITLE, _GAP = 0.85, 0.35


def figure(
    results: Sequence[Result],
    *,
    against: str = "last",
    by: str = "script",
    width: float = style.WIDE,
    numbers: Mapping[str, int] | None = None,
    found: Sequence[Comparison] | None = None,
) -> Figure:
    """As ``plots.gain_by_language`` says.

    Args:
        results: of one task, split and protocol, on the same rows.
        against: the method that the others are compared with.
        by: one of ``GROUPS``.
        width: in inches.
        numbers: method → its number among colours and markers; None counts those drawn here.
        found: the comparisons, where they are known already.

    Raises:
        ResultError: there is nothing to compare, or the results cannot be compared.
        ConfigError: an unknown ``by``.
    """
    if by not in GROUPS:
        raise ConfigError(f"unknown group {by!r}", allowed=GROUPS)
    found = [gain for gain in found or compare(results, against) if alike(gain, results)]
    if not found:
        raise ResultError(
            f"there is no other bridge to draw beside {against}",
            hint="layerbridge compare tells of floors and language models alone",
        )
    codes = list(dict.fromkeys(code for gain in found for code in gain.languages))
    corpus = corpus_of(encoder_of(results))
    groups = grouped(codes, by, corpus)
    place, titles, end = _places(groups)
    with style.settings():
        made, axes = style.figure(width, 1.2 + (0.17 + 0.06 * len(found)) * (end + 1))
        _axes(axes, place, titles, end)
        style.rows(axes, place, _labels(groups, by, corpus))
        axes.set_xlabel(style.words(f"gain over {against}, points"))
        step = min(0.22, 0.7 / len(found))
        for count, gain in enumerate(found):
            shift = (count - (len(found) - 1) / 2) * step
            number = count if numbers is None else numbers[gain.method]
            _points(axes, gain, {code: y + shift for code, y in place.items()}, number)
        style.legend(made, axes)
    return made


def grouped(codes: Sequence[str], by: str, corpus: Corpus | None) -> dict[str, list[str]]:
    """Languages by script, or by their share of the corpus, from the largest group or share down.

    English is a group of its own: the methods were trained on it. So are scripts of one language.
    """
    groups: dict[str, list[str]] = {}
    for code in codes:
        groups.setdefault(_group(code, by, corpus), []).append(code)
    trained = groups.pop(TRAINED, [])
    unknown = groups.pop(UNKNOWN, [])
    if by == "script":
        alone = [title for title, members in groups.items() if len(members) == 1]
        single = sorted((code for title in alone for code in groups.pop(title)), key=_name)
        order = sorted(groups, key=lambda title: (-len(groups[title]), title))
        groups = {title: sorted(groups[title], key=_name) for title in order}
        # Where nothing is shared, a title over each language would say nothing.
        groups |= {OTHERS if groups else "scripts": single}
    else:
        shares = {code: corpus.share(code) or 0.0 for code in codes} if corpus else {}
        groups = {
            title: sorted(groups[title], key=lambda code: -shares[code])
            for _, title in reversed(_SHARES)
            if title in groups
        }
    groups = {TRAINED: trained, **groups, UNKNOWN: unknown}
    return {title: members for title, members in groups.items() if members}


def encoder_of(results: Sequence[Result]) -> str | None:
    """The encoder behind the results, as their settings name it; None if it is not one."""
    named: set[str] = set()
    for result in results:
        bridge = result.settings.get("bridge")
        if isinstance(bridge, dict) and isinstance(bridge.get("encoder"), str):
            named.add(bridge["encoder"])
    return named.pop() if len(named) == 1 else None


def alike(gain: Comparison, results: Sequence[Result]) -> bool:
    """Whether a method is of the kind that it is compared with: bridges are drawn beside bridges.

    The distance to a floor, or to a language model alone, would leave no room on the scale for what
    tells bridges apart.
    """
    of = {
        result.method: (result.protocol == CLASSIFIER, "bridge" in result.settings)
        for result in results
    }
    return of[gain.method] == of[gain.against]


def _group(code: str, by: str, corpus: Corpus | None) -> str:
    if code == "en":
        return TRAINED
    if by == "script":
        return script(code) or UNKNOWN
    share = corpus.share(code) if corpus else None
    if share is None:
        return UNKNOWN
    return next(title for end, title in _SHARES if share <= end)


def _labels(groups: Mapping[str, Sequence[str]], by: str, corpus: Corpus | None) -> dict[str, str]:
    labels = names(code for members in groups.values() for code in members)
    for title, members in groups.items():
        for code in members:
            if by == "share" and corpus and (share := corpus.share(code)) is not None:
                labels[code] += f", {100 * share:.2g} %"
            elif title in (OTHERS, "scripts") and (written := script(code)) != labels[code]:
                labels[code] += f" ({written})"
    return labels


def _name(code: str) -> str:
    return names([code])[code]


def _places(
    groups: Mapping[str, Sequence[str]],
) -> tuple[dict[str, float], dict[str, float], float]:
    """Where each language and each group's title stands, and where the last one ends."""
    place: dict[str, float] = {}
    titles: dict[str, float] = {}
    y = 0.0
    for title, codes in groups.items():
        titles[title] = y
        y += _TITLE
        for code in codes:
            place[code] = y
            y += 1
        y += _GAP
    return place, titles, y - _GAP - 1


def _axes(axes: Axes, place: Mapping[str, float], titles: Mapping[str, float], end: float) -> None:
    axes.set_ylim(end + 0.6, -0.6)
    for y in place.values():
        axes.axhspan(y - 0.46, y + 0.46, color=style.BAND, zorder=0, lw=0)
    for title, y in titles.items():
        axes.annotate(
            title,
            (0, y),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
        )
    axes.axvline(0, color=style.GREY, lw=1.2, zorder=1)


def _points(axes: Axes, gain: Comparison, place: Mapping[str, float], number: int) -> None:
    effects: list[tuple[float, LanguageEffect]] = [
        (place[code], effect) for code, effect in gain.languages.items()
    ]
    bars = [(y, effect.effect, effect.low, effect.high) for y, effect in effects]
    style.bars(axes, bars, number=number, label=style.words(gain.method))
    doubtful = [(y, effect.effect) for y, effect in effects if not effect.significant]
    # Hollow: the difference may be chance.
    axes.plot(
        [middle for _, middle in doubtful],
        [y for y, _ in doubtful],
        ls="none",
        marker=style.marker(number),
        ms=5.5,
        mec=style.colour(number),
        mew=1.2,
        mfc=style.PAPER,
        zorder=4,
    )
