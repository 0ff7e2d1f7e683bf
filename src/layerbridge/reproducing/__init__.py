"""The paper's tables and figure, and other tasks by the same machinery, with one call each.

    experiments   what there is to reproduce
    presets       with which models and budget
    request       what was asked for
    jobs          each method with each seed, and what is left of it
    work          doing one job
    accuracy, weights, times   the three kinds of experiment
    plan          what a command would do, without doing it
    paper         the paper's numbers, as far as they are known here

It strings together what ``layerbridge train``, ``evaluate``, ``baseline``, ``table``, ``compare``,
``report`` and ``bench latency`` do one by one.
"""

from __future__ import annotations

from layerbridge.reproducing import accuracy, times, weights
from layerbridge.reproducing.outcome import Outcome
from layerbridge.reproducing.plan import Plan, plan
from layerbridge.reproducing.request import Request

__all__ = ["Outcome", "Plan", "Request", "plan", "reproduce"]

_KINDS = {"accuracy": accuracy.run, "weights": weights.run, "latency": times.run}


def reproduce(request: Request) -> Outcome:
    """Does what is left of an experiment and writes its table or picture.

    Args:
        request: ``Request.of("table3", preset="small", data_dir="data")``, for example.

    Raises:
        LayerBridgeError: whatever a user can mend.
    """
    return _KINDS[request.experiment.kind](request)
