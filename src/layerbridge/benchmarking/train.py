"""``bench train``: rows per second of training, against the reference in float32 and in our dtype.

Every candidate trains with AdamW: tokenizing, forward, backward, clipping, step. Rows are batched
from as many as a real run groups, 50 batches; a round is ``steps`` of these, evenly spread from the
shortest to the longest (ours) or over the file (the reference). Since the texts of a round may be
shorter or longer than average, its seconds are converted to rows of average length.
The reference runs the encoder in every epoch. With the optimization ``cached`` it runs once in all,
before the clock starts; that time is then divided among the epochs and added to the round.
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
from layerbridge.benchmarking.measure import Progress, Timing, interleave, ratio, to_dicts
from layerbridge.benchmarking.optimizations import ALL, OPTIMIZATIONS, OptimizedStep
from layerbridge.benchmarking.pair import Backbones, Pair
from layerbridge.benchmarking.reference import ReferenceBridge
from layerbridge.benchmarking.roofline import matrix_parameters, matrix_rate
from layerbridge.models.backbone import dtype_name, resolve_dtype
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.tasks import Row

# Batches that transformers orders by length at a time.
GROUP = 50


@dataclass(frozen=True)
class TrainCase:
    """What is trained, and how much of it is measured.

    Args:
        pair: the backbones; their dtype is ours.
        fusion: the strategy.
        batch: rows per step.
        steps: of one round.
        epochs: among which the time of the cached states is divided.
        file: real texts; None takes the built-in lengths.
        template: of the file's columns.
        optimizations: which of ours to use.
        compiled: whether our language model's layers are compiled.
        checkpointed: whether they run again in the backward pass; it changes the backbone.
    """

    pair: Pair = field(default_factory=Pair)
    fusion: str = "token-softmax"
    batch: int = 32
    steps: int = 4
    epochs: int = 3
    file: str | None = None
    template: str | None = None
    optimizations: frozenset[str] = ALL
    compiled: bool = False
    checkpointed: bool = False

    def rows(self, encoder: Encoder) -> list[Row]:
        """Returns the rows that batches are made of."""
        count = self.batch * max(self.steps, GROUP)
        return sample.rows(encoder, count, file=self.file, template=self.template)

    def bridge(self, backbones: Backbones, **options: Any) -> LayerBridge:
        """Returns a new bridge with the same tensors every time."""
        if self.fusion == "token-softmax":
            kind = "collapsed" if "collapsed" in self.optimizations else "reference"
            options = {"implementation": kind, **options}
        return self.pair.bridge(self.fusion, backbones=backbones, fusion_options=options)


class TrainingLoop:
    """A loss and an optimizer, on batches of rows.

    Args:
        loss: of a batch.
        parameters: to train.
        dataset: the batches.
        steps: of a round, evenly spread over the batches; None takes all.
        states: computes and caches the encoder's states of texts.
    """

    def __init__(
        self,
        loss: Callable[[Sequence[Row]], Tensor],
        parameters: list[nn.Parameter],
        dataset: list[list[Row]],
        steps: int | None = None,
        states: Callable[[Sequence[str]], Any] | None = None,
    ) -> None:
        self.loss = loss
        self.parameters = parameters
        self.dataset = dataset
        count = min(steps or len(dataset), len(dataset))
        self.round = [dataset[(2 * i + 1) * len(dataset) // (2 * count)] for i in range(count)]
        self.texts = [row.text for rows in self.round for row in rows]
        self.states = states
        # As in the paper.
        self.optimizer = torch.optim.AdamW(
            parameters, lr=3e-5, betas=(0.8, 0.999), weight_decay=3e-7
        )

    def step(self, rows: Sequence[Row]) -> float:
        """Takes one optimizer step and returns its loss."""
        self.optimizer.zero_grad()
        loss = self.loss(rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.item()

    def __call__(self) -> list[float]:
        """Trains for one round and returns the losses."""
        return [self.step(rows) for rows in self.round]

    def cache_states(self) -> float:
        """Computes the states of the round, where they are cached; returns the seconds."""
        started = time.perf_counter()
        if self.states is not None:
            for rows in self.round:
                self.states([row.text for row in rows])
        return time.perf_counter() - started if self.states else 0.0


def ours(case: TrainCase, backbones: Backbones) -> TrainingLoop:
    """Returns layerbridge's training with the case's optimizations."""
    encoder, language_model = backbones
    if case.compiled:
        # A copy: the reference's layers stay as they are.
        model = copy.deepcopy(language_model.model)
        language_model = LanguageModel(model, language_model.tokenizer)
        language_model.compile_layers()
    if case.checkpointed:
        language_model.checkpoint_layers()
    bridge = case.bridge((encoder, language_model)).train()
    rows = case.rows(encoder)
    lengths = _lengths(encoder, [row.text for row in rows])
    dataset = sample.batches(rows, case.batch, lengths if "grouped" in case.optimizations else None)
    step = OptimizedStep(bridge, case.optimizations)
    states = step.states if step.cache is not None else None
    return TrainingLoop(step.loss, trained_parameters(bridge), dataset, case.steps, states)


def reference(case: TrainCase, backbones: Backbones) -> TrainingLoop:
    """Returns the reference's training, entirely in the dtype of its backbones."""
    bridge = ReferenceBridge(case.bridge(backbones)).to(backbones[1].dtype).train()
    dataset = sample.batches(case.rows(backbones[0]), case.batch)
    return TrainingLoop(bridge.loss, bridge.trained(), dataset, case.steps)


