"""The schema of a result file, and a one-line message for what does not fit it.

An accuracy and its interval are in the file as well, for other readers; here they are computed from
the predictions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from layerbridge.errors import ResultError
from layerbridge.evaluation.results import SCHEMA, Prediction

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ALLOWED = {
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "an object",
    "dataclass_type": "an object",
    "too_short": "one prediction or more",
}


class LanguageEntry(TypedDict):
    """A language's answers."""

    n: int
    correct: int
    predictions: Annotated[tuple[Prediction, ...], Field(min_length=1)]
    layer_weights: NotRequired[tuple[float, ...] | None]


class ResultFile(TypedDict):
    """A whole file; ``schema`` comes first, so that its error is the one that is reported."""

    schema: Literal["layerbridge/result/1"]
    method: str
    task: str
    protocol: str
    split: str
    seed: int
    languages: dict[str, LanguageEntry]
    settings: dict[str, Any]
    versions: dict[str, Any]
    run: NotRequired[str | None]
    text_counts: NotRequired[dict[str, dict[str, int]]]
    created: str


_FILE = TypeAdapter(ResultFile)


def parse(content: bytes, path: Path) -> ResultFile:
    """JSON → checked values.

    Raises:
        ResultError: the first thing that is wrong, with the file, the key and what is allowed.
    """
    try:
        # Strict: true is not a number, and "1" is not 1.
        return _FILE.validate_json(content, strict=True)
    except ValidationError as error:
        raise _one_line(error.errors(include_url=False)[0], path) from None


def _one_line(error: ErrorDetails, path: Path) -> ResultError:
    kind, value = error["type"], error["input"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])[1:]
    again = "run layerbridge evaluate again"
    if kind == "json_invalid":
        return ResultError(f"{path} is damaged ({error['ctx']['error']})", hint=again)
    if key in ("", "schema"):
        actual = f"the schema {value!r}" if kind == "literal_error" else "no schema"
        return ResultError(f"{path} has {actual}", allowed=SCHEMA)
    if kind == "missing":
        return ResultError(f"{path} has no {key}", hint=again)
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    nullable = " or null" if key == "run" or key.endswith((".layer_weights", ".item")) else ""
    return ResultError(f"{path}: {key} is {text}", allowed=_ALLOWED[kind] + nullable)
