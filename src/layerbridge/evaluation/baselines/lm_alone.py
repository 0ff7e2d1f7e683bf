"""The LM alone: the language model reads the text itself, untrained, and its options are scored.

What a bridge is for: in a language the LM never learned, this is what there is without one.

The prompt and the correction of the scores (``asking.py``) are the best of eight on the English
validation rows of the task `names` with SmolLM2-135M-Instruct: 51 %, against 43 % without the
correction and 17 to 44 % with the other prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from layerbridge.evaluation.baselines.asking import ask, settings
from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt, bos, padded
from layerbridge.evaluation.evaluator import Progress
from layerbridge.evaluation.results import Result
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.option_scoring import option_scores
from layerbridge.tasks import Task

METHOD = "LM alone"


@torch.no_grad()
def lm_alone(
    language_model: LanguageModel,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    prompt: str = PROMPT,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Result:
    """Scores the task's options after a prompt that holds the text.

    Args:
        language_model: as it was pretrained.
        task: its test rows are asked.
        languages: codes; None takes all of the task's.
        prompt: with one ``{text}``, and ``{options}`` if it is to name them. What of a text the
            model's positions do not hold is cut off the text's end, not off the prompt's.
        batch_size: rows at a time.
        progress: told the language, the rows done and the rows in all, after every batch.

    Raises:
        ConfigError: the prompt has no place for the text, or several.
        DataError: the task has no rows in a language.
    """
    words = Prompt.of(prompt, task.options)
    codes = tuple(task.languages if languages is None else languages)
    rows = {code: task.test(code) for code in codes}
    options = [option_ids(language_model, option) for option in task.options]
    start = bos(language_model)
    most = language_model.max_tokens
    if most is not None:
        most -= len(start) + max(map(len, options))

    def scores(texts: Sequence[str]) -> Tensor:
        read = [start + words.ids(language_model, text, most) for text in texts]
        # Where nothing at all comes first, EOS does: it is what models without BOS begin after.
        read = [ids or [language_model.eos_id] for ids in read]
        return option_scores(language_model, [padded(language_model, read)], options)

    return Result(
        method=METHOD,
        task=task.name,
        protocol="score",
        split="test",
        seed=0,
        languages=ask(rows, task.options, scores, batch_size=batch_size, progress=progress),
        settings=settings(language_model, task, prompt),
    )
