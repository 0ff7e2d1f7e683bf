"""Choosing with an untrained language model: the option that the text makes most likely.

Raw scores of an untrained model say mostly which label word is common. So an option's score is
log p(option | prompt with the text) − log p(option | prompt without it), the domain-conditional PMI
of Holtzman et al. 2021 (arXiv 2104.08315).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from layerbridge.evaluation.predictions import Progress, predict
from layerbridge.evaluation.results import LanguageResult, Result
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks.task import Row, Task

# Texts → the log-probability of each option after each of them, [texts, options].
Scores = Callable[[Sequence[str]], Tensor]


def choose_by_pmi(
    task: Task,
    rows: Mapping[str, Sequence[Row]],
    scores: Scores,
    *,
    batch_size: int,
    progress: Progress | None = None,
    **result: Any,
) -> Result:
    """Answers each row with the option of the highest PMI, the first of equals.

    Args:
        task: its options are in the order of the scores.
        rows: by language.
        scores: of the language model.
        batch_size: rows at a time.
        progress: called after every batch.
        **result: ``method``, ``seed`` and ``settings`` of the result.
    """
    without_text = scores([""])

    def answer(batch: Sequence[Row]) -> list[str]:
        pmi = scores([row.text for row in batch]) - without_text
        # An empty text changes nothing; rounding must not decide.
        pmi[torch.tensor([not row.text for row in batch])] = 0
        return [task.options[index] for index in pmi.argmax(1).tolist()]

    predictions = predict(rows, answer, batch_size=batch_size, progress=progress)
    return Result(
        task=task.name,
        protocol="score",
        split="test",
        languages={code: LanguageResult.of(answers) for code, answers in predictions.items()},
        **result,
    )


def settings(language_model: LanguageModel, task: Task, prompt: str) -> dict[str, Any]:
    """What a result records; JSON values."""
    return {
        "prompt": prompt,
        "score": "domain-conditional PMI",
        "options": list(task.options),
        "task_version": task.version(),
        "language_model": language_model.model.name_or_path.rsplit("/", 1)[-1],
    }
