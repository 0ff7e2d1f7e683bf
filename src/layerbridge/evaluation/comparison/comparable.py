"""Which results may stand side by side: those measured on the same rows in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import CLASSIFIER, Result


def check_comparable(results: Sequence[Result]) -> None:
    """Refuse results that were not measured on the same rows in the same way.

    They must be of one task and one split, and in each language have the same rows with the same
    labels. They must have one protocol, too, with one exception: results with the protocol
    ``classifier`` are baselines without a language model, which cannot be asked in another way, and
    may stand beside any protocol.

    Raises:
        ResultError: there are no results, or they cannot be compared; the difference is named.
    """
    if not results:
        raise ResultError("there are no results to compare", allowed="one or more")
    first = results[0]
    for other in results[1:]:
        for name in ("task", "split"):
            _same(name, first, other)
    asked = [result for result in results if result.protocol != CLASSIFIER]
    for other in asked[1:]:
        _same("protocol", asked[0], other)
    seen: dict[str, Result] = {}
    for result in results:
        for code in result.languages:
            _same_rows(code, seen.setdefault(code, result), result)


def ordered_languages(results: Sequence[Result]) -> tuple[str, ...]:
    """All languages of the results in order of appearance, English first."""
    codes = dict.fromkeys(code for result in results for code in result.languages)
    return tuple(sorted(codes, key=lambda code: code != "en"))


def averaged_languages(results: Sequence[Result]) -> tuple[str, ...]:
    """The languages that an average is over: those other than English that every result has."""
    return tuple(
        code
        for code in ordered_languages(results)
        if code != "en" and all(code in result.languages for result in results)
    )


def _same(name: str, first: Result, other: Result) -> None:
    given = getattr(first, name), getattr(other, name)
    if given[0] != given[1]:
        raise ResultError(
            f"{first.method} has the {name} {given[0]!r} and {other.method} {given[1]!r}",
            allowed=f"one {name} a table",
            hint=f"make one table for each {name}",
        )


def _same_rows(code: str, first: Result, other: Result) -> None:
    rows = [
        {answer.id: answer.label for answer in result.languages[code].predictions}
        for result in (first, other)
    ]
    if rows[0] == rows[1]:
        return
    differing = next(key for key in [*rows[0], *rows[1]] if rows[0].get(key) != rows[1].get(key))
    told = [
        f"label {labels[differing]!r}" if differing in labels else "no such row" for labels in rows
    ]
    raise ResultError(
        f"{first.method} and {other.method} were tested on different rows in {code}: "
        f"{len(rows[0])} and {len(rows[1])}; row {differing!r}: {told[0]} and {told[1]}",
        allowed="the same rows for every result",
        hint="evaluate both with the same task, options and versions",
    )
