"""The command lines that a report lists: how to train, evaluate and report again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from layerbridge.evaluation.results import CLASSIFIER, Result
from layerbridge.report.run_folders import RunFolder
from layerbridge.training.recipe import FILE


def quoted(word: object) -> str:
    """Returns a word quoted for a shell, such that it is never taken for an option."""
    text = str(word)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def report_command(
    runs: Sequence[Path],
    output: Path,
    *,
    against: str = "last",
    title: str | None = None,
    sentences: Sequence[str] = (),
    bridge: str | None = None,
) -> str:
    """Returns the command line that writes a report."""
    words = ["layerbridge report", *map(quoted, runs), "-o", quoted(output)]
    words += ["--against", quoted(against)] if against != "last" else []
    words += ["--title", shlex.quote(title)] if title is not None else []
    words += [f"--sentence {shlex.quote(text)}" for text in sentences]
    words += ["--bridge", quoted(bridge)] if bridge is not None else []
    return " ".join(words)


def run_commands(results: Sequence[Result], folders: Sequence[RunFolder]) -> list[str]:
    """Returns command lines that train the runs with a known recipe, and evaluate all runs.

    Results of no run, such as those of baselines, have no command of their own.
    """
    train = [
        f"layerbridge train --recipe {quoted(folder.path / FILE)} -o {quoted(folder.path)}"
        for folder in folders
        if folder.recipe is not None
    ]
    evaluate = [
        f"layerbridge evaluate {quoted(result.run)} --task {quoted(result.task)} "
        f"--protocol {quoted(result.protocol)} --languages {quoted(','.join(result.languages))} "
        f"--training-seed {result.seed}"
        for result in results
        if result.run is not None and result.protocol != CLASSIFIER
    ]
    return list(dict.fromkeys([*train, *evaluate]))
