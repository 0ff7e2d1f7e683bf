"""The gain of each method over one of them, language by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layerbridge.errors import ConfigError, ResultError
from layerbridge.evaluation.comparison import Comparison, compare
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.plots import style
from layerbridge.report.plots.output import Plot
from layerbridge.report.plots.palette import palette_of
from layerbridge.tasks.languages import Corpus, corpus_of, names, script

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUPINGS = ("script", "share")

TRAINING, UNKNOWN = "training language", "unknown"
OTHER_SCRIPTS, ALL_SCRIPTS = "other scripts", "scripts"
# Upper bounds of the shares of a corpus, from the largest down.
_SHARES = {"above 1 %": 1.0, "0.1 to 1 %": 0.01, "below 0.1 %": 0.001}
# Height of a group's title and of the gap above it, in rows.
_TITLE, _GAP = 0.85, 0.35


@Plot
def gain_by_language(
    results: Sequence[Result],
    *,
    against: str = "last",
    by: str = "script",
    width: float = style.WIDE,
    palette: Mapping[str, int] | None = None,
    comparisons: Sequence[Comparison] | None = None,
) -> Figure:
    """Draws the gain of each method over one of them in points, with its 95 % interval.

    Effects are those of ``compare``. A hollow mark is a difference that is not significant, or of
    a single seed.

    Args:
        results: of one task, split and protocol, on the same rows.
        against: the method to compare with.
        by: how languages are grouped: ``"script"``, or ``"share"`` of the encoder's pretraining
            data, where that is known.
        width: in inches.
        palette: index of each method's color and marker; None takes ``palette_of``.
        comparisons: of these results; None computes them.

    Raises:
        ResultError: there is nothing to compare, or the results cannot be compared.
        ConfigError: unknown ``by``.
    """
    if by not in GROUPINGS:
        raise ConfigError(f"unknown grouping {by!r}", allowed=GROUPINGS)
    results = distinguish(results)
    palette = palette or palette_of(results)
    gains = same_kind(comparisons or compare(results, against), results)
    if not gains:
        raise ResultError(
            f"there is no other bridge to compare with {against}",
            hint="use layerbridge compare for baselines",
        )
    codes = list(dict.fromkeys(code for gain in gains for code in gain.languages))
    corpus = corpus_of(encoder_of(results))
    groups = grouped(codes, by, corpus)
    positions, titles, end = _positions(groups)
    figure, axes = style.figure(width, 1.2 + (0.17 + 0.06 * len(gains)) * (end + 1))
    _set_axes(axes, positions, titles, end)
    style.rows(axes, positions, _labels(groups, by, corpus))
    axes.set_xlabel(style.label(f"gain over {against}, points"))
    for gain, offset in zip(gains, style.offsets(len(gains)), strict=True):
        shifted = {code: y + offset for code, y in positions.items()}
        _draw_points(axes, gain, shifted, palette[gain.method])
    style.legend(axes)
    return figure


def grouped(codes: Sequence[str], by: str, corpus: Corpus | None) -> dict[str, list[str]]:
    """Groups languages by script, or by their share of the corpus, the largest first.

    English, which methods are trained on, is a group of its own; scripts of a single language share
    one.
    """
    if by == "share":
        shares = {code: corpus.share(code) if corpus else None for code in codes}
        known = {code: share for code, share in shares.items() if share is not None}
        labels = {
            code: next(title for title, end in reversed(_SHARES.items()) if share <= end)
            for code, share in known.items()
        }
        order = sorted(codes, key=lambda code: -known.get(code, 0.0))
        titles = list(_SHARES)
    else:
        labels = {code: title for code in codes if (title := script(code)) and code != "en"}
        sizes = {title: [*labels.values()].count(title) for title in labels.values()}
        shared = sorted((t for t in sizes if sizes[t] > 1), key=lambda t: (-sizes[t], t))
        # Without a shared script, a title that says "other" would be odd.
        rest = OTHER_SCRIPTS if shared else ALL_SCRIPTS
        labels = {code: t if t in shared else rest for code, t in labels.items()}
        order = sorted(codes, key=names(codes).__getitem__)
        titles = [*shared, rest]
    labels["en"] = TRAINING
    groups: dict[str, list[str]] = {title: [] for title in (TRAINING, *titles, UNKNOWN)}
    for code in order:
        groups[labels.get(code, UNKNOWN)].append(code)
    return {title: members for title, members in groups.items() if members}


def encoder_of(results: Sequence[Result]) -> str | None:
    """Returns the encoder named in the results' settings; None if there is not exactly one."""
    bridges = [result.settings.get("bridge") for result in results]
    encoders = [bridge.get("encoder") for bridge in bridges if isinstance(bridge, dict)]
    unique = {encoder for encoder in encoders if isinstance(encoder, str)}
    return unique.pop() if len(unique) == 1 else None


def same_kind(comparisons: Sequence[Comparison], results: Sequence[Result]) -> list[Comparison]:
    """Returns the comparisons of like with like: bridges with bridges.

    The distance to a baseline, or to a language model alone, would leave no room on the scale for
    the differences between bridges.
    """
    kind = {
        result.method: (result.protocol == CLASSIFIER, "bridge" in result.settings)
        for result in results
    }
    return [gain for gain in comparisons if kind[gain.method] == kind[gain.against]]


def _labels(groups: Mapping[str, Sequence[str]], by: str, corpus: Corpus | None) -> dict[str, str]:
    labels = names(code for members in groups.values() for code in members)
    for title, members in groups.items():
        for code in members:
            if by == "share" and corpus and (share := corpus.share(code)) is not None:
                labels[code] += f", {100 * share:.2g} %"
            elif title in (OTHER_SCRIPTS, ALL_SCRIPTS) and script(code) != labels[code]:
                labels[code] += f" ({script(code)})"
    return labels


def _positions(
    groups: Mapping[str, Sequence[str]],
) -> tuple[dict[str, float], dict[str, float], float]:
    """The vertical position of each language, of each group's title, and of the last row."""
    positions: dict[str, float] = {}
    titles: dict[str, float] = {}
    y = 0.0
    for title, codes in groups.items():
        titles[title] = y
        positions |= {code: y + _TITLE + row for row, code in enumerate(codes)}
        y += _TITLE + len(codes) + _GAP
    return positions, titles, y - _GAP - 1


def _set_axes(
    axes: Axes, positions: Mapping[str, float], titles: Mapping[str, float], end: float
) -> None:
    axes.set_ylim(end + 0.6, -0.6)
    for y in positions.values():
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


def _draw_points(axes: Axes, gain: Comparison, positions: Mapping[str, float], index: int) -> None:
    effects = [(positions[code], effect) for code, effect in gain.languages.items()]
    points = [(y, effect.effect, effect.low, effect.high) for y, effect in effects]
    style.error_bars(axes, points, index=index, label=style.label(gain.method))
    insignificant = [(y, effect.effect) for y, effect in effects if not effect.significant]
    hollow = {"mfc": style.PAPER, "mec": style.color(index), "mew": 1.2}
    axes.plot(
        [value for _, value in insignificant],
        [y for y, _ in insignificant],
        ls="none",
        zorder=4,
        **style.marks(index) | hollow,
    )
