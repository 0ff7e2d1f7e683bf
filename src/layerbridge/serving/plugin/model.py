"""The model in vLLM: encoder, fusion and projection of a run, in front of vLLM's language model.

Legend: S encoder tokens, n soft tokens, T LM tokens, D LM width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group
from vllm.model_executor.model_loader import DefaultModelLoader
from vllm.model_executor.models.interfaces import (
    MultiModalEmbeddings,
    SupportsLoRA,
    SupportsMultiModal,
    SupportsPP,
)
from vllm.model_executor.models.module_mapping import MultiModelKeys
from vllm.model_executor.models.utils import (
    AutoWeightsLoader,
    init_vllm_registered_model,
    maybe_prefix,
)
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.sequence import IntermediateTensors
from vllm.utils.torch_utils import set_default_torch_dtype

from layerbridge.models.backbone import LoadOptions, dtype_name
from layerbridge.models.backbone_pair import backbone_source
from layerbridge.models.checkpoint import WEIGHTS
from layerbridge.serving.plugin.inputs import (
    BridgeDummyInputs,
    BridgeInfo,
    BridgeProcessor,
    from_tensor,
)
from layerbridge.serving.plugin.soft_prompts import SoftPrompts


@MULTIMODAL_REGISTRY.register_processor(
    BridgeProcessor, info=BridgeInfo, dummy_inputs=BridgeDummyInputs
)
class BridgeModel(nn.Module, SupportsMultiModal, SupportsPP, SupportsLoRA):
    """A run as a model of vLLM.

    Args:
        vllm_config: its model is a run.
        prefix: of the names of its tensors.
    """

    allow_patterns_overrides = (WEIGHTS,)

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Implements vLLM's interface: the soft prompt comes first, wherever a text was given."""
        return None

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        model_config = vllm_config.model_config
        self.config = model_config.hf_config
        source = backbone_source(self.config, "language_model")
        self.secondary_weights = [
            DefaultModelLoader.Source(source.path, source.revision, prefix="language_model.")
        ]
        with self._mark_language_model(vllm_config):  # type: ignore[operator] # vLLM has no types
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=self.config.get_text_config(),
                prefix=maybe_prefix(prefix, "language_model"),
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors
        self.bridge: SoftPrompts | None = None
        if get_pp_group().is_first_rank:  # only there are prompts embedded
            options = LoadOptions(
                dtype_name(model_config.dtype),
                trust_remote_code=model_config.trust_remote_code,
                device=vllm_config.device_config.device,
            )
            # vLLM sets defaults for modules of its own. Fusion and projection are float32.
            with torch.device("cpu"), set_default_torch_dtype(torch.float32):
                self.bridge = SoftPrompts.load(
                    model_config.model, options, revision=model_config.revision
                )

    def get_mm_mapping(self) -> MultiModelKeys:
        """Implements vLLM's interface."""
        return MultiModelKeys.from_string_field(
            language_model="language_model.", connector="bridge.", tower_model="bridge.encoder."
        )

    def embed_multimodal(self, **kwargs: Any) -> MultiModalEmbeddings:
        """Returns soft prompt and boundary of each text, [n, D].

        Args:
            **kwargs: ``text_ids``, the encoder's token ids of each text, [S], and ``language``.
        """
        rows = kwargs.get("text_ids")
        if rows is None:
            return []
        assert self.bridge is not None
        return self.bridge(list(rows), [from_tensor(code) for code in kwargs["language"]])

    def forward(
        self,
        input_ids: Int[Tensor, " T"] | None,
        positions: Int[Tensor, " T"],
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Float[Tensor, "T D"] | None = None,
        **kwargs: Any,
    ) -> Float[Tensor, "T D"] | IntermediateTensors:
        """Runs the body of the language model."""
        if intermediate_tensors is not None:
            inputs_embeds = None
        return self.language_model.model(
            input_ids, positions, intermediate_tensors, inputs_embeds=inputs_embeds
        )

    def compute_logits(self, hidden_states: Float[Tensor, "T D"]) -> Float[Tensor, "T V"] | None:
        """Runs the head of the language model."""
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Loads those of the language model; the others have loaded themselves."""
        loader = AutoWeightsLoader(self)
        loaded = loader.load_weights(
            (name, tensor) for name, tensor in weights if name.startswith("language_model.")
        )
        own = {} if self.bridge is None else self.bridge.state_dict()
        return loaded | {f"bridge.{name}" for name in own}
