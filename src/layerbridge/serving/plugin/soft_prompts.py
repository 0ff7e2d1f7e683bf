"""Soft prompts of texts: encoder, fusion and projection of a bridge, without a language model.

Legend: L layers, S encoder tokens, n soft tokens, D LM width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import backbone_source
from layerbridge.models.blank_bridge import blank_language_model
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.centering import centered
from layerbridge.models.checkpoint import read_config
from layerbridge.models.encoder import Encoder
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.models.length_grouping import cut

# Encoder tokens of a batch, padding included. On a CPU a batch gains little, and padding costs.
CPU_TOKENS = 512
GPU_TOKENS = 2**15


class SoftPrompts(nn.Module):
    """Token ids of texts → soft prompts.

    Args:
        bridge: in eval mode; its language model is not used.
        dtype: of the soft prompts.
    """

    def __init__(self, bridge: LayerBridge, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = bridge.encoder
        self.fusion = bridge.fusion
        self.projection = bridge.projection
        self._bridge = [bridge]  # in a list, so that its language model is no module of this one
        self._dtype = dtype

    @classmethod
    def load(cls, run: str, options: LoadOptions, *, revision: str | None = None) -> SoftPrompts:
        """Loads those of a run.

        Args:
            run: a folder or a hub id.
            options: of the encoder; soft prompts have its dtype.
            revision: of the run on the hub.

        Raises:
            CheckpointError: a file is missing or damaged, or the encoder is another one.
            BackboneError: a backbone cannot be found.
        """
        config, _ = read_config(run, revision=revision)
        encoder = Encoder.load(
            backbone_source(config, "encoder"),
            options,
            max_text_tokens=config.max_text_tokens,
            embedding_layer=config.embedding_layer,
        )
        language_model = blank_language_model(backbone_source(config, "language_model"), options)
        language_model.source = None  # whoever loads its weights compares them
        bridge = LayerBridge.from_pretrained(
            run, revision=revision, encoder=encoder, language_model=language_model
        )
        return cls(bridge, options.torch_dtype).to(encoder.model.device).eval()

    @torch.no_grad()
    def forward(
        self, rows: Sequence[Int[Tensor, " S"]], languages: Sequence[str | None]
    ) -> list[Float[Tensor, "n D"]]:
        """Returns the soft prompt of each text, and after it the boundary.

        Args:
            rows: the encoder's token ids of each text.
            languages: codes with a mean; None for the nearest.
        """
        lengths = [len(row) for row in rows]
        is_cpu = self.encoder.model.device.type == "cpu"
        order = sorted(range(len(rows)), key=lambda index: -lengths[index])
        found: dict[int, Tensor] = {}
        for batch in cut(order, lengths, CPU_TOKENS if is_cpu else GPU_TOKENS):
            parts = self._batch(
                [rows[index] for index in batch], [languages[index] for index in batch]
            )
            found.update(zip(batch, parts, strict=True))
        return [found[index] for index in range(len(rows))]

    @torch.no_grad()
    def layer_weights(self, row: Int[Tensor, " S"]) -> Float[Tensor, "S L"]:
        """Returns the weight of each layer in each token of a text, in float32 on the CPU."""
        return self.fusion.weights(self._states([row], [None]))[0].float().cpu()

    def _states(
        self, rows: Sequence[Int[Tensor, " S"]], languages: Sequence[str | None]
    ) -> HiddenStates:
        (bridge,) = self._bridge
        batch = self.encoder.pad([row.tolist() for row in rows]).to(self.encoder.model.device)
        states = self.encoder(
            batch["input_ids"], batch["attention_mask"], layers=self.fusion.required_layers
        )
        return centered(bridge.centering, states, languages if any(languages) else None)

    def _batch(
        self, rows: Sequence[Int[Tensor, " S"]], languages: Sequence[str | None]
    ) -> list[Float[Tensor, "n D"]]:
        (bridge,) = self._bridge
        states = self._states(rows, languages)
        soft = bridge.soft_prompt(states).to(self._dtype)
        boundary = self.projection.boundary
        end = soft[0, :0] if boundary is None else boundary[None].to(self._dtype)
        masks = self.projection.soft_mask(states.mask)
        return [torch.cat([row[mask], end]) for row, mask in zip(soft, masks, strict=True)]
