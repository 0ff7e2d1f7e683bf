"""How often the intervals of docs/statistics.md contain the true value, on simulated methods.

    python benchmarks/coverage.py > benchmarks/results/statistics/coverage.json

The difficulty of a row is partly shared by all languages, partly its own in each language and for
each method; seeds shift a method's accuracy in all languages alike and change the answers to single
rows; methods differ by language. The library's intervals are compared with the plain percentile
bootstrap, which draws rows, seeds and languages with replacement, and with intervals over the rows
alone.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from layerbridge.evaluation.results import versions
from layerbridge.evaluation.statistics.averages import average_difference
from layerbridge.evaluation.statistics.paired import difference
from layerbridge.evaluation.statistics.seeds import Answers, mean_of_seeds

REPEATS = 300
DRAWS = 1000
ACCURACY = 0.65
LANGUAGES = 14
LANGUAGES_DIFFER = 4.0
# Shares of the variance of single answers: of a row in all languages, in one, for a method, a seed.
SHARED, OF_LANGUAGE, OF_METHOD, OF_SEED = 0.3, 0.2, 0.2, 0.3

_LEVEL = NormalDist().inv_cdf(ACCURACY)
_POINT = 0.01 / NormalDist().pdf(_LEVEL)


@dataclass(frozen=True)
class Case:
    """What is simulated.

    Attributes:
        seeds: of each method.
        rows: per language, the same ones in each.
        seeds_differ: standard deviation of a seed's accuracy, in percentage points.
    """

    seeds: int
    rows: int
    seeds_differ: float


Interval = tuple[float, float]


def main() -> None:
    """Simulates every case and prints the shares and mean widths as JSON."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    cases = []
    for rows in (30, 500):
        for seeds in (1, 2, 3, 5):
            for seeds_differ in (0.0, 3.0) if seeds > 1 else (0.0,):
                case = Case(seeds, rows, seeds_differ)
                cases.append({**asdict(case), **simulate(case)})
                sys.stderr.write(f"{case}\n")
    settings = {
        "repeats": REPEATS,
        "draws": DRAWS,
        "accuracy": ACCURACY,
        "languages": LANGUAGES,
        "languages_differ": LANGUAGES_DIFFER,
    }
    document = {"settings": settings, "cases": cases, "versions": versions()}
    json.dump(document, sys.stdout, indent=1)


def simulate(case: Case) -> dict[str, dict[str, list[float]]]:
    """Returns question → interval → [share that contains the true value, mean width in points]."""
    random = np.random.default_rng([case.seeds, case.rows, round(case.seeds_differ)])
    covered: dict[str, dict[str, list[tuple[bool, float]]]] = defaultdict(lambda: defaultdict(list))
    for repeat in range(REPEATS):
        # Language 0 is for questions about one language: there the methods are equally good. So
        # are they on average over the languages that the others are drawn from.
        spread = LANGUAGES_DIFFER * _POINT
        levels = _LEVEL * math.sqrt(1 + spread**2) + random.normal(0, spread, LANGUAGES)
        first_levels = np.concatenate([[_LEVEL], levels])
        first, second = _methods(case, random, first_levels)
        truths = {
            "accuracy, one language": ACCURACY,
            "accuracy, average": ACCURACY,
            "difference, one language": 0.0,
            "difference, average": float(np.mean([NormalDist().cdf(x) for x in levels])) - ACCURACY,
            "difference, other languages": 0.0,
        }
        for question, ways in _intervals(first, second, repeat).items():
            for way, (low, high) in ways.items():
                truth = truths[question]
                covered[question][way].append((low <= truth <= high, 100 * (high - low)))
    return {
        question: {way: np.mean(pairs, axis=0).round(3).tolist() for way, pairs in ways.items()}
        for question, ways in covered.items()
    }


def _methods(
    case: Case, random: np.random.Generator, first_levels: NDArray
) -> tuple[NDArray, NDArray]:
    """Returns the correctness of two methods' answers, [seeds, rows, languages]."""
    count = len(first_levels)
    hard = random.normal(0, math.sqrt(SHARED), (case.rows, 1))
    hard = hard + random.normal(0, math.sqrt(OF_LANGUAGE), (case.rows, count))
    seed = case.seeds_differ * _POINT
    results = []
    for levels in (first_levels, np.full(count, _LEVEL)):
        rows = hard + random.normal(0, math.sqrt(OF_METHOD), (case.rows, count))
        noise = random.normal(0, math.sqrt(OF_SEED), (case.seeds, case.rows, count))
        shift = random.normal(0, seed, (case.seeds, 1, 1))
        # Accuracy over all rows and seeds is Φ(level), whatever the seeds' spread.
        results.append((levels * math.sqrt(1 + seed**2) + rows + noise + shift > 0).astype(float))
    return results[0], results[1]


def _intervals(first: NDArray, second: NDArray, seed: int) -> dict[str, dict[str, Interval]]:
    one, other = _answers(first), _answers(second)
    ours, rows_alone = (
        average_difference(
            _averaged(one),
            _averaged(other),
            paired_seeds=True,
            other_seeds=s,
            draws=DRAWS,
            seed=seed,
        )
        for s in (True, False)
    )
    assert ours.others is not None
    single, single_rows = (
        difference(one["00"], other["00"], paired_seeds=True, other_seeds=s) for s in (True, False)
    )
    gain = first - second
    return {
        "accuracy, one language": {
            "ours": mean_of_seeds({"00": other["00"]})[1:],
            "bootstrap": _bootstrap(second[:, :, :1], seed),
        },
        "accuracy, average": {
            "ours": mean_of_seeds(_averaged(other))[1:],
            "bootstrap": _bootstrap(second[:, :, 1:], seed),
        },
        "difference, one language": {
            "ours": single[1:3],
            "rows alone": single_rows[1:3],
            "bootstrap": _bootstrap(gain[:, :, :1], seed),
        },
        "difference, average": {
            "ours": ours.these[1:3],
            "rows alone": rows_alone.these[1:3],
            "bootstrap": _bootstrap(gain[:, :, 1:], seed),
        },
        "difference, other languages": {
            "ours": ours.others[1:3],
            "bootstrap": _bootstrap(gain[:, :, 1:], seed, languages=True),
        },
    }


def _answers(right: NDArray) -> dict[str, Answers]:
    rows = tuple(f"{i:05}" for i in range(right.shape[1]))
    return {f"{code:02}": Answers(rows, right[:, :, code]) for code in range(right.shape[2])}


def _averaged(answers: dict[str, Answers]) -> dict[str, Answers]:
    return {code: of for code, of in answers.items() if code != "00"}


def _bootstrap(values: NDArray, seed: int, *, languages: bool = False) -> Interval:
    """Returns the percentile bootstrap of the mean, every dimension drawn with replacement."""
    random = np.random.default_rng(seed)
    shares = [
        random.multinomial(size, np.full(size, 1 / size), size=DRAWS) / size
        for size in values.shape
    ]
    if not languages:
        shares[2] = np.full((DRAWS, values.shape[2]), 1 / values.shape[2])
    by_row = np.tensordot(shares[1], values, axes=(1, 1))  # [draws, seeds, languages]
    drawn = np.einsum("dsl,ds,dl->d", by_row, shares[0], shares[2])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