def trained_parameters(bridge: LayerBridge) -> list[nn.Parameter]:
    """Returns the parameters of the fusion and the projection."""
    return [*bridge.fusion.parameters(), *bridge.projection.parameters()]


def run(
    case: TrainCase,
    repeat: int = 3,
    progress: Progress | None = None,
    *,
    ablate: bool = False,
) -> dict[str, Any]:
    """Measures the rows per second of all candidates and the distance of the loss curves.

    ``ablate`` adds layerbridge without optimizations, and with each of them alone.

    Returns:
        ``speedup`` (over the reference in float32), ``speedup_same_dtype``, ``loss_difference``
        (largest over 20 steps, float32, no dropout), rows per second, seconds.
    """
    backbones = case.pair.load()
    loops = {"layerbridge": ours(case, backbones), "reference": reference(case, backbones)}
    exact = backbones
    if resolve_dtype(case.pair.dtype, case.pair.torch_device()) != torch.float32:
        pair = replace(case.pair, dtype="float32")
        exact = pair.load()
        loops["reference, float32"] = reference(replace(case, pair=pair), exact)
    if ablate:
        loops["no lever"] = ours(replace(case, optimizations=frozenset()), backbones)
        for name in OPTIMIZATIONS:
            alone = replace(case, optimizations=frozenset({name}))
            loops[f"{name} alone"] = ours(alone, backbones)
    if case.compiled:
        loops["layerbridge"]()  # compiles
    caching = {name: loop.cache_states() for name, loop in loops.items()}
    timings = interleave(
        loops, repeat, device=case.pair.torch_device(), warm_up=False, progress=progress
    )
    encoder = backbones[0]
    lengths = _lengths(encoder, [row.text for row in case.rows(encoder)])
    mean = sum(lengths) / len(lengths)
    rows = case.batch * case.steps
    for name, timing in timings.items():
        # Seconds for a round's number of rows of average length.
        scale = rows * mean / sum(_lengths(encoder, loops[name].texts))
        added = caching[name] / case.epochs
        timings[name] = Timing(tuple((own + added) * scale for own in timing.seconds))
    mine = timings["layerbridge"]
    slowest = timings.get("reference, float32", timings["reference"])
    return {
        "speedup": ratio(slowest, mine),
        "speedup_same_dtype": ratio(timings["reference"], mine),
        "loss_difference": loss_difference(case, exact),
        "rows_per_second": {name: rows / timing.median for name, timing in timings.items()},
        "round_s": to_dicts(timings),
        "reading_states_s": caching["layerbridge"],
        "tokens_per_row": mean,
        **_matrix_share(case, backbones, rows / mine.median, mean),
        "rows": rows,
        "batch": case.batch,
        "epochs": case.epochs,
        "dtype": dtype_name(backbones[1].dtype),
        "levers": sorted(case.optimizations),
        "compiled": case.compiled,
    }


def _matrix_share(
    case: TrainCase, backbones: Backbones, rate: float, mean: float
) -> dict[str, float]:
    """Returns the share of the machine's matrix rate that the frozen models' products take."""
    encoder, language_model = backbones
    # The encoder runs forward, once per epoch or once in all; the language model forward and
    # backward to its inputs, on about three more tokens.
    passes = 1 / case.epochs if "cached" in case.optimizations else 1
    flop = 2 * matrix_parameters(encoder.model) * mean * passes
    flop += 4 * matrix_parameters(language_model.model) * (mean + 3)
    machine = matrix_rate(case.pair.torch_device(), language_model.dtype)
    return {
        "flop_per_row": flop,
        "matrix_rate": machine,
        "share_of_matrix_rate": rate * flop / machine,
    }


def loss_difference(
    case: TrainCase, backbones: Backbones, steps: int = 20, batch: int = 4
) -> float:
    """Returns the largest difference of the loss curves on the same batches, without dropout."""
    options = {"dropout": 0.0} if case.fusion == "token-softmax" else {}
    bridge, copied = (case.bridge(backbones, **options).train() for _ in range(2))
    reference_bridge = ReferenceBridge(copied).train()
    rows = [
        replace(row, text=sample.text_of(backbones[0], 8 + index % 5, index))
        for index, row in enumerate(sample.rows(backbones[0], steps * batch))
    ]
    dataset = sample.batches(rows, batch)
    step = OptimizedStep(bridge, case.optimizations)
    losses = TrainingLoop(step.loss, trained_parameters(bridge), dataset)()
    reference_losses = TrainingLoop(reference_bridge.loss, reference_bridge.trained(), dataset)()
    return max(abs(a - b) for a, b in zip(losses, reference_losses, strict=True))


def _lengths(encoder: Encoder, texts: list[str]) -> list[int]:
    """Counts the encoder tokens of each text."""
    return encoder.tokenize(texts)["attention_mask"].sum(1).tolist()
