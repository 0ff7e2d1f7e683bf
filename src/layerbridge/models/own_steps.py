"""transformers' ``generate`` on our own prefill and decoding steps.

For models whose ``generate`` takes no embeddings, or takes them wrongly. Sampling, beams and the
rest stay those of transformers.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from layerbridge.models.packing import PackedInputs, pack
from layerbridge.models.probes.closeness import distance, limit
from layerbridge.models.probes.language_model_traits import TEXT, TOKENS

if TYPE_CHECKING:
    from layerbridge.models.language_model import LanguageModel


class OwnSteps(PreTrainedModel, GenerationMixin):
    """A model whose forward pass is ``LanguageModel.last_logits``.

    Args:
        language_model: computes the logits; its weights are shared.
    """

    config_class = PreTrainedConfig
    main_input_name = "input_ids"
    language_model: Any  # LanguageModel; transformers evaluates the annotations of its classes

    def __init__(self, language_model: LanguageModel) -> None:
        config = PreTrainedConfig()
        config.vocab_size = language_model.known_ids
        super().__init__(config)
        # Not as a module, since the language model would then contain itself.
        object.__setattr__(self, "language_model", language_model)
        self.generation_config = language_model.model.generation_config
        # In the place of the head, which may run on some of the rows at a time.
        self.outputs = nn.Identity()

    @property
    def device(self) -> torch.device:
        """The language model's."""
        return self.language_model.device

    @property
    def dtype(self) -> torch.dtype:
        """The language model's."""
        return self.language_model.dtype

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the first step makes the cache

    def get_output_embeddings(self) -> nn.Module:
        """Returns what all logits go through."""
        return self.outputs

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Returns the prompt's embeddings at first, then those of the newest token."""
        if past_key_values is not None:
            inputs_embeds = self.language_model.embed(input_ids[:, -1:])
        return {
            "embeds": inputs_embeds,
            "mask": attention_mask,
            "cache": past_key_values,
        }

    def forward(
        self, embeds: Tensor, mask: Tensor, cache: Any = None, **_: Any
    ) -> CausalLMOutputWithPast:
        """Returns the logits of the last position, and the cache."""
        logits, cache = self.language_model.last_logits(embeds, mask, cache)
        return CausalLMOutputWithPast(logits=self.outputs(logits), past_key_values=cache)


@torch.no_grad()
def takes_embeddings(language_model: LanguageModel) -> bool:
    """Returns whether the model's own ``generate`` continues embeddings as we do.

    Two texts of different lengths are continued by two tokens each.
    """
    model = language_model.model
    if language_model.traits.cache is None:
        return False
    if "inputs_embeds" not in inspect.signature(model.prepare_inputs_for_generation).parameters:
        return False
    ids = language_model.token_ids(TEXT)[:TOKENS]
    packed = pack(language_model.prefix(*_two_rows(language_model, ids)))
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        try:
            theirs = _two_tokens(model, packed, language_model.eos_id)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception:
            return False
        ours = _two_tokens(OwnSteps(language_model), packed, language_model.eos_id)
    within = limit(model, same_shape=False)
    return all(distance(*both) <= within for both in zip(theirs, ours, strict=True))


def _two_rows(language_model: LanguageModel, ids: list[int]) -> tuple[Tensor, Tensor]:
    embeds = language_model.embed(torch.tensor([ids, ids], device=language_model.device))
    mask = torch.ones(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
    mask[1, -2:] = False
    return embeds, mask


def _two_tokens(model: Any, packed: PackedInputs, pad: int) -> tuple[Tensor, ...]:
    """Returns the logits of two greedy tokens, the second of which follows any first one."""
    return model.generate(
        inputs_embeds=packed.inputs_embeds,
        attention_mask=packed.attention_mask,
        max_new_tokens=2,
        min_new_tokens=2,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad,
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    ).logits
