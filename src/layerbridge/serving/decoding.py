"""Decoding: rows that a language model continues together, each with its own settings.

Rows may come and go between steps, and none of them changes what another one is told. It knows
prompts as embeddings, not whose they are. Legend: B rows, T LM tokens, D LM width, V vocabulary.
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


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_tokens: of the answer, at most.
        temperature: 0 takes the most likely token, whatever ``top_p`` and ``seed`` say.
        top_p: the most likely tokens that have so much of the probability together.
        seed: the same seed gives the same answer on the same engine, whatever else it is doing;
            None draws afresh.
        logprobs: how many of the most likely tokens to tell beside each token; None for none.
        ignore_eos: go on to ``max_tokens``; for benchmarks.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    ignore_eos: bool = False


@dataclass(frozen=True)
class Chosen:
    """The next token of a row.

    Attributes:
        id: in the vocabulary.
        logprob: of the model itself, before temperature and top-p (nats); None if not asked for.
        top: the most likely tokens and their log-probabilities, the likeliest first.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass
class Row:
    """One answer that is being written.

    Attributes:
        sampling: how its tokens are chosen.
        generator: what its draws come from; its own, so that company does not change them.
    """

    sampling: Sampling
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        if self.sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.sampling.seed)


class Decoding:
    """Rows and what the language model remembers of them.

    Args:
        language_model: that continues them.
        prompts: [T, D] each; they are read here.
        rows: one a prompt.

    Attributes:
        logits: [B, V], of what comes next in each row.
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
        # On the left, where pads belong: rows end together.
        embeds = torch.stack([F.pad(prompt, (0, 0, width - len(prompt), 0)) for prompt in prompts])
        lengths = torch.tensor(list(map(len, prompts)), device=embeds.device)
        real = torch.arange(width, device=embeds.device) >= width - lengths[:, None]
        packed = PackedInputs(embeds, real.long())
        self.mask: Int[Tensor, "B T"] = packed.attention_mask
        self.logits, self.cache = language_model.prefill(packed)

    @property
    def joins(self) -> bool:
        """Whether its memory is keys and values alone, so that rows can be put beside others."""
        layers = getattr(self.cache, "layers", None)
        takes_positions = self.language_model.takes_positions
        if not layers or not takes_positions:
            return False
        return all(type(layer) is DynamicLayer for layer in layers)

    @torch.no_grad()
    def choose(self) -> list[Chosen]:
        """The next token of every row."""
        logits = self.logits.float()
        greedy = logits.argmax(-1).tolist()
        most = max((row.sampling.logprobs or 0 for row in self.rows), default=0)
        told = any(row.sampling.logprobs is not None for row in self.rows)
        logprobs = logits.log_softmax(-1) if told else None
        top = logprobs.topk(most) if logprobs is not None and most else None
        chosen = []
        for place, row in enumerate(self.rows):
            how = row.sampling
            token = greedy[place] if how.temperature == 0 else _drawn(logits[place], row)
            if how.logprobs is None or logprobs is None:
                chosen.append(Chosen(token))
                continue
            likely: tuple[tuple[int, float], ...] = ()
            if top is not None and how.logprobs:
                ids, values = top.indices[place].tolist(), top.values[place].tolist()
                likely = tuple(zip(ids, values, strict=True))[: how.logprobs]
            chosen.append(Chosen(token, float(logprobs[place, token]), likely))
        return chosen

    @torch.no_grad()
    def advance(self, tokens: Sequence[int]) -> None:
        """Reads one token more in every row."""
        ids = torch.tensor(tokens, device=self.mask.device)
        self.mask = F.pad(self.mask, (0, 1), value=1)
        self.logits, self.cache = self.language_model.decode_step(ids, self.mask, self.cache)

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with these rows alone."""
        if list(places) == list(range(len(self.rows))):
            return
        at = torch.tensor(list(places), device=self.mask.device, dtype=torch.long)
        self.rows = [self.rows[place] for place in places]
        self.mask, self.logits = self.mask[at], self.logits[at]
        self.cache.batch_select_indices(at)
        if self.joins and len(at):
            # The longest row may have gone: what is padding in all others goes too.
            width = int(self.mask.sum(1).max())
            self.mask = self.mask[:, -width:]
            for layer in self.cache.layers:
                layer.keys = layer.keys[:, :, -width:]
                layer.values = layer.values[:, :, -width:]

    def join(self, other: Decoding) -> None:
        """Takes the other's rows as well, after its own; the other is of no use any more."""
        assert self.joins, "rows of this language model cannot be put together"
        assert other.joins, "rows of this language model cannot be put together"
        width = max(self.mask.shape[1], other.mask.shape[1])
        self.rows += other.rows
        self.logits = torch.cat([self.logits, other.logits])
        self.mask = torch.cat(
            [F.pad(it.mask, (width - it.mask.shape[1], 0)) for it in (self, other)]
        )
        for own, its in zip(self.cache.layers, other.cache.layers, strict=True):
            own.keys = _stacked(own.keys, its.keys, width)
            own.values = _stacked(own.values, its.values, width)


def _stacked(
    own: Float[Tensor, "B H T d"], its: Float[Tensor, "B H T d"], width: int
) -> Float[Tensor, "B H T d"]:
    return torch.cat([F.pad(it, (0, 0, width - it.shape[2], 0)) for it in (own, its)])


def _drawn(logits: Float[Tensor, " V"], row: Row) -> int:
    """A token out of the likeliest ones that have ``top_p`` of the probability together."""
    how = row.sampling
    # On the CPU, where a generator draws the same on every machine.
    probabilities = (logits.cpu() / how.temperature).softmax(-1)
    if how.top_p < 1:
        values, order = probabilities.sort(descending=True, stable=True)
        # The first one always stays.
        beyond = values.cumsum(0) - values >= how.top_p
        beyond[0] = False
        probabilities = probabilities.index_fill(0, order[beyond], 0.0)
    return int(torch.multinomial(probabilities, 1, generator=row.generator))
