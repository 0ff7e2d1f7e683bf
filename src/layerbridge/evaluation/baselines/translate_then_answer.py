"""Translate, then answer: a translation model first, then the language model on the English.

The usual way to serve a language that the LM does not know, and a method to beat: it needs a second
model that was trained on that very language, and a decoding pass for every text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from layerbridge.errors import ConfigError
from layerbridge.evaluation.baselines import lm_few_shot as few_shot
from layerbridge.evaluation.baselines.lm_alone import lm_alone
from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt
from layerbridge.evaluation.baselines.translated import in_english
from layerbridge.evaluation.evaluator import Progress
from layerbridge.evaluation.results import Result
from layerbridge.evaluation.translation import Translator
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks import Task

METHOD = "translate, then LM"


def method(shots: int) -> str:
    """What tables call it."""
    return f"translate, then {few_shot.method(shots)}" if shots else METHOD


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
    """Translates the test rows and asks the language model as ``lm_alone`` or ``lm_few_shot`` do.

    What of a row is translated, ``translated.py`` says; English rows are read as they are.

    Args:
        translator: what it has translated before is not translated again.
        language_model: as it was pretrained.
        task: its test rows are asked.
        languages: codes; None takes all of the task's.
        shots: English examples before each row; 0 for none.
        seed: of the examples.
        prompt: as in ``lm_alone``.
        batch_size: rows at a time for the language model; the translator has its own.
        translating: told the language, the texts translated and those in all, after every batch.
        progress: told the language, the rows done and the rows in all, after every batch.

    Raises:
        BackboneError: the translator cannot be loaded.
        ConfigError: as ``lm_alone`` or ``lm_few_shot`` say.
        DataError: the task has no rows in a language, or the translator does not have it.
        OutputError: translations cannot be kept.
    """
    Prompt.of(prompt, task.options)
    if shots < 0:
        raise ConfigError(f"shots is {shots}", allowed="0 or more")
    if shots:
        few_shot.draw(task, shots, seed)  # so that too many are told before the long part
    codes = tuple(task.languages if languages is None else languages)
    english = in_english(translator, task, codes, translating)
    if shots:
        result = few_shot.lm_few_shot(
            language_model,
            english,
            codes,
            shots=shots,
            seed=seed,
            prompt=prompt,
            batch_size=batch_size,
            progress=progress,
        )
    else:
        result = lm_alone(
            language_model, english, codes, prompt=prompt, batch_size=batch_size, progress=progress
        )
    settings = {**result.settings, "translator": translator.settings()}
    return replace(result, method=method(shots), settings=settings)
