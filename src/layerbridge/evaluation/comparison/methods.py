"""Several seeds of a method are one method: one result for each seed, and its answers by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.seeds import Answers


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: as in its results.
        results: one for each seed, in ascending order.
    """

    name: str
    results: tuple[Result, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(result.seed for result in self.results)

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that every seed was tested in."""
        first, *others = self.results
        return tuple(
            code for code in first.languages if all(code in other.languages for other in others)
        )

    def answers(self, code: str) -> Answers:
        """Right and wrong in one language, by seed and row.

        The key of a row is its id without the language in front (``si/unit/watt`` becomes
        ``unit/watt``), so that a row that several languages share is recognized.

        Raises:
            ResultError: two rows of a result have the same id.
        """
        return Answers.of([_right(result, code) for result in self.results])


def methods(results: Sequence[Result]) -> dict[str, Method]:
    """The results by method, in order of appearance.

    Two results of one method and seed with the same answers count once: an untrained baseline is
    the same for every seed of the others.

    Raises:
        ResultError: a method has two different results with one seed.
    """
    repeated = repeated_seed(results)
    if repeated:
        first, other = repeated
        sources = " and ".join(result.run or result.created for result in repeated)
        raise ResultError(
            f"{first.method} has two different results with seed {other.seed} ({sources})",
            allowed="one result per seed of a method",
            hint="pass the files of one setting only",
        )
    by_seed: dict[str, dict[int, Result]] = {}
    for result in results:
        by_seed.setdefault(result.method, {}).setdefault(result.seed, result)
    return {
        name: Method(name, tuple(of[seed] for seed in sorted(of))) for name, of in by_seed.items()
    }


def repeated_seed(results: Sequence[Result]) -> tuple[Result, Result] | None:
    """The first two results of one method and one seed with different answers."""
    for first, other in combinations(results, 2):
        same = (first.method, first.seed) == (other.method, other.seed)
        if same and _predictions(first) != _predictions(other):
            return first, other
    return None


def _predictions(result: Result) -> dict[str, dict[str, tuple[str, bool]]]:
    return {
        code: {answer.id: (answer.prediction, answer.correct) for answer in entry.predictions}
        for code, entry in result.languages.items()
    }


def _right(result: Result, code: str) -> dict[str, bool]:
    answers = result.languages[code].predictions
    prefix = f"{code}/" if all(answer.id.startswith(f"{code}/") for answer in answers) else ""
    right = {answer.id.removeprefix(prefix): answer.correct for answer in answers}
    if len(right) < len(answers):
        raise ResultError(
            f"{result.method} has {len(answers)} rows in {code} but {len(right)} different ids",
            allowed="a unique id per row",
            hint="give every row its own id and evaluate again",
        )
    return right
