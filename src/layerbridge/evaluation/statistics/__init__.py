"""What accuracies and differences of accuracies can say, and how far.

    proportions   one run: Wilson's interval, and the mean of the languages
    answers       right and wrong by seed and row
    seeds         several runs of one method
    paired        one method against another in one language; Holm's correction
    averages      one method against another on the mean over languages
    resampling    the draws behind it

Knows numbers and the keys of rows, not results or files. What each interval covers, with its
source and its coverage in simulation, is in docs/statistics.md.
"""

from layerbridge.evaluation.statistics.answers import Answers
from layerbridge.evaluation.statistics.averages import AverageDifference, average_difference
from layerbridge.evaluation.statistics.paired import (
    Difference,
    difference,
    discordant,
    holm,
    mcnemar,
)
from layerbridge.evaluation.statistics.proportions import mean_of_languages, wilson
from layerbridge.evaluation.statistics.resampling import DRAWS
from layerbridge.evaluation.statistics.seeds import mean_of_seeds

__all__ = [
    "DRAWS",
    "Answers",
    "AverageDifference",
    "Difference",
    "average_difference",
    "difference",
    "discordant",
    "holm",
    "mcnemar",
    "mean_of_languages",
    "mean_of_seeds",
    "wilson",
]
