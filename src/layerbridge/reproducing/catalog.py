"""Experiments and presets, as ``catalog.yaml`` has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from layerbridge.errors import ConfigError
from layerbridge.training.recipe import Recipe, read


@dataclass(frozen=True)
class Experiment:
    """Something to reproduce.

    Attributes:
        name: on the command line, and of its folder.
        title: of its table or plot.
        task: empty for latency.
        runs: the experiment whose runs it takes; None for its own.
    """

    name: str
    title: str
    kind: Literal["accuracy", "latency", "weights"] = "accuracy"
    task: str = ""
    runs: str | None = None


@dataclass(frozen=True)
class Timing:
    """What the table of times measures, on models as in ``layerbridge bench latency``."""

    encoder: str
    language_model: str
    texts: int = 4  # per round, one after another
    new_tokens: int = 32  # per text
    repeat: int = 3  # rounds


@dataclass(frozen=True)
class Preset:
    """Models, settings and budget.

    Attributes:
        recipe: of every bridge. ``max_rows`` are balanced over the labels; with ``max_steps``
            each bridge trains on ``max_rows`` rows in all, repeating some if there are fewer. A
            dtype of None is float32 on a CPU, so that numbers are the same on every CPU, and the
            best available elsewhere.
        timing: for the table of times.
        fusions: the bridges, each with its own settings.
        protocols: how bridges are asked; the first is compared with the paper.
        seeds: of training.
        test_rows: per language; None for all.
        pickled: models published as pickles only.
    """

    name: str
    about: str
    recipe: Recipe
    timing: Timing
    fusions: Mapping[str, Mapping[str, Any]]
    protocols: tuple[str, ...]
    seeds: tuple[int, ...]
    test_rows: int | None = None
    pickled: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """English training rows at most."""
        assert self.recipe.max_rows is not None
        return self.recipe.max_rows

    @property
    def rows_per_step(self) -> int:
        """Rows per training step."""
        accumulated: int = self.recipe.training.get("gradient_accumulation_steps", 1)
        return accumulated * int(self.recipe.training["per_device_train_batch_size"])


def experiments() -> tuple[str, ...]:
    """Returns the names of the experiments."""
    return tuple(_catalog()["experiments"])


def experiment(name: str) -> Experiment:
    """Returns the experiment called ``name``, or raises a ``ConfigError``."""
    return Experiment(name, **_entry("experiment", name))


def presets() -> tuple[str, ...]:
    """Returns the names of the presets."""
    return tuple(_catalog()["presets"])


def preset(name: str) -> Preset:
    """Returns the preset called ``name``, or raises a ``ConfigError``."""
    settings = _entry("preset", name)
    recipe = read(settings.pop("recipe"))
    own = {"fusion", *(key for fusion in settings["fusions"].values() for key in fusion)}
    recipe = replace(
        recipe,
        max_rows=settings.pop("rows", recipe.max_rows),
        bridge={key: value for key, value in recipe.bridge.items() if key not in own},
        training={key: value for key, value in recipe.training.items() if key not in own},
    )
    models = {"encoder": recipe.encoder, "language_model": recipe.language_model}
    timing = Timing(**{**models, **settings.pop("timing", {})})
    for key in ("protocols", "seeds", "pickled"):
        settings[key] = tuple(settings.get(key, ()))
    return Preset(name=name, recipe=recipe, timing=timing, **settings)


def instructions() -> dict[str, str]:
    """Returns the instruction of each task."""
    return dict(_catalog()["instructions"])


def _entry(kind: str, name: str) -> dict[str, Any]:
    entries = _catalog()[f"{kind}s"]
    if name not in entries:
        raise ConfigError(f"unknown {kind} {name!r}", allowed=entries)
    return dict(entries[name])


@cache
def _catalog() -> dict[str, Any]:
    file = resources.files("layerbridge.reproducing") / "catalog.yaml"
    catalog: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
    return catalog
