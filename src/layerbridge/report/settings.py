"""Settings of methods as a report lists them, and the commands that make results again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.run_folders import RunFolder
from layerbridge.training.recipe import FILE

_ABSENT = "–"


@dataclass(frozen=True)
class Settings:
    """What was chosen for one method, over all its results.

    Attributes:
        method: its name.
        values: name → value; where runs differ, their values with commas.
    """

    method: str
    values: dict[str, str]


def settings(results: Sequence[Result]) -> tuple[Settings, ...]:
    """The settings, one level deep: ``bridge.fusion`` of a result's ``bridge``."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        methods.setdefault(result.method, []).append(_flat(result))
    return tuple(Settings(method, joined(values)) for method, values in methods.items())


def joined(each: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """One mapping of several: where their values differ, they stand there with commas."""
    keys = dict.fromkeys(key for values in each for key in values)
    return {
        key: ", ".join(dict.fromkeys(_told(values.get(key, _ABSENT)) for values in each))
        for key in keys
    }


def evaluate_commands(
    results: Sequence[Result], folders: Sequence[RunFolder] = ()
) -> tuple[str, ...]:
    """Command lines that train the runs again, where their recipes are known, and evaluate them.

    A result of no run, such as a floor's, has no command of its own.
    """
    trained = [
        f"layerbridge train --recipe {quoted(folder.path / FILE)} -o {quoted(folder.path)}"
        for folder in folders
        if folder.recipe is not None
    ]
    asked = [
        f"layerbridge evaluate {quoted(result.run)} --task {quoted(result.task)} "
        f"--protocol {quoted(result.protocol)} --languages {quoted(','.join(result.languages))} "
        f"--seed {result.seed}"
        for result in results
        if result.run is not None and result.protocol != CLASSIFIER
    ]
    return tuple(dict.fromkeys([*trained, *asked]))


def quoted(word: object) -> str:
    """A word for a shell, which is never an option."""
    text = str(word)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _flat(result: Result) -> dict[str, Any]:
    values: dict[str, Any] = {"protocol": result.protocol, "seed": result.seed}
    values["run"] = result.run or _ABSENT
    for key, value in result.settings.items():
        if isinstance(value, dict):
            values |= {f"{key}.{inner}": told for inner, told in value.items()}
        else:
            values[key] = value
    return values


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)
