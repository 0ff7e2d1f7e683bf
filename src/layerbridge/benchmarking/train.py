"""``bench train``: rows a second of training, against the reference in float32 and in our dtype.

Every contestant trains with AdamW: tokenizing, forward, backward, clipping, step. Rows are batched
out of as many as a real run groups, 50 batches, and a round is ``steps`` of these, evenly spread
from the shortest to the longest (ours) or over the file (the reference). A round's seconds are told
for rows of the mean length of all, since its own may be shorter or longer.
The encoder's states are read once an epoch by the reference; with the lever ``cached`` they are
read once in all, and that reading is charged to the run in equal parts by epoch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from layerbridge.benchmarking import sample
from layerbridge.benchmarking.levers import ALL, LEVERS, LeverStep, batches, spread
from layerbridge.benchmarking.measure import Timing, interleave, ratio
from layerbridge.benchmarking.pair import Pair
from layerbridge.benchmarking.reference import ReferenceBridge
from layerbridge.benchmarking.roofline import matrix_parameters, matrix_rate
from layerbridge.models.backbone import dtype_name, resolve_dtype
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks import Row

Progress = Callable[[int, int, str], None]

# Batches that a run orders by length at a time, as transformers does.
GROUP = 50


@dataclass(frozen=True)
class TrainCase:
    """What is trained, and how much of it is measured.

    Args:
        pair: the backbones; their dtype is ours.
        fusion: the strategy.
        batch: rows a step.
        steps: of one round.
        epochs: over which the reading of the states is spread.
        file: real texts; None takes the built-in lengths.
        template: of the file's columns.
        levers: which of ours to use.
        compiled: whether our language model's layers are compiled.
    """

    pair: Pair = field(default_factory=Pair)
    fusion: str = "token-softmax"
    batch: int = 32
    steps: int = 4
    epochs: int = 3
    file: str | None = None
    template: str | None = None
    levers: frozenset[str] = ALL
    compiled: bool = False

    def rows(self, encoder: Encoder) -> list[Row]:
        """The rows that batches are made of."""
        count = self.batch * max(self.steps, GROUP)
        return sample.rows(encoder, count, file=self.file, template=self.template)

    def bridge(self, backbones: tuple[Encoder, LanguageModel], **options: Any) -> LayerBridge:
        """A new bridge; the same tensors every time."""
        if self.fusion == "token-softmax":
            kind = "collapsed" if "collapsed" in self.levers else "reference"
            options = {"implementation": kind, **options}
        return self.pair.bridge(self.fusion, backbones=backbones, fusion_options=options)


class Contestant:
    """A loss with an optimizer around it.

    Args:
        loss: of a batch of rows.
        parameters: to train.
        dataset: the batches.
        steps: of a round, spread evenly over the batches; None takes them all.
        learning_rate: the paper's unless told otherwise.
    """

    def __init__(
        self,
        loss: Callable[[Sequence[Row]], Tensor],
        parameters: list[nn.Parameter],
        dataset: list[list[Row]],
        steps: int | None = None,
        learning_rate: float = 3e-5,
    ) -> None:
        self.loss = loss
        self.parameters = parameters
        self.dataset = dataset
        self.round = spread(dataset, steps or len(dataset))
        self.optimizer = torch.optim.AdamW(
            parameters, lr=learning_rate, betas=(0.8, 0.999), weight_decay=3e-7
        )

    def step(self, rows: Sequence[Row]) -> float:
        """One optimizer step; its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.item()

    def __call__(self) -> list[float]:
        """One round."""
        return [self.step(rows) for rows in self.round]


def ours(case: TrainCase, backbones: tuple[Encoder, LanguageModel]) -> Contestant:
    """layerbridge with the case's levers."""
    if case.compiled:
        # A copy: the reference's layers stay as they are.
        encoder, language_model = backbones
        model = copy.deepcopy(language_model.model)
        backbones = encoder, LanguageModel(model, language_model.tokenizer)
        backbones[1].compile_layers()
    bridge = case.bridge(backbones).train()
    rows = case.rows(bridge.encoder)
    grouped = "grouped" in case.levers
    dataset = batches(rows, case.batch, _lengths(bridge.encoder, rows), grouped=grouped)
    step = LeverStep(bridge, case.levers)
    return Contestant(step.loss, trained(bridge), dataset, case.steps)


def reference(case: TrainCase, backbones: tuple[Encoder, LanguageModel]) -> Contestant:
    """The rival, wholly in the dtype of its backbones."""
    bridge = ReferenceBridge(case.bridge(backbones)).to(backbones[1].dtype).train()
    dataset = batches(case.rows(backbones[0]), case.batch, [], grouped=False)
    return Contestant(bridge.loss, bridge.trained(), dataset, case.steps)


def _lengths(encoder: Encoder, rows: Sequence[Row]) -> list[int]:
    """Encoder tokens of each row."""
    return encoder.tokenize([row.text for row in rows])["attention_mask"].sum(1).tolist()


def trained(bridge: LayerBridge) -> list[nn.Parameter]:
    """The bridge's own parameters."""
    return [*bridge.fusion.parameters(), *bridge.projection.parameters()]


