"""TF-IDF of characters: how far a classifier gets that has never seen another language.

It knows shared letters, loan words, numerals and spaces, and nothing about meaning. A method that
does not beat it in a language shows no transfer there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layerbridge.evaluation.predictions import Progress, predict, rows_by_language, text_counts
from layerbridge.evaluation.results import CLASSIFIER, LanguageResult, Result
from layerbridge.tasks.task import Row, Task
from layerbridge.training.floor import NGRAMS, C, fitted

METHOD = "tf-idf"


def tf_idf(
    task: Task,
    languages: Iterable[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """TF-IDF of character n-grams and a logistic regression, fitted on the English training rows.

    1- to 4-grams of characters, sublinear term frequency, C = 1. The n-grams cross word boundaries,
    which makes the stronger baseline: the space is the one character that most scripts share with
    English, and it tells long names from short ones.

    Args:
        task: any; only ``task.train()`` is trained on.
        languages: codes to test on; None takes all of the task's.
        seed: of the solver; the problem is convex, so it hardly matters.
        progress: called after every language; the fit before the first takes most of the time.

    Returns:
        A result over the test rows, with the protocol ``classifier``.

    Raises:
        DataError: the task has no test rows in a language.
    """
    rows = rows_by_language(task, languages)
    counts = text_counts(rows, task)
    train = task.train()
    model = fitted(train, seed=seed)

    def answer(batch: Sequence[Row]) -> list[str]:
        return [str(label) for label in model.predict([row.text for row in batch])]

    most = max([1, *map(len, rows.values())])
    predictions = predict(rows, answer, batch_size=most, progress=progress)
    return Result(
        method=METHOD,
        task=task.name,
        protocol=CLASSIFIER,
        split="test",
        seed=seed,
        languages={code: LanguageResult.of(answers) for code, answers in predictions.items()},
        settings={
            "analyzer": "char",
            "ngram_range": list(NGRAMS),
            "C": C,
            "train_rows": len(train),
            **task.settings(),
        },
        text_counts=counts,
    )
