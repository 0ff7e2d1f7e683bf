"""How the command line shows answers to texts that are far from training."""

from __future__ import annotations

from dataclasses import dataclass

from layerbridge.models.inference import FAR_NOTE, Classification
from layerbridge.progress import say


def sureness(answer: Classification) -> str:
    """Returns the probability of the choice, or that it says nothing."""
    if answer.far_from_training:
        return FAR_NOTE
    return f"{answer.probabilities[answer.choice]:.3f}"


@dataclass
class FarTexts:
    """Counts the texts that are far from training, with the range of their ``any_option``."""

    texts: int = 0
    far: int = 0
    least: float = 1.0
    most: float = 0.0

    def add(self, answer: Classification | None) -> None:
        """Counts the text of an answer; None if the answer is free text."""
        self.texts += 1
        if answer is not None and answer.far_from_training:
            self.far += 1
            self.least = min(self.least, answer.any_option)
            self.most = max(self.most, answer.any_option)

    def say(self) -> None:
        """Says how many there are, if there are any."""
        if not self.far:
            return
        low, high = f"{self.least:.2g}", f"{self.most:.2g}"
        span = low if low == high else f"{low} to {high}"
        say(
            f"{FAR_NOTE}: {self.far} of {self.texts} in the input; all options together have a "
            f"probability of {span} there, so the choice may mean nothing"
        )
