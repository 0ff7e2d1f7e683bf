"""Bridges as transformers' auto classes and pipelines use models.

Legend: B batch, S encoder tokens, O options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput

from layerbridge.errors import ConfigError
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.inference import option_ids
from layerbridge.models.language_model import LanguageModel

# What the auto classes pass on, and what only other models have a use for.
_UNUSED = ("adapter_kwargs", "code_revision", "_commit_hash", "_from_auto", "_from_pipeline")


class LayerBridgeForCausalLM(LayerBridge):
    """What ``AutoModelForCausalLM`` and the pipeline ``text-generation`` load."""

    def __init__(
        self, config: BridgeConfig, encoder: Encoder, language_model: LanguageModel
    ) -> None:
        super().__init__(config, encoder, language_model)
        # A pipeline samples unless the model says otherwise; answers are as of ``generate_text``.
        self.generation_config.do_sample = False

    def generate(  # type: ignore[override]
        self, input_ids: Any = None, attention_mask: Any = None, **arguments: Any
    ) -> Any:
        """Generates as ``LayerBridge`` does, and returns prompt and answer as causal models do.

        The prompt's tokens are the encoder's and mean nothing to the language model: in their
        place are S padding tokens, which decoding with ``skip_special_tokens`` leaves out.

        Args:
            input_ids: the encoder's token ids [B, S], padded on either side.
            attention_mask: 1 for real tokens.
            **arguments: of ``LayerBridge.generate``.

        Returns:
            Token ids [B, S + new] in the language model's vocabulary, or a ``ModelOutput`` with
            them.
        """
        # A pipeline gives the pad token of its tokenizer, which is the encoder's.
        arguments.pop("pad_token_id", None)
        tokenizer = self.language_model.tokenizer
        if "tokenizer" in arguments:
            arguments["tokenizer"] = tokenizer
        if input_ids is None:
            return super().generate(attention_mask=attention_mask, **arguments)
        input_ids, attention_mask = padded_right(input_ids, attention_mask)
        found = super().generate(input_ids, attention_mask, **arguments)
        answers = found.sequences if isinstance(found, ModelOutput) else found
        pad = tokenizer.pad_token_id
        pad = self.language_model.eos_id if pad is None else pad
        prompt = answers.new_full((len(answers), input_ids.shape[1]), pad)
        whole = torch.cat([prompt, answers], dim=1)
        if not isinstance(found, ModelOutput):
            return whole
        found["sequences"] = whole
        return found


class LayerBridgeForSequenceClassification(LayerBridge):
    """What ``AutoModelForSequenceClassification`` and ``text-classification`` load.

    Its labels are the label words of training.

    Raises:
        ConfigError: the bridge was not trained on labels.
    """

    def __init__(
        self, config: BridgeConfig, encoder: Encoder, language_model: LanguageModel
    ) -> None:
        if not config.options:
            raise ConfigError(
                "this bridge was not trained on labels, so it has none to choose from",
                hint="pipeline('text-generation', …), or LayerBridge.classify(texts, options=[…])",
            )
        super().__init__(config, encoder, language_model)
        config.id2label = dict(enumerate(config.options))
        config.label2id = {label: number for number, label in config.id2label.items()}

    @torch.no_grad()
    def forward(  # type: ignore[override]
        self,
        input_ids: Int[Tensor, "B S"],
        attention_mask: Int[Tensor, "B S"] | None = None,
    ) -> SequenceClassifierOutput:
        """Returns the labels' log-probabilities [B, O] as ``logits``, EOS included, in nats.

        Their softmax is the ``probabilities`` of ``classify``.
        """
        input_ids, attention_mask = padded_right(input_ids, attention_mask)
        ids = [option_ids(self.language_model, option) for option in self.option_words(None)]
        states = self._states(input_ids, attention_mask, None)
        return SequenceClassifierOutput(logits=self.option_scores(states, ids))


def load(cls: type[LayerBridge], path: str, **given: Any) -> LayerBridge:
    """Loads a bridge with the arguments that an auto class or a pipeline passes.

    Args:
        cls: of the bridge.
        path: a folder or a hub id.
        **given: of ``LayerBridge.from_pretrained``; None is its default, and what transformers
            passes to models of other kinds is left out.

    Raises:
        ConfigError: a bridge has no such argument.
    """
    return cls.from_pretrained(path, **own_arguments(LayerBridge.from_pretrained, given))


def own_arguments(load: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a function takes of the arguments that transformers passes.

    Raises:
        ConfigError: it does not take one that a user gave.
    """
    known = {*inspect.signature(load).parameters, *LoadOptions.__dataclass_fields__} - {"loading"}
    arguments = {
        name: value for name, value in given.items() if value is not None and name not in _UNUSED
    }
    for name in arguments:
        if name not in known:
            raise ConfigError(f"a bridge is not loaded with {name!r}", allowed=sorted(known))
    return arguments


def padded_right(input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Moves padding to the end of each row, where the encoder has it in training."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    order = mask.argsort(dim=1, descending=True, stable=True)
    return input_ids.gather(1, order), mask.gather(1, order)
