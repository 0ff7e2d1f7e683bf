"""The prompt: English words around a text, as token ids that fit the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from layerbridge.errors import ConfigError
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.packing import Segment

# {text} is the row's text, {options} the label words with commas.
PROMPT = 'Category of "{text}": '


@dataclass(frozen=True)
class Prompt:
    """The words before the text and after it."""

    before: str
    after: str

    @classmethod
    def of(cls, prompt: str, options: Sequence[str]) -> Prompt:
        """Parses a prompt with one ``{text}``, and optionally ``{options}``.

        Raises:
            ConfigError: there is no ``{text}``, or more than one.
        """
        if prompt.count("{text}") != 1:
            raise ConfigError(
                f"the prompt {prompt!r} has {prompt.count('{text}')} placeholders {{text}}",
                allowed="one {text}, and optionally {options} for the label words",
            )
        words = ", ".join(options)
        return cls(*(part.replace("{options}", words) for part in prompt.split("{text}")))

    def ids(self, language_model: LanguageModel, text: str, max_tokens: int | None) -> list[int]:
        """Token ids without BOS, at most ``max_tokens``; what does not fit is cut off the text."""
        ids = language_model.token_ids(self.before + text + self.after)
        if max_tokens is None or len(ids) <= max_tokens:
            return ids
        end = len(language_model.token_ids(self.after))
        return ids[: max_tokens - end] + ids[len(ids) - end :]

    def count_cut(
        self, language_model: LanguageModel, texts: Sequence[str], max_tokens: int | None
    ) -> int:
        """The number of texts off which ``ids`` cuts something."""
        if max_tokens is None:
            return 0
        return sum(len(self.ids(language_model, text, None)) > max_tokens for text in texts)

    def overhead(self, language_model: LanguageModel) -> int:
        """The number of tokens besides the text's."""
        return sum(len(language_model.token_ids(part)) for part in (self.before, self.after))


def padded(language_model: LanguageModel, rows: Sequence[Sequence[int]]) -> Segment:
    """Embeds rows of token ids, padded on the right."""
    tensors = [torch.tensor(row) for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(language_model.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return Segment(language_model.embed(ids), mask)


def bos(language_model: LanguageModel) -> list[int]:
    """The token that a text starts with, where the model has one."""
    return [] if language_model.bos_id is None else [language_model.bos_id]
