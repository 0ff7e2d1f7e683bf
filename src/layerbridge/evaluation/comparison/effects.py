"""Every method against one of them: how much better, how surely, by language and on average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from layerbridge.errors import ResultError
from layerbridge.evaluation.comparison.comparable import (
    averaged_languages,
    check_comparable,
    ordered_languages,
)
from layerbridge.evaluation.comparison.methods import Method, methods
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.averages import average_difference
from layerbridge.evaluation.statistics.paired import Difference, difference, discordant, holm
from layerbridge.evaluation.statistics.resampling import DRAWS
from layerbridge.tasks.languages import own_code

ALPHA = 0.05

Mark = Literal["better", "worse"]


@dataclass(frozen=True)
class Effect:
    """How much better one method is than another.

    Attributes:
        effect: in percentage points.
        low: lower end of the 95 % interval, in percentage points.
        high: upper end.
        p: against no difference.
        significant: p, after correction where there is one, is below 0.05, and there are several
            seeds (see ``Comparison.several_seeds``).
    """

    effect: float
    low: float
    high: float
    p: float
    significant: bool

    @property
    def mark(self) -> Mark | None:
        """How tables mark it."""
        return ("better" if self.effect > 0 else "worse") if self.significant else None


@dataclass(frozen=True)
class LanguageEffect(Effect):
    """The effect in one language.

    Attributes:
        p_holm: after Holm's correction over the languages of this comparison.
        n: rows.
        discordant: rows on which a larger share of the method's seeds is right, and a smaller one.
    """

    p_holm: float
    n: int
    discordant: tuple[int, int]


@dataclass(frozen=True)
class AverageEffect(Effect):
    """The effect on the mean over languages; a single test, so without correction.

    Attributes:
        languages: those averaged.
    """

    languages: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """One method against another.

    Attributes:
        method: the method.
        against: the method it is compared with.
        languages: code → effect, English first: the languages that both were tested in.
        average: over the languages other than English that every result has, as an estimate for
            other languages too; None where there are fewer than two of them.
        average_fixed: the same effect for these languages alone; None where there is none.
        seeds: of the method.
        against_seeds: of the other.
        paired_seeds: both have the same seeds, and equal seeds are paired. Otherwise the seeds of
            the two are independent.
        several_seeds: both methods have several seeds, or one has and the other needs none, being
            the same with every seed. Otherwise a difference may be the luck of a seed, whatever p
            is, and none is called significant.
        other_seeds: intervals and p-values cover other seeds, not only these runs.
    """

    method: str
    against: str
    languages: dict[str, LanguageEffect]
    average: AverageEffect | None
    average_fixed: AverageEffect | None
    seeds: tuple[int, ...]
    against_seeds: tuple[int, ...]
    paired_seeds: bool
    several_seeds: bool
    other_seeds: bool


def compare(
    results: Sequence[Result],
    against: str = "last",
    *,
    languages: Iterable[str] | None = None,
    other_seeds: bool = True,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Comparison]:
    """Compares every other method with one of them, row by row.

    Args:
        results: of one task, split and protocol, on the same rows; several seeds of a method are
            one method.
        against: the method to compare with.
        languages: codes; None takes all.
        other_seeds: whether the effects cover other seeds, where there are several. Otherwise they
            are those of these runs, and a method that was lucky with its seeds is called better.
        draws: bootstrap samples for the average.
        seed: of the bootstrap.

    Returns:
        One for each other method, in order of appearance.

    Raises:
        ResultError: the results cannot be compared, the method or a language is unknown, there is
            nothing to compare with, or two results of one method and seed differ.
    """
    results = distinguish(results)
    check_comparable(results)
    by_name = methods(results)
    if against not in by_name:
        raise ResultError(f"no result of the method {against!r}", allowed=by_name)
    if len(by_name) == 1:
        raise ResultError(
            f"there is nothing to compare with {against}", hint="add a result of another method"
        )
    codes = ordered_languages(results)
    if languages is not None:
        chosen = tuple(own_code(code, codes) for code in languages)
        for code in chosen:
            if code not in codes:
                raise ResultError(f"no result has the language {code!r}", allowed=codes)
        codes = tuple(code for code in codes if code in chosen)
    averaged = tuple(code for code in averaged_languages(results) if code in codes)
    other = by_name.pop(against)
    return [
        _comparison(method, other, codes, averaged, other_seeds=other_seeds, draws=draws, seed=seed)
        for method in by_name.values()
    ]


def _comparison(
    method: Method,
    other: Method,
    codes: Sequence[str],
    averaged: tuple[str, ...],
    *,
    other_seeds: bool,
    draws: int,
    seed: int,
) -> Comparison:
    common = [code for code in codes if code in method.languages and code in other.languages]
    if not common:
        raise ResultError(
            f"{method.name} and {other.name} have no language in common",
            allowed="results in the same languages",
        )
    first = {code: method.answers(code) for code in common}
    second = {code: other.answers(code) for code in common}
    paired = method.seeds == other.seeds
    seeds: dict[str, Any] = {"paired_seeds": paired, "other_seeds": other_seeds}
    differences = [difference(first[code], second[code], **seeds) for code in common]
    corrected = holm([each.p for each in differences])
    several = method.covers_seeds and other.covers_seeds
    several = several and max(len(method.seeds), len(other.seeds)) > 1
    effects = {
        code: LanguageEffect(
            *_points(estimate),
            significant=several and p_holm < ALPHA,
            p_holm=p_holm,
            n=len(first[code].rows),
            discordant=discordant(first[code], second[code]),
        )
        for code, estimate, p_holm in zip(common, differences, corrected, strict=True)
    }
    average, average_fixed = None, None
    if averaged:
        these, others = average_difference(
            {code: first[code] for code in averaged},
            {code: second[code] for code in averaged},
            **seeds,
            draws=draws,
            seed=seed,
        )
        average_fixed, average = (
            AverageEffect(*_points(each), several and each.p < ALPHA, averaged) if each else None
            for each in (these, others)
        )
    return Comparison(
        method=method.name,
        against=other.name,
        languages=effects,
        average=average,
        average_fixed=average_fixed,
        seeds=method.seeds,
        against_seeds=other.seeds,
        paired_seeds=paired,
        several_seeds=several,
        other_seeds=other_seeds and several,
    )


def _points(difference: Difference) -> tuple[float, float, float, float]:
    """Effect and interval in percentage points, and p."""
    effect, low, high, p = difference
    return 100 * effect, 100 * low, 100 * high, p
