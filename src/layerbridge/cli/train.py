"""``layerbridge train``: a bridge from a recipe, from flags, or from both."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer

from layerbridge.cli.tasks import task_options
from layerbridge.errors import ConfigError


def train(
    context: typer.Context,
    output_dir: Path = typer.Option(..., "--output-dir", "-o", help="Where the run goes."),
    recipe: Path | None = typer.Option(None, help="A YAML recipe; flags override it."),
    task: str | None = typer.Option(
        None, help="A task (see `layerbridge tasks`), or a YAML file of your own."
    ),
    data_dir: list[Path] | None = typer.Option(
        None, help="A folder with the task's rows; may be given again."
    ),
    task_option: list[str] | None = typer.Option(
        None, help="An option of the task, NAME=VALUE; may be given again."
    ),
    data: str | None = typer.Option(None, help="Your rows: JSONL, CSV, TSV, Parquet or a hub id."),
    text: str | None = typer.Option(None, help="The column the encoder reads."),
    target: str | None = typer.Option(None, help="The column with the answer."),
    template: str | None = typer.Option(
        None, help="The encoder's text, columns in braces: 'Review: {text} Label: '."
    ),
    options: str | None = typer.Option(None, help="The label words, with commas."),
    validation_data: str | None = typer.Option(None, help="Rows like --data, to watch."),
    max_rows: int | None = typer.Option(None, min=1, help="Train on the first so many rows."),
    cache_states: bool | None = typer.Option(
        None, "--cache-states", help="Read each text once only; the states wait on the disk."
    ),
    encoder: str | None = typer.Option(None, help="Folder, zoo:NAME or hub id."),
    language_model: str | None = typer.Option(None, help="Folder, zoo:NAME or hub id."),
    encoder_revision: str | None = typer.Option(None, help="Branch, tag or commit."),
    language_model_revision: str | None = typer.Option(None, help="Branch, tag or commit."),
    fusion: str | None = typer.Option(
        None, help="last, uniform, fixed, global-softmax or token-softmax (the default)."
    ),
    start: str | None = typer.Option(None, help="uniform (the default) or last."),
    embedding_layer: bool | None = typer.Option(
        None, "--embedding-layer", help="Mix the encoder's embeddings as well, as a lowest layer."
    ),
    normalize: str | None = typer.Option(None, help="rms: layers of unit scale before mixing."),
    projection_start: str | None = typer.Option(
        None, help="random (the default), scaled or aligned."
    ),
    instruction: str | None = typer.Option(
        None, help="English text for the language model, after the soft prompt."
    ),
    max_text_tokens: int | None = typer.Option(None, min=1, help="Cut longer texts."),
    dtype: str | None = typer.Option(
        None, help="Of the backbones: auto (the default), float32, bfloat16, float16."
    ),
    attn_implementation: str | None = typer.Option(None, help="As in transformers."),
    trust_remote_code: bool | None = typer.Option(
        None, "--trust-remote-code", help="Run code that comes with a model."
    ),
    allow_pickle: bool | None = typer.Option(
        None, "--allow-pickle", help="Also read weights that are not safetensors."
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Write into a folder in use."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint."),
) -> None:
    """Train a bridge on English rows.

    Any further flag is a transformers TrainingArguments name with its value, such as
    --learning-rate 1e-3, --num-train-epochs 3, --per-device-train-batch-size 32,
    --gradient-accumulation-steps 4, --bf16 true, --seed 1, --report-to tensorboard;
    and --fusion-learning-rate-scale 0.1, of the fusion against the projection, and
    --tokens-per-batch 4096, instead of a number of rows.
    """
    from layerbridge.training.recipe import Recipe, override, read

    settings: dict[str, Any] = {
        "task": task,
        "task_options": task_options(data_dir, task_option),
        "data": data,
        "text": text,
        "target": target,
        "template": template,
        "options": [word.strip() for word in options.split(",")] if options else None,
        "validation_data": validation_data,
        "max_rows": max_rows,
        "cache_states": cache_states,
        "encoder": encoder,
        "language_model": language_model,
        "encoder_revision": encoder_revision,
        "language_model_revision": language_model_revision,
        "fusion": fusion,
        "start": start,
        "embedding_layer": embedding_layer,
        "normalize": normalize,
        "projection_start": projection_start,
        "instruction": instruction,
        "max_text_tokens": max_text_tokens,
        "dtype": dtype,
        "attn_implementation": attn_implementation,
        "trust_remote_code": trust_remote_code,
        "allow_pickle": allow_pickle,
        "training": training_flags(context.args),
    }
    if settings["training"]:
        own = {name for parameter in context.command.params for name in parameter.opts}
        reject_unknown_flags(settings["training"], own)
    whole = override(read(recipe) if recipe is not None else Recipe(), settings)
    whole.check()

    from layerbridge.training import run

    run.train(whole, output_dir, overwrite=overwrite, resume=resume, device=device)
    print(output_dir)


def reject_unknown_flags(names: Iterable[str], own: set[str]) -> None:
    """Refuses what is no training argument, with the nearest flags of either kind.

    Args:
        names: of training arguments, as ``training_flags`` gives them.
        own: the flags of the command itself; a misspelt one looks like a training argument.

    Raises:
        ConfigError: a name is not known.
    """
    import dataclasses

    from layerbridge.training.arguments import BridgeTrainingArguments
    from layerbridge.training.recipe import reject_unknown

    fields = [item.name for item in dataclasses.fields(BridgeTrainingArguments)]
    flags = [*own, *(f"--{name.replace('_', '-')}" for name in fields)]
    for name in names:
        if name not in fields:
            flag = f"--{name.replace('_', '-')}"
            # With underscores, a flag of the command is not known to it.
            reject_unknown("flag", f"--{name}" if flag in own else flag, flags)


def training_flags(arguments: list[str]) -> dict[str, Any]:
    """``--learning-rate 1e-3 --bf16`` → {"learning_rate": 0.001, "bf16": True}.

    Raises:
        ConfigError: a word that belongs to no flag.
    """
    from layerbridge.training.recipe import typed

    flags: dict[str, Any] = {}
    name: str | None = None
    for word in arguments:
        if word.startswith("--"):
            key, equals, value = word.removeprefix("--").partition("=")
            name = key.replace("-", "_")
            flags[name] = typed(value) if equals else True
            name = None if equals else name
        elif name is None:
            raise ConfigError(f"unexpected argument {word!r}", allowed="flags: --name value")
        else:
            flags[name], name = typed(word), None
    return flags
