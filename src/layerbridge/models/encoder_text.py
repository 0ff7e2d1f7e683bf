"""What an encoder reads of a text: prefix, tokens, and the cut.

A mixin of ``Encoder``, and of the tokenizer that ``AutoTokenizer`` returns, which has no model.
Legend: B batch, S encoder tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, takewhile
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding

from layerbridge.models.positions import check_ids
from layerbridge.tasks.text import check_unicode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts per batch when they are counted.
COUNTED_BATCH = 1024

Item = TypeVar("Item")


class TextInput:
    """``tokenize`` and what goes with it; the attributes are those of ``Encoder``."""

    if TYPE_CHECKING:
        tokenizer: PreTrainedTokenizerBase
        known_ids: int
        max_text_tokens: int
        template_end: str
        text_prefix: str

    @property
    def pad_id(self) -> int:
        """Returns the padding's token id; another special token where the tokenizer has none."""
        specials = self._specials()
        pad = self.tokenizer.pad_token_id
        return pad if pad in specials else specials[0]

    def _specials(self) -> list[int]:
        # A token that was added to the tokenizer alone has no embedding.
        tokenizer = self.tokenizer
        roles = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, 0)
        return [token for token in roles if token is not None and token < self.known_ids]

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """Returns ``input_ids`` and ``attention_mask`` [B, S], padded on the right, on the CPU.

        A text without any tokens (an empty one, from some tokenizers) becomes one end token, so
        that no row is all padding.

        Raises:
            BackboneError: the model has no embedding for a token.
        """
        rows = [self._cut(row, row) for row in self._ids(texts)]
        check_ids(chain.from_iterable(rows), self.known_ids, self.tokenizer, "encoder")
        return self.pad(rows)

    def pad(self, rows: Sequence[Sequence[int]]) -> BatchEncoding:
        """Returns token ids of texts as ``tokenize`` does."""
        # Not padded by the tokenizer, which may have no pad token.
        ids = [torch.tensor(row or [self._specials()[0]]) for row in rows]
        masks = [torch.ones_like(row) for row in ids]
        return BatchEncoding(
            {
                "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
                "attention_mask": pad_sequence(masks, batch_first=True),
            }
        )

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Returns the number of tokens of each text, before any is cut."""
        return [
            len(ids)
            for start in range(0, len(texts), COUNTED_BATCH)
            for ids in self._ids(texts[start : start + COUNTED_BATCH])
        ]

    def count_cut(self, texts: Sequence[str]) -> int:
        """Returns how many texts are longer than ``max_text_tokens``."""
        return sum(length > self.max_text_tokens for length in self.lengths(texts))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Returns the characters of each token that is read, [first, last).

        Tokens of ``text_prefix`` have none. The tokenizer must be a fast one.
        """
        before = len(self.text_prefix)
        tokens = self.tokenizer(self.text_prefix + text, return_offsets_mapping=True, verbose=False)
        spans = [
            (max(first - before, 0), max(last - before, 0))
            for first, last in tokens["offset_mapping"]
        ]
        return self._cut(spans, tokens["input_ids"])

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns all token ids of texts.

        Raises:
            DataError: a text has half of a surrogate pair, which no tokenizer accepts.
        """
        for text in texts:
            check_unicode(text, "a text")
        # The tokenizer would warn about long texts, which are cut later.
        given = [self.text_prefix + text for text in texts]
        return self.tokenizer(given, verbose=False)["input_ids"] if given else []

    def _cut(self, items: list[Item], ids: Sequence[int]) -> list[Item]:
        """Cuts what there is for each of a text's token ids: before the end of the template."""
        limit = self.max_text_tokens
        if len(ids) <= limit:
            return items
        end = self.tokenizer(self.template_end)["input_ids"]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(ids[::-1], end[::-1], strict=False))
        kept = min(len(list(same)), limit // 2)
        return items[: limit - kept] + items[len(items) - kept :]