def run(
    case: TrainCase,
    repeat: int = 3,
    progress: Progress | None = None,
    *,
    waterfall: bool = False,
) -> dict[str, Any]:
    """Rows a second of all contestants, and how far the loss curves are apart.

    Args:
        case: what is trained.
        repeat: rounds.
        progress: told of every round.
        waterfall: measure layerbridge without levers and with each lever alone as well.

    Returns:
        ``speedup`` (over the reference in float32), ``speedup_same_dtype``, ``loss_difference``
        (largest over 20 steps, float32, no dropout), rows a second, seconds.
    """
    backbones = case.pair.load_encoder(), case.pair.load_language_model()
    contestants = {"layerbridge": ours(case, backbones), "reference": reference(case, backbones)}
    full = backbones
    if resolve_dtype(case.pair.dtype) != torch.float32:
        exact = replace(case.pair, dtype="float32")
        full = exact.load_encoder(), exact.load_language_model()
        contestants["reference, float32"] = reference(replace(case, pair=exact), full)
    if waterfall:
        contestants["no lever"] = ours(replace(case, levers=frozenset()), backbones)
        for lever in LEVERS:
            alone = replace(case, levers=frozenset({lever}))
            contestants[f"{lever} alone"] = ours(alone, backbones)
    if case.compiled:
        # Compiling is done once a run, and no part of what a step takes.
        contestants["layerbridge"]()
    # What the states cost in one epoch, where they are read before the clock runs.
    reading = {name: _read_states(call) / case.epochs for name, call in contestants.items()}
    timings = interleave(
        contestants, repeat, device=case.pair.place(), warm_up=False, progress=progress
    )
    lengths = _lengths(backbones[0], case.rows(backbones[0]))
    mean = sum(lengths) / len(lengths)
    texts = {name: _texts(call) for name, call in contestants.items()}
    tokens = {name: sum(_lengths(backbones[0], rows)) for name, rows in texts.items()}
    # Seconds for a round's number of rows of mean length: the rounds' own rows differ in length.
    rows = case.batch * case.steps
    timings = {
        name: Timing(
            tuple((own + reading[name]) * rows * mean / tokens[name] for own in timing.seconds)
        )
        for name, timing in timings.items()
    }
    mine = timings["layerbridge"]
    slowest = timings.get("reference, float32", timings["reference"])
    return {
        "speedup": ratio(slowest, mine),
        "speedup_same_dtype": ratio(timings["reference"], mine),
        "loss_difference": loss_difference(case, full),
        "rows_per_second": {name: rows / timing.median for name, timing in timings.items()},
        "round_s": {name: timing.to_dict() for name, timing in timings.items()},
        "reading_states_s": reading["layerbridge"] * case.epochs,
        "tokens_per_row": mean,
        **_share(case, backbones, rows / mine.median, mean),
        "rows": rows,
        "batch": case.batch,
        "epochs": case.epochs,
        "dtype": dtype_name(backbones[1].dtype),
        "levers": sorted(case.levers),
        "compiled": case.compiled,
    }


def _share(
    case: TrainCase, backbones: tuple[Encoder, LanguageModel], rate: float, mean: float
) -> dict[str, float]:
    """How much of the machine's matrix rate our rows need: the frozen models' products alone."""
    encoder, language_model = backbones
    # The encoder runs forward, once an epoch or once in all; the language model forward and, for
    # the soft prompt's sake, backward to its inputs, with about three tokens more.
    readings = 1 / case.epochs if "cached" in case.levers else 1
    flop = 2 * matrix_parameters(encoder.model) * mean * readings
    flop += 4 * matrix_parameters(language_model.model) * (mean + 3)
    machine = matrix_rate(case.pair.place(), language_model.dtype)
    return {
        "flop_per_row": flop,
        "matrix_rate": machine,
        "share_of_matrix_rate": rate * flop / machine,
    }


def loss_difference(
    case: TrainCase, backbones: tuple[Encoder, LanguageModel], steps: int = 20, batch: int = 4
) -> float:
    """The largest difference of the two loss curves, on the same batches and without dropout."""
    options = {"dropout": 0.0} if case.fusion == "token-softmax" else {}
    bridge, twin = (case.bridge(backbones, **options).train() for _ in range(2))
    rival = ReferenceBridge(twin).train()
    rows = [
        replace(row, text=sample.text_of(backbones[0], 8 + index % 5, index))
        for index, row in enumerate(sample.rows(backbones[0], steps * batch))
    ]
    dataset = batches(rows, batch, [], grouped=False)
    curves = [
        Contestant(loss, parameters, dataset)()
        for loss, parameters in (
            (LeverStep(bridge, case.levers).loss, trained(bridge)),
            (rival.loss, rival.trained()),
        )
    ]
    return max(abs(a - b) for a, b in zip(*curves, strict=True))


def _texts(contestant: Contestant) -> list[Row]:
    return [row for rows in contestant.round for row in rows]


def _read_states(contestant: Contestant) -> float:
    """Fills the cache of states; the seconds it took."""
    step = getattr(contestant.loss, "__self__", None)
    if not isinstance(step, LeverStep) or step.cache is None:
        return 0.0
    started = time.perf_counter()
    for rows in contestant.round:
        step.states([row.text for row in rows])
    return time.perf_counter() - started
