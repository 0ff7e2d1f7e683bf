"""The command lines that a report lists: how to train, evaluate and report again, as they run.

What is made again goes beside what there is, so that nothing is replaced: of ``runs/a`` into
``runs/a-again``.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

from layerbridge.evaluation.results import CLASSIFIER, Result, ResultPath
from layerbridge.hub.named_run import split_name
from layerbridge.report.run_folders import RunFolder
from layerbridge.tasks import registry
from layerbridge.training.recipe import FILE

TF_IDF = "tf-idf"


class RunCommands(NamedTuple):
    """Command lines, the paths they make again, and the methods with a result that none makes."""

    lines: list[str]
    made: frozenset[Path]
    missing: tuple[str, ...]


def quoted(word: object) -> str:
    """Returns a word quoted for a shell, such that it is never taken for an option."""
    text = str(word)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def report_command(
    runs: Sequence[str | Path],
    output: Path,
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[str] = (),
    bridge: str | None = None,
    made: frozenset[Path] = frozenset(),
) -> str:
    """Returns the command line that writes a report.

    Args:
        runs: as given, with or without names.
        output: of the report.
        against: as given.
        title: as given.
        sentences: as given.
        bridge: as given.
        made: the paths that are made again; what is below them is as well.
    """
    words = ["layerbridge report"]
    for name, path in map(split_name, runs):
        again = _again(Path(path), made) or path
        words.append(quoted(again if name is None else f"{name}={again}"))
    words += ["-o", quoted(_again(output, [output]) if made else output)]
    words += ["--against", quoted(against)] if against != "last" else []
    words += ["--title", shlex.quote(title)] if title is not None else []
    words += [f"--sentence {shlex.quote(text)}" for text in sentences]
    if bridge is not None:
        words += ["--bridge", quoted(_again(Path(bridge), made) or bridge)]
    return " ".join(words)


def run_commands(results: Sequence[ResultPath], folders: Sequence[RunFolder]) -> RunCommands:
    """Returns command lines that train the runs with a known recipe, and evaluate everything.

    Results of ``evaluate`` and ``baseline`` hold their command line. For others, as those of
    Python and of 0.1, one is made up; for a baseline with a language model there is none.
    """
    given = list(dict.fromkeys(each.given for each in results))
    trained: dict[Path, Path] = {}
    lines, made, missing = [], set[Path](), []
    for folder in folders:
        if folder.recipe is None or (again := _again(folder.path, given)) is None:
            continue
        trained[folder.path.resolve()] = again
        lines.append(f"layerbridge train --recipe {quoted(folder.path / FILE)} -o {quoted(again)}")
    for file, path, result in results:
        words = _words(result, trained, file)
        again = _again(file, [path])
        if words is None or again is None:
            missing.append(result.method)
            continue
        made.add(path)
        lines.append(f"layerbridge {' '.join(words)} -o {quoted(again)}")
    return RunCommands(lines, frozenset(made), tuple(dict.fromkeys(missing)))


def _again(path: Path, given: Collection[Path]) -> Path | None:
    """Where a path is made again: ``runs-again/a`` for ``runs/a`` of ``runs``; None outside."""
    root = max((each for each in given if each in (path, *path.parents)), default=None)
    if root is None:
        return None
    if not root.is_dir():
        return root.with_name(f"{root.stem}-again{root.suffix}")
    named = root if root.name not in ("", "..") else root / ".." / root.resolve().name
    return named.with_name(f"{named.name}-again") / path.relative_to(root)


def _words(result: Result, trained: Mapping[Path, Path], file: Path) -> list[str] | None:
    """The quoted words that evaluate a result again; None if they are not known."""
    command = result.settings.get("command")
    if _is_command(command):
        verb, first, *rest = command
        run = _run(first, trained, file) if verb == "evaluate" else first
        return [verb, quoted(run), *map(shlex.quote, rest)]
    if result.run is not None and result.protocol != CLASSIFIER:
        words = ["evaluate", quoted(_run(result.run, trained, file))]
        words += ["--protocol", quoted(result.protocol), "--training-seed", str(result.seed)]
        if result.settings.get("normalize") == "mean":
            words += ["--length-normalization", "mean"]
    elif result.method == TF_IDF:
        words = ["baseline", TF_IDF, "--seed", str(result.seed)]
    else:
        return None
    task = result.settings.get("task_file") or result.task
    if task in registry.names() or "task_file" in result.settings:
        words += ["--task", quoted(task)]
    elif words[0] == "baseline":
        return None
    # Otherwise it is the one that the run was trained on, whose file the recipe names.
    options = result.settings.get("task_options")
    for name, value in (options if isinstance(options, dict) else {}).items():
        values = value if isinstance(value, list) else [value]
        if name == "data_dir":
            words += [word for folder in values for word in ("--data-dir", quoted(folder))]
        else:
            words += ["--task-option", shlex.quote(f"{name}={','.join(map(str, values))}")]
    return [*words, "--languages", quoted(",".join(result.languages))]


def _is_command(command: object) -> TypeGuard[list[str]]:
    return (
        isinstance(command, list)
        and len(command) > 1
        and all(isinstance(word, str) for word in command)
        and command[0] in ("evaluate", "baseline")
    )


def _run(run: str, trained: Mapping[Path, Path], file: Path) -> str | Path:
    """The run that is trained again, or else the one there is; a moved one has its results."""
    around = [folder for folder in file.resolve().parents if folder in trained]
    return trained.get(Path.cwd() / run) or (trained[around[0]] if around else run)
