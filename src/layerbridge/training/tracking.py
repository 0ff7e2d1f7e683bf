"""Layer weights in the trackers that ``report_to`` names: TensorBoard, Weights & Biases, trackio.

The Trainer's own callbacks send numbers. Weights are several per step: a histogram whose bins are
the layers, and a table. A tracker that is not known here gets the numbers only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

HISTOGRAM, TABLE = "layer_weights", "layer_weights_table"


def send_weights(
    callbacks: Iterable[TrainerCallback], step: int, weights: Sequence[float], *, first_layer: int
) -> None:
    """Sends the weights of one step to each tracker that is running.

    Args:
        callbacks: of the Trainer; others than the trackers' are passed over.
        step: of the optimizer.
        weights: of each layer, the lowest first; they sum to 1.
        first_layer: number of the lowest layer.
    """
    rows = [[first_layer + place, weight] for place, weight in enumerate(weights)]
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback):
            if callback.tb_writer is not None:
                _to_tensorboard(callback.tb_writer, step, rows)
        # Both have the same interface. The module is None where the package is switched off.
        elif isinstance(callback, WandbCallback):
            _to_module(callback._wandb, step, rows)
        elif isinstance(callback, TrackioCallback):
            _to_module(callback._trackio, step, rows)


def _to_tensorboard(writer: Any, step: int, rows: list[list[Any]]) -> None:
    layers, weights = zip(*rows, strict=True)
    writer.add_histogram_raw(
        HISTOGRAM,
        min=layers[0] - 0.5,
        max=layers[-1] + 0.5,
        num=sum(weights),
        sum=sum(layer * weight for layer, weight in rows),
        sum_squares=sum(layer**2 * weight for layer, weight in rows),
        bucket_limits=[layer + 0.5 for layer in layers],
        bucket_counts=list(weights),
        global_step=step,
    )
    lines = ["| layer | weight |", "| ---: | ---: |"]
    lines += [f"| {layer} | {weight:.4f} |" for layer, weight in rows]
    writer.add_text(TABLE, "\n".join(lines), step)
    writer.flush()


def _to_module(module: Any, step: int, rows: list[list[Any]]) -> None:
    if module is None or module.run is None:
        return
    layers, weights = zip(*rows, strict=True)
    edges = [layers[0] - 0.5, *(layer + 0.5 for layer in layers)]
    module.log(
        {
            HISTOGRAM: module.Histogram(np_histogram=(list(weights), edges)),
            TABLE: module.Table(columns=["layer", "weight"], data=rows),
            "train/global_step": step,
        }
    )
