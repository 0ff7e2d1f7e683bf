"""What a run has achieved on English validation rows, in words, and whether it took off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Standard deviations of a count that are taken for more than luck.
SURELY = 2.0
# A loss that stays above this share of the first one has not gone down.
STAYED = 0.8
# So much on one layer is as good as all.
ALONE = 0.98


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Args:
        rows: number of validation rows; 0 without any.
        loss: on them, nats per token.
        accuracy: on them; None for free text.
        tf_idf: accuracy of TF-IDF on the same rows; None if unknown.
        most_frequent: accuracy of always answering the most frequent label.
        losses: of training, in the order of the log.
        weights: mean weight of each layer; empty for a fusion that does not learn.
        first_layer: the number of the lowest layer.
    """

    rows: int
    loss: float | None = None
    accuracy: float | None = None
    tf_idf: float | None = None
    most_frequent: float = 0.0
    losses: Sequence[float] = ()
    weights: Sequence[float] = ()
    first_layer: int = 1

    def summary(self) -> str | None:
        """Returns the validation figures as one line; None without validation rows."""
        if self.loss is None:
            return None
        if self.accuracy is None:
            return f"validation loss {self.loss:.3f} ({self.rows} rows)"
        others = [f"always the most frequent label {self.most_frequent:.1%}"]
        if self.tf_idf is not None:
            others.insert(0, f"TF-IDF {self.tf_idf:.1%}")
        return (
            f"English validation, {self.rows} rows: accuracy {self.accuracy:.1%}, loss "
            f"{self.loss:.3f}; for comparison: {', '.join(others)}"
        )

    def doubts(self) -> list[str]:
        """Returns what a user should know before trusting the bridge, a line each."""
        lines = []
        if self.accuracy is not None and not _beats(self.accuracy, self.most_frequent, self.rows):
            lines.append(
                "the bridge did not take off: on English validation rows it is no better than "
                f"always answering the most frequent label; {_TRY}"
            )
        elif self.tf_idf is not None and self.accuracy is not None:
            if _beats(self.tf_idf, self.accuracy, self.rows):
                lines.append(
                    "TF-IDF of characters is better in English than the bridge, which has not "
                    f"learned all it could; {_TRY}"
                )
        elif self.accuracy is None and _stayed(self.losses):
            lines.append(f"the bridge did not take off: the training loss has not fallen; {_TRY}")
        if len(self.weights) > 1 and max(self.weights) >= ALONE:
            top = max(range(len(self.weights)), key=self.weights.__getitem__)
            lines.append(
                f"layer {top + self.first_layer} has {self.weights[top]:.1%} of the weight: the "
                "bridge uses no other; --start uniform or a higher "
                "--fusion-learning-rate-scale gives the others more"
            )
        return lines


_TRY = "try more steps (--max-steps), another --seed or a lower --learning-rate"


def _beats(accuracy: float, other: float, rows: int) -> bool:
    """Whether a count of right answers is above what ``other`` would get, by more than luck."""
    return (accuracy - other) * rows > SURELY * math.sqrt(rows * other * (1 - other))


def _stayed(losses: Sequence[float]) -> bool:
    if len(losses) < 4:
        return False
    quarter = max(1, len(losses) // 4)
    return sum(losses[-quarter:]) / quarter > STAYED * losses[0]
