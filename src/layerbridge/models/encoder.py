"""The frozen encoder: text → HiddenStates. The quirks of model families are handled here.

Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerbridge.errors import BackboneError, LengthError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import (
    LoadOptions,
    freeze,
    load_config,
    load_tokenizer,
)
from layerbridge.models.encoder_language import speaking
from layerbridge.models.encoder_loading import load_text_encoder
from layerbridge.models.encoder_text import TextInput
from layerbridge.models.finite import STATES, check_rows, naming, warn_of_overflow
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.placement import Placed, input_device
from layerbridge.models.positions import check_ids, known_ids, position_limit
from layerbridge.models.probes.encoder_traits import TEXTS, EncoderTraits, encoder_traits
from layerbridge.models.state_cache import MappedStateCache, StateCache
from layerbridge.models.truncation import truncated
from layerbridge.tasks.task import template_end

# Texts per batch when a cache is filled.
CACHE_BATCH = 64

# For a model without a limit; tokenizers without one have a larger number.
_NO_LIMIT = 10**9


class Encoder(TextInput, Placed):
    """A frozen multilingual encoder and its tokenizer.

    Args:
        model: returns ``last_hidden_state`` and ``hidden_states``.
        tokenizer: the model's own.
        max_text_tokens: limit of S. A longer text loses its end, but keeps ``template_end``. The
            tokenizer's limit and the model's positions may lower it.
        embedding_layer: count the embeddings' output as the lowest layer; the paper does not.
        template_end: the template's words after the text, such as `` Label: ``; they are what
            asks for the answer. They get half of the tokens at most.
        text_prefix: put before each text, for encoders trained with one (E5: ``query: ``).
        language: code of the texts, for tokenizers that add one (NLLB: ``eng_Latn``); without
            one, the tokenizer's own.
        source: where the model was loaded from; None if it was not.
        traits: what probes found out about the model; None runs them.

    Raises:
        BackboneError: the model breaks what the method relies on.
        ConfigError: the tokenizer knows no such language.

    Attributes:
        num_layers: L.
        width: E.
        most_tokens: what tokenizer and positions allow of ``max_text_tokens``.
        cache: of hidden states; with one, ``encode`` runs the model once per text.
        states_device: to which states are brought; None leaves them where they were computed.
    """

    states_device: torch.device | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_text_tokens: int = 512,
        embedding_layer: bool = False,
        template_end: str = "",
        text_prefix: str = "",
        language: str = "",
        source: Source | None = None,
        traits: EncoderTraits | None = None,
    ) -> None:
        super().__init__()
        self.model = freeze(model)
        self._own_tokenizer = tokenizer
        self.tokenizer = speaking(tokenizer, language) if language else tokenizer
        self.text_prefix, self.language = text_prefix, language
        self.template_end = template_end
        self.cache: StateCache | MappedStateCache | None = None
        self.source = source
        self.known_ids = known_ids(model)
        self.max_positions = position_limit(model)
        self.most_tokens = min(tokenizer.model_max_length, self.max_positions or _NO_LIMIT)
        self.max_text_tokens = min(max_text_tokens, self.most_tokens)
        self.traits = traits or self._probe()
        self.width = self.traits.width
        self.embedding_layer = embedding_layer
        if embedding_layer and self.traits.embedding_width != self.width:
            raise BackboneError(
                f"the embeddings of {self._named} are {self.traits.embedding_width} wide and its "
                f"layers {self.width}, so they cannot be fused",
                hint="turn embedding_layer off",
            )
        self.num_layers = self.traits.num_layers + embedding_layer

    @classmethod
    def load(
        cls,
        source: Source,
        options: LoadOptions | None = None,
        *,
        max_text_tokens: int = 512,
        embedding_layer: bool = False,
    ) -> Encoder:
        """Loads the encoder at ``source``; of an encoder-decoder model, only the encoder.

        Raises:
            BackboneError: it cannot be loaded, or is not a text encoder.
        """
        options = options or LoadOptions()
        config = load_config("encoder", source, options)
        model = load_text_encoder(source, config, options)
        tokenizer = load_tokenizer("encoder", source, options)
        encoder = cls(
            model,
            tokenizer,
            max_text_tokens=max_text_tokens,
            embedding_layer=embedding_layer,
            source=source,
        )
        warn_of_overflow("encoder", source, model.dtype, encoder.is_finite)
        return encoder

    def with_settings(
        self,
        *,
        max_text_tokens: int | None = None,
        embedding_layer: bool | None = None,
        template: str | None = None,
        text_prefix: str | None = None,
        language: str | None = None,
    ) -> Encoder:
        """Returns an encoder with the same weights, other settings and no cache.

        None keeps a setting; of ``template`` only the end counts. With the same settings, returns
        this encoder.
        """
        old: dict[str, Any] = {
            "max_text_tokens": self.max_text_tokens,
            "embedding_layer": self.embedding_layer,
            "template_end": self.template_end,
            "text_prefix": self.text_prefix,
            "language": self.language,
        }
        given = {
            "max_text_tokens": max_text_tokens,
            "embedding_layer": embedding_layer,
            "template_end": None if template is None else template_end(template),
            "text_prefix": text_prefix,
            "language": language,
        }
        new = old | {name: value for name, value in given.items() if value is not None}
        if new == old:
            return self
        return Encoder(
            self.model, self._own_tokenizer, **new, source=self.source, traits=self.traits
        )

    @property
    def first_layer(self) -> int:
        """Number of the lowest layer: 1, or 0 with ``embedding_layer``."""
        return 0 if self.embedding_layer else 1

    def encode(self, texts: Sequence[str], *, layers: Sequence[int] | None = None) -> HiddenStates:
        """Returns the hidden states of B texts, from ``cache`` if there is one.

        Args:
            texts: in any language of the encoder.
            layers: as in ``forward``; ignored with a cache.
        """
        if self.cache is None:
            return self._read(texts, layers)
        self.remember(texts)
        states = self.cache.batch(texts)
        return states if self.states_device is None else states.to(self.states_device)

    def remember(self, texts: Sequence[str]) -> None:
        """Adds the hidden states of new texts to ``cache``.

        Raises:
            NotFiniteError: names a text whose states are not finite.
        """
        assert self.cache is not None, "there is no cache"
        # Sorted by length for little padding, and unique in an order that every run repeats.
        new = sorted(dict.fromkeys(text for text in texts if text not in self.cache), key=len)
        for start in range(0, len(new), CACHE_BATCH):
            batch = new[start : start + CACHE_BATCH]
            states = self._read(batch)
            with naming(batch):
                check_rows(states.finite_rows(), STATES, self.model.dtype)
            for row, text in enumerate(batch):
                self.cache.put(text, states.stacked[:, row, states.mask[row]])

    def _read(self, texts: Sequence[str], layers: Sequence[int] | None = None) -> HiddenStates:
        batch = self.tokenize(texts)
        return self(batch["input_ids"], batch["attention_mask"], layers=layers)

    @torch.no_grad()
    def forward(
        self,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Int[Tensor, "B S"],
        *,
        layers: Sequence[int] | None = None,
    ) -> HiddenStates:
        """Returns h₁ … h_L; h_L is the encoder's own output, after the final norm.

        Args:
            input_ids: padded on the right.
            attention_mask: 1 for real tokens.
            layers: indices of the layers that are needed; None for all. Layers above the highest
                are not run, and if only the last is needed the others are not kept; these are
                on the meta device.

        Raises:
            LengthError: S exceeds the model's positions.
        """
        device = input_device(self.model)
        input_ids, attention_mask = input_ids.to(device), attention_mask.to(device)
        tokens = input_ids.shape[1]
        if self.max_positions is not None and tokens > self.max_positions:
            raise LengthError(
                f"a text has {tokens} encoder tokens",
                allowed=f"{self.max_positions}, its positions",
            )
        top = self.num_layers if layers is None else 1 + max(layers)
        only_last = layers is not None and set(layers) <= {self.num_layers - 1}
        # In its own dtype also within a training step, whose states would be in another dtype
        # than those of inference and of a cache.
        with torch.autocast(device.type, enabled=False):
            # One extra layer is run: the highest hidden state may have been through the final norm.
            model = self.model
            if top < self.num_layers and self.traits.can_be_shallow:
                model = truncated(self.model, top + self.first_layer)
            output = model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                output_hidden_states=not only_last,
                return_dict=True,
            )
        unread = torch.empty_like(output.last_hidden_state, device="meta")
        if only_last:
            states = [*[unread] * (self.num_layers - 1), output.last_hidden_state]
        elif top < self.num_layers:
            states = output.hidden_states[self.first_layer : top + self.first_layer]
            states = [*states, *[unread] * (self.num_layers - top)]
        else:
            # The highest hidden state is before the final norm in some families, and after it in
            # others; ``last_hidden_state`` is after it in all.
            states = [*output.hidden_states[self.first_layer : -1], output.last_hidden_state]
        # The layers of a spread model are on several devices.
        return HiddenStates(states, attention_mask).to(self.states_device or device)

    def is_finite(self, text: str) -> bool:
        """Returns whether the states of a text are finite."""
        return bool(self._read([text]).finite_rows().all())

    @property
    def _named(self) -> str:
        given = self.source.given if self.source else self.model.name_or_path
        return f"the encoder {given!r}" if given else "this encoder"

    def _probe(self) -> EncoderTraits:
        # It also runs the whole model before any shallow one: transformers then puts its hooks on
        # the layers, and marks the model as having them. A shallow one shares the layers, and the
        # mark only if it is set by now; otherwise each would add hooks of its own, and every state
        # would be captured once more from call to call.
        rows = self._ids(TEXTS)
        check_ids(chain.from_iterable(rows), self.known_ids, self.tokenizer, "encoder")
        return encoder_traits(self._named, self.model, rows)

    def train(self, mode: bool = True) -> Encoder:
        """Stays in eval mode: a frozen encoder has no dropout."""
        return super().train(False)
