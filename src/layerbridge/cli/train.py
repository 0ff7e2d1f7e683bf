"""``layerbridge train``: a bridge from a recipe, from flags, or from both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

from layerbridge.cli import options as o
from layerbridge.cli.values import label_words, map_of_devices, task_options
from layerbridge.errors import ConfigError


def train(
    context: typer.Context,
    *,
    recipe: Path | None = o.data(None, "YAML recipe; flags override it."),
    task: o.OptionalTaskName = None,
    data_dir: o.DataDir = None,
    task_option: o.TaskOption = None,
    skip_unknown_labels: o.SkipUnknownLabels = False,
    data: str | None = o.data(None, "Your own rows: JSONL, CSV, TSV, Parquet or a hub ID."),
    text: str | None = o.data(None, "Column with the text for the encoder."),
    target: str | None = o.data(None, "Column with the answer."),
    template: o.Template = None,
    labels: o.Labels = None,
    free_text: bool = o.data(False, "Answers are text, even if they repeat.", "--free-text"),
    validation_data: str | None = o.data(None, "Validation rows, as --data."),
    validation_share: float | None = o.data(
        None, "How much of --data to hold out for validation; a tenth if omitted."
    ),
    max_rows: o.MaxRows = None,
    encoder: o.Encoder = None,
    encoder_revision: o.EncoderRevision = None,
    language_model: o.LanguageModel = None,
    language_model_revision: o.LanguageModelRevision = None,
    instruction: o.Instruction = None,
    max_text_tokens: int | None = o.models(None, "Truncate longer texts.", min=1),
    text_prefix: str | None = o.models(None, "Put before each text: 'query: ' for E5."),
    encoder_language: str | None = o.models(
        None, "Language code of the texts, for tokenizers that add one: eng_Latn for NLLB."
    ),
    dtype: o.OptionalDtype = None,
    attn_implementation: str | None = o.models(
        None, "Attention implementation, as in transformers."
    ),
    device: o.Device = None,
    load_in_4bit: o.LoadIn4Bit = False,
    load_in_8bit: o.LoadIn8Bit = False,
    device_map: o.DeviceMap = None,
    encoder_device: o.EncoderDevice = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
    fusion: str | None = o.fusion(
        None,
        "last, uniform, fixed, global-softmax, token-softmax (default), scalar-mix, fine-grained, "
        "attention or dwatt.",
    ),
    start: str | None = o.fusion(None, "Initial layer weights: last (default) or uniform."),
    embedding_layer: bool = o.fusion(False, "Fuse the embeddings too.", "--embedding-layer"),
    normalize: str | None = o.fusion(None, "rms: scale layers to unit RMS before fusion."),
    projection: str | None = o.fusion(None, "linear (default), mlp or perceiver."),
    projection_start: str | None = o.fusion(None, "aligned (default), scaled or random."),
    cache_states: bool = o.training(
        False, "Encode each text once; keep its states on disk.", "--cache-states"
    ),
    language_centering: bool = o.training(
        False, "Keep language means, to center languages later.", "--language-centering"
    ),
    language_texts: str | None = o.training(
        None, "Folder with unlabeled text of each language, such as si.txt; its means are kept."
    ),
    resume: bool = o.training(
        False, "Continue the run in the folder; needs no other flag than -o.", "--resume"
    ),
    output_dir: o.OutputFolder,
    overwrite: bool = o.output(False, "Replace an earlier run in the folder.", "--overwrite"),
    dry_run: bool = o.output(
        False,
        "Say what the run would take: rows, steps, memory, disk.",
        "--dry-run",
    ),
    as_json: bool = o.output(False, "Print JSON; only with --dry-run.", "--json"),
) -> None:
    """Train a bridge on English rows.

    Any other flag is a field of transformers' TrainingArguments, such as --learning-rate 1e-3,
    --num-train-epochs 3, --per-device-train-batch-size 32, --gradient-accumulation-steps 4,
    --bf16 true, --seed 1 or --report-to tensorboard. Two more: --fusion-learning-rate-scale 0.1
    multiplies the learning rate of the fusion; --tokens-per-batch 4096 limits a batch by tokens
    instead of rows. Noise and averages: --state-noise 0.25, --language-noise 0.5,
    --state-mixup 0.4, --encoder-dropout true, --average-last 0.5, --start-seed 0.
    Less memory: --gradient-checkpointing true. On N GPUs:
    torchrun --nproc-per-node N -m layerbridge train …
    """
    from layerbridge.training.recipe import FILE, Recipe, override, read

    if as_json and not dry_run:
        raise ConfigError("--json works only with --dry-run")
    # Options that are not the recipe's; the recipe's keep its names.
    others = (
        "recipe",
        "data_dir",
        "task_option",
        "skip_unknown_labels",
        "labels",
        "device",
        "resume",
        "output_dir",
        "dry_run",
        "as_json",
    )
    settings: dict[str, Any] = {
        name: None if value is False else value
        for name, value in context.params.items()
        if name not in (*others, "overwrite")
    }
    settings |= {
        "task_options": task_options(
            data_dir, task_option, skip_unknown_labels=skip_unknown_labels
        ),
        "options": label_words(labels),
        "training": training_flags(context.args),
        "device_map": map_of_devices(device_map),
    }
    if settings["training"]:
        own_flags = {name for parameter in context.command.params for name in parameter.opts}
        reject_unknown_flags(settings["training"], own_flags)
    if resume and recipe is None and ((output_dir / FILE).is_file() or not any(settings.values())):
        from layerbridge.training.resume import own_recipe

        base = own_recipe(output_dir)
    else:
        base = read(recipe) if recipe is not None else Recipe()
    merged = override(base, settings)
    merged.check()

    if dry_run:
        from layerbridge.cli.plan_table import show
        from layerbridge.training.plan import plan

        show(plan(merged, output_dir, device=device), as_json=as_json)
        return

    from layerbridge.progress import is_first_process
    from layerbridge.training import run

    run.train(merged, output_dir, overwrite=overwrite, resume=resume, device=device)
    if is_first_process():
        print(output_dir)


def reject_unknown_flags(names: Iterable[str], own_flags: set[str]) -> None:
    """Rejects names that are not training arguments, and suggests the nearest flags.

    Args:
        names: of training arguments, as ``training_flags`` returns them.
        own_flags: the flags of the verb itself; a misspelled one looks like a training argument.

    Raises:
        ConfigError: a name is unknown.
    """
    import dataclasses

    from layerbridge.training.arguments import BridgeTrainingArguments
    from layerbridge.training.recipe import reject_unknown

    fields = [item.name for item in dataclasses.fields(BridgeTrainingArguments)]
    flags = [*own_flags, *(f"--{name.replace('_', '-')}" for name in fields)]
    for name in names:
        if name not in fields:
            flag = f"--{name.replace('_', '-')}"
            # The verb does not know its own_flags flags with underscores.
            reject_unknown("flag", f"--{name}" if flag in own_flags else flag, flags)


def training_flags(words: Sequence[str]) -> dict[str, Any]:
    """``--learning-rate 1e-3 --bf16`` → ``{"learning_rate": 0.001, "bf16": True}``.

    Raises:
        ConfigError: a word belongs to no flag.
    """
    from layerbridge.training.recipe import typed

    flags: dict[str, Any] = {}
    name: str | None = None
    for word in words:
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
