"""Several seeds of a method are one method: its results, a seed each, and their answers by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics import Answers


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: as in its results.
        results: one for each seed, by seed.
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

        A row is called by its id without the language in front (``si/unit/watt`` is ``unit/watt``),
        so that what is the same thing in several languages is known to be.

        Raises:
            ResultError: two rows of a result have the same id.
        """
        return Answers.of([_right(result, code) for result in self.results])


def methods(results: Sequence[Result]) -> dict[str, Method]:
    """The results by method, in order of appearance.

    A method that is given twice with the same seed and the same answers counts once: a baseline
    that is not trained is the same beside every seed of the others.

    Raises:
        ResultError: a method has two results of one seed that differ.
    """
    repeated = repeated_seed(results)
    if repeated:
        first, other = repeated
        told = " and ".join(result.run or result.created for result in repeated)
        raise ResultError(
            f"{first.method} has two different results with seed {other.seed} ({told})",
            allowed="one result for each seed of a method",
            hint="give the files of one setting only",
        )
    found: dict[str, dict[int, Result]] = {}
    for result in results:
        found.setdefault(result.method, {}).setdefault(result.seed, result)
    return {
        name: Method(name, tuple(of[seed] for seed in sorted(of))) for name, of in found.items()
    }


def repeated_seed(results: Sequence[Result]) -> tuple[Result, Result] | None:
    """The first two results of one method and one seed that do not give the same answers."""
    for first, other in combinations(results, 2):
        same = (first.method, first.seed) == (other.method, other.seed)
        if same and _given(first) != _given(other):
            return first, other
    return None


def _given(result: Result) -> dict[str, dict[str, tuple[str, bool]]]:
    return {
        code: {answer.id: (answer.prediction, answer.correct) for answer in entry.predictions}
        for code, entry in result.languages.items()
    }


def _right(result: Result, code: str) -> dict[str, bool]:
    answers = result.languages[code].predictions
    prefix = f"{code}/"
    cut = len(prefix) if all(answer.id.startswith(prefix) for answer in answers) else 0
    right = {answer.id[cut:]: answer.correct for answer in answers}
    if len(right) < len(answers):
        raise ResultError(
            f"{result.method} has {len(answers)} rows in {code} and {len(right)} different ids",
            allowed="an id of its own for every row",
            hint="give the rows ids and evaluate again",
        )
    return right
