"""Evaluation: bridge × task × languages → a Result.

score      ranks the options by log p(option, EOS | text); one pass over the prefix per row
generate   the paper's protocol: greedy decoding, strip, exact match with the label word
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from layerbridge.errors import ConfigError
from layerbridge.evaluation.centering import RowCentering
from layerbridge.evaluation.method_names import RECIPE, recorded
from layerbridge.evaluation.parts import Batch, Parts
from layerbridge.evaluation.predictions import (
    Progress,
    batches_of,
    in_order,
    rows_by_language,
    text_counts,
)
from layerbridge.evaluation.results import LanguageResult, Result
from layerbridge.models.backbone import dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import CenteringSettings
from layerbridge.models.finite import naming
from layerbridge.models.generation import AnswerCount, answers_counted
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_divisors, option_ids
from layerbridge.models.option_scoring import best_options
from layerbridge.models.quantization import described
from layerbridge.tasks.task import Row, Task
from layerbridge.training import recipe
from layerbridge.training.shared_start import start_hash

PROTOCOLS = ("score", "generate")


@torch.no_grad()
def evaluate(
    bridge: LayerBridge,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    protocol: str = "score",
    length_normalization: str = "sum",
    center: str | None = None,
    centering: CenteringSettings | None = None,
    batch_size: int = 64,
    method: str | None = None,
    seed: int | None = None,
    run: str | None = None,
    settings: dict | None = None,
    progress: Progress | None = None,
    parts: Parts | None = None,
) -> Result:
    """Evaluates a bridge on a task's test rows, none of which it was trained on.

    Args:
        bridge: trained.
        task: any.
        languages: codes; None takes all of the task's.
        protocol: ``"score"`` or ``"generate"``.
        length_normalization: for ``score``: ``"sum"`` or ``"mean"`` of the tokens'
            log-probabilities.
        center: how states are moved by language, one of ``layerbridge.evaluation.centering``'s
            ``CENTERS``; None takes ``"known"`` if the bridge has language means, else ``"none"``.
        centering: its settings; None takes the bridge's.
        batch_size: rows at a time; it changes speed and memory only.
        method: name in tables; None takes the fusion's.
        seed: of the training; None takes the one that ``training_seed`` finds, or else 0.
        run: the checkpoint's folder.
        settings: further settings to record.
        progress: called after every batch.
        parts: shares the batches among processes, and keeps them if one is killed; None does
            neither.

    Returns:
        Accuracy, every prediction and the mean layer weights, by language. Cut and empty texts are
        counted and said.

    Raises:
        ConfigError: an unknown protocol or centering, language means that are missing, or the
            run's recipe cannot be read.
        DataError: the task has no rows in a language, or an unknown ``length_normalization``.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}", allowed=PROTOCOLS)
    # Before the hours of work: a recipe that cannot be read is an error.
    seed = training_seed(bridge, run) if seed is None else seed
    trained_with = _recipe(run)
    rows = rows_by_language(task, languages)
    bridge.eval()
    encoder = bridge.encoder
    counts = text_counts(rows, task, encoder.count_cut, encoder.max_text_tokens)
    if protocol == "score":
        choose = _scoring(bridge, task.options, length_normalization)
    else:
        choose = _generating(bridge, task.options)
    moved = RowCentering(bridge, rows, center, centering)
    batches = batches_of(rows, batch_size)
    parts = parts or Parts()
    config = bridge.config
    if parts.path is not None:  # to hash all weights takes a while
        dtype = dtype_name(bridge.language_model.dtype)
        decided = [start_hash(bridge), config.to_diff_dict(), dtype]
        given = [[row.id, row.text, row.target] for of_code in rows.values() for row in of_code]
        chosen = [protocol, length_normalization, batch_size, list(task.options), moved.recorded()]
        parts.begin(decided, list(rows), given, chosen)

    own = parts.own(len(batches))
    sizes = [len(indices) for _, indices in batches]
    total, mine = sum(sizes), sum(sizes[number] for number in own)
    done = 0 if parts.shared else total - mine
    for number in own:
        code, indices = batches[number]
        batch_rows = [rows[code][index] for index in indices]
        parts.add(_batch(bridge, number, batch_rows, moved, choose))
        done += len(indices)
        if progress is not None:
            progress(code, done, mine if parts.shared else total)
    answers: list[list[str]] = []
    weights: dict[str, Tensor] = defaultdict(lambda: torch.zeros(encoder.num_layers))
    tokens: Counter[str] = Counter()
    generated = AnswerCount()
    # In their order, so that sums are rounded as in one process.
    for (code, _), batch in zip(batches, parts.joined(), strict=True):
        answers.append(batch.answers)
        weights[code] += torch.tensor(batch.weights)
        tokens[code] += batch.tokens
        moved.count(code, batch.recognized, batch.seen)
        generated.number += batch.generated
        generated.cut += batch.cut
    generated.report()
    predictions = in_order(rows, batches, answers)
    return Result(
        method=method or config.fusion,
        task=task.name,
        protocol=protocol,
        split="test",
        seed=seed or 0,
        languages={
            code: LanguageResult.of(answers, (weights[code] / tokens[code]).tolist())
            for code, answers in predictions.items()
        },
        settings={
            "options": list(task.options),
            "normalize": length_normalization,
            **task.settings(),
            "bridge": config.to_diff_dict(),
            "dtype": dtype_name(bridge.language_model.dtype),
            **_quantization(bridge),
            **trained_with,
            **moved.recorded(),
            **(settings or {}),
        },
        run=run,
        text_counts=counts,
    )


