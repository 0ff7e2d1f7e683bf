"""Measures what each layer of an encoder knows of languages and labels, without a language model.

    python benchmarks/encoder_layers.py zoo:multilingual-e5-small --task masakhanews \
        --data-dir DATA -o encoder-layers.json

States are averaged over the tokens of a text. For each layer, and for all of them side by side:

- `language_share`: how much of the variance of the states is between languages, on as many
  unlabeled test texts of each language. It needs no label, and no translation.
- `label_share`: how much of the variance of English training states is between labels.
- `english`, `average`, `languages`: accuracy of a logistic regression on the states, trained on
  English training rows, on English validation rows and on test rows of the other languages.
- `average_centered`: the same with the states of each language moved by the difference of the
  mean states of its test rows and English training rows (`evaluate --center batch`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layerbridge import tasks
from layerbridge.evaluation import results
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.encoder import Encoder
from layerbridge.models.length_grouping import by_length
from layerbridge.progress import meter
from layerbridge.tasks import Row

BATCH = 16
# Of the regression: fewer training rows than dimensions need much of it.
REGULARIZATION = 0.05


@torch.no_grad()
def pooled(encoder: Encoder, rows: Sequence[Row], what: str) -> NDArray:
    """Returns the mean state of each text in each layer, [rows, layers, width]."""
    states = np.empty((len(rows), encoder.num_layers, encoder.width), dtype=np.float32)
    done = 0
    with meter(what) as bar:
        for indices in by_length([len(row.text) for row in rows], BATCH):
            read = encoder.encode([rows[index].text for index in indices])
            mask = read.mask[None, :, :, None]
            means = (read.stacked * mask).sum(2) / mask.sum(2)
            states[indices] = means.transpose(0, 1).float().cpu().numpy()
            done += len(indices)
            bar.update(done, len(rows))
    return states


def variance_share(states: NDArray, groups: NDArray) -> float:
    """Returns the share of the variance of states [rows, width] that is between groups."""
    total = ((states - states.mean(0)) ** 2).sum(1).mean()
    means = np.stack([states[groups == group].mean(0) for group in groups])
    return float(((means - states.mean(0)) ** 2).sum(1).mean() / total)


def measure(
    train: tuple[NDArray, NDArray],
    validation: tuple[NDArray, NDArray],
    tests: dict[str, tuple[NDArray, NDArray]],
) -> dict[str, Any]:
    """Measures states [rows, width] with their labels."""
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=REGULARIZATION, max_iter=2000)
    ).fit(*train)
    most = min(len(states) for states, _ in tests.values())
    languages = {code: model.score(*rows) for code, rows in tests.items()}
    mean = train[0].mean(0)
    centered = {
        code: model.score(states - states.mean(0) + mean, labels)
        for code, (states, labels) in tests.items()
    }
    return {
        "language_share": variance_share(
            np.concatenate([states[:most] for states, _ in tests.values()]),
            np.repeat(list(tests), most),
        ),
        "label_share": variance_share(*train),
        "english": model.score(*validation),
        "average": fmean(languages.values()),
        "average_centered": fmean(centered.values()),
        "languages": languages,
    }


def main() -> None:
    """Reads all texts once, measures every layer, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("encoder", help="folder, zoo:NAME or hub ID")
    parser.add_argument("--task", required=True, help="a task, or its YAML file")
    parser.add_argument("--data-dir", help="of the task")
    parser.add_argument("--max-test", type=int, default=80, help="test rows of each language")
    parser.add_argument("--text-prefix", default="", help="before each text")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    options: dict[str, Any] = {"max_test": arguments.max_test}
    if arguments.data_dir:
        options["data_dir"] = arguments.data_dir
    task = tasks.get(arguments.task, **options)
    encoder = Encoder.load(resolve(arguments.encoder), LoadOptions(dtype="float32"))
    if arguments.text_prefix:
        encoder = encoder.with_settings(text_prefix=arguments.text_prefix)
    rows = {"train": task.train(), "validation": task.validation()}
    rows |= {code: task.test(code) for code in task.languages if code != "en"}
    read = {
        name: (pooled(encoder, of, name), np.array([row.target for row in of]))
        for name, of in rows.items()
    }

    def part(layers: slice) -> dict[str, Any]:
        split = {
            name: (states[:, layers].reshape(len(states), -1), labels)
            for name, (states, labels) in read.items()
        }
        train, validation = split.pop("train"), split.pop("validation")
        return measure(train, validation, split)

    layers = [
        {"layer": number + encoder.first_layer, **part(slice(number, number + 1))}
        for number in range(encoder.num_layers)
    ]
    report = {
        "encoder": arguments.encoder,
        "text_prefix": arguments.text_prefix,
        "task": task.name,
        "rows": {name: len(of) for name, of in rows.items()},
        "layers": layers,
        "all_side_by_side": part(slice(None)),
        "versions": results.versions(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("layer  language share  English  others  centered")
    for each in layers:
        shown = (100 * each[name] for name in ("english", "average", "average_centered"))
        print(
            f"{each['layer']:5}  {each['language_share']:14.3f}  "
            + "  ".join(f"{value:7.1f}" for value in shown)
        )


if __name__ == "__main__":
    main()
