"""Measures what each part of a bridge is worth: one setting changed at a time, on one task.

    python benchmarks/ablation.py --data-dir data -o runs/ablation

Every bridge is trained on the same English rows and tested on the same rows of all languages. To
choose a setting, look at English validation only: `ablation.json` has its accuracy and the mean
negative log-probability of the right label among all labels (nats). Variants with results are
skipped; `--only NAME` selects some. `layerbridge compare RUN… --against RUN` tests whether variants
differ significantly.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import set_seed

from layerbridge import tasks
from layerbridge.demo import ENCODER, LANGUAGE_MODEL, DemoSettings
from layerbridge.evaluation import results
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions, choose_device, dtype_name
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.state_cache import StateCache
from layerbridge.progress import meter, say
from layerbridge.reproducing.catalog import instructions, preset
from layerbridge.training.recipe import Recipe
from layerbridge.training.run import new_bridge, train_bridge, training_arguments
from layerbridge.training.run_data import RunData

SMALL = preset("small")
GLOBAL, TOKEN = dict(SMALL.fusions["global-softmax"]), dict(SMALL.fusions["token-softmax"])

# Name → what differs from the preset `small`, of the bridge or (TRAINING_SETTINGS) the training.
VARIANTS: dict[str, dict[str, Any]] = {
    "token-softmax": {"fusion": "token-softmax", **TOKEN},
    "last": {"fusion": "last"},
    "global-softmax": {"fusion": "global-softmax", **GLOBAL},
    "uniform": {"fusion": "uniform"},
    "top-4": {"fusion": "fixed", "fusion_options": {"layers": [9, 10, 11, 12]}},
    "token-softmax rms": {"fusion": "token-softmax", **TOKEN, "normalize": "rms"},
    "token-softmax lr 3e-4": {"fusion": "token-softmax", **TOKEN, "learning_rate": 3e-4},
    "token-softmax lr 3e-3": {"fusion": "token-softmax", **TOKEN, "learning_rate": 3e-3},
    "last lr 3e-4": {"fusion": "last", "learning_rate": 3e-4},
    "last lr 3e-3": {"fusion": "last", "learning_rate": 3e-3},
    "token-softmax start uniform": {"fusion": "token-softmax", **TOKEN, "start": "uniform"},
    "token-softmax 1 head": {
        "fusion": "token-softmax",
        **TOKEN,
        "fusion_options": {"heads": 1},
    },
    "token-softmax no boundary": {"fusion": "token-softmax", **TOKEN, "boundary": False},
    "token-softmax no instruction": {"fusion": "token-softmax", **TOKEN, "instruction": None},
    "last no instruction": {"fusion": "last", "instruction": None},
    "global-softmax no instruction": {"fusion": "global-softmax", **GLOBAL, "instruction": None},
    "token-softmax embedding layer": {
        "fusion": "token-softmax",
        **TOKEN,
        "embedding_layer": True,
    },
    "global-softmax start uniform": {"fusion": "global-softmax", **GLOBAL, "start": "uniform"},
    # For encoders whose states grow from layer to layer, such as causal language models.
    "last rms": {"fusion": "last", "normalize": "rms"},
    "uniform rms": {"fusion": "uniform", "normalize": "rms"},
    "global-softmax start uniform rms": {
        "fusion": "global-softmax",
        **GLOBAL,
        "start": "uniform",
        "normalize": "rms",
    },
    "token-softmax start uniform rms": {
        "fusion": "token-softmax",
        **TOKEN,
        "start": "uniform",
        "normalize": "rms",
    },
}
# The task `names` is the demo's; the presets have the paper's tasks.
TASK_INSTRUCTIONS = {**instructions(), "names": DemoSettings().instruction}
TRAINING_SETTINGS = ("learning_rate", "fusion_learning_rate_scale")


def main() -> None:
    """Trains and tests the missing variants, then rewrites the summary."""
    arguments = _arguments()
    options = _task_options(arguments)
    task = tasks.get(arguments.task, **options)
    rows = task.train()[: arguments.max_rows]
    data = RunData(
        rows, task.validation(), list(task.options), task.template, task.name, task.dropped()
    )
    device = choose_device(None)
    load = LoadOptions(dtype=arguments.dtype or ("float32" if device == "cpu" else "auto"))
    encoder = Encoder.load(resolve(arguments.encoder), load).to(device)
    encoder = encoder.with_settings(template=task.template)
    encoder.cache = StateCache()
    language_model = LanguageModel.load(resolve(LANGUAGE_MODEL), load).to(device)
    for name in arguments.only or VARIANTS:
        for seed in arguments.seeds:
            folder = arguments.output_dir / name.replace(" ", "-") / f"seed-{seed}"
            done = folder / "ablation.json"
            if done.is_file():
                continue
            say(f"{name}, seed {seed}")
            shutil.rmtree(folder, ignore_errors=True)
            started = time.monotonic()
            recipe = _recipe(name, seed, arguments, options)
            set_seed(seed)
            bridge = new_bridge(recipe, data, backbones=(encoder, language_model))
            if bridge.encoder is not encoder:
                bridge.encoder.cache = StateCache()  # other layers
            training = training_arguments(recipe.training, folder)
            bridge = train_bridge(bridge, recipe, data, training, folder)
            trained = time.monotonic() - started
            accuracy, loss = _validation(bridge, data)
            with meter(f"testing {name}") as bar:
                settings = {"task_options": options, "training_rows": len(rows)}
                result = evaluate(
                    bridge,
                    task,
                    method=name,
                    seed=seed,
                    run=str(folder),
                    settings=settings,
                    progress=bar.by_language,
                )
            result.write(folder / "results" / f"{task.name}-score.json")
            others = [one for code, one in result.languages.items() if code != "en"]
            line = {
                "name": name,
                "seed": seed,
                "changed": VARIANTS[name],
                "validation_rows": len(data.validation),
                "validation_accuracy": accuracy,
                "validation_loss": loss,
                "english": result.languages["en"].accuracy,
                "others": sum(one.accuracy for one in others) / len(others),
                "test_rows": sum(len(one.predictions) for one in result.languages.values()),
                "training_seconds": round(trained, 1),
                "seconds": round(time.monotonic() - started, 1),
            }
            done.write_text(json.dumps(line, ensure_ascii=False, indent=1) + "\n")
            say(f"{name}, seed {seed}: {_summary(line)}")
    lines = [
        json.loads(p.read_text()) for p in sorted(arguments.output_dir.glob("*/*/ablation.json"))
    ]
    lines.sort(key=lambda line: -line["validation_accuracy"])
    summary = {
        "task": task.name,
        "training_rows": len(rows),
        "steps": arguments.steps,
        "base": asdict(_recipe("token-softmax", 0, arguments, options)),
        "variants": lines,
        "dtype": dtype_name(language_model.dtype),
        "versions": results.versions(),
    }
    (arguments.output_dir / "ablation.json").write_text(
        json.dumps(summary, ensure_ascii=False, indent=1) + "\n"
    )
    for line in lines:
        print(f"{line['name']:32} seed {line['seed']}  {_summary(line)}")


def _arguments() -> argparse.Namespace:
    about = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--data-dir", action="append", default=None)
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--task", default="xsid", choices=sorted(TASK_INSTRUCTIONS))
    parser.add_argument("--encoder", default=ENCODER, help="zoo:NAME, a hub id or a folder")
    parser.add_argument("--dtype", default=None, help="default: float32 on a CPU, else auto")
    parser.add_argument("--only", action="append", choices=list(VARIANTS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--max-rows", type=int, default=1600)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--max-test", type=int, default=50, help="rows per language")
    return parser.parse_args()


def _task_options(arguments: argparse.Namespace) -> dict[str, Any]:
    labels = len(tasks.get(arguments.task).options)
    train_rows = arguments.max_rows // labels
    if arguments.task == "names":
        return {"train_per_kind": train_rows, "test_per_kind": arguments.max_test // labels}
    return {
        "max_test": arguments.max_test,
        "data_dir": arguments.data_dir,
        "train_per_label": train_rows,
    }


def _recipe(name: str, seed: int, arguments: argparse.Namespace, options: dict[str, Any]) -> Recipe:
    changed = dict(VARIANTS[name])
    training = {
        **SMALL.recipe.training,
        "max_steps": arguments.steps,
        "seed": seed,
        "save_strategy": "no",
    }
    training.update({key: changed.pop(key) for key in TRAINING_SETTINGS if key in changed})
    training.pop("save_steps", None)
    bridge = {**SMALL.recipe.bridge, "instruction": TASK_INSTRUCTIONS[arguments.task], **changed}
    return Recipe(
        encoder=arguments.encoder,
        language_model=LANGUAGE_MODEL,
        task=arguments.task,
        max_rows=arguments.max_rows,
        task_options=options,
        bridge=bridge,
        training=training,
    )


def _validation(bridge: LayerBridge, data: RunData) -> tuple[float, float]:
    """Returns the accuracy and the mean -log p(right label | any label) of English validation."""
    answers = bridge.classify([row.text for row in data.validation])
    right, nats = 0, 0.0
    for answer, row in zip(answers, data.validation, strict=True):
        right += answer.choice == row.target
        nats -= math.log(answer.probabilities[row.target])
    return right / len(data.validation), nats / len(data.validation)


def _summary(line: dict[str, Any]) -> str:
    return (
        f"validation {100 * line['validation_accuracy']:.1f} ({line['validation_loss']:.3f}), "
        f"English {100 * line['english']:.1f}, others {100 * line['others']:.1f}, "
        f"{line['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
