"""Prompting the language model: it reads labeled English rows, then the text, untrained.

Raw scores of an untrained model say mostly which label word is common. So an option's score is
log p(option | prompt with the text) − log p(option | prompt without it), the domain-conditional PMI
of Holtzman et al. 2021 (arXiv 2104.08315).

After examples an option ends as their answers do, with a line break; without any, with EOS. On the
90 English validation rows of the task `names` with SmolLM2-135M-Instruct, three seeds: 61 to 73 %
with 6 shots and 68 to 71 % with 12; with EOS after the option 59 to 63 % and 52 to 71 %.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from layerbridge.errors import ConfigError, DataError
from layerbridge.evaluation.baselines.prompt import PROMPT, Prompt, bos
from layerbridge.evaluation.baselines.shared_prefix import SharedPrefix
from layerbridge.evaluation.predictions import Progress, predict, rows_by_language, text_counts
from layerbridge.evaluation.results import LanguageResult, Result
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks.task import Row, Task

SHOTS = 8

# What follows an example's answer.
END = "\n"

# Fewer tokens than this for a text, and the prompt asks about nothing.
MIN_TEXT = 4


@torch.no_grad()
def few_shot(
    language_model: LanguageModel,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    shots: int = SHOTS,
    seed: int = 0,
    prompt: str = PROMPT,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Result:
    """Answers each row with the option of the highest PMI, the first of equals.

    Args:
        language_model: as pretrained.
        task: its test rows are answered; the examples are training rows.
        languages: codes; None takes all of the task's.
        shots: number of examples, the same for every row and language; 0 is zero-shot.
        seed: of their choice and order.
        prompt: of rows and examples, with one ``{text}``, and optionally ``{options}``. Where it
            exceeds the model's positions, texts are truncated: each example gets 1 / (shots + 1) of
            the positions, and the row what the examples leave.
        batch_size: rows at a time.
        progress: called after every batch.

    Raises:
        ConfigError: the examples do not fit the model, or the prompt does not have exactly one
            ``{text}``.
        DataError: the task has no rows in a language, or fewer training rows than ``shots``.
    """
    template = Prompt.of(prompt, task.options)
    rows = rows_by_language(task, languages)
    examples = draw(task, shots, seed)
    if examples:
        options = [_answer_ids(language_model, option) for option in task.options]
    else:
        options = [option_ids(language_model, option) for option in task.options]
    longest = max(map(len, options))
    start = bos(language_model) + _example_ids(language_model, template, examples, longest)
    room = language_model.max_tokens
    if room is not None:
        room -= len(start) + longest
    counts = text_counts(
        rows, task, lambda texts: template.count_cut(language_model, texts, room), room
    )
    # A model without BOS starts an empty input after EOS.
    empty = [] if start else [language_model.eos_id]
    prefix = SharedPrefix(language_model, start)

    def scores(texts: Sequence[str]) -> Tensor:
        ids = [template.ids(language_model, text, room) or empty for text in texts]
        return prefix.option_scores(ids, options)

    without_text = scores([""])

    def answer(batch: Sequence[Row]) -> list[str]:
        pmi = scores([row.text for row in batch]) - without_text
        # An empty text changes nothing; rounding must not decide.
        pmi[torch.tensor([not row.text for row in batch])] = 0
        return [task.options[index] for index in pmi.argmax(1).tolist()]

    predictions = predict(rows, answer, batch_size=batch_size, progress=progress)
    return Result(
        method=f"few-shot LM ({shots})" if shots else "zero-shot LM",
        task=task.name,
        protocol="score",
        split="test",
        seed=seed,
        languages={code: LanguageResult.of(answers) for code, answers in predictions.items()},
        settings={
            "prompt": prompt,
            "score": "domain-conditional PMI",
            "options": list(task.options),
            **task.settings(),
            "language_model": language_model.model.name_or_path.rsplit("/", 1)[-1],
            **({"shots": [row.id for row in examples]} if shots else {}),
        },
        text_counts=counts,
    )


def draw(task: Task, shots: int, seed: int) -> list[Row]:
    """Draws English training rows; the labels' counts differ by one at most.

    The order is that of a hash of seed and row: the same on every machine.

    Raises:
        ConfigError: ``shots`` is negative.
        DataError: there are fewer training rows.
    """
    if shots < 0:
        raise ConfigError(f"shots is {shots}", allowed="0 or more")
    if shots == 0:
        return []

    def order(row: Row) -> str:
        return hashlib.sha256(f"{seed}/{row.id}".encode()).hexdigest()

    rows = sorted(task.train(), key=order)
    if len(rows) < shots:
        raise DataError(f"the task {task.name} has {len(rows)} training rows for {shots} shots")
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row.target, []).append(row)
    # Each label's first row, then each label's second, and so on; labels by their first row.
    ranks = {row.id: rank for same in by_label.values() for rank, row in enumerate(same)}
    return sorted(sorted(rows, key=lambda row: ranks[row.id])[:shots], key=order)


def _example_ids(
    language_model: LanguageModel, template: Prompt, examples: Sequence[Row], longest: int
) -> list[int]:
    """Token ids of prompt and answer, one example after the other.

    Raises:
        ConfigError: the model's positions do not hold them.
    """
    answers = [_answer_ids(language_model, row.target) for row in examples]
    room = None
    if examples and language_model.max_tokens is not None:
        free = language_model.max_tokens - len(bos(language_model)) - longest
        room = (free - sum(map(len, answers))) // (len(examples) + 1)
        if room < template.overhead(language_model) + MIN_TEXT:
            raise ConfigError(
                f"{len(examples)} shots exceed the language model's context of "
                f"{language_model.max_tokens} tokens",
                hint="fewer shots",
            )
    ids: list[int] = []
    for row, answer in zip(examples, answers, strict=True):
        ids += template.ids(language_model, row.text, room) + answer
    return ids


def _answer_ids(language_model: LanguageModel, option: str) -> list[int]:
    return language_model.token_ids(option) + language_model.token_ids(END)
