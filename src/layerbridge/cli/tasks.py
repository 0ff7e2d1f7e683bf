"""``layerbridge tasks``: the tasks to train and test on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerbridge.cli import options as o
from layerbridge.cli.values import task_options
from layerbridge.errors import missing_extra
from layerbridge.progress import say

if TYPE_CHECKING:
    from layerbridge.tasks import Task


def tasks(
    name: str | None = o.argument(None, "TASK", "Name or YAML file; all if omitted."),
    data_dir: list[Path] | None = o.data(
        None, "Folder with the task's rows, or one subfolder per task (repeatable)."
    ),
    skip_unknown_labels: o.SkipUnknownLabels = False,
    as_json: o.Json = False,
) -> None:
    """List the tasks: languages, rows, labels, license.

    Also says whether the rows are local; needs no network. With TASK: the rows of every language
    and the labels; if its files are local, also how many English rows are left out because they
    also occur in the test set. All rows of a task of your own are read, and the first that does not
    fit is an error.
    """
    from layerbridge import tasks

    if name is None:
        entries = []
        for known in tasks.names():
            try:
                entries.append(_described(_with_folders(known, data_dir)))
            except ImportError as error:
                missing = missing_extra(error)
                if missing is None:
                    raise
                say(f"note: {known} is left out: {missing}")
        print(json.dumps(entries, ensure_ascii=False, indent=1) if as_json else _list(entries))
        return
    task = tasks.get(name, **task_options(data_dir, None, skip_unknown_labels=skip_unknown_labels))
    entry = _described(task)
    if entry["data"] == "local":
        if task.file is not None:
            # What is wrong with a task of one's own shows here, not after training.
            task.train()
            for code in task.languages:
                task.test(code)
        entry["rows"]["left_out"] = task.dropped()
    print(json.dumps(entry, ensure_ascii=False, indent=1) if as_json else _details(entry))


def _described(task: Task) -> dict[str, Any]:
    """Returns what is known of a task without reading rows, as JSON values."""
    info = task.dataset_info()
    return {
        "name": task.name,
        "description": task.description,
        "template": task.template,
        "languages": list(task.languages),
        "labels": list(task.options),
        "rows": {"train": info.train, "validation": info.validation, "test": dict(info.test)},
        "data": info.place,
        "licence": task.licence,
    }


def _with_folders(name: str, data_dir: Sequence[Path] | None) -> Task:
    """Returns a task with the folders that have its name or a subfolder of its name."""
    from layerbridge import tasks

    folders = [
        folder
        for folder in data_dir or ()
        if (folder / name).is_dir() or folder.resolve().name == name
    ]
    takes_folders = "data_dir" in tasks.option_names(name)
    return tasks.get(name, **task_options(folders if takes_folders else None, None))


def _list(entries: Iterable[dict[str, Any]]) -> str:
    lines = ["task\tlanguages\tlabels\ttrain\tvalidation\ttest\tdata\tlicense"]
    for entry in entries:
        rows = entry["rows"]
        columns = (
            entry["name"],
            " ".join(entry["languages"]),
            str(len(entry["labels"])),
            _number(rows["train"]),
            _number(rows["validation"]),
            _range(rows["test"]),
            entry["data"],
            entry["licence"],
        )
        lines.append("\t".join(columns))
    return "\n".join(lines)


def _details(entry: dict[str, Any]) -> str:
    rows = entry["rows"]
    left_out = ", ".join(f"{count} {split}" for split, count in rows.get("left_out", {}).items())
    lines = {
        "task": entry["name"],
        "": entry["description"],
        "template": repr(entry["template"]),
        "labels": ", ".join(entry["labels"]),
        "data": entry["data"],
        "train": _number(rows["train"]),
        "validation": _number(rows["validation"]),
        "test": ", ".join(f"{code} {_number(count)}" for code, count in rows["test"].items()),
        "left out": left_out and f"{left_out} (same text in English validation or test)",
        "license": entry["licence"],
    }
    return "\n".join(f"{key}\t{value}" for key, value in lines.items() if value)


def _number(count: int | None) -> str:
    return "?" if count is None else str(count)


def _range(test: dict[str, int | None]) -> str:
    """Returns the rows per language: one number, or the smallest and the largest."""
    known = [count for count in test.values() if count is not None]
    if len(known) < len(test):
        return "?"
    low, high = min(known), max(known)
    return str(low) if low == high else f"{low}–{high}"
