"""Reproducing an experiment of any kind."""

from __future__ import annotations

from layerbridge.reproducing import accuracy, times, weights
from layerbridge.reproducing.outcome import Outcome
from layerbridge.reproducing.request import Request

_KINDS = {"accuracy": accuracy.run, "weights": weights.run, "latency": times.run}


def reproduce(request: Request) -> Outcome:
    """Does what is left of an experiment and writes its table or plot.

    Args:
        request: ``Request("table3", preset="small", data_dir="data")``, for example.

    Raises:
        LayerBridgeError: invalid settings, data or models; where possible before any model is
            loaded.
    """
    return _KINDS[request.experiment.kind](request)
