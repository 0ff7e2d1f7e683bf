"""The floor: what a classifier of characters does that has never seen another language.

It knows shared letters, loan words, numerals and where blanks are, and nothing of meaning. A method
that does not beat it in a language shows no transfer there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from layerbridge.evaluation.results import CLASSIFIER, LanguageResult, Prediction, Result
from layerbridge.tasks import Task

METHOD = "tf-idf + logistic regression"


def floor(
    task: Task,
    languages: Iterable[str] | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Result:
    """TF-IDF of character n-grams and a logistic regression, fitted on the English training rows.

    1- to 4-grams of characters, sublinear term frequency, C = 1. Across blanks and not within
    words, because that is the stronger floor: a blank is the one character that most scripts share
    with English, and it tells long names from short ones.

    Args:
        task: trained on ``task.train()`` alone.
        languages: codes to test on; all of the task's if not given.
        seed: of the solver; it hardly matters, the problem is convex.
        progress: told the language, the rows done and the rows in all, after every language; the
            fit before the first takes most of the time.

    Returns:
        A result with the protocol ``classifier`` over the task's test rows.

    Raises:
        DataError: the task has no test rows in a language.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    codes = tuple(task.languages if languages is None else languages)
    # Before the fit, so that a misspelt language costs no waiting.
    rows = {code: task.test(code) for code in codes}
    train = task.train()
    ngrams, c = (1, 4), 1.0
    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=ngrams, sublinear_tf=True),
        LogisticRegression(C=c, max_iter=1000, random_state=seed),
    )
    model.fit([row.text for row in train], [row.target for row in train])
    total, done = sum(map(len, rows.values())), 0
    results = {}
    for code in codes:
        answers = model.predict([row.text for row in rows[code]])
        results[code] = LanguageResult.of(
            Prediction(row.id, row.target, str(answer), bool(answer == row.target))
            for row, answer in zip(rows[code], answers, strict=True)
        )
        done += len(rows[code])
        if progress is not None:
            progress(code, done, total)
    return Result(
        method=METHOD,
        task=task.name,
        protocol=CLASSIFIER,
        split="test",
        seed=seed,
        languages=results,
        settings={
            "analyzer": "char",
            "ngram_range": list(ngrams),
            "C": c,
            "train_rows": len(train),
            "task_version": task.version(),
        },
    )
