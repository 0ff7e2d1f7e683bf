"""Option scoring: log p(option | prefix), with the prefix run once for all options.

    log p(option | prefix) = Σ_t log p(option_t | prefix, option_<t)

It uses nothing of the language model but ``embed`` and ``last_logits``.
Legend: B batch, O options, T LM tokens, n rows of one pass, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from layerbridge.models.caches import branch
from layerbridge.models.finite import check_rows, finite_rows
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.packing import Segment, pack

# Rows per pass over the options' own tokens, unless the batch is larger. Each has a copy of its
# prefix's cache, so there are fewer after a long one.
PASS_ROWS = 64
PASS_CACHE_TOKENS = 2**15
# Logits at a time, rows × tokens × vocabulary: 256 MB in float32.
PASS_LOGITS = 2**26


@torch.no_grad()
def option_scores(
    language_model: LanguageModel,
    prefix: Sequence[Segment],
    options: Sequence[Sequence[int]],
    *,
    after: Any = None,
) -> Float[Tensor, "B O"]:
    """Returns log p(option | prefix), summed over each option's tokens (EOS only if listed).

    Args:
        language_model: runs the prefix once, then only the options' own tokens.
        prefix: what stands before the options.
        options: O non-empty lists of token ids.
        after: the cache of one unpadded row that stands before every row's prefix, from
            ``last_logits``; it is not modified. The model must take position ids.

    Raises:
        NotFiniteError: a score is not finite.
        LengthError: a row with an option has more tokens than the model has positions.
    """
    scorer = _Scorer(language_model, prefix, options, after)
    scorer.complete(torch.ones_like(scorer.scores, dtype=torch.bool))
    return scorer.scores


@dataclass(frozen=True)
class ScoredOptions:
    """Scores of some options of each row.

    Attributes:
        scores: [B, O], as ``option_scores`` returns them, where they were wanted.
        greedy: [B, O], whether greedy decoding answers with all of the option's tokens.
    """

    scores: Tensor
    greedy: Tensor


@torch.no_grad()
def scored_options(
    language_model: LanguageModel,
    prefix: Sequence[Segment],
    options: Sequence[Sequence[int]],
    wanted: Bool[Tensor, "B O"],
) -> ScoredOptions:
    """As ``option_scores``, for rows that do not share all options.

    Args:
        language_model: as in ``option_scores``.
        prefix: as in ``option_scores``.
        options: of all rows.
        wanted: which rows have which options; other scores are not complete.

    Raises:
        NotFiniteError: a score is not finite.
        LengthError: a row with an option has more tokens than the model has positions.
    """
    scorer = _Scorer(language_model, prefix, options, greedy=True)
    scorer.complete(wanted.to(scorer.scores.device))
    assert scorer.greedy is not None
    return ScoredOptions(scorer.scores, scorer.greedy)


@torch.no_grad()
def best_options(
    language_model: LanguageModel,
    prefix: Sequence[Segment],
    options: Sequence[Sequence[int]],
    divisors: Sequence[int] | None = None,
) -> Int[Tensor, " B"]:
    """Returns the argmax of ``option_scores`` / ``divisors`` without scoring what cannot win.

    No token has a probability above 1, so an option's first token bounds its score. The most
    promising option of each row is scored in full, then only those whose bound reaches it: after
    training, hardly any.
    """
    scorer = _Scorer(language_model, prefix, options)
    by = torch.tensor(divisors or [1] * len(options), device=scorer.scores.device)
    bounds = scorer.scores / by
    favorite = F.one_hot(bounds.argmax(1), len(options)).bool()
    scorer.complete(favorite)
    reached = (scorer.scores / by)[favorite][:, None]
    rivals = ~favorite & (bounds >= reached)
    scorer.complete(rivals)
    return (scorer.scores / by).masked_fill(~(favorite | rivals), -torch.inf).argmax(1)


class _Scorer:
    """Scores of options after one prefix, by their first tokens until ``complete`` is called."""

    def __init__(
        self,
        language_model: LanguageModel,
        prefix: Sequence[Segment],
        options: Sequence[Sequence[int]],
        after: Any = None,
        *,
        greedy: bool = False,
    ) -> None:
        self.language_model = language_model
        self.options = options
        packed = pack(prefix)
        self.mask = packed.attention_mask
        if after is not None:
            before = self.mask.new_ones(len(self.mask), after.get_seq_length())
            after = branch(after, self.mask.new_zeros(len(self.mask)), 1)
            self.mask = torch.cat([before, self.mask], dim=1)
        # In float32, so that the order of two options does not hang on how a logit is rounded.
        self.exact = torch.tensor(sorted(set(chain(*options))), device=self.mask.device)
        logits, self.cache = language_model.last_logits(
            packed.inputs_embeds, self.mask, after, exact=self.exact
        )
        self.vocabulary = logits.shape[-1]
        first_tokens = [option[0] for option in options]
        self.scores = logits[:, 0].float().log_softmax(-1)[:, first_tokens]  # [B, O]
        # Whether greedy decoding would have given the tokens so far; None if nobody asks.
        self.greedy: Tensor | None = None
        if greedy:
            first = torch.tensor(first_tokens, device=self.scores.device)
            self.greedy = logits[:, 0].argmax(-1)[:, None] == first
        self.check()

    def complete(self, selected: Bool[Tensor, "B O"]) -> None:
        """Adds log p of tokens 2 … n to the selected scores; the cache is not modified."""
        by_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for option, row in selected.T.nonzero().tolist():
            if len(self.options[option]) > 1:
                by_length[len(self.options[option])].append((row, option))
        # At least as many rows per pass as the batch has: all rows with one option then need no
        # copy of the cache, and fewer would leave the machine idle.
        size = max(len(selected), min(PASS_ROWS, PASS_CACHE_TOKENS // self.mask.shape[1]))
        for pairs in by_length.values():
            for start in range(0, len(pairs), size):
                rows, chosen = torch.tensor(pairs[start : start + size], device=selected.device).T
                ids = torch.tensor([self.options[option] for option in chosen.tolist()])
                scores, greedy = self._rest(rows, ids.to(selected.device))
                self.scores[rows, chosen] += scores
                if greedy is not None and self.greedy is not None:
                    self.greedy[rows, chosen] &= greedy
        self.check()

    def check(self) -> None:
        """Raises ``NotFiniteError`` if a score is not finite."""
        check_rows(finite_rows(self.scores), "the option scores", self.language_model.dtype)

    def _rest(
        self, rows: Int[Tensor, " n"], ids: Int[Tensor, "n T"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"] | None]:
        """Σ log p of tokens 2 … T, each option after its row's prefix; and if all are greedy."""
        mask, cache = self.mask[rows], branch(self.cache, rows, len(self.mask))
        total = torch.zeros(len(rows), device=mask.device)
        greedy = None if self.greedy is None else total == 0
        width = max(1, PASS_LOGITS // (len(rows) * self.vocabulary))
        # The logits of token t + 1 are read at token t, so the last token is not read.
        inputs, targets = ids[:, :-1].split(width, 1), ids[:, 1:].split(width, 1)
        for read, scored in zip(inputs, targets, strict=True):
            mask = torch.cat([mask, mask.new_ones(read.shape)], dim=1)
            embeds = self.language_model.embed(read)
            logits, cache = self.language_model.last_logits(
                embeds, mask, cache, keep=read.shape[1], exact=self.exact
            )
            logprobs = logits.float().log_softmax(-1).gather(-1, scored[..., None])
            total += logprobs.squeeze(-1).sum(1)
            if greedy is not None:
                greedy &= (logits.argmax(-1) == scored).all(1)
        return total, greedy
