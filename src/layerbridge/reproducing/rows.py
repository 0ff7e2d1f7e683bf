"""The rows of an experiment: read once, for every method, and told from other rows by a digest.

Knows tasks and their rows; nothing of models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from layerbridge.errors import DataError
from layerbridge.reproducing.request import Request
from layerbridge.tasks import Row, Task
from layerbridge.training.run import RunData


@dataclass(frozen=True)
class Rows:
    """What is trained and tested on.

    Attributes:
        task: whose rows they are.
        data: English rows, as a training takes them.
        trained: digest of the training rows, their order included.
        tested: digest of the test rows of all languages.
        counts: test rows, by language.
    """

    task: Task
    data: RunData
    trained: str
    tested: str
    counts: dict[str, int]


def read(request: Request, *, test: bool = True) -> Rows:
    """All rows that the experiment needs, before any model is.

    Args:
        request: whose task is read.
        test: whether it is tested on anything.

    Raises:
        DataError: they cannot be had.
    """
    task = request.task()
    try:
        data = RunData(
            task.train()[: request.preset.rows],
            task.validation(),
            list(task.options),
            task.template,
            task.name,
            task.dropped(),
        )
        tests = {code: task.test(code) for code in task.languages} if test else {}
    except DataError as error:
        if request.data_dir or "hub" not in error.problem:
            raise
        unread = "not on the hub" in error.problem
        network = "" if unread else ", or check the network"
        raise DataError(
            error.problem,
            allowed=error.allowed,
            hint=f"--data-dir FOLDER with its files (docs/tasks.md){network}",
        ) from None
    return Rows(
        task,
        data,
        digest(data.train),
        digest(row for rows in tests.values() for row in rows),
        {code: len(rows) for code, rows in tests.items()},
    )


def digest(rows: Iterable[Row]) -> str:
    """The same for the same rows in the same order, wherever their files lie."""
    whole = hashlib.sha256()
    for row in rows:
        for part in (row.language, row.id, row.text, row.target):
            whole.update(f"{len(part)}:{part}".encode())
    return whole.hexdigest()[:16]
