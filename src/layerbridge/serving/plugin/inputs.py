"""The input of a bridge in vLLM: a text is an item of the modality ``"text"``.

    [BOS] · soft prompt · boundary · LM tokens of the prompt

Where the soft prompt and the boundary will stand, vLLM sees a token that means nothing. Legend: S
encoder tokens, n soft tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import BatchFeature
from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems
from vllm.multimodal.parse import MultiModalDataItems, MultiModalDataParser, ProcessorBatchItems
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptIndexTargets,
    PromptInsertion,
    PromptUpdate,
    PromptUpdateDetails,
)
from vllm.renderers import TokenizeParams

from layerbridge.errors import DataError
from layerbridge.models.blank_bridge import blank_bridge
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.prompt_room import prompt_lengths
from layerbridge.tasks.text import check_unicode

MODALITY = "text"

_blank_bridge = lru_cache(maxsize=2)(blank_bridge)


def as_tensor(code: str) -> Int[Tensor, " bytes"]:
    """Returns a language code as a tensor, which vLLM can pass on: 0, then its bytes."""
    return torch.tensor([0, *code.encode()], dtype=torch.uint8)


def from_tensor(code: Int[Tensor, " bytes"]) -> str | None:
    """Returns a language code from ``as_tensor``; None of an empty one."""
    return bytes(code[1:].tolist()).decode() or None


class TextItems(ProcessorBatchItems[str]):
    """The texts of a prompt; a prompt has one."""


class TextParser(MultiModalDataParser):
    """Reads ``{"text": …}`` of a prompt's ``multi_modal_data``."""

    def _get_subparsers(self) -> Mapping[str, Any]:
        return {MODALITY: self._parse_text}

    def _parse_text(self, data: str | Sequence[str]) -> TextItems:
        texts = data if isinstance(data, list | tuple) else [data]
        for text in texts:
            if not isinstance(text, str):
                raise DataError(f"a text is a {type(text).__name__}", allowed="a string")
            check_unicode(text, "a text")
        return TextItems(texts, MODALITY)


class BridgeInfo(BaseProcessingInfo):
    """What is known of a bridge without its weights."""

    @property
    def bridge(self) -> LayerBridge:
        """The bridge, which can compute nothing."""
        model_config = self.ctx.model_config
        return _blank_bridge(
            model_config.model,
            revision=model_config.revision,
            trust_remote_code=model_config.trust_remote_code,
        )

    def soft_tokens(self, lengths: Sequence[int]) -> list[int]:
        """Returns n of texts by their S, with the boundary."""
        config = self.bridge.config
        return [count + config.boundary for count in prompt_lengths(config, lengths)]

    def language(self, code: str) -> str:
        """Returns the known code of a text's language.

        Raises:
            DataError: the bridge has no mean of it.
        """
        centering = self.bridge.centering
        if centering is None:
            raise DataError(f"the bridge has no mean of the language {code!r}", hint="leave it out")
        return centering.code(code)

    @property
    def placeholder(self) -> int:
        """The token that vLLM sees in place of a soft one: one that no answer has."""
        lm = self.bridge.language_model
        return lm.known_ids - 1 if lm.bos_id is None else lm.bos_id

    def get_data_parser(self) -> MultiModalDataParser:
        """Implements vLLM's interface."""
        return TextParser(expected_hidden_size=self._get_expected_hidden_size())

    def get_default_tok_params(self) -> TokenizeParams:
        """Implements vLLM's interface; BOS comes with the soft prompt."""
        return super().get_default_tok_params().with_kwargs(add_special_tokens=False)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        """Implements vLLM's interface."""
        return {MODALITY: 1}

    def get_mm_max_tokens_per_item(
        self, seq_len: int, mm_counts: Mapping[str, int]
    ) -> Mapping[str, int]:
        """Implements vLLM's interface."""
        longest = self.soft_tokens([self.bridge.encoder.max_text_tokens])
        return {MODALITY: min(seq_len, longest[0])}


class BridgeDummyInputs(BaseDummyInputsBuilder[BridgeInfo]):
    """The longest input, with which vLLM measures memory."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        """Implements vLLM's interface."""
        return ""

    def get_dummy_mm_data(
        self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Implements vLLM's interface."""
        words = self.info.bridge.encoder.max_text_tokens
        return {MODALITY: ["a " * words] * mm_counts.get(MODALITY, 0)}


class BridgeProcessor(BaseMultiModalProcessor[BridgeInfo]):
    """Turns a text into the encoder's token ids, and makes room for its soft prompt."""

    def _apply_hf_processor_main(
        self, mm_items: MultiModalDataItems, hf_kwargs: Mapping[str, object]
    ) -> BatchFeature:
        if MODALITY not in mm_items:
            return BatchFeature()
        batch = self.info.bridge.encoder.tokenize(mm_items[MODALITY].get_all())
        masks = batch["attention_mask"].bool()
        rows = [row[mask] for row, mask in zip(batch["input_ids"], masks, strict=True)]
        language = hf_kwargs.get("language")
        code = "" if language is None else self.info.language(str(language))
        codes = [as_tensor(code) for _ in rows]
        return BatchFeature({"text_ids": rows, "language": codes})

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        field = MultiModalFieldConfig.batched(MODALITY, keep_on_cpu=True)
        return {"text_ids": field, "language": field}

    def _get_prompt_updates(
        self,
        mm_items: MultiModalDataItems,
        hf_processor_mm_kwargs: Mapping[str, object],
        out_mm_kwargs: MultiModalKwargsItems,
    ) -> Sequence[PromptUpdate]:
        bos_id = self.info.bridge.language_model.bos_id
        before = [] if bos_id is None else [bos_id]

        def soft(index: int) -> PromptUpdateDetails:
            ids = out_mm_kwargs[MODALITY][index].get_data()["text_ids"]
            (count,) = self.info.soft_tokens([len(ids)])
            return PromptUpdateDetails(
                [*before, *[self.info.placeholder] * count],
                is_embed=lambda full: torch.arange(len(full)) >= len(before),
            )

        return [PromptInsertion(MODALITY, PromptIndexTargets.start(), soft)]
