"""The demo: three bridges between two real models, trained on English names, asked in 15 languages.

It strings together what `layerbridge zoo`, `train`, `evaluate`, `table` and `plot` do one by one,
and reads each text through the encoder once for all three bridges.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from layerbridge import tasks
from layerbridge.errors import OutputError
from layerbridge.evaluation.baselines.tf_idf import tf_idf
from layerbridge.evaluation.baselines.zero_shot import zero_shot
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.evaluation.results import Result
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions, choose_device, dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.encoder import Encoder
from layerbridge.models.inference import Classification
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.progress import meter, say
from layerbridge.report import plots
from layerbridge.report.tables import accuracy_table
from layerbridge.training.output import prepare_output
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import RunData, new_bridge, train_bridge, training_arguments

ENCODER = "zoo:multilingual-e5-small"
LANGUAGE_MODEL = "zoo:smollm2-135m-instruct"

# The bridges: settings of each, and of its training.
FUSIONS: dict[str, dict[str, Any]] = {
    "last": {},
    "global-softmax": {"start": "last", "fusion_learning_rate_scale": 0.03},
    "token-softmax": {"start": "last", "fusion_learning_rate_scale": 0.1},
}

# The file that says that a folder is the demo's, and what was run.
MARKER = "demo.json"

# Asked live at the end; none of them is a training name. Sinhala, Amharic, German.
QUESTIONS = ("ශ්‍රී ලංකා රුපියල", "ስዊድንኛ", "Elfenbeinküste")


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does; chosen on English validation rows alone (docs/decisions/0003-demo.md).

    Args:
        steps: optimiser steps of each bridge.
        batch_size: rows a step.
        learning_rate: of the projection.
        test_per_kind: test rows of each kind in each language.
        languages: codes; None takes the task's 15.
        projection_start: of every bridge.
        instruction: of every bridge.
        fusions: the bridges to train, each with its own settings.
    """

    steps: int = 70
    batch_size: int = 16
    learning_rate: float = 1e-3
    test_per_kind: int = 5
    languages: tuple[str, ...] | None = None
    projection_start: str = "aligned"
    instruction: str | None = " (category:"
    fusions: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(FUSIONS))


# One bridge, fewer steps and a few languages: a minute, or two where the machine is slow.
QUICK = DemoSettings(
    steps=50,
    test_per_kind=4,
    languages=("en", "si", "ta", "sw"),
    fusions={"global-softmax": FUSIONS["global-softmax"]},
)


def demo(
    output_dir: str | Path, settings: DemoSettings | None = None, *, seed: int = 0
) -> list[Result]:
    """Runs it all and leaves results, pictures and the three checkpoints in a folder.

    Args:
        output_dir: made if it is not there; what an earlier demo left in it is replaced.
        settings: None takes the full demo's.
        seed: of training: order of rows, dropout, random starts.

    Returns:
        The results, baselines first.

    Raises:
        OutputError: the folder holds something that is no earlier demo's.
        ZooError: the models cannot be fetched.
    """
    settings = settings or DemoSettings()
    folder = _output(Path(output_dir), settings, seed)
    started = time.monotonic()
    device = choose_device()
    task = tasks.get("names", languages=settings.languages, test_per_kind=settings.test_per_kind)
    data = RunData(task.train(), task.validation(), list(task.options), task.template, task.name)

    # float32 on every CPU, also on those that multiply bfloat16, so that the numbers in the README
    # come out wherever it is run.
    options = LoadOptions(dtype="float32" if device == "cpu" else "auto")
    sources = {name: resolve(name) for name in (ENCODER, LANGUAGE_MODEL)}
    encoder = Encoder.load(sources[ENCODER], options).to(device)
    language_model = LanguageModel.load(sources[LANGUAGE_MODEL], options).to(device)
    encoder.cache = StateCache()
    say(
        f"{len(data.train)} English training names, {len(task.languages)} test languages; "
        f"{device}, {dtype_name(language_model.dtype)}"
    )

    say("the floor: TF-IDF and logistic regression")
    found = [tf_idf(task)]
    with meter("the language model alone") as bar:
        found.append(zero_shot(language_model, task, progress=bar.by_language))
    _write(found, folder)

    bridges: dict[str, LayerBridge] = {}
    for fusion in settings.fusions:
        backbones = (encoder, language_model)
        bridge = _trained(fusion, settings, data, backbones, folder / fusion, seed=seed)
        with meter(f"asking {fusion}") as bar:
            run = str(folder / fusion)
            result = evaluate(bridge, task, seed=seed, run=run, progress=bar.by_language)
        _write([result], folder)
        found.append(result)
        bridges[fusion] = bridge

    table = accuracy_table(found)
    (folder / "table.md").write_text(table.markdown(intervals=True) + "\n", encoding="utf-8")
    plots.accuracy_by_language(found, folder / "accuracy-by-language.png")
    plots.layer_weights(found, folder / "layer-weights.png")
    Console().print(table.rich())
    best = _best(bridges, data)
    for text, answer in zip(QUESTIONS, bridges[best].classify(list(QUESTIONS)), strict=True):
        _show(text, answer)
    say(f"{time.monotonic() - started:.0f} s; everything is under {folder}/")
    say("next:")
    program = _program()
    say(f'  {program} ask {folder}/{best} "ቻይንኛ" "தாய்லாந்து"')
    say(f"  {program} table {folder} --intervals")
    say(f"  {program} train --help")
    return found


