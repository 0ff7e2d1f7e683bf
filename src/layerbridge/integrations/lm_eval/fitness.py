"""Which requests a bridge can answer: those whose context holds the foreign text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from layerbridge.errors import DataError
from layerbridge.integrations.lm_eval import TASKS

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


def check_contexts(requests: Sequence[Instance]) -> None:
    """Checks that the encoder has something to read.

    The harness's ``xnli_*``, for example, have an empty context and score the foreign text itself.
    With a system instruction all have the same context, which is no better. A few empty texts
    among others are no reason to refuse a task.

    Raises:
        DataError: all requests of a task have an empty context, or one that does not depend on the
            row; names the task.
    """
    by_task: dict[str | None, list[Instance]] = defaultdict(list)
    for request in requests:
        by_task[request.task_name].append(request)
    for task, of_task in by_task.items():
        contexts = {request.args[0].strip() for request in of_task}
        if contexts == {""} or (len(contexts) == 1 and len(_choices(of_task)) > 1):
            raise DataError(
                f"the task {task} has its texts in what is scored, and "
                f"{'nothing' if contexts == {''} else 'the same for every row'} in the context, "
                "which is all that a bridge reads",
                hint=_instead(task),
            )


def _choices(requests: Iterable[Instance]) -> set[tuple[str, ...]]:
    """Returns the different sets of continuations that rows have."""
    of_row: dict[int | None, list[str]] = defaultdict(list)
    for request in requests:
        of_row[request.doc_id].append(str(request.args[1]))
    return {tuple(choices) for choices in of_row.values()}


def _instead(task: str | None) -> str:
    own = f"layerbridge_{task}"
    if any(TASKS.glob(f"*/{own}.yaml")):
        return f"--tasks {own} --include_path {TASKS}"
    return "a task with the text in doc_to_text and English words in doc_to_choice"
