"""``layerbridge tasks``: what there is to train and test on; and the flags that choose of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from layerbridge.errors import ConfigError

if TYPE_CHECKING:
    from layerbridge.tasks import Task


def tasks(
    name: str | None = typer.Argument(None, help="A task, or a YAML file; all if not given."),
    data_dir: list[Path] | None = typer.Option(
        None, help="A folder with the task's rows, or with a subfolder for each task."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON array, or object with NAME."),
) -> None:
    """List the tasks: languages, rows, labels, licence, and whether the rows are here.

    No network is asked. With NAME, the rows of every language and the labels; and where its files
    are local, how many English rows are left out because they would give answers away.
    """
    from layerbridge import tasks

    if name is None:
        found = [described(_with_folders(known, data_dir)) for known in tasks.names()]
        print(json.dumps(found, ensure_ascii=False, indent=1) if as_json else _list(found))
        return
    task = tasks.get(name, **task_options(data_dir, None))
    one = described(task)
    if one["data"] == "local":
        one["rows"]["left_out"] = task.dropped()
    print(json.dumps(one, ensure_ascii=False, indent=1) if as_json else _details(one))


def task_options(data_dir: Sequence[Path] | None, pairs: Sequence[str] | None) -> dict[str, Any]:
    """``--data-dir A --task-option max_test=100`` → {"data_dir": ["A"], "max_test": 100}.

    Raises:
        ConfigError: a pair that is none.
    """
    from layerbridge.training.recipe import typed

    options: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ConfigError(
                f"--task-option {pair!r} is no option with a value",
                allowed="NAME=VALUE, such as max_test=100",
            )
        options[name.replace("-", "_")] = typed(value)
    if data_dir:
        options["data_dir"] = [str(folder) for folder in data_dir]
    return options


def described(task: Task) -> dict[str, Any]:
    """What is known of a task without reading its rows; JSON values."""
    holdings = task.dataset_info()
    return {
        "name": task.name,
        "description": task.description,
        "template": task.template,
        "languages": list(task.languages),
        "labels": list(task.options),
        "rows": {
            "train": holdings.train,
            "validation": holdings.validation,
            "test": dict(holdings.test),
        },
        "data": holdings.place,
        "licence": task.licence,
    }


def _with_folders(name: str, data_dir: Sequence[Path] | None) -> Task:
    """The task with the folders that have a subfolder of its name, or are called so themselves."""
    from layerbridge import tasks

    folders = [
        folder
        for folder in data_dir or ()
        if (folder / name).is_dir() or folder.resolve().name == name
    ]
    takes = "data_dir" in tasks.option_names(name)
    return tasks.get(name, **task_options(folders if takes else None, None))


def _list(found: Sequence[dict[str, Any]]) -> str:
    head = ("task", "languages", "labels", "train", "validation", "test", "data", "licence")
    lines = [head]
    for task in found:
        rows = task["rows"]
        lines.append(
            (
                task["name"],
                " ".join(task["languages"]),
                str(len(task["labels"])),
                _number(rows["train"]),
                _number(rows["validation"]),
                _range(rows["test"]),
                task["data"],
                task["licence"],
            )
        )
    return "\n".join("\t".join(line) for line in lines)


def _details(task: dict[str, Any]) -> str:
    rows = task["rows"]
    left_out = rows.get("left_out")
    lines = {
        "task": task["name"],
        "": task["description"],
        "template": repr(task["template"]),
        "labels": ", ".join(task["labels"]),
        "data": task["data"],
        "train": _number(rows["train"]),
        "validation": _number(rows["validation"]),
        "test": ", ".join(f"{code} {_number(count)}" for code, count in rows["test"].items()),
        "left out": left_out
        and ", ".join(f"{number} {split}" for split, number in left_out.items())
        + " (English validation or test has the same texts)",
        "licence": task["licence"],
    }
    return "\n".join(f"{key}\t{value}" for key, value in lines.items() if value)


def _number(count: int | None) -> str:
    return "?" if count is None else str(count)


def _range(test: dict[str, int | None]) -> str:
    """Rows a language: one number, or the least and the most."""
    known = [count for count in test.values() if count is not None]
    if len(known) < len(test):
        return "?"
    least, most = min(known), max(known)
    return str(least) if least == most else f"{least}–{most}"
