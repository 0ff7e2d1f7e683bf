"""The result file: what was evaluated, how, and every single answer.

A file holds each prediction, so that tables, plots and tests can be made again without a model, and
whoever doubts a number can look at the rows behind it. Knows nothing of models or of tasks' rows.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from layerbridge.errors import ResultError
from layerbridge.evaluation.statistics import mean_of_languages, wilson
from layerbridge.training.atomic_write import atomic_write

SCHEMA = "layerbridge/result/1"

# The protocol of a method with no language model in it: it picks an option, there is no other way
# of asking it. Such a result is a baseline, and may stand beside results of any one protocol.
CLASSIFIER = "classifier"

_FAMILY = "layerbridge/result/"
_PACKAGES = ("torch", "transformers", "babel")
_EVALUATE = "layerbridge evaluate"

# Unicode's categories of what is no text: controls, halves of surrogate pairs, no character at all.
_NO_TEXT = ("Cc", "Cs", "Cn")


def versions() -> dict[str, str]:
    """The versions a number can depend on, from the installed packages' metadata; no imports."""
    import platform
    from importlib import metadata

    from layerbridge.version import __version__

    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "layerbridge": __version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        id: of the row, as in the task.
        label: the right answer.
        prediction: the answer given.
        correct: whether the protocol counts it as right.
    """

    id: str
    label: str
    prediction: str
    correct: bool


@dataclass(frozen=True)
class LanguageResult:
    """All answers of one language.

    Attributes:
        n: rows.
        correct: right answers.
        accuracy: correct / n, between 0 and 1.
        interval: the 95 % Wilson interval of the accuracy.
        predictions: one for each row, in the task's order.
        layer_weights: mean weight of each encoder layer, lowest first, where the fusion has them.
    """

    n: int
    correct: int
    accuracy: float
    interval: tuple[float, float]
    predictions: tuple[Prediction, ...]
    layer_weights: tuple[float, ...] | None = None

    @classmethod
    def of(
        cls, predictions: Iterable[Prediction], layer_weights: Sequence[float] | None = None
    ) -> LanguageResult:
        """Count the right answers and put an interval around them.

        Raises:
            ResultError: there are no predictions.
        """
        predictions = tuple(predictions)
        n, correct = len(predictions), sum(answer.correct for answer in predictions)
        interval = wilson(correct, n)
        weights = None if layer_weights is None else tuple(float(w) for w in layer_weights)
        return cls(n, correct, correct / n, interval, predictions, weights)


class Average(NamedTuple):
    """A mean accuracy over languages, its 95 % interval, and the languages it is over."""

    accuracy: float
    low: float
    high: float
    languages: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """One evaluation of one method on one task.

    Attributes:
        method: what a table calls it, such as ``token-softmax``.
        task: name of the task.
        protocol: how the answer was obtained, such as ``generate`` or ``score``; ``classifier`` for
            a baseline without a language model.
        split: ``test`` or ``validation``.
        seed: of the training.
        languages: code → result.
        settings: whatever else was chosen; JSON values.
        versions: of the packages and the platform, see ``versions()``.
        run: where the trained bridge is, if there is one.
        created: ISO 8601, UTC.
        schema: of the file.
    """

    method: str
    task: str
    protocol: str
    split: str
    seed: int
    languages: dict[str, LanguageResult]
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    run: str | None = None
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema: str = SCHEMA

    def average_non_english(self, languages: Iterable[str] | None = None) -> Average:
        """The mean accuracy over the languages other than English, with its 95 % interval.

        Args:
            languages: over these only; English among them is left out.

        Raises:
            ResultError: no such language, or none but English.
        """
        wanted = self.languages if languages is None else tuple(languages)
        chosen = tuple(language for language in wanted if language != "en")
        unknown = [language for language in chosen if language not in self.languages]
        if unknown:
            raise ResultError(
                f"the result of {self.method} has no language {unknown[0]!r}",
                allowed=self.languages,
            )
        counts = {code: (self.languages[code].correct, self.languages[code].n) for code in chosen}
        return Average(*mean_of_languages(counts), chosen)

    def write(self, path: str | Path) -> Path:
        """Write the result as UTF-8 JSON, all of it or nothing.

        An existing file is replaced. Equal results make equal files.

        Raises:
            OutputError: the folder cannot be made or written to.
        """
        document = {"schema": self.schema, **asdict(self)}
        document["settings"] = dict(sorted(self.settings.items()))
        document["versions"] = dict(sorted(self.versions.items()))
        text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        return atomic_write(text, Path(path))


def read(path: str | Path) -> Result:
    """Read a result file.

    Raises:
        ResultError: the file is missing, malformed, of another schema, or at odds with itself; or a
            language code is no text.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ResultError(
            f"{path} cannot be read ({error.strerror or error})", hint=f"make one with {_EVALUATE}"
        ) from None
    except UnicodeDecodeError:
        raise ResultError(f"{path} is not a result file (not UTF-8)") from None
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultError(
            f"{path} is damaged (line {error.lineno}: {error.msg})", hint=f"run {_EVALUATE} again"
        ) from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        given = "no schema" if schema is None else f"the schema {schema!r}"
        raise ResultError(f"{path} has {given}", allowed=SCHEMA)
    result = _Reader(path).result(document)
    check_codes(result)
    return result


