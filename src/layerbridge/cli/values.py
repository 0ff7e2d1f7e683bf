"""What the words behind shared options mean: lists, numbers, NAME=VALUE pairs, languages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerbridge.errors import ConfigError

if TYPE_CHECKING:
    from layerbridge.models.backbone import LoadOptions
    from layerbridge.models.bridge import LayerBridge
    from layerbridge.tasks import Task


def split(words: str | None) -> list[str] | None:
    """``"en, si"`` → ``["en", "si"]``; None or nothing → None."""
    return [word.strip() for word in words.split(",")] if words else None


def label_words(words: str | None) -> list[str] | None:
    """``"yes, no"`` → ``["yes", "no"]``; None → None.

    Raises:
        DataError: a word is empty or a duplicate.
    """
    from layerbridge.tasks.labels import check_options

    if words is None:
        return None
    labels = [word.strip() for word in words.split(",")]
    check_options(labels)
    return labels


def numbers(flag: str, words: str) -> list[int]:
    """``"0,1,2"`` or ``"0 1 2"`` → ``[0, 1, 2]``.

    Raises:
        ConfigError: a word is not an integer.
    """
    try:
        return [int(word) for word in words.replace(",", " ").split()]
    except ValueError:
        raise ConfigError(
            f"{flag} {words!r} is not a list of numbers",
            allowed="comma-separated integers, such as 0,1,2",
        ) from None


def pairs(
    flag: str, words: list[str] | None, read: Callable[[str], Any], example: str
) -> dict[str, Any]:
    """``["max-test=100"]`` → ``{"max_test": 100}``, the values as ``read`` reads them.

    Raises:
        ConfigError: a word is not NAME=VALUE.
    """
    values = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ConfigError(
                f"{flag} {word!r} is not a pair", allowed=f"NAME=VALUE, such as {example}"
            )
        values[name.replace("-", "_")] = read(value)
    return values


def task_options(
    data_dir: list[Path] | None, words: list[str] | None, *, skip_unknown_labels: bool = False
) -> dict[str, Any]:
    """``--data-dir A --task-option max_test=100`` → ``{"data_dir": ["A"], "max_test": 100}``."""
    from layerbridge.training.recipe import typed

    options = pairs("--task-option", words, typed, "max_test=100")
    if data_dir:
        options["data_dir"] = [str(folder) for folder in data_dir]
    if skip_unknown_labels:
        options["skip_unknown_labels"] = True
    return options


def language_codes(task: Task, languages: str | None) -> list[str]:
    """Returns the task's codes of the given languages, or all, without reading rows.

    Raises:
        DataError: the task has no test rows in one of them.
    """
    codes = split(languages) or task.languages
    return list(dict.fromkeys(task.check_language(code) for code in codes))


def fields_of(kind: type, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of a verb that are fields of a dataclass."""
    return {each.name: params[each.name] for each in fields(kind) if each.name in params}


def map_of_devices(words: str | None) -> Any:
    """``"auto"`` → ``"auto"``; ``'{"encoder": "cpu"}'`` → the mapping; None → None.

    Raises:
        ConfigError: a mapping is not valid JSON.
    """
    if words is None or not words.lstrip().startswith("{"):
        return words
    try:
        return json.loads(words)
    except ValueError as error:
        raise ConfigError(
            f"--device-map {words!r} is not valid JSON ({error})",
            allowed="""auto, or a mapping such as '{"encoder": "cpu", "language_model": "auto"}'""",
        ) from None


def load_options(params: Mapping[str, Any]) -> LoadOptions:
    """Returns how a verb loads backbones: its dtype, its device or the best one, …"""
    from layerbridge.models.backbone import LoadOptions, choose_device

    given = fields_of(LoadOptions, params)
    if "device_map" in given:
        given["device_map"] = map_of_devices(given["device_map"])
    return LoadOptions(**{**given, "device": choose_device(params["device"])})


def load_bridge(run: str, params: Mapping[str, Any]) -> LayerBridge:
    """Loads a trained bridge with the options of a verb: its device, dtype, revision, …"""
    from layerbridge.models.bridge import LayerBridge

    return LayerBridge.from_pretrained(
        run, revision=params.get("revision"), **vars(load_options(params))
    )
