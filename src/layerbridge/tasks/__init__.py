"""The tasks by name. A new task is one file here and one line in the registry below."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from layerbridge.errors import DataError
from layerbridge.tasks.task import Row, Task

__all__ = ["Row", "Task", "get", "names"]

# Each task's class by module and name, imported when it is asked for.
_REGISTRY = {
    "names": ("layerbridge.tasks.cldr_names", "Names"),
}


def names() -> tuple[str, ...]:
    """The names that ``get`` accepts."""
    return tuple(_REGISTRY)


def get(name: str, **options: Any) -> Task:
    """A task by its name, with the options of its class.

    Raises:
        DataError: there is no such task, the task has no such option, or a value is not allowed.
    """
    import inspect

    if name not in _REGISTRY:
        raise DataError(f"there is no task {name!r}", allowed=names())
    module, attribute = _REGISTRY[name]
    task: type[Task] = getattr(import_module(module), attribute)
    allowed = tuple(inspect.signature(task).parameters)
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise DataError(f"the task {name} has no option {unknown[0]!r}", allowed=allowed)
    try:
        return task(**options)
    except (TypeError, AttributeError) as error:
        raise DataError(f"an option of the task {name} is of the wrong type ({error})") from None
