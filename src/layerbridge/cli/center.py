"""``layerbridge center``: language means for a trained bridge, from unlabeled text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from layerbridge.cli import options as o
from layerbridge.cli.values import load_options, numbers, split
from layerbridge.progress import say

if TYPE_CHECKING:
    from layerbridge.models.language_means import LanguageMeans
    from layerbridge.training.language_centering import Added


def center(
    context: typer.Context,
    run: o.RunFolder,
    language: str | None = o.data(None, "Code of the language of --text."),
    text: Path | None = o.data(
        None,
        "Its texts: a .txt file, one a line; JSONL, CSV, TSV or Parquet; or a folder of "
        "such files, named by their languages.",
    ),
    task: o.OptionalTaskName = None,
    languages: o.Languages = None,
    template: str | None = o.data(
        None, "Encoder input with columns in braces; the run's own if omitted."
    ),
    max_texts: int = o.data(2000, "Maximum texts to read of a language.", min=1),
    method: str | None = o.option(
        None, "center (move by the difference of means) or remove (the language subspace)."
    ),
    layers: str | None = o.option(None, "Layers to move, comma-separated; or all."),
    strength: float | None = o.option(None, "How far states are moved, 0 to 1 (default)."),
    shrink: bool | None = o.option(
        None, "Move less by the means of little text (default).", "--shrink/--no-shrink"
    ),
    rank: int | None = o.option(
        None, "Rank of the language subspace; 0 for none.", min=0, metavar="N"
    ),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    as_json: o.Json = False,
) -> None:
    """Add the mean states of a language to a run.

    A few hundred lines of unlabeled text are enough. The run then moves texts of that language to
    where English ones are. --task NAME --languages si,ta takes the texts of a task's rows. Without
    either, shows what the run knows, or changes how it is used.
    """
    files = _texts(language, text, task, languages)
    changes: dict[str, Any] = {}
    for name, value in (("method", method), ("strength", strength), ("shrink", shrink)):
        if value is not None:
            changes[name] = value
    if layers is not None:
        changes["layers"] = None if layers == "all" else tuple(numbers("--layers", layers))
    if rank is not None:
        changes["rank"] = rank or None

    from layerbridge.training.language_centering import center_run

    means, added = center_run(
        Path(run),
        files,
        template=template,
        most=max_texts,
        changes=changes,
        options=load_options(context.params),
    )
    for each in added:
        say(_line(each))
    if as_json:
        print(json.dumps({"settings": means.settings, "added": [asdict(a) for a in added],
                          "languages": _known(means)}, ensure_ascii=False))  # fmt: skip
    else:
        for code, counts in _known(means).items():
            print(f"{code}\t{counts['texts']} texts\t{counts['tokens']} tokens")


def _texts(
    language: str | None, text: Path | None, task: str | None, languages: str | None
) -> Mapping[str, Path | list[str]]:
    """Returns the file or the texts of each language.

    Raises:
        ConfigError: a file without a language, or a language without a file of its own.
    """
    from layerbridge.errors import ConfigError
    from layerbridge.tasks.unlabeled import text_files

    if task is not None:
        if text is not None or language is not None:
            raise ConfigError("both a task and texts were given", allowed="--task, or --text")
        from layerbridge.training.language_centering import task_texts

        return task_texts(task, split(languages))
    if languages is not None:
        raise ConfigError("--languages works only with --task", hint="--language CODE")
    if text is None:
        if language is not None:
            raise ConfigError("--language needs texts", hint="--text FILE")
        return {}
    if not text.is_dir():
        if language is None:
            raise ConfigError(f"{text} is of an unknown language", hint="--language CODE")
        return {language: text}
    if language is not None:
        raise ConfigError(
            f"the folder {text} has a language for each file", hint="leave --language out"
        )
    return text_files(text)


def _line(added: Added) -> str:
    parts = [f"{added.language}: {added.texts} texts, {added.tokens} tokens"]
    parts.append(f"moved by {added.shrinkage:.0%} of the difference")
    if added.recognized is not None:
        parts.append(f"{added.recognized:.0%} of the texts recognized by the nearest mean")
    return "; ".join(parts)


def _known(means: LanguageMeans) -> dict[str, dict[str, int]]:
    return {
        code: {"texts": mean.texts, "tokens": mean.tokens} for code, mean in means.by_code.items()
    }
