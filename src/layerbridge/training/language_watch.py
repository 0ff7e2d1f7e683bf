"""Validation accuracy in other languages, for the trackers that ``report_to`` names.

It is looked at and decides nothing: the Trainer chooses steps by the metrics of English validation,
which these are not among.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from layerbridge import tasks
from layerbridge.progress import say
from layerbridge.tasks import Row
from layerbridge.training.recipe import Recipe
from layerbridge.training.run_data import limited
from layerbridge.training.trainer import BridgeTrainer

# Rows of each language: a tracker's curve needs no more, and every validation answers all of them.
ROWS = 60


class LanguageWatch(TrainerCallback):
    """Logs ``eval_accuracy_CODE`` after each validation.

    The first process answers; all do if each has a part of the language model.

    Args:
        trainer: whose ``log`` is used.
        rows: by language.
    """

    def __init__(self, trainer: BridgeTrainer, rows: Mapping[str, Sequence[Row]]) -> None:
        self.trainer, self.rows = trainer, rows
        counts = ", ".join(f"{code} {len(of_code)}" for code, of_code in rows.items())
        say(f"validation rows of other languages, which are watched and choose nothing: {counts}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Answers the rows and logs the share of right answers, by language."""
        bridge = self.trainer.model
        if not state.is_world_process_zero and not bridge.language_model.is_sharded:
            return
        # A cache has the training texts, and may be a file of fixed size.
        cache, bridge.encoder.cache = bridge.encoder.cache, None
        try:
            accuracies = {}
            for code, rows in self.rows.items():
                size = args.per_device_eval_batch_size
                answers = bridge.classify([row.text for row in rows], batch_size=size)
                right = sum(a.choice == row.target for a, row in zip(answers, rows, strict=True))
                accuracies[f"eval_accuracy_{code}"] = right / len(rows)
        finally:
            bridge.encoder.cache = cache
        self.trainer.log(accuracies)


def watched_rows(recipe: Recipe) -> dict[str, Sequence[Row]]:
    """Returns some validation rows of each other language that the recipe's task has at hand.

    Raises:
        DataError: they cannot be read.
    """
    if recipe.task is None:
        return {}
    task = tasks.get(recipe.task, **recipe.task_options)
    found = {code: task.watched(code) for code in task.languages if code != "en"}
    return {code: limited(rows, ROWS, labeled=True)[0] for code, rows in found.items() if rows}
