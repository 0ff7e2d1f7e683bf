"""The peak memory of a training step, found by running it on tensors without numbers.

torch's fake tensors have shapes and no data: a step of the real modules on them takes a second and
no memory, and every tensor it would allocate, or keep for the backward pass, is counted. Models are
built from their configs; no weights are read.

Legend: B rows, S encoder tokens, P prompt and T target tokens, E and D widths, V vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from layerbridge.models import fusion, projection
from layerbridge.models.config import BridgeConfig
from layerbridge.models.hidden_states import HiddenStates

# Gradient and the two moments of Adam, in float32, for every trained number.
TRAINING_BYTES = 12


@dataclass(frozen=True)
class StepSize:
    """The batch of a step that takes the most memory.

    Attributes:
        rows: B.
        text_tokens: S, of the longest text.
        prompt_tokens: P, what the language model reads besides the text and the target.
        target_tokens: T, EOS included.
        soft_tokens: of a text; None for S.
    """

    rows: int
    text_tokens: int
    prompt_tokens: int
    target_tokens: int
    soft_tokens: int | None = None

    @property
    def read_tokens(self) -> int:
        """What the language model reads of a row: the last token of a target predicts nothing."""
        soft = self.text_tokens if self.soft_tokens is None else self.soft_tokens
        return soft + self.prompt_tokens + self.target_tokens - 1


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step by part, on top of the weights.

    Attributes:
        states: the encoder's states, kept until the backward pass.
        encoding: what the encoder takes besides them while it runs.
        fusion: what fusion and projection keep for the backward pass.
        activations: what the language model's body keeps for it.
        logits: of the labels, with their gradients.
        backward: the gradients of activations.
    """

    states: int
    encoding: int
    fusion: int
    activations: int
    logits: int
    backward: int

    @property
    def peak(self) -> int:
        """The most at once."""
        return max(self.states + self.encoding, self.after)

    @property
    def after(self) -> int:
        """The most at once after the encoder."""
        forward = self.states + self.fusion + self.activations
        return forward + max(self.logits, self.backward)


