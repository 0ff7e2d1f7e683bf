"""Zero-shot: the language model reads the text itself, untrained, and its options are scored.

In a language that the LM never learned, this is what there is without a bridge. The prompt and the
PMI (``pmi.py``) are the best of eight on the English validation rows of the task `names` with
SmolLM2-135M-Instruct: 51 %, against 43 % with raw scores and 17 to 44 % with the other prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from layerbridge.evaluation.baselines.pmi import choose_by_pmi, settings
from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt, bos, padded
from layerbridge.evaluation.predictions import Progress, rows_by_language
from layerbridge.evaluation.results import Result
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.tasks.task import Task

METHOD = "zero-shot LM"


@torch.no_grad()
def zero_shot(
    language_model: LanguageModel,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    prompt: str = PROMPT,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Result:
    """Scores the task's options after a prompt that contains the text.

    Args:
        language_model: as pretrained.
        task: its test rows are answered.
        languages: codes; None takes all of the task's.
        prompt: with one ``{text}``, and optionally ``{options}``. A prompt that exceeds the model's
            positions is truncated at the end of the text.
        batch_size: rows at a time.
        progress: called after every batch.

    Raises:
        ConfigError: the prompt does not have exactly one ``{text}``.
        DataError: the task has no rows in a language.
    """
    template = Prompt.of(prompt, task.options)
    rows = rows_by_language(task, languages)
    options = [option_ids(language_model, option) for option in task.options]
    start = bos(language_model)
    room = language_model.max_tokens
    if room is not None:
        room -= len(start) + max(map(len, options))

    def scores(texts: Sequence[str]) -> Tensor:
        ids = [start + template.ids(language_model, text, room) for text in texts]
        # A model without BOS starts an empty input after EOS.
        ids = [row or [language_model.eos_id] for row in ids]
        return option_scores(language_model, [padded(language_model, ids)], options)

    return choose_by_pmi(
        task,
        rows,
        scores,
        batch_size=batch_size,
        progress=progress,
        method=METHOD,
        seed=0,
        settings=settings(language_model, task, prompt),
    )
