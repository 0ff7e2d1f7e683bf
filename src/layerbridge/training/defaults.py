"""The settings of a run that its recipe leaves open, from its rows.

``docs/decisions/0007-defaults.md`` says how they were found. What the number of rows does not
decide is a default of ``BridgeConfig`` and ``BridgeTrainingArguments``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from layerbridge.models.fusion.registry import STRATEGIES
from layerbridge.models.projection.registry import default_start
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.recipe import Recipe
from layerbridge.training.run_data import RunData
from layerbridge.training.schedule import steps

FUSION = "token-softmax"
# A share of all steps: five validations.
EVERY = 0.2
# After the soft prompt of a text with a label. To name the labels is 15 % slower, and no better.
INSTRUCTION = " (category:"
# Defaults that decide what is learned.
_OF_TRAINING = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "per_device_train_batch_size"),
    *("adam_beta1", "adam_beta2", "weight_decay", "max_grad_norm", "clip_by_part", "seed"),
)


def watched(training: Mapping[str, Any]) -> dict[str, Any]:
    """Returns training settings with validation, and the best checkpoint kept, unless they say no.

    The best checkpoint can be kept only where each validated bridge is saved, and is no average.
    """
    settings = dict(training)
    counted = settings.get("max_steps", -1) != -1 or "eval_steps" in settings
    by_epoch = "num_train_epochs" in settings and not counted
    strategy = settings.setdefault("eval_strategy", "epoch" if by_epoch else "steps")
    if strategy == "no":
        return settings
    if strategy == "steps":
        settings.setdefault("eval_steps", EVERY)
    if not settings.keys() & {"save_strategy", "save_steps"}:
        settings["save_strategy"] = strategy
        if strategy == "steps":
            settings["save_steps"] = settings["eval_steps"]
    same = settings.get("save_strategy", "epoch") == strategy and not settings.get("average_last")
    if same and (strategy != "steps" or settings.get("save_steps") == settings["eval_steps"]):
        settings.setdefault("load_best_model_at_end", True)
    return settings


def complete(recipe: Recipe, data: RunData) -> Recipe:
    """Returns the recipe with everything that its run depends on.

    A run's ``recipe.yaml`` holds all of it, so that other defaults do not change what it describes.

    Args:
        recipe: has passed ``check``.
        data: its rows.
    """
    training = watched(recipe.training) if data.validation else dict(recipe.training)
    if training.get("max_steps", -1) == -1 and "num_train_epochs" not in training:
        training["max_steps"] = steps(len(data.train))
    total = training.get("max_steps", 0)
    for name in ("eval_steps", "save_steps"):
        # transformers compares a share with the number it was when a run resumes.
        if name not in recipe.training and training.get(name) == EVERY and total > 0:
            training[name] = math.ceil(EVERY * total)
    bridge = {"fusion": FUSION, **recipe.bridge}
    strategy = STRATEGIES[bridge["fusion"]]
    bridge.setdefault("start", strategy.default_start)
    bridge.setdefault("projection_start", default_start(bridge.get("projection") or "linear"))
    for name in _OF_TRAINING:
        training.setdefault(name, BridgeTrainingArguments.__dataclass_fields__[name].default)
    training.setdefault("fusion_learning_rate_scale", strategy.learning_rate_scale)
    if data.options and "instruction" not in bridge:
        bridge["instruction"] = INSTRUCTION
    options = list(data.options) if recipe.data is not None and data.options else recipe.options
    return replace(recipe, bridge=bridge, training=training, options=options)
