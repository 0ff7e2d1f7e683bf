"""Every method against one of them: how much better, how sure, language by language and overall."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from layerbridge.errors import ResultError
from layerbridge.evaluation.comparison.comparable import (
    averaged_languages,
    check_comparable,
    ordered_languages,
)
from layerbridge.evaluation.comparison.methods import Method, methods
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics import (
    DRAWS,
    Difference,
    average_difference,
    difference,
    discordant,
    holm,
)

ALPHA = 0.05

Mark = Literal["better", "worse"]


@dataclass(frozen=True)
class LanguageEffect:
    """How much better a method is than another in one language.

    Attributes:
        effect: in percentage points.
        low: lower end of the 95 % interval, in percentage points.
        high: upper end.
        p: against no difference.
        p_holm: after Holm's correction over the languages of this comparison.
        significant: p_holm is below 0.05.
        n: rows.
        discordant: rows on which more of the method's seeds are right (by share), and fewer.
    """

    effect: float
    low: float
    high: float
    p: float
    p_holm: float
    significant: bool
    n: int
    discordant: tuple[int, int]

    @property
    def mark(self) -> Mark | None:
        """What a table marks."""
        return _mark(self.effect, self.significant)


@dataclass(frozen=True)
class AverageEffect:
    """How much better a method is than another on the mean over languages.

    Attributes:
        effect: in percentage points.
        low: lower end of the 95 % interval, in percentage points.
        high: upper end.
        p: against no difference; one question, so there is nothing to correct.
        significant: p is below 0.05.
        languages: those averaged.
    """

    effect: float
    low: float
    high: float
    p: float
    significant: bool
    languages: tuple[str, ...]

    @property
    def mark(self) -> Mark | None:
        """What a table marks."""
        return _mark(self.effect, self.significant)


@dataclass(frozen=True)
class Comparison:
    """One method against another.

    Attributes:
        method: the one that is better or worse.
        against: the one it is compared with.
        languages: code → effect, English first: the languages that both were tested in.
        average: over the languages other than English that every result has, as an estimate for
            other languages too; None where there are fewer than two of them.
        average_fixed: the same effect, for these languages alone; None where there is none.
        seeds: of the method. With one, nothing covers its other seeds.
        against_seeds: of the other.
        paired_seeds: both have the same seeds, and seed n of the one was set against seed n of the
            other. Otherwise the seeds of the two count as drawn apart.
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
    """Compare every other method with one of them, row by row.

    Args:
        results: of one task, split and protocol, on the same rows; several seeds of a method are
            one method.
        against: the method to compare with.
        languages: codes; None takes all.
        other_seeds: whether the effects are to hold for other seeds. Without, they are those of the
            runs at hand, and a method that was lucky with its seeds is called better.
        draws: of the bootstrap of the average.
        seed: of its generator.

    Returns:
        One for each other method, in order of appearance.

    Raises:
        ResultError: the results cannot be compared, there is no such method or language, nothing
            to compare it with, or two results of one method and seed differ.
    """
    results = list(results)
    check_comparable(results)
    found = methods(results)
    if against not in found:
        raise ResultError(f"there is no result of the method {against!r}", allowed=found)
    if len(found) == 1:
        raise ResultError(
            f"there is nothing to compare with {against}", hint="give a result of another method"
        )
    there = ordered_languages(results)
    wanted = there if languages is None else tuple(languages)
    for code in wanted:
        if code not in there:
            raise ResultError(f"no result has the language {code!r}", allowed=there)
    codes = tuple(code for code in there if code in wanted)
    averaged = tuple(code for code in averaged_languages(results) if code in wanted)
    return [
        _comparison(
            method, found[against], codes, averaged, other_seeds=other_seeds, draws=draws, seed=seed
        )
        for name, method in found.items()
        if name != against
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
    both = [code for code in codes if code in method.languages and code in other.languages]
    if not both:
        raise ResultError(
            f"{method.name} and {other.name} have no language in common",
            allowed="results in the same languages",
        )
    first = {code: method.answers(code) for code in both}
    second = {code: other.answers(code) for code in both}
    paired = method.seeds == other.seeds
    found = {
        code: difference(first[code], second[code], paired_seeds=paired, other_seeds=other_seeds)
        for code in both
    }
    corrected = holm([found[code].p for code in both])
    effects = {
        code: LanguageEffect(
            *_points(found[code]),
            p=found[code].p,
            p_holm=p,
            significant=p < ALPHA,
            n=len(first[code].rows),
            discordant=discordant(first[code], second[code]),
        )
        for code, p in zip(both, corrected, strict=True)
    }
    of_all, of_these = None, None
    if averaged:
        average = average_difference(
            {code: first[code] for code in averaged},
            {code: second[code] for code in averaged},
            paired_seeds=paired,
            other_seeds=other_seeds,
            draws=draws,
            seed=seed,
        )
        of_these = _average(average.these, averaged)
        of_all = _average(average.others, averaged) if average.others else None
    return Comparison(
        method=method.name,
        against=other.name,
        languages=effects,
        average=of_all,
        average_fixed=of_these,
        seeds=method.seeds,
        against_seeds=other.seeds,
        paired_seeds=paired,
        other_seeds=other_seeds,
    )


def _average(found: Difference, languages: tuple[str, ...]) -> AverageEffect:
    return AverageEffect(
        *_points(found), p=found.p, significant=found.p < ALPHA, languages=languages
    )


def _points(found: Difference) -> tuple[float, float, float]:
    return 100 * found.effect, 100 * found.low, 100 * found.high


def _mark(effect: float, significant: bool) -> Mark | None:
    return ("better" if effect > 0 else "worse") if significant else None
