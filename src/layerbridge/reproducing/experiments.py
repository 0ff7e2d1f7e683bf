"""What can be reproduced: the paper's tables and figure, and other tasks by the same machinery.

Names, tasks and kinds; nothing of models, budgets or results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from layerbridge.errors import ConfigError


@dataclass(frozen=True)
class Experiment:
    """One thing to reproduce.

    Attributes:
        name: on the command line, and of its folder.
        title: over its table or picture.
        kind: what is measured: accuracy, time, or the learned weights of the layers.
        task: what is trained and tested on; empty where nothing is.
        runs: the experiment whose trained runs it takes; its own name if it trains itself.
        paper: whether it is in the paper.
    """

    name: str
    title: str
    kind: Literal["accuracy", "latency", "weights"]
    task: str
    runs: str
    paper: bool = True


def _accuracy(name: str, task: str, title: str, *, paper: bool = True) -> Experiment:
    return Experiment(name, title, "accuracy", task, name, paper)


_EXPERIMENTS = {
    made.name: made
    for made in (
        _accuracy("table1", "xnli", "Table I: XNLI"),
        _accuracy("table2", "indicxnli", "Table II: IndicXNLI"),
        _accuracy("table3", "sinhala-news", "Table III: news in Sinhala"),
        _accuracy("table4", "amazon-reviews", "Table IV: Amazon reviews"),
        Experiment("table5", "Table V: time and memory", "latency", "", "table5"),
        Experiment("figure2", "Figure 2: weights of the layers", "weights", "xnli", "table1"),
        _accuracy("xsid", "xsid", "xSID", paper=False),
        _accuracy("sib200", "sib200", "SIB-200", paper=False),
    )
}


def names() -> tuple[str, ...]:
    """The names that ``experiment`` takes."""
    return tuple(_EXPERIMENTS)


def experiment(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in _EXPERIMENTS:
        raise ConfigError(f"there is no experiment {name!r}", allowed=names())
    return _EXPERIMENTS[name]
