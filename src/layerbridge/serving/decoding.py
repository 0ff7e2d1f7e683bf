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

from layerbridge.errors import NotFiniteError
from layerbridge.models.finite import advice
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.packing import PackedInputs
from layerbridge.serving.requests import Sampling, Token

# Logits divided by less would overflow. The most likely token is as good as certain.
MIN_TEMPERATURE = 1e-5


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
    def sample(self) -> list[Token | Exception]:
        """Chooses the next token of every row; a row for which that fails gets the exception."""
        logits = self.logits.float()
        # The maximum is NaN if any logit is, and infinite if one is or if all are -∞.
        best, greedy = logits.max(-1)
        is_finite = best.isfinite().tolist()
        counts = [row.sampling.logprobs for row in self.rows]
        logprobs: Sequence[Tensor | None] = [None] * len(self.rows)
        if any(count is not None for count in counts):
            logprobs = list(logits.log_softmax(-1))
        tokens: list[Token | Exception] = []
        for index, (row, id) in enumerate(zip(self.rows, greedy.tolist(), strict=True)):
            try:
                if not is_finite[index]:
                    hint = advice(self.language_model.dtype)
                    raise NotFiniteError("the language model's logits", [index], hint=hint)
                tokens.append(_token(row, id, logits[index], logprobs[index]))
            except Exception as error:
                tokens.append(error)
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


def _token(
    row: Row, greedy: int, logits: Float[Tensor, " V"], logprobs: Float[Tensor, " V"] | None
) -> Token:
    id = draw(logits, row) if row.sampling.temperature > 0 else greedy
    if logprobs is None or row.sampling.logprobs is None:
        return Token(id)
    values, ids = logprobs.topk(row.sampling.logprobs)
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return Token(id, float(logprobs[id]), top)


def draw(logits: Float[Tensor, " V"], row: Row) -> int:
    """Returns an index of the logits, sampled with temperature and top-p.

    Not transformers' ``TopPLogitsWarper``: its sort is unstable, and bfloat16 logits have so many
    ties that other tokens would be drawn from the same seed.
    """
    temperature = max(row.sampling.temperature, MIN_TEMPERATURE)
    # On the CPU, where a seed gives the same draws on every machine.
    probabilities = (logits.cpu() / temperature).softmax(-1)
    if row.sampling.top_p < 1:
        values, order = probabilities.sort(descending=True, stable=True)
        removed = values.cumsum(0) - values >= row.sampling.top_p
        removed[0] = False
        probabilities = probabilities.index_fill(0, order[removed], 0.0)
    return int(torch.multinomial(probabilities, 1, generator=row.generator))
