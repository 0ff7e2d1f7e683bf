"""The demo: three bridges between two real models, trained on English, tested in 15 languages.

It does what `layerbridge zoo`, `train`, `evaluate`, `table` and `plot` do, but the encoder reads
each text only once for all three bridges.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
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
from layerbridge.models.inference import FAR_NOTE, Classification
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.progress import meter, say
from layerbridge.report import plots
from layerbridge.report.tables import accuracy_table
from layerbridge.training import examples
from layerbridge.training.atomic_write import atomic_write
from layerbridge.training.examples import Example
from layerbridge.training.output import prepare_output
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import new_bridge, train_bridge, training_arguments
from layerbridge.training.run_data import RunData

ENCODER = "zoo:multilingual-e5-small"
LANGUAGE_MODEL = "zoo:smollm2-135m-instruct"

FUSIONS = ("last", "global-softmax", "token-softmax")

# Marks a folder as the demo's, and has its settings.
MARKER = "demo.json"

# Answered at the end; none of them is a training name. Sinhala, Amharic, German.
QUESTIONS = ("ශ්‍රී ලංකා රුපියල", "ስዊድንኛ", "Elfenbeinküste")


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo, chosen on English validation rows only.

    Args:
        steps: optimizer steps of each bridge.
        batch_size: rows per step.
        learning_rate: of the projection.
        test_per_kind: test rows of each kind in each language.
        languages: codes; None for the task's 15.
        projection_start: of every bridge.
        instruction: of every bridge.
        fusions: the bridges to train.
    """

    steps: int = 70
    batch_size: int = 16
    learning_rate: float = 1e-3
    test_per_kind: int = 5
    languages: tuple[str, ...] | None = None
    projection_start: str = "aligned"
    instruction: str | None = " (category:"
    fusions: tuple[str, ...] = FUSIONS


# One bridge, fewer and smaller steps, three languages: a minute or two.
QUICK = DemoSettings(
    steps=50,
    batch_size=8,
    test_per_kind=4,
    languages=("en", "si", "sw"),
    fusions=("global-softmax",),
)


def demo(
    output_dir: str | Path, settings: DemoSettings | None = None, *, seed: int = 0
) -> list[Result]:
    """Runs the demo and writes results, plots and checkpoints to a folder.

    Args:
        output_dir: created if it does not exist; an earlier demo in it is replaced.
        settings: None for the full demo.
        seed: of training: order of rows, dropout, random starts.

    Returns:
        The results, baselines first.

    Raises:
        OutputError: the folder holds something other than an earlier demo.
        ZooError: the models cannot be fetched.
    """
    settings = settings or DemoSettings()
    folder = _output(Path(output_dir), settings, seed)
    started = time.monotonic()
    device = choose_device()
    task = tasks.get("names", languages=settings.languages, test_per_kind=settings.test_per_kind)
    data = RunData.of(task)

    # float32 even on CPUs with bfloat16 units, so that every CPU gives the README's numbers.
    options = LoadOptions(dtype="float32" if device == "cpu" else "auto", device=device)
    sources = {name: resolve(name) for name in (ENCODER, LANGUAGE_MODEL)}
    encoder = Encoder.load(sources[ENCODER], options)
    language_model = LanguageModel.load(sources[LANGUAGE_MODEL], options)
    encoder.cache = StateCache()
    say(
        f"{len(data.train)} English training names, {len(task.languages)} test languages; "
        f"{device}, {dtype_name(language_model.dtype)}"
    )

    say("baseline: TF-IDF and logistic regression")
    results = [tf_idf(task)]
    with meter("zero-shot LM") as bar:
        results.append(zero_shot(language_model, task, progress=bar.by_language))
    _write(results, folder)

    bridges: dict[str, LayerBridge] = {}
    for fusion in settings.fusions:
        backbones = (encoder, language_model)
        bridge = _trained(fusion, settings, data, backbones, folder / fusion, seed=seed)
        examples.write(examples_of(task), folder / fusion)
        with meter(f"evaluating {fusion}") as bar:
            run = str(folder / fusion)
            result = evaluate(bridge, task, seed=seed, run=run, progress=bar.by_language)
        _write([result], folder)
        results.append(result)
        bridges[fusion] = bridge

    table = accuracy_table(results)
    atomic_write(table.markdown(intervals=True) + "\n", folder / "table.md")
    plots.accuracy_by_language(results, folder / "accuracy-by-language.png")
    plots.layer_weights(results, folder / "layer-weights.png")
    Console().print(table.rich())
    best = _best(bridges, data)
    for text, answer in zip(QUESTIONS, bridges[best].classify(list(QUESTIONS)), strict=True):
        _show(text, answer)
    say(f"{time.monotonic() - started:.0f} s; all files are in {folder}/")
    say("next:")
    program = _program()
    say(f'  {program} ask {folder}/{best} "ቻይንኛ" "தாய்லாந்து"')
    say(f"  {program} table {folder} --intervals")
    say(f"  {program} train --help")
    return results


