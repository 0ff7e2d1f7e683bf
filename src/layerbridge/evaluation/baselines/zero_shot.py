"""Zero-shot: the language model reads the text itself, untrained, and its options are scored.

In a language that the LM never learned, this is what there is without a bridge. The prompt and the
PMI are the best of eight on the English validation rows of the task `names` with
SmolLM2-135M-Instruct: 51 %, against 43 % with raw scores and 17 to 44 % with the other prompts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from layerbridge.evaluation.baselines.few_shot import few_shot
from layerbridge.evaluation.results import Result
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks.task import Task


def zero_shot(
    language_model: LanguageModel,
    task: Task,
    languages: Iterable[str] | None = None,
    **options: Any,
) -> Result:
    """``few_shot`` without examples.

    Args:
        language_model: as pretrained.
        task: its test rows are answered.
        languages: codes; None takes all of the task's.
        **options: ``prompt``, ``batch_size`` and ``progress``, as in ``few_shot``.
    """
    return few_shot(language_model, task, languages, shots=0, **options)