@dataclass(frozen=True)
class Skeleton:
    """The modules of a bridge without their numbers.

    Attributes:
        encoder: the part that reads text.
        language_model: with its head.
        fusion: of the bridge.
        projection: of the bridge.
        first_layer: 0 if the embeddings' output is fused, too.
    """

    mode: FakeTensorMode
    encoder: PreTrainedModel
    language_model: PreTrainedModel
    fusion: fusion.Fusion
    projection: nn.Module
    first_layer: int

    @classmethod
    def build(
        cls,
        config: BridgeConfig,
        encoder: Callable[[], PreTrainedModel],
        language_model: Callable[[], PreTrainedModel],
    ) -> Skeleton:
        """Builds the modules.

        Args:
            config: of the bridge.
            encoder: builds it from its config.
            language_model: the same.
        """
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with mode, no_init_weights():
            built = [model().eval().requires_grad_(False) for model in (encoder, language_model)]
            for model in built:
                model.tie_weights()
        first = 0 if config.embedding_layer else 1
        with mode, torch.no_grad():
            ids = torch.ones(1, 2, dtype=torch.long)
            output = built[0](input_ids=ids, attention_mask=ids, output_hidden_states=True)
            layers, width = len(output.hidden_states) - first, output.last_hidden_state.shape[-1]
        with mode:
            mixing = fusion.build(
                config.fusion,
                num_layers=layers,
                width=width,
                start=config.start,
                normalize=config.normalize,
                **(config.fusion_options or {}),
            )
            mapping = projection.build(
                config.projection,
                width,
                built[1].get_input_embeddings().embedding_dim,
                boundary=config.boundary,
                **(config.projection_options or {}),
            )
        return cls(mode, built[0], built[1], mixing, mapping, first)

    @property
    def trained(self) -> int:
        """The number of trained parameters."""
        return sum(count(part) for part in (self.fusion, self.projection))

    def weight_bytes(self, bits: float | None = None) -> dict[str, int]:
        """Returns the bytes of the weights, by module.

        Args:
            bits: of a number in the matrices of the frozen models, their scales included; None for
                those of its dtype. Embeddings and the head are never quantized.
        """
        weights = {
            name: sum(each.untyped_storage().nbytes() for each in tensors(module))
            for name, module in (
                ("encoder", self.encoder),
                ("language model", self.language_model),
                ("bridge", nn.ModuleList([self.fusion, self.projection])),
            )
        }
        if bits is not None:
            head = self.language_model.get_output_embeddings()
            for name, module in (
                ("encoder", self.encoder),
                ("language model", self.language_model),
            ):
                for part in module.modules():
                    if isinstance(part, nn.Linear) and part is not head:
                        numbers = part.weight.numel()
                        weights[name] -= round(numbers * (part.weight.itemsize - bits / 8))
        return weights

    def step(self, size: StepSize, *, checkpointed: bool = False) -> StepMemory:
        """Runs a step, and returns what it takes.

        Args:
            size: of its batch.
            checkpointed: whether the language model's layers keep their inputs only, and run again
                in the backward pass.
        """
        modules = (self.encoder, self.language_model, self.fusion, self.projection)
        with self.mode, _Allocations(modules) as allocations:
            states = self._states(size)
            kept, encoding = allocations.live, allocations.peak - allocations.live
            soft = self.projection(self.fusion.train()(states), states.mask)
            fused = allocations.live - kept
            hidden, activations, transient = self._body(size, soft, allocations)
            logits = self._logits(size, hidden, allocations)
            if checkpointed:
                layers = self._layers
                transient += activations // layers
                activations = min(activations, (layers + 1) * hidden.nbytes)
        return StepMemory(kept, encoding, max(fused, 0), activations, logits, transient)

    def _states(self, size: StepSize) -> HiddenStates:
        ids = torch.ones(size.rows, size.text_tokens, dtype=torch.long)
        needed = tuple(self.fusion.required_layers)
        last = self.fusion.num_layers - 1
        with torch.no_grad():
            output = self.encoder(
                input_ids=ids,
                attention_mask=ids,
                output_hidden_states=needed != (last,),
                return_dict=True,
            )
        top = output.last_hidden_state
        if needed == (last,):
            unread = torch.empty_like(top, device="meta")
            return HiddenStates([*[unread] * last, top], ids)
        return HiddenStates([*output.hidden_states[self.first_layer : -1], top], ids)

    def _body(
        self, size: StepSize, soft: Tensor, allocations: _Allocations
    ) -> tuple[Tensor, int, int]:
        """Returns the final states, what they keep, and the most that is freed on the way."""
        model = self.language_model
        before = allocations.live
        allocations.peak = before
        # The soft prompt needs a gradient, and so do all states after it.
        embeds = torch.zeros(
            (size.rows, size.read_tokens, soft.shape[-1]), dtype=model.dtype, requires_grad=True
        )
        mask = torch.ones(size.rows, size.read_tokens, dtype=torch.long)
        body: Any = model.base_model
        hidden = body(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        kept = allocations.live - before
        # Backward, a layer's gradients are alive at once: about as much as its own tensors.
        return hidden, kept, allocations.peak - allocations.live + kept // self._layers

    @property
    def _layers(self) -> int:
        config = self.language_model.config.get_text_config()
        return max(1, getattr(config, "num_hidden_layers", 1))

    def _logits(self, size: StepSize, hidden: Tensor, allocations: _Allocations) -> int:
        count = size.rows * size.target_tokens
        before = allocations.live
        allocations.peak = before
        states = hidden.new_zeros(count, hidden.shape[-1]).requires_grad_()
        head: Any = self.language_model.get_output_embeddings()
        loss = F.cross_entropy(head(states).float(), torch.zeros(count, dtype=torch.long))
        loss.backward()
        return allocations.peak - before


def count(module: nn.Module) -> int:
    """Returns the number of parameters; those that are shared count once."""
    return sum(each.numel() for each in module.parameters())


def tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yields parameters and buffers; those that share memory once."""
    seen = set()
    for each in (*module.parameters(), *module.buffers()):
        if each.untyped_storage()._cdata not in seen:
            seen.add(each.untyped_storage()._cdata)
            yield each


class _Allocations(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is active, without those of modules."""

    def __init__(self, modules: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {
            each.untyped_storage()._cdata for module in modules for each in tensors(module)
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for each in tree_leaves(output):
            if isinstance(each, Tensor) and not each.is_meta:
                self._add(each.untyped_storage())
        return output

    def _add(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