def _program() -> str:
    """How the user can call the command again: in a virtual environment, by its path."""
    here = Path(sys.argv[0])
    if here.name != "layerbridge" or shutil.which("layerbridge"):
        return "layerbridge"
    return os.path.relpath(here)


def _trained(
    fusion: str,
    settings: DemoSettings,
    data: RunData,
    backbones: tuple[Encoder, LanguageModel],
    folder: Path,
    *,
    seed: int,
) -> LayerBridge:
    own = dict(settings.fusions[fusion])
    training: dict[str, Any] = {
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "adam_beta1": 0.9,
        "clip_by_part": True,
        "save_strategy": "no",
        "seed": seed,
        "fusion_learning_rate_scale": own.pop("fusion_learning_rate_scale", 1.0),
    }
    recipe = Recipe(
        encoder=ENCODER,
        language_model=LANGUAGE_MODEL,
        task=data.name,
        bridge={
            "fusion": fusion,
            "projection_start": settings.projection_start,
            "instruction": settings.instruction,
            **own,
        },
        training=training,
    )
    torch.manual_seed(seed)
    bridge = new_bridge(recipe, data, backbones=backbones)
    folder = prepare_output(folder, overwrite=True)
    arguments = training_arguments(training, folder)
    return train_bridge(bridge, recipe, data, arguments, folder)


def _best(bridges: dict[str, LayerBridge], data: RunData) -> str:
    """The bridge to go on with, by English validation rows alone; of one there is no choice."""
    if len(bridges) == 1:
        return next(iter(bridges))
    return max(bridges, key=lambda name: _validation_accuracy(bridges[name], data))


def _validation_accuracy(bridge: LayerBridge, data: RunData) -> float:
    """Share of the English validation rows answered right: what a choice may look at."""
    answers = bridge.classify([row.text for row in data.validation])
    right = [a.choice == row.target for a, row in zip(answers, data.validation, strict=True)]
    return sum(right) / len(right)


def _output(folder: Path, settings: DemoSettings, seed: int) -> Path:
    """The folder, marked as a demo's; what an earlier demo wrote is replaced, nothing else.

    Raises:
        OutputError: it holds something, and no earlier demo's.
    """
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise OutputError(
            f"{str(folder)!r} is not empty and no earlier demo's",
            hint="--output-dir with another folder",
        )
    prepare_output(folder, overwrite=True)
    record = {"seed": seed, **asdict(settings)}
    marker.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder


def _write(found: list[Result], folder: Path) -> None:
    for result in found:
        name = "".join(c if c.isalnum() else "-" for c in result.method)
        result.write(folder / "results" / f"{name}.json")


def _show(text: str, answer: Classification) -> None:
    """One answer on stdout: the text, the choice, how sure."""
    print(f"{text}  →  {answer.choice}  ({answer.probabilities[answer.choice]:.0%})")  # noqa: T201
