"""Asking an untrained language model: each option is scored by how much the text raises it.

Raw scores of an untrained model say mostly which label word is common. So an option's score is
log p(option | prompt with the text) − log p(option | prompt without), the domain-conditional PMI
of Holtzman et al. 2021 (arXiv 2104.08315). It knows rows and scores, not what the prompt is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerbridge.evaluation.evaluator import Progress
from layerbridge.evaluation.results import LanguageResult, Prediction
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.length_grouping import by_length
from layerbridge.tasks import Row, Task

SCORE = "domain-conditional PMI"

# Texts → the log-probability of each option after each of them, [texts, options].
Scores = Callable[[Sequence[str]], Tensor]


def ask(
    rows: Mapping[str, Sequence[Row]],
    options: Sequence[str],
    scores: Scores,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> dict[str, LanguageResult]:
    """The option that each row's text raises most.

    Args:
        rows: by language.
        options: in the order of the scores; the first of equals wins.
        scores: asks the model.
        batch_size: rows at a time.
        progress: told the language, the rows done and the rows in all, after every batch.
    """
    total, done = sum(map(len, rows.values())), 0
    unmoved = scores([""])
    results: dict[str, LanguageResult] = {}
    for code, asked in rows.items():
        predictions: dict[int, Prediction] = {}
        for places in by_length([len(row.text) for row in asked], batch_size):
            batch = [asked[place] for place in places]
            gains = scores([row.text for row in batch]) - unmoved
            # Nothing raises nothing; what rounding makes of that must not decide.
            gains[torch.tensor([not row.text for row in batch])] = 0
            choices = gains.argmax(1).tolist()
            for place, row, best in zip(places, batch, choices, strict=True):
                given = options[best]
                predictions[place] = Prediction(row.id, row.target, given, given == row.target)
            done += len(batch)
            if progress is not None:
                progress(code, done, total)
        results[code] = LanguageResult.of(predictions[i] for i in range(len(predictions)))
    return results


def settings(language_model: LanguageModel, task: Task, prompt: str) -> dict[str, Any]:
    """What a result tells of the asking; JSON values.

    Args:
        language_model: that was asked.
        task: whose rows and options.
        prompt: as it was given.
    """
    return {
        "prompt": prompt,
        "score": SCORE,
        "options": list(task.options),
        "task_version": task.version(),
        "language_model": language_model.model.name_or_path.rsplit("/", 1)[-1],
    }
