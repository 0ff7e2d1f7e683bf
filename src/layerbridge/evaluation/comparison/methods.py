"""Several seeds of a method are one method: one result for each seed, and its answers by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from layerbridge.errors import ResultError
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.statistics.seeds import Answers

# Settings by which a baseline is known whatever its name: tf-idf and a language model alone answer
# alike with every seed, unless there is a trained bridge or examples are drawn.
_FIXED, _RANDOM = {"ngram_range", "prompt"}, {"bridge", "shots"}


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
    def covers_seeds(self) -> bool:
        """Whether its results tell what other seeds would give: several do, a single one does not.

        One is enough for a baseline in which nothing is random.
        """
        settings = self.results[0].settings.keys()
        return len(self.results) > 1 or bool(settings & _FIXED and not settings & _RANDOM)

    @property
    def languages(self) -> tuple[str, ...]:
        """Those that every seed was tested in."""
        first, *others = self.results
        return tuple(
            code for code in first.languages if all(code in other.languages for other in others)
        )

    def answers(self, code: str) -> Answers:
        """Right and wrong in one language, by seed and item.

        Raises:
            ResultError: two rows of a result have the same id or item.
        """
        return Answers.of([result.right(code) for result in self.results])


def methods(results: Sequence[Result]) -> dict[str, Method]:
    """The results by method, in order of appearance; other settings are another method.

    Two results of one method and seed with the same answers count once: an untrained baseline is
    the same for every seed of the others.

    Raises:
        ResultError: a method has two different results with one seed.
    """
    results = distinguish(results)
    repeated = repeated_seed(results)
    if repeated:
        first, other = repeated
        sources = " and ".join(result.run or result.created for result in repeated)
        raise ResultError(
            f"{first.method} has two different results with seed {other.seed} ({sources})",
            allowed="one result per seed of a method",
            hint="give each a name with NAME=RUN",
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