def _batch(
    bridge: LayerBridge,
    number: int,
    rows: Sequence[Row],
    moved: RowCentering,
    choose: Callable[[HiddenStates], list[str]],
) -> Batch:
    """Answers a batch of rows of one language."""

    texts = [row.text for row in rows]
    with answers_counted() as counted, naming(texts):
        states = bridge.encoder.encode(texts, layers=bridge.fusion.required_layers)
        states = moved(states, rows[0].language)
        weights = bridge.fusion.weights(states)[states.mask].sum(0).float()
        answers = choose(states)
    return Batch(
        batch=number,
        answers=answers,
        weights=weights.tolist(),
        tokens=int(states.mask.sum()),
        recognized=moved.recognized,
        seen=moved.seen,
        generated=counted.number,
        cut=counted.cut,
    )


def _quantization(bridge: LayerBridge) -> dict[str, dict[str, str | None]]:
    """Returns how the backbones are quantized, which may be otherwise than in training."""
    how = {
        "encoder": described(bridge.encoder.model.config),
        "language_model": described(bridge.language_model.model.config),
    }
    return {"quantization": how} if any(how.values()) else {}


def training_seed(bridge: LayerBridge, run: str | None) -> int | None:
    """The seed a bridge was trained with, from its config or the recipe in its folder.

    Args:
        bridge: trained or not.
        run: its folder, or a hub id; None if unknown.

    Returns:
        None if neither says: the bridge is untrained, or an early one without its recipe.

    Raises:
        ConfigError: the recipe cannot be read.
    """
    if bridge.config.training_seed is not None:
        return bridge.config.training_seed
    trained_with = _recipe_of(run)
    # The default is that of BridgeTrainingArguments.
    return None if trained_with is None else int(trained_with.training.get("seed", 0))


def _recipe_of(run: str | None) -> recipe.Recipe | None:
    """The recipe in a run's folder, if there is one."""
    if run is None:
        return None
    file = Path(run) / recipe.FILE
    return recipe.read(file) if file.is_file() else None


def _recipe(run: str | None) -> dict[str, Any]:
    """What tells a run from those of other settings, beside its bridge's config."""
    trained_with = _recipe_of(run)
    return {} if trained_with is None else {RECIPE: recorded(asdict(trained_with))}


def _scoring(
    bridge: LayerBridge, options: Sequence[str], length_normalization: str
) -> Callable[[HiddenStates], list[str]]:
    ids = [option_ids(bridge.language_model, option) for option in options]
    divisors = option_divisors(ids, length_normalization).tolist()

    def choose(states: HiddenStates) -> list[str]:
        best = best_options(bridge.language_model, bridge.prefix(states), ids, divisors)
        return [options[index] for index in best.tolist()]

    return choose


def _generating(bridge: LayerBridge, options: Sequence[str]) -> Callable[[HiddenStates], list[str]]:
    lm = bridge.language_model
    # A few tokens more than the longest option: an answer that goes on is wrong already.
    most = max(len(option_ids(lm, option)) for option in options) + 4

    def choose(states: HiddenStates) -> list[str]:
        ids = bridge.generate(hidden_states=states, max_new_tokens=most, do_sample=False)
        return [text.strip() for text in lm.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    return choose
