"""The LM alone: the language model reads the text itself, untrained, and its options are scored.

What a bridge is for: in a language the LM never learned, this is what there is without one.

Raw scores of an untrained model say mostly which label word is common. So each option is scored by
how much the text raises it: log p(option | prompt with the text) − log p(option | prompt without),
the domain-conditional PMI of Holtzman et al. 2021 (arXiv 2104.08315). The prompt and the correction
are the best of eight on the English validation rows of the task `names` with SmolLM2-135M-Instruct:
51 %, against 43 % without the correction and 17 to 44 % with the other prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch

from layerbridge.answering import option_ids
from layerbridge.evaluation import by_length
from layerbridge.language_model import LanguageModel, Piece
from layerbridge.results import LanguageResult, Prediction, Result
from layerbridge.tasks import Task

METHOD = "LM alone"

# {text} is the row's text, {options} the label words with commas.
PROMPT = 'Category of "{text}": '


@torch.no_grad()
def lm_alone(
    language_model: LanguageModel,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    prompt: str = PROMPT,
    batch_size: int = 64,
    progress: Callable[[str, int, int], None] | None = None,
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
        DataError: the task has no rows in a language.
    """
    codes = tuple(task.languages if languages is None else languages)
    rows = {code: task.test(code) for code in codes}
    total, done = sum(map(len, rows.values())), 0
    options = [option_ids(language_model, option) for option in task.options]
    before, _, after = prompt.replace("{options}", ", ".join(task.options)).partition("{text}")
    read = partial(_read, language_model, before, after, max(map(len, options)))
    unmoved = language_model.option_scores([read([""])], options)
    results: dict[str, LanguageResult] = {}
    for code in codes:
        predictions: dict[int, Prediction] = {}
        for places in by_length(rows[code], batch_size):
            batch = [rows[code][place] for place in places]
            scores = language_model.option_scores([read([row.text for row in batch])], options)
            choices = (scores - unmoved).argmax(1).tolist()
            for place, row, best in zip(places, batch, choices, strict=True):
                given = task.options[best]
                predictions[place] = Prediction(row.id, row.target, given, given == row.target)
            done += len(batch)
            if progress is not None:
                progress(code, done, total)
        results[code] = LanguageResult.of(predictions[i] for i in range(len(predictions)))
    return Result(
        method=METHOD,
        task=task.name,
        protocol="score",
        split="test",
        seed=0,
        languages=results,
        settings={
            "prompt": prompt,
            "score": "domain-conditional PMI",
            "options": list(task.options),
            "task_version": task.version(),
            "language_model": language_model.model.name_or_path.rsplit("/", 1)[-1],
        },
    )


def _read(
    language_model: LanguageModel, before: str, after: str, longest: int, texts: list[str]
) -> Piece:
    """BOS, where there is one, and the tokens of each text in the prompt, padded on the right."""
    bos = [] if language_model.bos_id is None else [language_model.bos_id]
    prompts = [bos + language_model.encode(before + text + after) for text in texts]
    if language_model.max_tokens is not None:
        end = len(language_model.encode(after))
        room = language_model.max_tokens - longest - end
        prompts = [
            ids if len(ids) <= room + end else ids[:room] + ids[len(ids) - end :] for ids in prompts
        ]
    rows = [torch.tensor(ids) for ids in prompts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(language_model.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return Piece(language_model.embed(ids), mask)
