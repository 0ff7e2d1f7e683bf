"""An evaluation in parts: its batches are shared by processes, and a killed one can go on.

Each process appends the batches that it has done to a file of its own beside the result, such as
``names-score.json.part-1``, until the result is written.

{"schema": "layerbridge/evaluation-part/1", "key": "4f1c…"}
{"batch": 0, "answers": ["unit", "country"], "weights": [1.5, 0.5], "tokens": 2, …}
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from layerbridge.errors import ConfigError, OutputError
from layerbridge.progress import say

SCHEMA = "layerbridge/evaluation-part/1"
AGAIN = "the same command with --resume"


class Batch(BaseModel):
    """What is known of one batch.

    Attributes:
        batch: its number in the evaluation.
        answers: one for each row, in the batch's order.
        weights: of each layer, summed over the tokens.
        tokens: that the encoder has read.
        recognized: texts whose nearest language mean is that of their language.
        seen: texts of which that is known.
        generated: answers that were generated.
        cut: of these, where the language model's positions end.
    """

    model_config = ConfigDict(strict=True, frozen=True)
    batch: int
    answers: list[str]
    weights: list[float]
    tokens: int
    recognized: int = 0
    seen: int = 0
    generated: int = 0
    cut: int = 0


class Parts:
    """The batches of one evaluation, those of this process and those that are done already.

    Args:
        path: of the result; None to write no part files.
        resume: go on with the batches in part files.
        shared: share the batches with the other processes that torchrun started, all of which have
            such an object.
    """

    def __init__(
        self, path: Path | None = None, *, resume: bool = False, shared: bool = False
    ) -> None:
        self.path = path
        self.resume = resume
        self.shared = shared
        self._done: dict[int, Batch] = {}
        self._file: IO[str] | None = None
        self._index, self._size = 0, 1
        if shared:
            from accelerate import PartialState

            state = PartialState()
            self._index, self._size = state.process_index, state.num_processes

    def begin(self, *facts: Any) -> None:
        """Reads the part files, or removes them, and begins one.

        Args:
            *facts: everything that decides an answer, as JSON has it.

        Raises:
            ConfigError: the evaluation to go on with was another one.
            OutputError: there is none, or part files cannot be written.
        """
        if self.path is None:
            return
        key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        try:
            self._begin(self.path, key)
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written ({error.strerror or error})",
                hint="choose another folder",
            ) from None

    def _begin(self, path: Path, key: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        files = _files(path)
        read = [_read(file) for file in files] if self.resume else []
        # Another machine may see other files.
        last = max(self._gather(max((_number(file) for file in files), default=0)))
        keys = set().union(*self._gather({key for key, _ in read}))
        done = self._gather([batch for _, batches in read for batch in batches])
        if self.resume and not last:
            raise OutputError(
                f"there is no evaluation to go on with: {path}.part-1 does not exist",
                hint="leave --resume out",
            )
        if keys - {key}:
            raise ConfigError(
                f"the evaluation in {path}.part-… had another bridge, other rows or other settings",
                hint="leave --resume out to begin again, or restore them",
            )
        self._done = {batch.batch: batch for batches in done for batch in batches}
        if last and not self.resume and self._index == 0:
            say(f"an evaluation that did not end is begun again ({path}.part-…)")
            for file in files:
                file.unlink(missing_ok=True)
        self._gather(None)  # all have read, and the first has removed
        own = f"{path.name}.part-{last + 1 + self._index}"
        # A line is there whole once it is written, however the process ends.
        self._file = path.with_name(own).open("x", encoding="utf-8", buffering=1)
        self._file.write(json.dumps({"schema": SCHEMA, "key": key}) + "\n")

    def own(self, batches: int) -> list[int]:
        """Returns the numbers of the batches that this process has to do."""
        left = [number for number in range(batches) if number not in self._done]
        return left[self._index :: self._size]

    def add(self, batch: Batch) -> None:
        """Adds a batch that is done.

        Raises:
            OutputError: it cannot be written.
        """
        self._done[batch.batch] = batch
        if self._file is not None:
            try:
                self._file.write(batch.model_dump_json() + "\n")
            except OSError as error:
                raise OutputError(
                    f"{self._file.name} cannot be written ({error.strerror or error})",
                    hint=AGAIN,
                ) from None

    def joined(self) -> list[Batch]:
        """Returns the batches of all processes, in their order."""
        done = {batch.batch: batch for part in self._gather(self._done) for batch in part.values()}
        return [done[number] for number in sorted(done)]

    def remove(self) -> None:
        """Removes the part files, once the result is written."""
        self._gather(None)
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
        if self.path is not None and self._index == 0:
            for file in _files(self.path):
                file.unlink(missing_ok=True)

    def _gather(self, value: Any) -> list[Any]:
        if self._size == 1:
            return [value]
        from accelerate.utils import gather_object

        return gather_object([value])


@contextmanager
def going_on() -> Iterator[None]:
    """Turns an interruption within the context into a line that says how to go on.

    Raises:
        Interrupted: a ``KeyboardInterrupt``, after Ctrl-C or SIGTERM.
        TrainingError: another process has ended.
    """
    from layerbridge.training.interrupt import Interrupted, sigterm_interrupts
    from layerbridge.training.lost_process import others_needed

    with others_needed(lambda: AGAIN), sigterm_interrupts() as number:
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; next: {AGAIN}", number()) from None


def _files(path: Path) -> list[Path]:
    numbered = path.parent.glob(f"{glob.escape(path.name)}.part-*")
    return sorted((file for file in numbered if _number(file)), key=_number)


def _number(file: Path) -> int:
    _, _, number = file.name.rpartition(".part-")
    return int(number) if number.isdecimal() else 0


def _read(file: Path) -> tuple[str, list[Batch]]:
    """Returns the key and the batches of a part file, but for a line that is not whole."""
    first, *lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        key = json.loads(first)["key"]
    except (ValueError, KeyError, TypeError):
        return f"damaged: {file}", []
    batches: list[Batch] = []
    for line in lines[:-1]:
        try:
            batches.append(Batch.model_validate_json(line))
        except ValidationError:
            break  # nothing after it can be trusted
    return str(key), batches
