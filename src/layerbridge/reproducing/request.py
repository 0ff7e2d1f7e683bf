"""One command: an experiment and a preset, with the user's changes, as a task, recipes and folders.

It reads no rows and no models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from layerbridge import tasks
from layerbridge.errors import ConfigError
from layerbridge.models.backbone import LoadOptions, choose_device, resolve_dtype
from layerbridge.models.centering import CenteringSettings
from layerbridge.progress import say
from layerbridge.reproducing import catalog
from layerbridge.reproducing.catalog import Experiment, Preset
from layerbridge.tasks import Task
from layerbridge.training.recipe import BRIDGE, Recipe
from layerbridge.training.run_data import RunData

OUTPUT = "runs/reproduce"

TF_IDF = "tf-idf"
ZERO_SHOT = "zero-shot-lm"
FEW_SHOT = "few-shot-lm"
TRANSLATE = "translate"
BASELINES = (TF_IDF, ZERO_SHOT, FEW_SHOT, TRANSLATE)
# Every table compares the other methods with this one.
AGAINST = "last"
OLD_NAMES = {TF_IDF: "floor", ZERO_SHOT: "lm-alone", FEW_SHOT: "lm-few-shot"}


class Request:
    """What to reproduce, and how.

    Args:
        experiment: one, or a name of ``catalog.experiments()``.
        preset: one, or a name of ``catalog.presets()``.
        seeds: of training; None for the preset's.
        output_dir: created if it does not exist.
        data_dir: one or several folders with the task's files; empty for the hub.
        methods: of a table of accuracies, ``last`` among them; None for the preset's fusions and
            all available baselines.
        max_rows: training rows, instead of the preset's.
        max_test: test rows per language, instead of the preset's.
        encoder: instead of the preset's.
        language_model: instead of the preset's.
        translator: of translate-then-answer; None leaves that method out.
        allow_pickle: also read weights that are not safetensors.
        device: ``"cpu"``, ``"cuda"``, …; None for the best available.
        dtype: of the models, instead of the preset's.
        instruction: of all bridges, instead of the task's; ``""`` for none.
        overwrite: replace what was done with other settings.

    Attributes:
        preset: with the changes applied.
        methods: in the order of the table.
        folder: of the table or the plot.
        runs: folder of the runs, which have a folder for each method and seed.

    Raises:
        ConfigError: an unknown name, or a number out of range.
    """

    def __init__(
        self,
        experiment: str | Experiment,
        *,
        preset: str | Preset = "small",
        seeds: Iterable[int] | None = None,
        output_dir: str | Path = OUTPUT,
        data_dir: str | Path | Sequence[str | Path] = (),
        methods: Iterable[str] | None = None,
        max_rows: int | None = None,
        max_test: int | None = None,
        encoder: str | None = None,
        language_model: str | None = None,
        translator: str | None = None,
        allow_pickle: bool = False,
        device: str | None = None,
        dtype: str | None = None,
        instruction: str | None = None,
        overwrite: bool = False,
    ) -> None:
        if isinstance(experiment, str):
            experiment = catalog.experiment(experiment)
        if dtype is not None:
            resolve_dtype(dtype)
        if isinstance(preset, str):
            preset = catalog.preset(preset)
        for name, number in (("max_rows", max_rows), ("max_test", max_test)):
            if number is not None and number < 1:
                raise ConfigError(f"{name} is {number}", allowed="a positive integer")
        self.seeds = tuple(dict.fromkeys(preset.seeds if seeds is None else seeds))
        if not self.seeds or min(self.seeds) < 0:
            raise ConfigError(f"seeds are {list(self.seeds)}", allowed="non-negative integers")
        if experiment.kind == "latency" and instruction is not None:
            raise ConfigError(
                f"{experiment.name} has no instruction", hint="leave --instruction out"
            )
        models = {"encoder": encoder, "language_model": language_model}
        changes: dict[str, Any] = {name: model for name, model in models.items() if model}
        recipe = replace(preset.recipe, **changes, max_rows=max_rows or preset.recipe.max_rows)
        self.encoder, self.language_model = recipe.encoder or "", recipe.language_model or ""
        self.experiment = experiment
        self.preset = replace(
            preset,
            recipe=recipe,
            timing=replace(preset.timing, **changes),
            test_rows=max_test or preset.test_rows,
        )
        self.methods = _methods(methods, experiment, preset, translator)
        self.output_dir = Path(output_dir)
        self.folder = self.output_dir / experiment.name / preset.name
        self.runs = self.output_dir / (experiment.runs or experiment.name) / preset.name
        folders = [data_dir] if isinstance(data_dir, (str, Path)) else data_dir
        self.data_dir = tuple(map(str, folders))
        self.translator = translator
        self.allow_pickle = allow_pickle
        self.overwrite = overwrite
        self._device = device
        self._dtype = dtype
        self.instruction = instruction
        if instruction is None and recipe.bridge.get("instruction"):
            self.instruction = catalog.instructions().get(experiment.task)

    @property
    def device(self) -> str:
        """The device, or a ``ConfigError`` if this machine does not have it."""
        return choose_device(self._device)

    @property
    def dtype(self) -> str:
        """Dtype of the models."""
        default = "float32" if self.device == "cpu" else "auto"
        return self._dtype or self.preset.recipe.backbones.get("dtype") or default

    @property
    def load(self) -> LoadOptions:
        """How models are loaded."""
        return LoadOptions(dtype=self.dtype, allow_pickle=self.allow_pickle, device=self.device)

    @property
    def forbidden_pickles(self) -> list[str]:
        """Models that are pickles, which the user has not allowed."""
        models = (self.encoder, self.language_model)
        return [name for name in models if name in self.preset.pickled and not self.allow_pickle]

    def task(self) -> Task:
        """Returns the task, its rows not read yet.

        Raises:
            DataError: a folder is missing, or has no files of the task.
        """
        return tasks.get(self.experiment.task, **self.task_options())

    def task_options(self) -> dict[str, Any]:
        """Returns the options of the task."""
        labels = len(tasks.get(self.experiment.task).options)
        options: dict[str, Any] = {"train_per_label": max(1, self.preset.rows // labels)}
        if self.data_dir:
            options["data_dir"] = list(self.data_dir)
        if self.preset.test_rows is not None:
            options["max_test"] = self.preset.test_rows
        return options

    def recipe(self, fusion: str, seed: int, data: RunData | None = None) -> Recipe:
        """Returns the recipe of one bridge, which ``layerbridge train`` can run, too.

        ``data``, the rows where they are known, decides nothing here.
        """
        base = self.preset.recipe
        bridge = {**base.bridge, "fusion": fusion, "instruction": self.instruction or None}
        training = {**base.training, "seed": seed}
        for name, value in self.preset.fusions.get(fusion, {}).items():
            (bridge if name in BRIDGE else training)[name] = value
        if "max_steps" in training:
            training["max_steps"] = math.ceil(self.preset.rows / self.preset.rows_per_step)
        return replace(
            base,
            task=self.experiment.task,
            task_options=self.task_options(),
            bridge={name: value for name, value in bridge.items() if value is not None},
            backbones={"dtype": self.dtype} | ({"allow_pickle": True} if self.allow_pickle else {}),
            training=training,
        )

    def run_of(self, method: str) -> str | None:
        """Returns the method whose runs this one evaluates; None for its own."""
        return None

    def center(self, method: str) -> tuple[str | None, CenteringSettings | None]:
        """Returns how a method's states are moved by language: as its bridge says."""
        return None, None

    def facts(self) -> dict[str, Any]:
        """Returns the first entries of every JSON document."""
        return {
            "experiment": self.experiment.name,
            "title": self.experiment.title,
            "preset": self.preset.name,
            "seeds": list(self.seeds),
        }


def _methods(
    names: Iterable[str] | None, experiment: Experiment, preset: Preset, translator: str | None
) -> tuple[str, ...]:
    """Returns the methods in the order of the table."""
    baselines = [name for name in BASELINES if name != TRANSLATE or translator is not None]
    default = (*baselines, *preset.fusions)
    if names is None:
        return default
    if experiment.kind != "accuracy":
        raise ConfigError(f"{experiment.name} has no methods", hint="leave --methods out")
    chosen = list(names)
    for new, old in OLD_NAMES.items():
        if old in chosen:
            say(f"note: the method {old} is now called {new}")
            chosen = [new if name == old else name for name in chosen]
    allowed = tuple(dict.fromkeys((*default, "uniform")))
    for name in chosen:
        if name == TRANSLATE and translator is None:
            raise ConfigError("the method translate needs a model", hint="--translator MODEL")
        if name not in allowed:
            raise ConfigError(f"unknown method {name!r}", allowed=allowed)
    if AGAINST not in chosen:
        raise ConfigError(
            f"the methods are {', '.join(chosen) or 'none'}",
            allowed=f"{AGAINST} among them: the others are compared with it",
        )
    return tuple(name for name in allowed if name in chosen)
