"""A recipe: everything that decides a training run, in one YAML file that can be run again.

It checks names and types; it loads no model and reads no data. The recipes in ``recipes/`` are
shipped and can be read by name.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from layerbridge.errors import ConfigError
from layerbridge.tasks.labels import check_options
from layerbridge.tasks.text import check_unicode_in
from layerbridge.training.atomic_write import atomic_write

FILE = "recipe.yaml"
MANY = 30  # more names than one line can hold

# Of ``data``: a task has its own.
_OF_DATA = (
    *("text", "target", "template", "options", "free_text"),
    *("validation_data", "validation_share"),
)
MOST_HELD_OUT = 0.5

_SHIPPED = resources.files("layerbridge.training") / "recipes"


def typed(value: Any) -> Any:
    """Converts text to the number or boolean it represents; other values stay as they are.

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


def _to_integer(value: Any) -> Any:
    value = typed(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _typed_values(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: typed(value) for name, value in settings.items()}


# Strict, because a boolean would pass as an int, and a number as text.
Text = Annotated[str, Field(strict=True)]
Integer = Annotated[int, Field(strict=True), BeforeValidator(_to_integer)]
Flag = Annotated[bool, Field(strict=True), BeforeValidator(typed)]
Number = Annotated[float, Field(strict=True), BeforeValidator(typed)]
Values = Annotated[dict[str, Any], AfterValidator(_typed_values)]


class _Bridge(TypedDict, total=False):
    """What ``BridgeConfig`` takes from a recipe; the rest is known once backbones are loaded."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    fusion: Text | None
    fusion_options: Values | None
    start: Text | None
    embedding_layer: Flag | None
    normalize: Text | None
    projection: Text | None
    projection_options: Values | None
    projection_start: Text | None
    boundary: Flag | None
    instruction: Text | None
    max_text_tokens: Integer | None
    text_prefix: Text | None
    encoder_language: Text | None


class _Backbones(TypedDict, total=False):
    """How the backbones are loaded."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    encoder_revision: Text | None
    language_model_revision: Text | None
    dtype: Text | None
    attn_implementation: Text | None
    load_in_4bit: Flag | None
    load_in_8bit: Flag | None
    # Checked by ``LoadOptions``.
    quantization_config: Any
    device_map: Any
    encoder_device: Text | None
    trust_remote_code: Flag | None
    allow_pickle: Flag | None


BRIDGE = tuple(_Bridge.__annotations__)
BACKBONES = tuple(_Backbones.__annotations__)
_QUANTIZATIONS = ("load_in_4bit", "load_in_8bit", "quantization_config")


def _section(settings: type) -> GetPydanticSchema:
    return GetPydanticSchema(lambda _, handler: handler.generate_schema(settings))


@dataclass
class Recipe:
    """The settings of one run.

    Args:
        encoder: folder, ``zoo:NAME`` or hub id.
        language_model: folder, ``zoo:NAME`` or hub id.
        task: a task of ``layerbridge.tasks``, or a task's YAML file. Either this or ``data``.
        data: a file (JSONL, CSV, TSV, Parquet) or a hub data set.
        text: the data's column that the encoder reads.
        target: the data's column with the answer.
        template: the encoder's text with columns in braces, instead of ``text``.
        options: the label words, for classification; None takes the targets if they are labels.
        free_text: whether the targets of ``data`` are free text, though they may repeat.
        validation_data: a file like ``data``, to watch training with.
        validation_share: how much of ``data`` is held out for that without ``validation_data``.
        max_rows: train on at most so many rows: the first of each label, in equal shares; of
            targets that are no labels, the first.
        cache_states: run the encoder once over all texts before the first step, and keep its
            hidden states in a temporary file in the run's folder.
        language_centering: keep the mean states of the English rows with the bridge, so that
            languages can be centered.
        language_texts: a folder with unlabeled text of each language (``si.txt``); their means are
            kept, too.
        task_options: options of the task, such as ``data_dir``.
        bridge: settings of ``BridgeConfig`` (see ``BRIDGE``).
        backbones: how backbones are loaded (see ``BACKBONES``).
        training: ``BridgeTrainingArguments`` by name.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    encoder: Text | None = None
    language_model: Text | None = None
    task: Text | None = None
    data: Text | None = None
    text: Text | None = None
    target: Text | None = None
    template: Text | None = None
    options: list[Text] | None = None
    free_text: Flag = False
    validation_data: Text | None = None
    validation_share: Number | None = None
    max_rows: Annotated[Integer, Field(ge=1)] | None = None
    cache_states: Flag = False
    language_centering: Flag = False
    language_texts: Text | None = None
    task_options: Values = field(default_factory=dict)
    bridge: Annotated[dict[str, Any], _section(_Bridge)] = field(default_factory=dict)
    backbones: Annotated[dict[str, Any], _section(_Backbones)] = field(default_factory=dict)
    training: Values = field(default_factory=dict)

    def check(self) -> None:
        """Checks that the recipe describes a run.

        Raises:
            ConfigError: a setting is missing, or two settings contradict each other.
            DataError: an option is empty, a duplicate or not text.
        """
        for name in ("encoder", "language_model"):
            if not getattr(self, name):
                raise ConfigError(
                    f"the run has no {name.replace('_', ' ')}",
                    hint=f"pass --{name.replace('_', '-')} FOLDER, zoo:NAME or a hub id",
                )
        if (self.task is None) == (self.data is None):
            problem = "neither a task nor data" if self.task is None else "both a task and data"
            raise ConfigError(
                f"the run has {problem}",
                allowed="--task NAME, or --data FILE with --text and --target",
            )
        if self.task is not None:
            for name in _OF_DATA:
                if getattr(self, name):
                    raise ConfigError(
                        f"--{name.replace('_', '-')} works only with --data; the task "
                        f"{self.task!r} has its own"
                    )
        elif self.task_options:
            raise ConfigError(
                f"the task option {next(iter(self.task_options))!r} works only with --task, "
                "not with --data"
            )
        share = self.validation_share
        if share is not None and not 0 <= share <= MOST_HELD_OUT:
            raise ConfigError(
                f"validation_share is {share}", allowed=f"a number from 0 to {MOST_HELD_OUT}"
            )
        if self.validation_data is not None and share:
            raise ConfigError(
                "both validation data and a validation share were given", allowed="one of the two"
            )
        if self.options is not None:
            if self.free_text:
                raise ConfigError(
                    "--free-text and --options contradict each other", allowed="one of the two"
                )
            if not self.options:
                raise ConfigError("options is an empty list", allowed="label words, or no options")
            check_options(self.options)

    def write(self, folder: Path) -> None:
        """Writes ``recipe.yaml`` into ``folder``, without the settings that are not set.

        Raises:
            OutputError: the file cannot be written.
        """
        settings = {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if value or (name == "validation_share" and value is not None)
        }
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        atomic_write(text, folder / FILE)


@cache
def _adapter() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def names() -> list[str]:
    """Returns the names of the shipped recipes."""
    return sorted(Path(file.name).stem for file in _SHIPPED.iterdir())


def read(source: str | Path) -> Recipe:
    """Reads a recipe.

    Args:
        source: a YAML file, or the name of a shipped recipe.

    Raises:
        ConfigError: unknown name, unreadable file, not a YAML mapping, or a setting that is
            unknown or of the wrong type.
        DataError: it has half of a surrogate pair.
    """
    file: Any = Path(source)
    if not file.is_file() and str(source) in names():
        file = _SHIPPED / f"{source}.yaml"
    where = f"the recipe {str(source)!r}"
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError) and len(file.parts) == 1 and not file.suffix:
            problem = f"unknown recipe {str(source)!r}"
            raise ConfigError(problem, allowed=f"{', '.join(names())} or a YAML file") from None
        raise ConfigError(f"{where} cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{where} contains no settings", allowed="lines of name: value")
    check_unicode_in(settings, where)
    for name in settings:
        reject_unknown(
            f"setting of {where}", name, [item.name for item in dataclasses.fields(Recipe)]
        )
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        return _adapter().validate_python(settings)
    except ValidationError as error:
        raise _problem(error, settings, where) from None


_ALLOWED = {
    "string_type": "text",
    "int_type": "an integer",
    "greater_than_equal": "a positive integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list of texts",
    "dict_type": "lines of name: value",
}


def _problem(error: ValidationError, settings: Mapping[str, Any], where: str) -> ConfigError:
    """Returns the first of pydantic's errors as one line."""
    first = error.errors()[0]
    section, *names = first["loc"]
    if first["type"] == "extra_forbidden":
        known = BRIDGE if section == "bridge" else BACKBONES
        try:
            reject_unknown(f"{section} setting of {where}", names[0], known)
        except ConfigError as unknown:
            return unknown
    value, allowed, hint = first["input"], _ALLOWED.get(first["type"], first["msg"]), None
    if section == "options":
        value, allowed, names = settings["options"], _ALLOWED["list_type"], []
    elif allowed == "text" and not isinstance(value, (list, dict)):
        hint = "put it in quotes"
    name = ".".join(map(str, (section, *names)))
    return ConfigError(f"{name} of {where} is {value!r}", allowed=allowed, hint=hint)


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Returns a copy with ``changes`` applied; a value of None changes nothing.

    Names of ``BRIDGE`` and ``BACKBONES`` go into their sections; a mapping updates its section.
    """
    result = copy.deepcopy(recipe)
    for name, value in changes.items():
        if value is None:
            continue
        if name in BRIDGE:
            result.bridge[name] = value
        elif name in BACKBONES:
            if name in _QUANTIZATIONS and not any(
                changes.get(other) for other in _QUANTIZATIONS if other != name
            ):
                for other in _QUANTIZATIONS:  # the recipe's would contradict it
                    result.backbones.pop(other, None)
            result.backbones[name] = value
        elif isinstance(value, Mapping):
            if "num_train_epochs" in value and "max_steps" not in value:
                result.training.pop("max_steps", None)  # it would take precedence
            for kind in ("eval", "logging", "save"):
                # The recipe's steps are those of the strategy that is replaced.
                if f"{kind}_strategy" in value:
                    getattr(result, name).pop(f"{kind}_steps", None)
            getattr(result, name).update(value)
        else:
            setattr(result, name, value)
    return result


def reject_unknown(what: str, name: object, known: Iterable[str]) -> None:
    """Rejects a name that is not among the known ones.

    Raises:
        ConfigError: unknown name; the message has the nearest known ones.
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
