"""Which results may be compared: those measured on the same rows in the same way."""

from __future__ import annotations

from collections.abc import Sequence

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import CLASSIFIER, Result


def check_comparable(results: Sequence[Result]) -> None:
    """Refuses results that were not measured on the same rows in the same way.

    They must be of one task and one split, and have the same rows with the same labels and items in
    each language. They must also have one protocol, except for baselines without a language model
    (``classifier``), which may appear with any protocol.

    Raises:
        ResultError: there are no results, or they cannot be compared; it names the difference.
    """
    if not results:
        raise ResultError("there are no results to compare", allowed="one or more")
    _check_same("task", results)
    _check_same("split", results)
    _check_same("protocol", [result for result in results if result.protocol != CLASSIFIER])
    seen: dict[str, Result] = {}
    for result in results:
        for code in result.languages:
            _check_rows(code, seen.setdefault(code, result), result)


def ordered_languages(results: Sequence[Result]) -> tuple[str, ...]:
    """All languages of the results in order of appearance, English first."""
    codes = dict.fromkeys(code for result in results for code in result.languages)
    return tuple(sorted(codes, key=lambda code: code != "en"))


def averaged_languages(results: Sequence[Result]) -> tuple[str, ...]:
    """The languages that averages are over: those other than English that every result has."""
    return tuple(
        code
        for code in ordered_languages(results)
        if code != "en" and all(code in result.languages for result in results)
    )


def _check_same(name: str, results: Sequence[Result]) -> None:
    for other in results[1:]:
        values = getattr(results[0], name), getattr(other, name)
        if values[0] != values[1]:
            raise ResultError(
                f"{results[0].method} has the {name} {values[0]!r} and {other.method} "
                f"{values[1]!r}",
                allowed=f"one {name} per table",
                hint=f"make one table for each {name}",
            )


def _check_rows(code: str, first: Result, other: Result) -> None:
    rows = [
        {answer.id: (answer.label, result.item(code, answer)) for answer in entry.predictions}
        for result in (first, other)
        for entry in (result.languages[code],)
    ]
    if rows[0] == rows[1]:
        return
    row = next(key for key in [*rows[0], *rows[1]] if rows[0].get(key) != rows[1].get(key))
    found = [of.get(row) for of in rows]
    labels_differ = len({each and each[0] for each in found}) > 1
    differing = [
        "no such row"
        if each is None
        else f"label {each[0]!r}"
        if labels_differ
        else f"item {each[1]!r}"
        for each in found
    ]
    raise ResultError(
        f"{first.method} and {other.method} were tested on different rows in {code}: "
        f"{len(rows[0])} and {len(rows[1])}; row {row!r}: {differing[0]} and {differing[1]}",
        allowed="the same rows for every result",
        hint="evaluate both with the same task, options and versions",
    )
