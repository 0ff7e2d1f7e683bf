"""A plan of recipes to compare: methods × seeds over one encoder, language model and task.

It checks names and types; it reads no rows and no models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from layerbridge.errors import ConfigError
from layerbridge.evaluation.centering import CENTERS
from layerbridge.models.centering import CenteringSettings
from layerbridge.reproducing.catalog import Experiment, Preset, Timing
from layerbridge.reproducing.request import Request
from layerbridge.training import defaults, recipe
from layerbridge.training.arguments import BridgeTrainingArguments
from layerbridge.training.recipe import BRIDGE, Recipe, reject_unknown
from layerbridge.training.run_data import RunData

# Of a recipe, what a method may set beside the bridge and its training: the rows are those of all.
_OF_RECIPE = ("language_centering", "language_texts")
_OF_EVALUATION = ("run_of", "center", "centering")


class RecipePlan(BaseModel):
    """The file's contents.

    Attributes:
        encoder: folder, ``zoo:NAME`` or hub id.
        language_model: the same.
        task: a name, or a YAML file.
        task_options: of the task, such as ``data_dir`` or ``max_test``.
        title: of the comparison; None takes the task's name.
        recipe: a shipped recipe or a YAML file that all methods start from; None for the defaults
            of ``layerbridge train``.
        max_rows: training rows at most.
        settings: of all methods, as in ``methods``.
        methods: name → settings. A setting is one of ``BridgeConfig`` in a recipe
            (``fusion``, ``start``, …), a training argument (``max_steps``, ``state_noise``, …),
            ``language_centering`` or ``language_texts``. ``center`` and ``centering`` say how
            it is evaluated. With ``run_of`` nothing is trained: the runs of a method that
            comes before are evaluated in another way.
        against: the methods that all others are compared with.
        baselines: ``tf-idf``, ``zero-shot-lm``.
        seeds: of training.
        protocol: how bridges are asked.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    encoder: str
    language_model: str
    task: str
    task_options: dict[str, Any] = Field(default_factory=dict)
    title: str | None = None
    recipe: str | None = None
    max_rows: int | None = Field(None, ge=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any] | None] = Field(min_length=1)
    against: list[str] = Field(default_factory=list)
    baselines: list[Literal["tf-idf", "zero-shot-lm"]] = ["tf-idf"]
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    protocol: Literal["score", "generate"] = "score"

    @classmethod
    def read(cls, path: str | Path) -> RecipePlan:
        """Reads a plan; the paths in it are relative to its folder.

        Raises:
            ConfigError: it cannot be read, or a setting is unknown or of the wrong type.
        """
        path = Path(path)
        where = f"the plan {str(path)!r}"
        try:
            contents = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{where} cannot be read ({error})") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(contents, dict):
            raise ConfigError(f"{where} contains no settings", allowed="lines of name: value")
        for name in contents:
            reject_unknown(f"setting of {where}", name, list(cls.model_fields))
        try:
            plan = cls.model_validate(contents)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise ConfigError(f"{name} of {where}: {first['msg']}") from None
        return plan._resolved(path.parent)

    def _resolved(self, folder: Path) -> RecipePlan:
        """Makes paths relative to the plan's folder absolute where the file is there."""

        def found(name: str) -> str:
            return str(folder / name) if (folder / name).exists() else name

        options = dict(self.task_options)
        if isinstance(options.get("data_dir"), str):
            options["data_dir"] = found(options["data_dir"])
        changes: dict[str, Any] = {"task_options": options, "task": found(self.task)}
        for name in ("encoder", "language_model", "recipe"):
            value = getattr(self, name)
            changes[name] = value and found(value)
        return self.model_copy(update=changes)

    def check(self) -> None:
        """Checks the methods.

        Raises:
            ConfigError: an unknown setting or method, or no method to compare with.
        """
        known = (*BRIDGE, *_training_arguments(), *_OF_RECIPE, *_OF_EVALUATION)
        seen: list[str] = []
        for method in self.methods:
            settings = self.method(method)
            for name in settings:
                reject_unknown(f"setting of the method {method!r}", name, known)
            center = settings.get("center")
            if center is not None and center not in CENTERS:
                raise ConfigError(f"center of {method!r} is {center!r}", allowed=CENTERS)
            of = settings.get("run_of")
            if of is not None and of not in seen:
                raise ConfigError(
                    f"run_of of {method!r} is {of!r}",
                    allowed=f"a method that is trained and comes before: {', '.join(seen)}",
                )
            if of is None:
                seen.append(method)
            elif set(self.methods[method] or {}) - set(_OF_EVALUATION):
                raise ConfigError(
                    f"{method!r} evaluates the runs of {of!r} and sets what is trained",
                    allowed=f"{', '.join(_OF_EVALUATION)} beside run_of, or no run_of",
                )
        for method in self.against:
            reject_unknown("method in against", method, [*self.methods, *self.baselines])
        if min(self.seeds) < 0:
            raise ConfigError(f"seeds are {self.seeds}", allowed="non-negative integers")

    @property
    def compared_with(self) -> tuple[str, ...]:
        """The methods that all others are compared with; the first method by default."""
        return tuple(self.against) or (next(iter(self.methods)),)

    def method(self, name: str) -> dict[str, Any]:
        """Returns the settings of a method, with those of all."""
        return {**self.settings, **(self.methods[name] or {})}


