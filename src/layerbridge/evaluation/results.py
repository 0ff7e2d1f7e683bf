"""Results: what was evaluated, how, and every single answer; as objects and as JSON files.

A file holds each prediction, so that tables, plots and tests need no model, and the rows behind a
number can be inspected. Knows nothing about models or of a task's rows.
"""

from __future__ import annotations

import json
import platform
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from layerbridge.errors import ResultError
from layerbridge.evaluation.method_names import distinguish
from layerbridge.evaluation.statistics.proportions import wilson
from layerbridge.evaluation.statistics.seeds import Answers, mean_of_seeds
from layerbridge.hub.named_run import split_name
from layerbridge.tasks.languages import own_code
from layerbridge.training.atomic_write import atomic_write
from layerbridge.version import __version__

SCHEMA = "layerbridge/result/1"

# The protocol of a baseline without a language model: it picks an option, which is the only way to
# query it. Its results may appear with those of any one protocol.
CLASSIFIER = "classifier"

_FAMILY = b"layerbridge/result/"
_PACKAGES = ("torch", "transformers", "babel")

# Unicode categories that are not text: controls, unpaired surrogates, unassigned.
_NOT_TEXT = ("Cc", "Cs", "Cn")

# Names of methods in files of 0.1 and what they are called now, so that old and new results pool.
_FORMER_NAMES = (
    (r"tf-idf \+ logistic regression", "tf-idf"),
    (r"LM alone", "zero-shot LM"),
    (r"LM few-shot (\(\d+\))", r"few-shot LM \1"),
    (r"translate, then LM", "translate + zero-shot LM"),
    (r"translate, then LM few-shot (\(\d+\))", r"translate + few-shot LM \1"),
)


