"""The tasks by name, or by a YAML file. A new one is a file here and a line in the registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from layerbridge.errors import DataError
from layerbridge.tasks.task import Row, Task

__all__ = ["Row", "Task", "get", "names", "option_names"]

# Each task's class by module and name, imported when it is asked for.
_REGISTRY = {
    "names": ("layerbridge.tasks.cldr_names", "Names"),
    "xnli": ("layerbridge.tasks.xnli", "Xnli"),
    "indicxnli": ("layerbridge.tasks.indicxnli", "IndicXnli"),
    "sinhala-news": ("layerbridge.tasks.sinhala_news", "SinhalaNews"),
    "amazon-reviews": ("layerbridge.tasks.amazon_reviews", "AmazonReviews"),
    "xsid": ("layerbridge.tasks.xsid", "Xsid"),
    "sib200": ("layerbridge.tasks.sib200", "Sib200"),
}


def names() -> tuple[str, ...]:
    """The names that ``get`` accepts."""
    return tuple(_REGISTRY)


def get(name: str, **options: Any) -> Task:
    """A task by its name, or a user's own by its YAML file, with the options of its class.

    Args:
        name: one of ``names()``, or a path that ends in ``.yaml`` or ``.yml``.
        options: ``option_names(name)`` are allowed.

    Raises:
        DataError: there is no such task, the task has no such option, or a value is not allowed.
    """
    allowed = option_names(name)
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise DataError(f"the task {name} has no option {unknown[0]!r}", allowed=allowed)
    try:
        task: Task = _maker(name)(**options)
    except (TypeError, AttributeError) as error:
        raise DataError(f"an option of the task {name} is of the wrong type ({error})") from None
    if task.name in _REGISTRY and name not in _REGISTRY:
        raise DataError(
            f"{name}: name is {task.name!r}, which is a task of layerbridge's",
            hint="choose another name",
        )
    return task


def option_names(name: str) -> tuple[str, ...]:
    """The options that ``get`` takes for a task.

    Raises:
        DataError: there is no such task.
    """
    return tuple(inspect.signature(_maker(name)).parameters)


def _maker(name: str) -> Callable[..., Task]:
    if name in _REGISTRY:
        module, attribute = _REGISTRY[name]
        made: Callable[..., Task] = getattr(import_module(module), attribute)
        return made
    if name.lower().endswith((".yaml", ".yml")):
        from layerbridge.tasks.user_task import UserTask

        return partial(UserTask, name)
    raise DataError(
        f"there is no task {name!r}",
        allowed=f"{', '.join(names())}, or a YAML file of your own",
    )
