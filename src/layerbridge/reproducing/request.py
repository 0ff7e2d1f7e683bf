"""What was asked for: an experiment, a preset, and what of the preset is to be otherwise.

It turns that into a task, recipes and folders. It reads no row and no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layerbridge import tasks
from layerbridge.errors import ConfigError
from layerbridge.models.backbone import LoadOptions, choose_device, resolve_dtype
from layerbridge.reproducing import experiments, presets
from layerbridge.reproducing.experiments import Experiment
from layerbridge.reproducing.presets import Preset
from layerbridge.tasks import Task
from layerbridge.training.recipe import Recipe

OUTPUT = "runs/reproduce"

FLOOR = "floor"
LM_ALONE = "lm-alone"
LM_FEW_SHOT = "lm-few-shot"
TRANSLATE = "translate"
BASELINES = (FLOOR, LM_ALONE, LM_FEW_SHOT, TRANSLATE)
# What the other methods are compared with, in every table.
AGAINST = "last"


@dataclass(frozen=True)
class Request:
    """One command. ``of`` makes one out of names.

    Attributes:
        experiment: what.
        preset: with which models and budget; what the user wants otherwise is in it already.
        seeds: of training.
        output_dir: everything goes into folders below it.
        data_dir: the task's files; empty asks the hub.
        methods: baselines and fusions, in the order of the table.
        translator: of translate-then-answer; None leaves that method out.
        allow_pickle: whether the user said yes to pickled weights.
        device: ``"cpu"``, ``"cuda"``, …; None takes the best there is.
        overwrite: do again what was done with other settings.
    """

    experiment: Experiment
    preset: Preset
    seeds: tuple[int, ...]
    output_dir: Path
    methods: tuple[str, ...]
    data_dir: tuple[str, ...] = ()
    translator: str | None = None
    allow_pickle: bool = False
    device: str | None = None
    overwrite: bool = False

    @classmethod
    def of(
        cls,
        experiment: str,
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
    ) -> Request:
        """A request by names.

        Args:
            experiment: of ``experiments.names()``.
            preset: of ``presets.names()``, or one of your own.
            seeds: None takes the preset's.
            output_dir: made if it is not there.
            data_dir: a folder with the task's files, or several.
            methods: of a table of accuracies, ``last`` among them; None takes all baselines that
                can be had and the preset's fusions.
            max_rows: instead of the preset's ``rows``.
            max_test: instead of the preset's ``test_rows``.
            encoder: instead of the preset's, a copy of your own for one.
            language_model: the same.
            translator: as in ``layerbridge baseline translate``.
            allow_pickle: also read weights that are not safetensors.
            device: where it runs.
            dtype: of the models, instead of the preset's.
            instruction: of all bridges, instead of the task's; ``""`` is none.
            overwrite: do again what was done with other settings.

        Raises:
            ConfigError: an unknown name, or a number out of range.
        """
        found = experiments.experiment(experiment)
        if dtype is not None:
            resolve_dtype(dtype)
        chosen = presets.preset(preset) if isinstance(preset, str) else preset
        for name, number in (("max_rows", max_rows), ("max_test", max_test)):
            if number is not None and number < 1:
                raise ConfigError(f"{name} is {number}", allowed="a whole number from 1")
        wanted = tuple(dict.fromkeys(chosen.seeds if seeds is None else seeds))
        if not wanted or min(wanted) < 0:
            raise ConfigError(f"seeds are {list(wanted)}", allowed="whole numbers from 0")
        if found.kind == "latency":
            if instruction is not None:
                raise ConfigError(f"{found.name} asks no bridge", hint="leave --instruction out")
            timing = chosen.timing
            own = (encoder or timing.encoder, language_model or timing.language_model)
            timing = replace(timing, encoder=own[0], language_model=own[1])
            chosen = replace(chosen, timing=timing)
        chosen = replace(
            chosen,
            encoder=encoder or chosen.encoder,
            language_model=language_model or chosen.language_model,
            rows=max_rows or chosen.rows,
            test_rows=max_test or chosen.test_rows,
            dtype=dtype or chosen.dtype,
            instruction=chosen.instruction if instruction is None else instruction,
        )
        folders = [data_dir] if isinstance(data_dir, (str, Path)) else data_dir
        return cls(
            found,
            chosen,
            wanted,
            Path(output_dir),
            _methods(methods, found, chosen, translator),
            tuple(map(str, folders)),
            translator,
            allow_pickle,
            device,
            overwrite,
        )

    @property
    def folder(self) -> Path:
        """Where the table or the picture goes."""
        return self.output_dir / self.experiment.name / self.preset.name

    @property
    def runs(self) -> Path:
        """Where the runs go, a folder a method and seed."""
        return self.output_dir / self.experiment.runs / self.preset.name

    @property
    def place(self) -> str:
        """The device.

        Raises:
            ConfigError: there is no such device here.
        """
        return choose_device(self.device)

    @property
    def dtype(self) -> str:
        """Of the models."""
        return self.preset.dtype or ("float32" if self.place == "cpu" else "auto")

    @property
    def load(self) -> LoadOptions:
        """How models are read."""
        return LoadOptions(dtype=self.dtype, allow_pickle=self.allow_pickle)

    def check_pickles(self) -> None:
        """Whether the user said yes to every pickle that would be read.

        Raises:
            ConfigError: they did not.
        """
        for name in (self.preset.encoder, self.preset.language_model):
            if name in self.preset.pickled and not self.allow_pickle:
                raise ConfigError(
                    f"{name} is published as a pickle, and reading a pickle can run code in it",
                    hint="--allow-pickle if you trust it, or --encoder with safetensors",
                )

    def task(self) -> Task:
        """The task, its rows not read yet.

        Raises:
            DataError: a folder is missing, or holds nothing of the task.
        """
        return tasks.get(self.experiment.task, **self.task_options())

    def task_options(self) -> dict[str, Any]:
        """What the task is told: as many training rows of each label, and so many test rows."""
        labels = len(tasks.get(self.experiment.task).options)
        options: dict[str, Any] = {"train_per_label": max(1, self.preset.rows // labels)}
        if self.data_dir:
            options["data_dir"] = list(self.data_dir)
        if self.preset.test_rows is not None:
            options["max_test"] = self.preset.test_rows
        return options

    def recipe(self, fusion: str, seed: int) -> Recipe:
        """The recipe of one bridge: ``layerbridge train --recipe`` would train it too."""
        preset = self.preset
        own = dict(preset.fusions.get(fusion, {}))
        training = {**preset.training, "seed": seed}
        if "fusion_learning_rate_scale" in own:
            training["fusion_learning_rate_scale"] = own.pop("fusion_learning_rate_scale")
        if preset.passes is None:
            training["max_steps"] = math.ceil(preset.rows / preset.per_step)
        else:
            training["num_train_epochs"] = preset.passes
        bridge = {"fusion": fusion, **preset.bridge, **own}
        instruction = preset.instruction_of(self.experiment.task)
        if instruction is not None:
            bridge["instruction"] = instruction
        backbones: dict[str, Any] = {"dtype": self.dtype}
        if self.allow_pickle:
            backbones["allow_pickle"] = True
        return Recipe(
            encoder=preset.encoder,
            language_model=preset.language_model,
            task=self.experiment.task,
            max_rows=preset.rows,
            task_options=self.task_options(),
            bridge=bridge,
            backbones=backbones,
            training=training,
        )


def _methods(
    wanted: Iterable[str] | None, experiment: Experiment, preset: Preset, translator: str | None
) -> tuple[str, ...]:
    """What is in the table, in its order.

    Raises:
        ConfigError: there is no such method, or no choice.
    """
    baselines = [name for name in BASELINES if name != TRANSLATE or translator is not None]
    usual = (*baselines, *preset.fusions)
    if wanted is None:
        return usual
    wanted = list(wanted)
    if experiment.kind != "accuracy":
        raise ConfigError(f"{experiment.name} is no table of methods", hint="leave --methods out")
    # All layers alike has nothing that a preset would set.
    allowed = tuple(dict.fromkeys((*usual, "uniform")))
    for name in wanted:
        if name == TRANSLATE and translator is None:
            raise ConfigError("the method translate has no model", hint="--translator MODEL")
        if name not in allowed:
            raise ConfigError(f"there is no method {name!r}", allowed=allowed)
    if AGAINST not in wanted:
        raise ConfigError(
            f"the methods are {', '.join(wanted) or 'none'}",
            allowed=f"{AGAINST} among them: the others are compared with it",
        )
    return tuple(name for name in allowed if name in wanted)
