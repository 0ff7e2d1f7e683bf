"""A recipe: everything that decides a training run, in one YAML file that can be run again.

It checks names and types; it loads no model and reads no data.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from layerbridge.errors import ConfigError

FILE = "recipe.yaml"
MANY = 30  # more names than one line can hold

# What BridgeConfig takes from a recipe, and each setting's type; the rest of it is found out when
# backbones are loaded.
BRIDGE: dict[str, type] = {
    "fusion": str,
    "fusion_options": dict,
    "start": str,
    "embedding_layer": bool,
    "normalize": str,
    "projection_start": str,
    "boundary": bool,
    "instruction": str,
    "max_text_tokens": int,
}
BACKBONES: dict[str, type] = {
    "encoder_revision": str,
    "language_model_revision": str,
    "dtype": str,
    "attn_implementation": str,
    "trust_remote_code": bool,
    "allow_pickle": bool,
}
_TOP: dict[str, type] = {
    **dict.fromkeys(("encoder", "language_model", "task", "data", "text", "target"), str),
    **{"template": str, "options": list, "validation_data": str, "max_rows": int},
    "cache_states": bool,
    **dict.fromkeys(("task_options", "bridge", "backbones", "training"), dict),
}
_KINDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list of texts"}


@dataclass
class Recipe:
    """The settings of one run.

    Args:
        encoder: folder, ``zoo:NAME`` or hub id.
        language_model: folder, ``zoo:NAME`` or hub id.
        task: a task of ``layerbridge.tasks``, or the YAML file of one's own; or
        data: a file (JSONL, CSV, TSV, Parquet) or a hub data set of one's own.
        text: the data's column that the encoder reads.
        target: the data's column with the answer.
        template: the encoder's text with columns in braces, instead of ``text``.
        options: the label words, if the data's answers are among a few.
        validation_data: a file like ``data``, to watch the loss on.
        max_rows: train on the first so many rows only.
        cache_states: read the texts once, before the first step, and keep the encoder's states in
            a file in the run's folder until the last.
        task_options: what the task takes, ``data_dir`` for one.
        bridge: settings of ``BridgeConfig`` (see ``BRIDGE``).
        backbones: how backbones are loaded (see ``BACKBONES``).
        training: ``TrainingArguments`` by name, and ``fusion_learning_rate_scale``.
    """

    encoder: str | None = None
    language_model: str | None = None
    task: str | None = None
    data: str | None = None
    text: str | None = None
    target: str | None = None
    template: str | None = None
    options: list[str] | None = None
    validation_data: str | None = None
    max_rows: int | None = None
    cache_states: bool = False
    task_options: dict[str, Any] = field(default_factory=dict)
    bridge: dict[str, Any] = field(default_factory=dict)
    backbones: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Whether a run could be made of it.

        Raises:
            ConfigError: something is missing, or two settings contradict each other.
        """
        for name in ("encoder", "language_model"):
            if not getattr(self, name):
                raise ConfigError(
                    f"the run has no {name.replace('_', ' ')}",
                    hint=f"pass --{name.replace('_', '-')} FOLDER, zoo:NAME or a hub id",
                )
        if (self.task is None) == (self.data is None):
            given = "neither a task nor data" if self.task is None else "both a task and data"
            raise ConfigError(
                f"the run has {given}",
                allowed="--task NAME, or --data FILE with --text and --target",
            )
        if self.task is not None:
            for name in ("text", "target", "template", "options", "validation_data"):
                if getattr(self, name):
                    raise ConfigError(
                        f"--{name.replace('_', '-')} goes with --data; the task {self.task!r} has "
                        "its own"
                    )
        elif self.task_options:
            raise ConfigError(
                f"the task option {next(iter(self.task_options))!r} goes with a task, not with data"
            )

    def write(self, folder: Path) -> None:
        """Writes ``recipe.yaml`` into ``folder``; settings that are not set are left out."""
        settings = {name: value for name, value in dataclasses.asdict(self).items() if value}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        (folder / FILE).write_text(text, encoding="utf-8")


def read(path: str | Path) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        ConfigError: no such file, no YAML mapping, or an unknown setting.
    """
    path = Path(path)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the recipe {str(path)!r} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"the recipe {str(path)!r} is not YAML: {problem}") from None
    if not isinstance(settings, dict):
        problem = f"the recipe {str(path)!r} holds no settings"
        raise ConfigError(problem, allowed="lines of name: value")
    what = f"of the recipe {str(path)!r}"
    known = [item.name for item in dataclasses.fields(Recipe)]
    for name in settings:
        reject_unknown(f"setting {what}", name, known)
    settings = {name: value for name, value in settings.items() if value is not None}
    recipe = Recipe(
        **{name: _fit(name, value, _TOP[name], what) for name, value in settings.items()}
    )
    if recipe.max_rows is not None and recipe.max_rows < 1:
        raise ConfigError(f"max_rows {what} is {recipe.max_rows}", allowed="a whole number from 1")
    for section, types in (("bridge", BRIDGE), ("backbones", BACKBONES)):
        values = getattr(recipe, section)
        for name, value in values.items():
            reject_unknown(f"{section} setting {what}", name, types)
            if value is not None:
                values[name] = _fit(f"{section}.{name}", value, types[name], what)
    for values in (recipe.task_options, recipe.training, recipe.bridge.get("fusion_options") or {}):
        values.update({name: typed(value) for name, value in values.items()})
    return recipe


def _fit(name: str, value: Any, kind: type, what: str) -> Any:
    """The value as the setting's type; text that YAML did not take for a number is tried as one."""
    if kind in (int, bool):
        value = typed(value)
        value = int(value) if kind is int and isinstance(value, float) and value % 1 == 0 else value
    # In Python a truth value is an int.
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if kind is list and fits:
        fits = all(isinstance(item, str) for item in value)
    if not fits:
        hint = "put it in quotes" if kind is str and not isinstance(value, (list, dict)) else None
        raise ConfigError(
            f"{name} {what} is {value!r}",
            allowed=_KINDS.get(kind, "lines of name: value"),
            hint=hint,
        )
    return value


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A copy with the settings that ``changes`` gives; None means not given.

    Names of ``BRIDGE`` and ``BACKBONES`` go into their sections; so do whole sections.
    """
    result = copy.deepcopy(recipe)
    for name, value in changes.items():
        if value is None:
            continue
        if name in BRIDGE:
            result.bridge[name] = value
        elif name in BACKBONES:
            result.backbones[name] = value
        elif isinstance(value, Mapping):
            getattr(result, name).update(value)
        else:
            setattr(result, name, value)
    return result


def reject_unknown(what: str, name: object, known: Iterable[str]) -> None:
    """Refuses a name that is not known, with the nearest ones that are.

    Raises:
        ConfigError: it is not known.
    """
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, n=3)
    few = len(known) < MANY
    raise ConfigError(
        f"unknown {what}: {name!r}",
        allowed=near or (known if few else None),
        hint=None if near or few else "layerbridge train --help",
    )


def typed(value: Any) -> Any:
    """A setting's text as the number, truth value or text it means; others as they are.

    YAML reads ``1e-3`` as text, and so does a command line.
    """
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for number in (int, float):
        try:
            return number(value)
        except ValueError:
            continue
    return value
