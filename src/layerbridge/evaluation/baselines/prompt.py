"""The prompt: English words around a text, as token ids that fit the language model.

It knows words and tokens; what is done with the model's answer is ``asking.py``'s.
"""

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
    """What stands before the text and after it."""

    before: str
    after: str

    @classmethod
    def of(cls, prompt: str, options: Sequence[str]) -> Prompt:
        """From words with one ``{text}``, and ``{options}`` where they are to be named.

        Raises:
            ConfigError: there is no ``{text}``, or more than one.
        """
        if prompt.count("{text}") != 1:
            raise ConfigError(
                f"the prompt {prompt!r} has {prompt.count('{text}')} places for the text",
                allowed="one {text}, and {options} for the label words",
            )
        words = ", ".join(options)
        return cls(*(part.replace("{options}", words) for part in prompt.split("{text}")))

    def ids(self, language_model: LanguageModel, text: str, most: int | None) -> list[int]:
        """The tokens of the whole, without BOS.

        Args:
            language_model: whose tokens.
            text: what of it does not fit is cut off its end, not off the prompt's.
            most: tokens; None for no bound.
        """
        ids = language_model.token_ids(self.before + text + self.after)
        if most is None or len(ids) <= most:
            return ids
        end = len(language_model.token_ids(self.after))
        return ids[: most - end] + ids[len(ids) - end :]

    def words(self, language_model: LanguageModel) -> int:
        """How many tokens it has besides the text's."""
        return len(language_model.token_ids(self.before)) + len(
            language_model.token_ids(self.after)
        )


def padded(language_model: LanguageModel, rows: Sequence[Sequence[int]]) -> Segment:
    """Rows of token ids as input, padded on the right."""
    tensors = [torch.tensor(row) for row in rows]
    ids = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(language_model.device)
    lengths = torch.tensor([len(row) for row in rows], device=ids.device)
    mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
    return Segment(language_model.embed(ids), mask)


def bos(language_model: LanguageModel) -> list[int]:
    """What a text begins with: BOS, where there is one."""
    return [] if language_model.bos_id is None else [language_model.bos_id]