def _program() -> str:
    """Returns how to call the command: in an inactive virtual environment, by its path."""
    script = Path(sys.argv[0])
    if script.name != "layerbridge" or shutil.which("layerbridge"):
        return "layerbridge"
    return os.path.relpath(script)


def _trained(
    fusion: str,
    settings: DemoSettings,
    data: RunData,
    backbones: tuple[Encoder, LanguageModel],
    folder: Path,
    *,
    seed: int,
) -> LayerBridge:
    training: dict[str, Any] = {
        "max_steps": settings.steps,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "save_strategy": "no",
        "seed": seed,
    }
    recipe = Recipe(
        encoder=ENCODER,
        language_model=LANGUAGE_MODEL,
        task=data.name,
        bridge={
            "fusion": fusion,
            "projection_start": settings.projection_start,
            "instruction": settings.instruction,
        },
        training=training,
    )
    torch.manual_seed(seed)
    bridge = new_bridge(recipe, data, backbones=backbones)
    folder = prepare_output(folder, overwrite=True)
    arguments = training_arguments(training, folder)
    return train_bridge(bridge, recipe, data, arguments, folder)


def examples_of(task: tasks.Task) -> list[Example]:
    """Returns one of the task's test rows in each language but English, of each label in turn."""
    english = {row.item: row.text for row in tasks.get(task.name, languages=("en",)).test("en")}
    found = []
    for number, language in enumerate(code for code in task.languages if code != "en"):
        target = task.options[number % len(task.options)]
        rows = task.test(language)
        row = next((row for row in rows if row.target == target), rows[0])
        found.append(Example(row.text, row.target, language, english.get(row.item)))
    return found


def _best(bridges: dict[str, LayerBridge], data: RunData) -> str:
    """Returns the best bridge by the English validation rows."""
    if len(bridges) == 1:
        return next(iter(bridges))
    return max(bridges, key=lambda name: _validation_accuracy(bridges[name], data))


def _validation_accuracy(bridge: LayerBridge, data: RunData) -> float:
    """Returns the share of correct answers on the English validation rows."""
    answers = bridge.classify([row.text for row in data.validation])
    right = [a.choice == row.target for a, row in zip(answers, data.validation, strict=True)]
    return sum(right) / len(right)


def _output(folder: Path, settings: DemoSettings, seed: int) -> Path:
    """Prepares and marks the folder; replaces what an earlier demo wrote, and nothing else.

    Raises:
        OutputError: the folder holds something other than an earlier demo.
    """
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.is_file():
        raise OutputError(
            f"{str(folder)!r} is not empty and not from an earlier demo",
            hint="--output with another folder",
        )
    prepare_output(folder, overwrite=True)
    record = {"seed": seed, **asdict(settings)}
    atomic_write(json.dumps(record, indent=1) + "\n", marker)
    return folder


def _write(results: list[Result], folder: Path) -> None:
    for result in results:
        name = "".join(c if c.isalnum() else "-" for c in result.method)
        result.write(folder / "results" / f"{name}.json")


def _show(text: str, answer: Classification) -> None:
    """Prints one answer: the text, the choice and its probability."""
    sure = f"{answer.probabilities[answer.choice]:.0%}"
    print(f"{text}  →  {answer.choice}  ({FAR_NOTE if answer.far_from_training else sure})")  # noqa: T201