class PlanRequest(Request):
    """A plan as a request: what it takes from presets, a plan says for itself.

    Args:
        plan: has been read.
        output_dir: has a folder for each method and seed, and the comparison.
        seeds: instead of the plan's.
        device: ``"cpu"``, ``"cuda"``, …; None for the best available.
        dtype: of the models; None for float32 on a CPU.
        overwrite: replace what was done with other settings.

    Raises:
        ConfigError: the plan does not fit together, or the recipe cannot be read.
    """

    def __init__(
        self,
        plan: RecipePlan,
        output_dir: str | Path,
        *,
        seeds: list[int] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        overwrite: bool = False,
    ) -> None:
        plan.check()
        self.plan = plan
        base = Recipe() if plan.recipe is None else recipe.read(plan.recipe)
        base = dataclasses.replace(
            base,
            encoder=plan.encoder,
            language_model=plan.language_model,
            max_rows=plan.max_rows or base.max_rows,
        )
        name = Path(plan.task).stem
        super().__init__(
            Experiment(name=name, title=plan.title or name, task=plan.task),
            preset=Preset(
                name="plan",
                about="recipes of a plan",
                recipe=base,
                timing=Timing(plan.encoder, plan.language_model),
                fusions={method: plan.method(method) for method in plan.methods},
                protocols=(plan.protocol,),
                seeds=tuple(plan.seeds),
            ),
            seeds=seeds,
            output_dir=output_dir,
            methods=None,
            device=device,
            dtype=dtype,
            overwrite=overwrite,
        )
        self.methods = (*plan.baselines, *plan.methods)
        self.folder = self.runs = Path(output_dir)

    def task_options(self) -> dict[str, Any]:
        """Returns the options of the task, as the plan has them."""
        return dict(self.plan.task_options)

    def recipe(self, method: str, seed: int, data: RunData | None = None) -> Recipe:
        """Returns the recipe of a method with a seed, complete if the rows are known.

        Args:
            method: of the plan.
            seed: of training.
            data: the rows.
        """
        base = self.preset.recipe
        bridge, training = dict(base.bridge), dict(base.training)
        rest: dict[str, Any] = {}
        of = self.plan.method(method).get("run_of", method)
        for name, value in self.plan.method(of).items():
            if name in BRIDGE:
                bridge[name] = value
            elif name in _OF_RECIPE:
                rest[name] = value
            elif name not in _OF_EVALUATION:
                training[name] = recipe.typed(value)
        made = dataclasses.replace(
            base,
            task=self.experiment.task,
            task_options=self.task_options(),
            bridge=bridge,
            backbones={**base.backbones, "dtype": self.dtype},
            training={**training, "seed": seed},
            **rest,
        )
        return made if data is None else defaults.complete(made, data)

    def run_of(self, method: str) -> str | None:
        """Returns the method whose runs this one evaluates; None for its own."""
        return self._evaluation(method).get("run_of")

    def center(self, method: str) -> tuple[str | None, CenteringSettings | None]:
        """Returns how a method's states are moved by language, and the settings of it."""
        settings = self._evaluation(method)
        chosen = settings.get("centering")
        if chosen is None:
            return settings.get("center"), None
        if "layers" in chosen:
            chosen = {**chosen, "layers": tuple(chosen["layers"])}
        try:
            return settings.get("center"), CenteringSettings(**chosen)
        except TypeError:
            names = [field.name for field in dataclasses.fields(CenteringSettings)]
            raise ConfigError(
                f"centering of {method!r} is {settings['centering']!r}",
                allowed=f"lines of name: value, of {', '.join(names)}",
            ) from None

    def _evaluation(self, method: str) -> Mapping[str, Any]:
        return self.plan.method(method) if method in self.plan.methods else {}


def _training_arguments() -> tuple[str, ...]:
    return tuple(BridgeTrainingArguments.__dataclass_fields__)
