"""The frozen encoder: token ids → HiddenStates. Every quirk of a model family lives here.

It knows nothing of fusion, language models or training.
Legend: L layers, B batch, S encoder tokens, E encoder width.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForTextEncoding,
    BatchEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)

from layerbridge.errors import BackboneError
from layerbridge.hub.sources import Source
from layerbridge.models.backbone import (
    LoadOptions,
    freeze,
    load_config,
    load_tokenizer,
    load_weights,
)
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.state_cache import MappedStateCache, StateCache
from layerbridge.models.truncation import truncated

SUPPORTED = (
    "T5 (mT5, umT5), BERT, XLM-R and other text encoders, M2M100/NLLB, "
    "and causal language models (Gemma, Llama, …)"
)

# Encoder-decoder families whose encoder half has a class of its own but no auto class:
# model type → (module, class, checkpoint keys → keys of the half). The decoder is never read.
ENCODER_HALVES = {
    "m2m_100": (
        "transformers.models.m2m_100.modeling_m2m_100",
        "M2M100Encoder",
        {r"^(model\.)?encoder\.": "", r"^(model\.)?shared\.": "embed_tokens."},
    ),
}

# Text encoders that would build a pooling head over the first token, which nobody here reads.
_POOLING = ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text")

# Texts at a time when a cache is filled.
CACHE_BATCH = 64

# What a tokenizer without a limit says its limit is, at least.
_NO_LIMIT = 1_000_000


class Encoder(nn.Module):
    """A frozen multilingual encoder and its tokenizer.

    Args:
        model: returns ``last_hidden_state`` and, when asked, ``hidden_states``.
        tokenizer: the one the model was trained with.
        max_text_tokens: S at most; longer texts are cut at the end.
        embedding_layer: whether the output of the embeddings counts as a layer, the lowest; the
            paper leaves it out.

    Attributes:
        layers: L, how many layers' states it gives.
        cache: set a cache of states here and ``encode`` reads each text once only.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_text_tokens: int = 512,
        embedding_layer: bool = False,
    ) -> None:
        super().__init__()
        self.model = freeze(model)
        self.tokenizer = tokenizer
        self.cache: StateCache | MappedStateCache | None = None
        limit = tokenizer.model_max_length
        self.max_text_tokens = min(max_text_tokens, limit if limit < _NO_LIMIT else max_text_tokens)
        text_config = model.config.get_text_config()
        self.width: int = text_config.hidden_size
        self.embedding_layer = embedding_layer
        self.num_layers: int = text_config.num_hidden_layers + embedding_layer

    @classmethod
    def load(
        cls,
        source: Source,
        options: LoadOptions | None = None,
        *,
        max_text_tokens: int = 512,
        embedding_layer: bool = False,
    ) -> Encoder:
        """The encoder at ``source``; of an encoder-decoder model, the encoder half alone.

        Raises:
            BackboneError: it cannot be loaded, or it is no text encoder.
        """
        options = options or LoadOptions()
        config = load_config("encoder", source, options)
        model = _load_model(source, config, options)
        tokenizer = load_tokenizer("encoder", source, options)
        return cls(
            model, tokenizer, max_text_tokens=max_text_tokens, embedding_layer=embedding_layer
        )

    def with_settings(self, *, max_text_tokens: int, embedding_layer: bool) -> Encoder:
        """An encoder of the same weights that cuts texts elsewhere, or gives other layers.

        It has no cache; where nothing differs it is this encoder itself.
        """
        if (max_text_tokens, embedding_layer) == (self.max_text_tokens, self.embedding_layer):
            return self
        return Encoder(
            self.model,
            self.tokenizer,
            max_text_tokens=max_text_tokens,
            embedding_layer=embedding_layer,
        )

    @property
    def first_layer(self) -> int:
        """Number of the lowest layer: 1, or 0 where the embeddings' output counts as one."""
        return 0 if self.embedding_layer else 1

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """``input_ids`` and ``attention_mask`` [B, S], padded on the right, on the CPU.

        A text of no tokens at all (empty, and a tokenizer that adds none) becomes one end token,
        so that every row has something to say.
        """
        tokenizer = self.tokenizer
        rows = tokenizer(list(texts), truncation=True, max_length=self.max_text_tokens)["input_ids"]
        filler = next(
            i
            for i in (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, 0)
            if i is not None
        )
        rows = [row or [filler] for row in rows]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else filler
        width = max(map(len, rows), default=0)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for row, (row_ids, row_mask) in zip(rows, zip(ids, mask, strict=True), strict=True):
            row_ids[: len(row)] = torch.tensor(row)
            row_mask[: len(row)] = 1
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})

    def encode(self, texts: Sequence[str], *, layers: Sequence[int] | None = None) -> HiddenStates:
        """The layer states of texts; out of ``cache`` if there is one, and then read once only.

        Args:
            texts: B of them.
            layers: as in ``forward``; a cache keeps what it was made for.
        """
        if self.cache is None:
            return self._read(texts, layers)
        self.remember(texts)
        return self.cache.batch(texts)

    def remember(self, texts: Sequence[str]) -> None:
        """Reads the texts that are not in ``cache`` yet, and puts them there."""
        assert self.cache is not None, "there is no cache to put states into"
        # Sorted by length, so that little of a batch is padding; a set's order is not every run's.
        new = sorted(dict.fromkeys(text for text in texts if text not in self.cache), key=len)
        for start in range(0, len(new), CACHE_BATCH):
            batch = new[start : start + CACHE_BATCH]
            states = self._read(batch)
            for row, text in enumerate(batch):
                self.cache.put(text, states.stacked[:, row, states.mask[row]])

    def _read(self, texts: Sequence[str], layers: Sequence[int] | None = None) -> HiddenStates:
        batch = self.tokenize(texts).to(self.model.device)
        return self(batch["input_ids"], batch["attention_mask"], layers=layers)

    @torch.no_grad()
    def forward(
        self,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Int[Tensor, "B S"],
        *,
        layers: Sequence[int] | None = None,
    ) -> HiddenStates:
        """h₁ … h_L, without the embedding output unless it was asked for at the beginning; h_L is
        what the encoder itself returns.

        Args:
            input_ids: padded on the right.
            attention_mask: 1 where they are real.
            layers: indices of the layers that will be looked at; None for all. What is above the
                highest of them is not run; where the last is the only one, the others are not
                kept. These stand there without numbers.
        """
        top = self.num_layers if layers is None else 1 + max(layers)
        if top < self.num_layers:
            return self._lower(input_ids, attention_mask, top)
        last_alone = layers is not None and set(layers) <= {self.num_layers - 1}
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=not last_alone,
            return_dict=True,
        )
        if last_alone:
            last = output.last_hidden_state
            unread = torch.empty_like(last, device="meta")
            return HiddenStates([*[unread] * (self.num_layers - 1), last], attention_mask)
        # Some families report the last state before their final norm, some after it.
        # ``last_hidden_state`` is after it in all of them.
        states = (*output.hidden_states[self.first_layer : -1], output.last_hidden_state)
        if len(states) != self.num_layers:
            raise BackboneError(
                f"the encoder returned {len(states)} layers; its config says {self.num_layers}",
                allowed=SUPPORTED,
            )
        return HiddenStates(states, attention_mask)

    def _lower(
        self, input_ids: Int[Tensor, "B S"], attention_mask: Int[Tensor, "B S"], top: int
    ) -> HiddenStates:
        """The lowest ``top`` states; those above stand there without numbers."""
        # One layer more is run: what the highest of them gives may have gone through the final
        # norm, which belongs to h_L.
        output = truncated(self.model, top + self.first_layer)(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            return_dict=True,
        )
        states = output.hidden_states[self.first_layer : top + self.first_layer]
        unread = torch.empty_like(states[0], device="meta")
        return HiddenStates([*states, *[unread] * (self.num_layers - top)], attention_mask)

    def train(self, mode: bool = True) -> Encoder:
        """Stays in eval mode: a frozen encoder has no dropout."""
        return super().train(False)


def _load_model(source: Source, config: PreTrainedConfig, options: LoadOptions) -> PreTrainedModel:
    arguments = options.for_transformers(source)
    kind = config.model_type
    if kind in ENCODER_HALVES:
        module, name, key_mapping = ENCODER_HALVES[kind]
        half = getattr(importlib.import_module(module), name)
        arguments["key_mapping"] = key_mapping
        return load_weights("encoder", source, half, config, arguments)
    if kind in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:
        if kind in _POOLING:
            arguments["add_pooling_layer"] = False
        return load_weights("encoder", source, AutoModelForTextEncoding, config, arguments)
    is_text = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or options.trust_remote_code
    if config.is_encoder_decoder or not is_text:
        raise BackboneError(
            f"{source.given!r} is a {kind!r} model, which is no text encoder known here",
            allowed=SUPPORTED,
        )
    return load_weights("encoder", source, AutoModel, config, arguments)
