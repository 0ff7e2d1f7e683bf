"""Batched decoding: rows with their own sampling settings share each step of the language model.

Rows may join and leave between steps without affecting the other rows' tokens.
Legend: B rows, T LM tokens, D LM width, V vocabulary, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import DynamicLayer

from layerbridge.models.language_model import LanguageModel
from layerbridge.models.packing import PackedInputs
from layerbridge.serving.requests import Sampling, Token


@dataclass
class Row:
    """One completion in progress."""

    sampling: Sampling
    # Its own random state, so that other rows do not change its draws.
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        if self.sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.sampling.seed)


class Decoding:
    """A batch of rows and its KV cache; the constructor runs the prefill.

    Args:
        language_model: generates the tokens.
        prompts: input embeddings of each row, [T, D].
        rows: one per prompt.

    Attributes:
        logits: next-token logits of each row, [B, V].
    """

    @torch.no_grad()
    def __init__(
        self,
        language_model: LanguageModel,
        prompts: Sequence[Float[Tensor, "T D"]],
        rows: Sequence[Row],
    ) -> None:
        self.language_model = language_model
        self.rows = list(rows)
        width = max(map(len, prompts))
        # Left padding: the last position of every row is its newest token.
        embeds = torch.stack([F.pad(prompt, (0, 0, width - len(prompt), 0)) for prompt in prompts])
        lengths = torch.tensor(list(map(len, prompts)), device=embeds.device)
        mask = torch.arange(width, device=embeds.device) >= width - lengths[:, None]
        self.mask: Int[Tensor, "B T"] = mask.long()
        self.logits, self.cache = language_model.prefill(PackedInputs(embeds, self.mask))

    @property
    def can_join(self) -> bool:
        """Whether the cache holds only keys and values, so that other rows can be added."""
        layers = getattr(self.cache, "layers", None)
        if not layers or not self.language_model.takes_positions:
            return False
        return all(type(layer) is DynamicLayer for layer in layers)

    @torch.no_grad()
    def sample(self) -> list[Token]:
        """Chooses the next token of every row."""
        logits = self.logits.float()
        greedy = logits.argmax(-1).tolist()
        counts = [row.sampling.logprobs for row in self.rows]
        logprobs = logits.log_softmax(-1) if any(count is not None for count in counts) else None
        tokens = []
        for index, (row, count) in enumerate(zip(self.rows, counts, strict=True)):
            sampled = row.sampling.temperature > 0
            id = _draw(logits[index], row) if sampled else greedy[index]
            if logprobs is None or count is None:
                tokens.append(Token(id))
                continue
            values, ids = logprobs[index].topk(count)
            top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
            tokens.append(Token(id, float(logprobs[index, id]), top))
        return tokens

    @torch.no_grad()
    def advance(self, token_ids: Sequence[int]) -> None:
        """Appends one token to every row and computes the next logits."""
        ids = torch.tensor(token_ids, device=self.mask.device)
        self.mask = F.pad(self.mask, (0, 1), value=1)
        self.logits, self.cache = self.language_model.decode_step(ids, self.mask, self.cache)

    def keep(self, indices: Sequence[int]) -> None:
        """Drops all rows but these."""
        if list(indices) == list(range(len(self.rows))):
            return
        at = torch.tensor(list(indices), device=self.mask.device, dtype=torch.long)
        self.rows = [self.rows[index] for index in indices]
        self.mask, self.logits = self.mask[at], self.logits[at]
        self.cache.batch_select_indices(at)
        if self.can_join and len(at):
            # If the longest row has left, the others share padding that can go too.
            width = int(self.mask.sum(1).max())
            self.mask = self.mask[:, -width:]
            for layer in self.cache.layers:
                layer.keys = layer.keys[:, :, -width:]
                layer.values = layer.values[:, :, -width:]

    def join(self, other: Decoding) -> None:
        """Appends the rows of another batch, which must not be used afterwards."""
        joinable = self.can_join and other.can_join
        assert joinable, "rows of this language model cannot be batched later"
        width = max(self.mask.shape[1], other.mask.shape[1])
        self.rows += other.rows
        self.logits = torch.cat([self.logits, other.logits])
        masks = (self.mask, other.mask)
        self.mask = torch.cat([F.pad(mask, (width - mask.shape[1], 0)) for mask in masks])
        for ours, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            ours.keys = _concatenate(ours.keys, theirs.keys, width)
            ours.values = _concatenate(ours.values, theirs.values, width)


def _concatenate(
    first: Float[Tensor, "B H T d"], second: Float[Tensor, "B H T d"], width: int
) -> Float[Tensor, "B H T d"]:
    return torch.cat([F.pad(part, (0, 0, width - part.shape[2], 0)) for part in (first, second)])


def _draw(logits: Float[Tensor, " V"], row: Row) -> int:
    """Samples a token with temperature and top-p.

    Not transformers' ``TopPLogitsWarper``: its sort is unstable, and bfloat16 logits have so many
    ties that other tokens would be drawn from the same seed.
    """
    # On the CPU, where a seed gives the same draws on every machine.
    probabilities = (logits.cpu() / row.sampling.temperature).softmax(-1)
    if row.sampling.top_p < 1:
        values, order = probabilities.sort(descending=True, stable=True)
        removed = values.cumsum(0) - values >= row.sampling.top_p
        removed[0] = False
        probabilities = probabilities.index_fill(0, order[removed], 0.0)
    return int(torch.multinomial(probabilities, 1, generator=row.generator))
