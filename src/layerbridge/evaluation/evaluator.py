"""Evaluation: bridge × task × languages → a Result.

    score      ranks the options by log p(option, EOS | text), one prefix pass a row
    generate   the paper's: greedy decoding, strip, exact match with the label word

It knows how to ask a bridge, not how it was trained nor what is done with the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from layerbridge.errors import ConfigError
from layerbridge.evaluation.results import LanguageResult, Prediction, Result
from layerbridge.models.backbone import dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.inference import option_divisors, option_ids
from layerbridge.models.length_grouping import by_length
from layerbridge.models.option_scoring import best_options
from layerbridge.tasks import Task

PROTOCOLS = ("score", "generate")

# Called with the language at hand, the rows done and the rows in all.
Progress = Callable[[str, int, int], None]


@torch.no_grad()
def evaluate(
    bridge: LayerBridge,
    task: Task,
    languages: Iterable[str] | None = None,
    *,
    protocol: str = "score",
    normalize: str = "sum",
    batch_size: int = 64,
    method: str | None = None,
    seed: int = 0,
    run: str | None = None,
    settings: dict | None = None,
    progress: Progress | None = None,
) -> Result:
    """Asks the bridge every test row.

    Args:
        bridge: trained.
        task: whose test rows are asked; none of them was trained on, the task sees to that.
        languages: codes; None takes all of the task's.
        protocol: ``"score"`` or ``"generate"``.
        normalize: for ``score``: ``"sum"`` or ``"mean"`` of the tokens' log-probabilities.
        batch_size: rows at a time; no number depends on it but the time.
        method: what tables call it; None takes the fusion's name.
        seed: of the training.
        run: the checkpoint's folder.
        settings: what else is worth knowing about the run.
        progress: told after every batch.

    Returns:
        Accuracy and every prediction, by language, with the mean layer weights.

    Raises:
        ConfigError: an unknown protocol.
        DataError: the task has no rows in a language, or an unknown ``normalize``.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {protocol!r}", allowed=PROTOCOLS)
    codes = tuple(task.languages if languages is None else languages)
    # All of them first, so that a misspelt language costs no waiting.
    rows = {code: task.test(code) for code in codes}
    total = sum(map(len, rows.values()))
    done = 0
    results: dict[str, LanguageResult] = {}
    bridge.eval()
    answer = (
        _by_score(bridge, task, normalize) if protocol == "score" else _by_generating(bridge, task)
    )
    for code in codes:
        predictions: dict[int, Prediction] = {}
        weights, tokens = torch.zeros(bridge.encoder.num_layers), 0
        for places in by_length([len(row.text) for row in rows[code]], batch_size):
            batch = [rows[code][place] for place in places]
            states = bridge.encode([row.text for row in batch])
            for place, row, given in zip(places, batch, answer(states), strict=True):
                predictions[place] = Prediction(row.id, row.target, given, given == row.target)
            weights += bridge.fusion.weights(states)[states.mask].sum(0).cpu()
            tokens += int(states.mask.sum())
            done += len(batch)
            if progress is not None:
                progress(code, done, total)
        in_order = [predictions[place] for place in range(len(predictions))]
        results[code] = LanguageResult.of(in_order, (weights / tokens).tolist())
    config = bridge.config
    return Result(
        method=method or config.fusion,
        task=task.name,
        protocol=protocol,
        split="test",
        seed=seed,
        languages=results,
        settings={
            "options": list(task.options),
            "normalize": normalize,
            "task_version": task.version(),
            "bridge": config.to_diff_dict(),
            "dtype": dtype_name(bridge.language_model.dtype),
            **(settings or {}),
        },
        run=run,
    )


def _by_score(
    bridge: LayerBridge, task: Task, normalize: str
) -> Callable[[HiddenStates], list[str]]:
    ids = [option_ids(bridge.language_model, option) for option in task.options]
    divisors = option_divisors(ids, normalize)

    def answer(states: HiddenStates) -> list[str]:
        best = best_options(bridge.language_model, bridge.prefix(states), ids, divisors.tolist())
        return [task.options[place] for place in best.tolist()]

    return answer


def _by_generating(bridge: LayerBridge, task: Task) -> Callable[[HiddenStates], list[str]]:
    lm = bridge.language_model
    longest = max(len(option_ids(lm, option)) for option in task.options)

    def answer(states: HiddenStates) -> list[str]:
        # A few tokens more than any option has: what goes on longer is wrong already.
        ids = bridge.generate(hidden_states=states, max_new_tokens=longest + 4, do_sample=False)
        return [text.strip() for text in lm.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    return answer
