"""Where rows come from: tasks by name or by YAML file, and rows of a user's own files."""

from layerbridge.tasks.registry import get, names, option_names, register
from layerbridge.tasks.task import Row, Task

__all__ = ["Row", "Task", "get", "names", "option_names", "register"]
