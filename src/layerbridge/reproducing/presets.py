"""Presets: which models, which recipe, how much of the data. All budgets are here.

``paper`` is arXiv 2508.09091's. ``small`` and ``demo`` have the demo's models and settings
(docs/decisions/0003-demo.md), which were chosen on the task `names` and are not chosen anew for any
other task. Nothing here reads a model or a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from layerbridge.demo import ENCODER, FUSIONS, LANGUAGE_MODEL, DemoSettings
from layerbridge.errors import ConfigError

# English after the soft prompt, as the demo's " (category:", which tells a small language model
# what is asked of it.
INSTRUCTIONS = {
    "xnli": " (label:",
    "indicxnli": " (label:",
    "sinhala-news": " (category:",
    "amazon-reviews": " (sentiment:",
    "xsid": " (intent:",
    "sib200": " (topic:",
}


@dataclass(frozen=True)
class Timing:
    """What is timed for the table of times.

    Attributes:
        encoder: as in ``layerbridge bench latency``; a shape where times are all that is asked of
            it, since they do not depend on the weights' values.
        language_model: the same.
        texts: a round, one after another.
        new_tokens: after each text.
        repeat: rounds.
    """

    encoder: str
    language_model: str
    texts: int = 4
    new_tokens: int = 32
    repeat: int = 3


@dataclass(frozen=True)
class Preset:
    """Models, recipe and budget.

    Attributes:
        name: on the command line.
        about: in a few words.
        encoder: folder, ``zoo:NAME`` or hub id.
        language_model: the same.
        pickled: models that are published as pickles only; the user must allow that.
        dtype: of the models; None is float32 on a CPU, so that numbers are the same on every one,
            and the best there is elsewhere.
        fusions: the bridges, and what each has of its own.
        bridge: settings of every bridge.
        instructed: whether bridges have the task's instruction.
        instruction: of all bridges, whatever the task's is; ``""`` is none.
        training: arguments of every training.
        rows: English rows to train on at most, as many of each label.
        passes: how often each row is read; None reads ``rows`` rows in all, some of them again
            where there are fewer.
        test_rows: a language; None for all.
        protocols: how bridges are asked; the first is compared with the paper.
        seeds: of training.
        timing: for the table of times.
    """

    name: str
    about: str
    encoder: str
    language_model: str
    timing: Timing
    rows: int
    test_rows: int | None
    protocols: tuple[str, ...]
    seeds: tuple[int, ...]
    pickled: tuple[str, ...] = ()
    dtype: str | None = None
    fusions: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: dict(FUSIONS))
    bridge: Mapping[str, Any] = field(default_factory=dict)
    instructed: bool = False
    instruction: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    passes: int | None = None

    @property
    def per_step(self) -> int:
        """Rows a step."""
        accumulated: int = self.training.get("gradient_accumulation_steps", 1)
        return accumulated * int(self.training["per_device_train_batch_size"])

    def instruction_of(self, task: str) -> str | None:
        """English text that bridges of this task have after their soft prompt."""
        if self.instruction is not None:
            return self.instruction or None
        return INSTRUCTIONS.get(task) if self.instructed else None


_DEMO = DemoSettings()

_PAPER = Preset(
    name="paper",
    about="mT5-large and Llama-3.2-1B-Instruct, the paper's recipe and budget; for a GPU",
    encoder="google/mt5-large",
    language_model="meta-llama/Llama-3.2-1B-Instruct",
    timing=Timing("shape:mt5-large", "shape:llama-3.2-1b"),
    rows=100_000,
    passes=3,
    test_rows=None,
    protocols=("generate", "score"),
    seeds=(0, 1, 2),
    pickled=("google/mt5-large",),
    dtype="bfloat16",
    fusions={"last": {}, "global-softmax": {}, "token-softmax": {}},
    bridge={"start": "uniform", "projection_start": "random"},
    training={
        "learning_rate": 3e-5,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "adam_beta1": 0.8,
        "adam_beta2": 0.999,
        "weight_decay": 3e-7,
        "max_grad_norm": 1.0,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    },
)
_SMALL = Preset(
    name="small",
    about="two small models of the zoo and the demo's settings, for two CPU cores",
    encoder=ENCODER,
    language_model=LANGUAGE_MODEL,
    timing=Timing(ENCODER, LANGUAGE_MODEL),
    rows=3200,
    test_rows=200,
    protocols=("score",),
    seeds=(0, 1, 2),
    bridge={"projection_start": _DEMO.projection_start},
    instructed=True,
    training={
        "learning_rate": _DEMO.learning_rate,
        "adam_beta1": 0.9,
        "clip_by_part": True,
        "per_device_train_batch_size": _DEMO.batch_size,
        # A run of half an hour can be gone on with.
        "save_strategy": "steps",
        "save_steps": 50,
    },
)
_TINY = replace(
    _SMALL,
    name="demo",
    about="as small, with a tiny budget: whether it all runs; its numbers mean nothing",
    timing=replace(_SMALL.timing, texts=1, new_tokens=8, repeat=1),
    rows=320,
    test_rows=10,
    seeds=(0,),
)
_PRESETS = {made.name: made for made in (_PAPER, _SMALL, _TINY)}


def names() -> tuple[str, ...]:
    """The names that ``preset`` takes."""
    return tuple(_PRESETS)


def preset(name: str) -> Preset:
    """The preset called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in _PRESETS:
        raise ConfigError(f"there is no preset {name!r}", allowed=names())
    return _PRESETS[name]
