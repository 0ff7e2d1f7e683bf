"""Batches of requests: of a fixed size, or of the largest that fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from layerbridge.errors import ConfigError
from layerbridge.progress import say

# Of batch_size=auto, as in the harness's own models.
LARGEST = 64


class Batches:
    """How many texts are answered at a time.

    Args:
        batch_size: a number, or ``auto``: as many as fit, ``largest`` at first, half as many
            whenever memory is full. ``auto:N`` is the same.
        largest: of ``auto``; None for 64.

    Raises:
        ConfigError: a size is not a positive number.
    """

    def __init__(self, batch_size: int | str = "auto", largest: int | None = None) -> None:
        self.auto = str(batch_size).partition(":")[0] == "auto"
        self.size = _positive("max_batch_size", LARGEST if largest is None else largest)
        if not self.auto:
            self.size = _positive("batch_size", batch_size, "a positive number, or auto")

    def run(self, texts: Sequence[str], answer: Callable[[list[int]], None]) -> None:
        """Answers all texts, the longest first, so that memory is full at once or never.

        Args:
            texts: of all lengths.
            answer: takes the indices of some of them; may be called again for the same.

        Raises:
            ConfigError: memory is full, and a smaller batch may not be tried.
        """
        left = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        while left:
            try:
                answer(left[: self.size])
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                self._reduce()
            else:
                left = left[self.size :]

    def _reduce(self) -> None:
        if self.size == 1 or not self.auto:
            hint = "a smaller model, or --model_args dtype=bfloat16"
            raise ConfigError(
                f"memory is full with batch_size {self.size}",
                hint=hint if self.size == 1 else "--batch_size auto, or a smaller number",
            )
        clear_device_cache(garbage_collection=True)
        self.size //= 2
        say(f"memory is full: batch_size {self.size} from here on")


def _positive(name: str, value: int | str, allowed: str = "a positive number") -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(f"{name} is {value!r}", allowed=allowed)
    return number
