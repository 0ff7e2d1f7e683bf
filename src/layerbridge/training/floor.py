"""What a bridge has to beat: a classifier of characters, and the most frequent label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerbridge.tasks.stored_rows import StoredRows
from layerbridge.tasks.task import Row

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Of the TF-IDF baseline; ``evaluation.baselines.tf_idf`` says why.
NGRAMS, C = (1, 4), 1.0
# The fit takes seconds; with more rows it takes minutes.
MOST_ROWS = 10_000


def fitted(rows: Sequence[Row], *, seed: int = 0) -> Pipeline:
    """Returns TF-IDF of character n-grams and a logistic regression, fitted on rows.

    Args:
        rows: English, with at least two labels.
        seed: of the solver.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(analyzer="char", ngram_range=NGRAMS, sublinear_tf=True),
        LogisticRegression(C=C, max_iter=1000, random_state=seed),
    )
    return model.fit([row.text for row in rows], [row.target for row in rows])


def tf_idf_accuracy(train: Sequence[Row], validation: Sequence[Row]) -> float | None:
    """Returns the accuracy on ``validation`` of TF-IDF fitted on ``train``.

    None if it cannot be had: scikit-learn is not installed, there is one label, or there are so
    many rows that it would take minutes.
    """
    if isinstance(train, StoredRows) or len(train) > MOST_ROWS:
        return None
    if len({row.target for row in train}) < 2:
        return None
    try:
        model = fitted(train)
    except ImportError:
        return None
    except ValueError:  # the texts have no characters
        return None
    answers = model.predict([row.text for row in validation])
    right = sum(str(a) == row.target for a, row in zip(answers, validation, strict=True))
    return right / len(validation)


def most_frequent_share(rows: Sequence[Row]) -> float:
    """Returns the accuracy of always answering the most frequent label of ``rows``."""
    return Counter(row.target for row in rows).most_common(1)[0][1] / len(rows)
