"""The average of several runs that share their start."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from layerbridge.errors import ConfigError
from layerbridge.models.backbone_pair import have_same_weights
from layerbridge.models.checkpoint import (
    LANGUAGE_MEANS,
    check_tensors,
    read_checkpoint,
    read_config,
    write_checkpoint,
)
from layerbridge.models.config import BridgeConfig
from layerbridge.progress import say
from layerbridge.training import recipe
from layerbridge.training.output import prepare_output

# What may differ between bridges that are averaged. Backbones are compared by their weights.
_MAY_DIFFER = {
    *("training_seed", "training_start", "layerbridge_version", "averaged_runs"),
    *("encoder", "encoder_revision", "encoder_fingerprint"),
    *("language_model", "language_model_revision", "language_model_fingerprint"),
    *("usual_any_option", "transformers_version"),
}


def average_runs(runs: Sequence[str], output: Path, *, overwrite: bool = False) -> None:
    """Writes a bridge whose trained tensors are the mean of those of several runs.

    The recipe and the language means are those of the first run.

    Args:
        runs: folders or hub ids.
        output: of the average.
        overwrite: replace what is there.

    Raises:
        ConfigError: fewer than two runs, or they do not share their start or their settings.
        CheckpointError: a run is missing or damaged.
        OutputError: the folder cannot be written.
    """
    if len(runs) < 2:
        raise ConfigError(f"an average needs two runs, and there is {len(runs)}")
    read = [read_config(run) for run in runs]
    configs = [config for config, _ in read]
    for run, config in zip(runs, configs, strict=True):
        _check(runs[0], configs[0], run, config)
    tensors = [read_checkpoint(folder) for _, folder in read]
    for run, of_run in zip(runs, tensors, strict=True):
        check_tensors(of_run, tensors[0], where=run)
    mean = {
        name: torch.stack([of_run[name].double() for of_run in tensors]).mean(0).to(first.dtype)
        for name, first in tensors[0].items()
    }
    config, folder = read[0]
    config.averaged_runs = sum(each.averaged_runs or 1 for each in configs)
    _say_recipes(runs, [folder for _, folder in read])
    # Only now: nothing is removed for an average that cannot be made.
    prepare_output(output, overwrite=overwrite)
    write_checkpoint(output, config, mean)
    for name in (recipe.FILE, LANGUAGE_MEANS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, output / name)


def _check(first_run: str, first: BridgeConfig, run: str, config: BridgeConfig) -> None:
    if config.training_start is None:
        raise ConfigError(
            f"{run!r} has no record of where it started: it was trained before 0.2, or elsewhere",
            hint="train it again",
        )
    for backbone in ("encoder", "language_model"):
        if not have_same_weights(config, first, backbone):
            raise ConfigError(
                f"{run!r} has another {backbone.replace('_', ' ')} than {first_run!r}",
                allowed="runs between the same models",
            )
    mine, others = config.to_dict(), first.to_dict()
    for name in sorted({*mine, *others} - _MAY_DIFFER):
        if mine.get(name) != others.get(name):
            raise ConfigError(
                f"{run!r} has {name}={mine.get(name)!r}, and {first_run!r} has "
                f"{others.get(name)!r}",
                allowed="runs with the same bridge",
            )
    if config.training_start != first.training_start:
        raise ConfigError(
            f"{run!r} and {first_run!r} started from other tensors, so that their average is "
            "worth nothing",
            allowed="runs that share their start",
            hint="train them with one --start-seed",
        )


def _say_recipes(runs: Sequence[str], folders: Sequence[Path]) -> None:
    """Says which settings of training the first run's recipe does not tell of the others."""
    recipes = [
        _settings(recipe.read(file)) if (file := folder / recipe.FILE).is_file() else {}
        for folder in folders
    ]
    differ = sorted({
        name for each in recipes for name in {*each, *recipes[0]}
        if each.get(name) != recipes[0].get(name)
    })  # fmt: skip
    if differ:
        say(f"the runs differ in {', '.join(differ)}; the average has the recipe of {runs[0]}")


def _settings(of: recipe.Recipe) -> dict[str, Any]:
    """Returns the settings of a recipe that may tell runs of one bridge apart, without seeds."""
    settings = asdict(of)
    training = settings.pop("training")
    names = ("encoder", "language_model", "bridge")  # compared as a bridge's config
    kept = {name: value for name, value in settings.items() if name not in names}
    return kept | {n: v for n, v in training.items() if n not in ("seed", "data_seed")}
