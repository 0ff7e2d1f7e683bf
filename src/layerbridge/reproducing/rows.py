"""The rows of an experiment, read once for every method, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from layerbridge.errors import DataError
from layerbridge.reproducing.request import Request
from layerbridge.tasks import Row, Task
from layerbridge.training.run_data import RunData


@dataclass(frozen=True)
class Rows:
    """What is trained and tested on.

    Attributes:
        data: English rows for training.
        trained: digest of the training rows and their order.
        tested: digest of the test rows of all languages.
        counts: test rows by language.
    """

    task: Task
    data: RunData
    trained: str
    tested: str
    counts: dict[str, int]

    @classmethod
    def read(cls, request: Request, *, test: bool = True) -> Rows:
        """Reads all rows of the experiment; those to test on only if ``test``.

        Raises:
            DataError: they cannot be read.
        """
        task = request.task()
        try:
            data = RunData.of(task, request.preset.recipe.max_rows)
            tests = {code: task.test(code) for code in task.languages} if test else {}
        except DataError as error:
            if request.data_dir or "hub" not in error.problem:
                raise
            network = "" if "not on the hub" in error.problem else ", or check the network"
            raise DataError(
                error.problem,
                allowed=error.allowed,
                hint=f"--data-dir FOLDER with its files (docs/tasks.md){network}",
            ) from None
        counts = {code: len(rows) for code, rows in tests.items()}
        tested = _digest(row for rows in tests.values() for row in rows)
        return cls(task, data, _digest(data.train), tested, counts)


def _digest(rows: Iterable[Row]) -> str:
    # Independent of the files that hold the rows.
    sha = hashlib.sha256()
    for row in rows:
        for part in (row.language, row.id, row.text, row.target):
            sha.update(f"{len(part)}:{part}".encode())
    return sha.hexdigest()[:16]
