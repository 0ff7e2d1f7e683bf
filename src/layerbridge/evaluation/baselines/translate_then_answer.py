"""Translate, then answer: a translation model first, then the language model on the English.

The usual way to serve a language that the LM does not know. It needs a second model, trained on
that very language, and a decoding pass for every text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from layerbridge.evaluation.baselines.few_shot import draw, few_shot
from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt
from layerbridge.evaluation.baselines.translated import in_english
from layerbridge.evaluation.predictions import Progress
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.translation import Translator
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks.task import Task


def translate_then_answer(
    translator: Translator,
    language_model: LanguageModel,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    shots: int = 0,
    seed: int = 0,
    prompt: str = PROMPT,
    batch_size: int = 64,
    translating: Progress | None = None,
    progress: Progress | None = None,
) -> Result:
    """Translates the test rows and answers them as ``few_shot`` does.

    Args:
        translator: reuses what it has translated before. English rows are not translated.
        language_model: as pretrained.
        task: its test rows are answered.
        languages: codes; None takes all of the task's.
        shots: English examples before each row; 0 for none.
        seed: of the examples.
        prompt: as in ``few_shot``.
        batch_size: rows at a time for the language model; the translator has its own.
        translating: called with the language, the texts translated and all texts, by batch.
        progress: called after every batch of answers.

    Raises:
        BackboneError: the translator cannot be loaded.
        ConfigError: as in ``few_shot``, or ``shots`` is negative.
        DataError: the task has no rows in a language, or the translator does not know it.
        OutputError: translations cannot be written.
    """
    Prompt.of(prompt, task.options)
    draw(task, shots, seed)  # too many shots fail here, before the slow part
    codes = tuple(task.languages if languages is None else languages)
    result = few_shot(
        language_model,
        in_english(translator, task, codes, translating),
        codes,
        shots=shots,
        seed=seed if shots else 0,
        prompt=prompt,
        batch_size=batch_size,
        progress=progress,
    )
    return replace(
        result,
        method=f"translate + {result.method}",
        settings={**result.settings, "translator": translator.settings()},
    )
