"""Tasks by name, and user-defined tasks by their YAML file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from layerbridge.errors import DataError
from layerbridge.tasks.labels import check_options
from layerbridge.tasks.task import Task

_BENCHMARKS = (
    *("xnli", "indicxnli", "sinhala-news", "amazon-reviews", "xsid", "sib200"),
    "masakhanews",
)
_registered: dict[str, Callable[..., Task]] = {}


def names() -> tuple[str, ...]:
    """Returns the names that ``get`` accepts."""
    return ("names", *_BENCHMARKS, *_registered)


def register(name: str, maker: Callable[..., Task]) -> None:
    """Makes a task available to ``get``, to ``--task`` and to ``layerbridge tasks``.

    Args:
        name: what users call the task; it should be the task's ``name`` too.
        maker: a ``Task`` subclass, or a function that returns a task; its parameters are the
            task's options.

    Raises:
        DataError: the name is taken or looks like a task file, or ``maker`` is not callable.
    """
    if name in names():
        raise DataError(f"the task name {name!r} is taken", hint="choose another name")
    if not name.strip() or _is_task_file(name):
        raise DataError(
            f"the task name is {name!r}", allowed="a name that does not end in .yaml or .yml"
        )
    if not callable(maker):
        raise DataError(
            f"the maker of the task {name!r} is {maker!r}",
            allowed="a Task subclass, or a function that returns a task",
        )
    _registered[name] = maker


def get(name: str, **options: Any) -> Task:
    """Returns a task by its name, or a user-defined one by its YAML file.

    Args:
        name: one of ``names()``, or a path that ends in ``.yaml`` or ``.yml``.
        options: see ``option_names(name)``.

    Raises:
        DataError: the task or an option is unknown, or a value is not allowed.
    """
    allowed = option_names(name)
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise DataError(f"the task {name} has no option {unknown[0]!r}", allowed=allowed)
    try:
        task = _maker(name)(**options)
    except (TypeError, AttributeError) as error:
        raise DataError(f"an option of the task {name} has the wrong type ({error})") from None
    if task.name in names() and name not in names():
        raise DataError(
            f"{name}: name is {task.name!r}, which is the name of another task",
            hint="choose another name",
        )
    check_options(task.options)
    return task


def option_names(name: str) -> tuple[str, ...]:
    """Returns the options that ``get`` accepts for a task.

    Raises:
        DataError: the task is unknown.
    """
    return tuple(inspect.signature(_maker(name)).parameters)


def _maker(name: str) -> Callable[..., Task]:
    # Imported here: each task is loaded only when it is used.
    if name == "names":
        from layerbridge.tasks.cldr_names import Names

        return Names
    if name in _BENCHMARKS:
        from layerbridge.tasks.benchmark import Benchmark

        return partial(Benchmark, Path(__file__).parent / "benchmarks" / f"{name}.yaml")
    if name in _registered:
        return _registered[name]
    if _is_task_file(name):
        from layerbridge.tasks.user_task import UserTask

        return partial(UserTask, name)
    raise DataError(
        f"unknown task {name!r}", allowed=f"{', '.join(names())}, or a YAML file of your own"
    )


def _is_task_file(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))