def versions() -> dict[str, str]:
    """The versions a number can depend on, from package metadata; imports none of the packages."""
    installed = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "layerbridge": __version__,
    }
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        id: the row's id in the task.
        label: the right answer.
        prediction: the method's answer.
        correct: whether the protocol counts it as right.
        item: what the row asks about; rows of several languages with one item are translations of
            each other. None in files of 0.1, see ``Result.item``.
    """

    id: str
    label: str
    prediction: str
    correct: bool
    item: str | None = None


@dataclass(frozen=True)
class LanguageResult:
    """All answers of one language.

    Attributes:
        n: rows.
        correct: right answers.
        accuracy: correct / n, between 0 and 1.
        interval: the 95 % Wilson interval of the accuracy.
        predictions: one for each row, in the task's order.
        layer_weights: mean weight of each encoder layer, lowest first; None without a fusion.
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
        """Counts the right answers and computes their interval.

        Raises:
            ResultError: there are no predictions.
        """
        predictions = tuple(predictions)
        n, correct = len(predictions), sum(answer.correct for answer in predictions)
        interval = wilson(correct, n)
        weights = None if layer_weights is None else tuple(float(w) for w in layer_weights)
        return cls(n, correct, correct / n, interval, predictions, weights)

    @property
    def is_at_chance(self) -> bool:
        """Whether the accuracy may be that of always answering the most frequent label."""
        labels = Counter(answer.label for answer in self.predictions)
        return self.interval[0] <= max(labels.values()) / self.n

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the labels among the rows, between 0 and 1.

        A rare label counts as much as a frequent one. An answer that is no label is a wrong one.
        """
        from sklearn.metrics import f1_score

        labels = [answer.label for answer in self.predictions]
        answers = [answer.prediction for answer in self.predictions]
        known = sorted({*labels})
        return float(f1_score(labels, answers, labels=known, average="macro", zero_division=0))


class ResultPath(NamedTuple):
    """A result, its file, and the path it was found under: the file or a folder."""

    file: Path
    given: Path
    result: Result


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
        method: its name in tables, such as ``token-softmax``.
        task: name of the task.
        protocol: ``score``, ``generate``, or ``classifier`` for a baseline without a language
            model.
        split: ``test`` or ``validation``.
        seed: of the training.
        languages: code → result.
        settings: all other settings; JSON values.
        versions: of the packages and the platform, see ``versions()``.
        run: folder of the trained bridge, if there is one.
        text_counts: code → ``cut`` and ``empty``, the numbers of texts that were longer than the
            model's limit, and of rows without a text; without those that are 0.
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
    text_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema: str = SCHEMA

    def average_non_english(self, languages: Iterable[str] | None = None) -> Average:
        """The mean accuracy over the languages other than English, with its 95 % interval.

        The interval is that of ``mean_of_seeds``: it covers other items, not other seeds.

        Args:
            languages: only these; English is left out.

        Raises:
            ResultError: an unknown language, none but English, or two rows with one item.
        """
        requested = self.languages if languages is None else tuple(languages)
        requested = tuple(own_code(language, self.languages) for language in requested)
        chosen = tuple(language for language in requested if language != "en")
        unknown = [language for language in chosen if language not in self.languages]
        if unknown:
            raise ResultError(
                f"the result of {self.method} has no language {unknown[0]!r}",
                allowed=self.languages,
            )
        return Average(
            *mean_of_seeds({code: Answers.of([self.right(code)]) for code in chosen}), chosen
        )

    def item(self, code: str, answer: Prediction) -> str:
        """The item of an answer in a language; answers of several languages may share it.

        Files of 0.1 have no items. There an id that starts with the language (``fr/17``) is an item
        of that language alone, and any other id an item that languages share. Only in the task
        ``names``, whose rows are translations, ``si/unit/watt`` is the item ``unit/watt``.
        """
        if answer.item is not None:
            return answer.item
        return answer.id.removeprefix(f"{code}/") if self.task == "names" else answer.id

    def right(self, code: str) -> dict[str, bool]:
        """Right or wrong in one language, by item.

        Raises:
            ResultError: two rows have the same id or item.
        """
        answers = self.languages[code].predictions
        right = {self.item(code, answer): answer.correct for answer in answers}
        for what, different in (("ids", {answer.id for answer in answers}), ("items", right)):
            if len(different) < len(answers):
                raise ResultError(
                    f"{self.method} has {len(answers)} rows in {code} but {len(different)} "
                    f"different {what}",
                    allowed=f"a unique {what[:-1]} per row",
                    hint=f"give every row its own {what[:-1]} and evaluate again",
                )
        return right

    def write(self, path: str | Path) -> Path:
        """Writes the result as UTF-8 JSON, atomically; an existing file is replaced.

        Equal results make equal files.

        Raises:
            OutputError: the folder cannot be created or written to.
        """
        document = {"schema": self.schema, **asdict(self, dict_factory=_without_absent_items)}
        if not self.text_counts:
            del document["text_counts"]
        document["settings"] = dict(sorted(self.settings.items()))
        document["versions"] = dict(sorted(self.versions.items()))
        text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        return atomic_write(text, Path(path))


def read(path: str | Path) -> Result:
    """Reads a result file.

    Raises:
        ResultError: the file is missing, malformed, has another schema or contradicts itself.
    """
    from layerbridge.evaluation.result_schema import parse  # pydantic takes a while to import

    path = Path(path)
    try:
        file = parse(path.read_bytes(), path)
    except OSError as error:
        raise ResultError(
            f"{path} cannot be read ({error.strerror or error})",
            hint="create one with layerbridge evaluate",
        ) from None
    languages = {}
    for code, entry in file["languages"].items():
        counted = LanguageResult.of(entry["predictions"], entry.get("layer_weights"))
        # The counts are for other readers; a file edited by hand is not a result.
        for name, value in (("n", entry["n"]), ("correct", entry["correct"])):
            if value != getattr(counted, name):
                raise ResultError(
                    f"{path}: languages.{code}.{name} is {value}",
                    allowed=f"{getattr(counted, name)}, as the predictions say",
                )
        languages[code] = counted
    content: dict[str, Any] = {**file, "method": _current_name(file["method"])}
    result = Result(**{**content, "languages": languages})
    check_codes(result)
    return result


def find(paths: str | Path | Iterable[str | Path]) -> list[Result]:
    """Reads result files, and those in folders and their subfolders.

    Other JSON files in a folder are skipped; a file given by name must be a result file.

    Args:
        paths: of files or folders; ``NAME=PATH`` gives the method there that name.

    Returns:
        The results in the order of the paths; within a folder, by file name. Methods that share a
        name but not their settings have what differs in their names, see ``method_names``. A
        language has one code in all of them, the first that names it; English is ``en``.

    Raises:
        ResultError: a path does not exist, a folder has no result file, a file is malformed, or
            one name is given to several methods.
    """
    results = distinguish([each.result for each in find_files(paths)])
    different = {frozenset(result.languages) for result in results}
    if len(different) < 2 and all("en" in codes for codes in different):
        return results
    codes: dict[str, str] = {"en": "en"}
    for code in dict.fromkeys(code for result in results for code in result.languages):
        codes[code] = own_code(code, list(codes.values()))
    return [_with_codes(result, codes) for result in results]


def find_files(paths: str | Path | Iterable[str | Path]) -> list[ResultPath]:
    """As ``find``, with the path of each result; settings are not told apart."""
    found: dict[Path, ResultPath] = {}
    for given in [paths] if isinstance(paths, (str, Path)) else paths:
        name, text = split_name(given)
        path = Path(text)
        files = [path]
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*.json")) if _is_result_file(file)]
            if not files:
                raise ResultError(
                    f"{path} has no result files", hint="create one with layerbridge evaluate"
                )
        of_path = [(file, read(file)) for file in files]
        methods = list(dict.fromkeys(result.method for _, result in of_path))
        if name is not None and len(methods) > 1:
            raise ResultError(
                f"{given} gives one name to {len(methods)} methods: {', '.join(methods)}",
                hint="give each a name with NAME=RUN",
            )
        for file, result in of_path:
            named = result if name is None else replace(result, method=name)
            found.setdefault(file.resolve(), ResultPath(file, path, named))
    return list(found.values())


def check_codes(result: Result) -> None:
    """Refuses language codes with control characters and the like, which no output can show.

    Raises:
        ResultError: such a code.
    """
    for code in result.languages:
        if any(unicodedata.category(character) in _NOT_TEXT for character in code):
            raise ResultError(
                f"the result of {result.method!r} has a language {code!r}",
                allowed="codes of printable characters",
            )


def _with_codes(result: Result, codes: Mapping[str, str]) -> Result:
    languages = {codes[code]: entry for code, entry in result.languages.items()}
    # Two codes in one file, such as pt and pt-BR, are two test sets.
    same = list(languages) == list(result.languages) or len(languages) < len(result.languages)
    return result if same else replace(result, languages=languages)


def _without_absent_items(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dataclass as JSON has it; a file of 0.1 has no items, and none are made up."""
    return {key: value for key, value in pairs if (key, value) != ("item", None)}


def _is_result_file(path: Path) -> bool:
    return path.is_file() and _FAMILY in path.read_bytes()


def _current_name(method: str) -> str:
    for former, current in _FORMER_NAMES:
        if re.fullmatch(former, method):
            return re.sub(former, current, method)
    return method
