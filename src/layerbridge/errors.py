"""Errors a user can cause, each in one line: what was given, what is allowed, what to do next.

Every class is a ``ValueError``, so library users can catch the standard type. The command line
catches ``LayerBridgeError``, prints its one line and exits with code 2.
Bugs in layerbridge itself are never raised through these classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class LayerBridgeError(ValueError):
    """An error the user can fix.

    Args:
        problem: what was given and why it does not work, without a full stop.
        allowed: what would be accepted; an iterable of names is joined with commas.
        hint: the next step, preferably a command.
    """

    def __init__(
        self, problem: str, *, allowed: str | Iterable[str] | None = None, hint: str | None = None
    ) -> None:
        self.problem = problem
        self.allowed = (
            allowed if isinstance(allowed, str) or allowed is None else ", ".join(allowed)
        )
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.problem]
        if self.allowed is not None:
            parts.append(f"allowed: {self.allowed}")
        if self.hint is not None:
            parts.append(f"next: {self.hint}")
        return " ".join("; ".join(parts).split())


class ConfigError(LayerBridgeError):
    """A setting is unknown, out of range, or conflicts with another one."""


class BackboneError(LayerBridgeError):
    """An encoder or language model cannot be found or is of an unsupported kind."""


class CheckpointError(LayerBridgeError):
    """A saved bridge is damaged, incomplete, or was trained with another backbone."""


class DataError(LayerBridgeError):
    """A data file, column, row, label or language is not what the task needs."""


class ResultError(LayerBridgeError):
    """A result file is missing, malformed, or not comparable with another one."""


class OutputError(LayerBridgeError):
    """An output directory is not writable, or holds files that would be overwritten."""


class ZooError(LayerBridgeError):
    """A zoo model is unknown, cannot be fetched, or failed its checksum."""


class TrainingError(LayerBridgeError):
    """Training cannot continue: the loss is not finite, or the settings do not fit the data."""


class LengthError(LayerBridgeError):
    """A prompt and its answer have more tokens than a model has positions."""


class NotFiniteError(LayerBridgeError):
    """A model computed NaN or an infinity, and an answer made of it would be worth nothing.

    Args:
        what: what was computed, such as ``"the option scores"``.
        rows: numbers of the rows of the batch it was computed for, from 0; empty if unknown.
        texts: of these rows, where they are known.
        hint: the next step.
    """

    def __init__(
        self,
        what: str,
        rows: Iterable[int] = (),
        *,
        texts: Iterable[str] | None = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.rows = tuple(rows)
        self.texts = None if texts is None else tuple(texts)
        if self.texts:
            first = self.texts[0]
            where = f", for the text {first if len(first) <= 60 else first[:60] + ' …'!r}"
        elif self.rows:
            where = f", in row {self.rows[0] + 1} of the batch"
        else:
            where = ""
        others = f" and {len(self.rows) - 1} more" if len(self.rows) > 1 else ""
        super().__init__(f"NaN or infinity in {what}{where}{others}", hint=hint)

    def of(self, texts: Sequence[str]) -> NotFiniteError:
        """Returns the error that names rows by their texts.

        Args:
            texts: of the whole batch.
        """
        named = [texts[row] for row in self.rows]
        return NotFiniteError(self.what, self.rows, texts=named, hint=self.hint)


class MissingExtraError(LayerBridgeError):
    """A feature needs a package that only an optional extra installs."""


# Extra → the import names of its packages.
_EXTRAS = {
    "lm-eval": ("lm_eval",),
    "eval": ("scipy", "sklearn", "statsmodels"),
    "quantize": ("bitsandbytes",),
    "plots": ("jinja2", "matplotlib"),
    "serve": ("fastapi", "prometheus_client", "starlette", "uvicorn"),
    "translate": ("sentencepiece",),
    "vllm": ("vllm",),
    "zoo": ("babel", "filelock", "gguf"),
}


def missing_extra(error: ImportError) -> LayerBridgeError | None:
    """Returns the error to show for a failed import, or None if no extra has the module."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    for extra, modules in _EXTRAS.items():
        if module in modules:
            return MissingExtraError(
                f"this needs {module}, which is not installed",
                hint=f"pip install 'layerbridge[{extra}]'",
            )
    return None