def find(paths: str | Path | Iterable[str | Path]) -> list[Result]:
    """Read result files, and the result files in folders and the folders in them.

    In a folder, JSON files that are no result files are passed over; a file that is named must be
    one.

    Returns:
        The results in the order of the paths; within a folder, by file name.

    Raises:
        ResultError: a path does not exist, a folder holds no result file, or a file is damaged.
    """
    found: dict[Path, Result] = {}
    for path in [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]:
        if not path.is_dir():
            found.setdefault(path.resolve(), read(path))
            continue
        inside = [file for file in sorted(path.rglob("*.json")) if _claims_to_be_one(file)]
        if not inside:
            raise ResultError(f"{path} holds no result files", hint=f"make one with {_EVALUATE}")
        for file in inside:
            found.setdefault(file.resolve(), read(file))
    return list(found.values())


def check_codes(result: Result) -> None:
    """Refuses language codes that are no text: JSON can hold one half of a surrogate pair.

    Raises:
        ResultError: there is one.
    """
    for code in result.languages:
        if any(unicodedata.category(character) in _NO_TEXT for character in code):
            raise ResultError(
                f"the result of {result.method!a} has a language {code!a}",
                allowed="codes of printable characters",
            )


def _claims_to_be_one(path: Path) -> bool:
    # The text and not the parsed document, so that a damaged result file is not passed over.
    return path.is_file() and _FAMILY.encode() in path.read_bytes()


class _Reader:
    """Turns JSON into a Result and says in which file what is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def result(self, document: Mapping[str, Any]) -> Result:
        languages = self.take(document, "languages", dict)
        run = document.get("run")
        if run is not None and not isinstance(run, str):
            raise self.wrong("run", run, "text or null")
        return Result(
            **{key: self.take(document, key, str) for key in ("method", "task", "protocol")},
            split=self.take(document, "split", str),
            seed=self.take(document, "seed", int),
            languages={code: self.language(code, entry) for code, entry in languages.items()},
            settings=self.take(document, "settings", dict),
            versions=self.take(document, "versions", dict),
            run=run,
            created=self.take(document, "created", str),
        )

    def language(self, code: str, entry: object) -> LanguageResult:
        where = f"languages.{code}"
        if not isinstance(entry, dict):
            raise self.wrong(where, entry, "an object")
        predictions = tuple(
            self.prediction(f"{where}.predictions[{i}]", item)
            for i, item in enumerate(self.take(entry, "predictions", list, where))
        )
        weights = entry.get("layer_weights")
        if weights is not None and not (
            isinstance(weights, list) and all(_is_number(weight) for weight in weights)
        ):
            raise self.wrong(f"{where}.layer_weights", weights, "a list of numbers, or null")
        if not predictions:
            raise self.wrong(f"{where}.predictions", [], "one prediction or more")
        made = LanguageResult.of(predictions, weights)
        # The counts are there for readers without this library; a file edited by hand is no result.
        for key in ("n", "correct"):
            value = self.take(entry, key, int, where)
            if value != getattr(made, key):
                raise self.wrong(
                    f"{where}.{key}", value, f"{getattr(made, key)}, as the predictions say"
                )
        return made

    def prediction(self, where: str, item: object) -> Prediction:
        if not isinstance(item, dict):
            raise self.wrong(where, item, "an object")
        return Prediction(
            **{key: self.take(item, key, str, where) for key in ("id", "label", "prediction")},
            correct=self.take(item, "correct", bool, where),
        )

    def take(self, mapping: Mapping[str, Any], key: str, kind: type, where: str = "") -> Any:
        name = f"{where}.{key}" if where else key
        if key not in mapping:
            raise ResultError(f"{self.path} has no {name}", hint=f"run {_EVALUATE} again")
        value = mapping[key]
        # In Python a truth value is an int, in JSON it is none.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            names = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}
            raise self.wrong(name, value, names.get(kind, "an object"))
        return value

    def wrong(self, name: str, value: object, allowed: str) -> ResultError:
        given = json.dumps(value, ensure_ascii=False)
        given = given if len(given) <= 60 else f"{given[:57]}..."
        return ResultError(f"{self.path}: {name} is {given}", allowed=allowed)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
