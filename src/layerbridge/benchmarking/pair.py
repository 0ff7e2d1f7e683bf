"""The pair of backbones that a benchmark runs on: real ones, or random ones of published size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from layerbridge.benchmarking import shapes
from layerbridge.hub.sources import resolve
from layerbridge.models.backbone import LoadOptions, choose_device
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel

Backbones = tuple[Encoder, LanguageModel]


@dataclass(frozen=True)
class Pair:
    """Names of an encoder and a language model, their dtype and device; can be pickled.

    Args:
        encoder: ``zoo:NAME``, a hub id, a folder, or ``shape:NAME``.
        language_model: the same.
        dtype: of both, as in ``LoadOptions``.
        device: ``"cpu"``, ``"cuda"``, …; None takes the best available.
    """

    encoder: str = "zoo:multilingual-e5-small"
    language_model: str = "zoo:smollm2-135m-instruct"
    dtype: str = "auto"
    device: str | None = None

    def torch_device(self) -> torch.device:
        """Returns the device, for torch."""
        return torch.device(choose_device(self.device))

    def load_encoder(self) -> Encoder:
        """Returns the encoder on the device.

        Raises:
            BackboneError: it cannot be found.
        """
        if shapes.is_shape(self.encoder):
            return shapes.encoder(self.encoder, **self.build_options())
        return Encoder.load(resolve(self.encoder), self.load_options())

    def load_language_model(self) -> LanguageModel:
        """Returns the language model on the device; errors as of ``load_encoder``."""
        if shapes.is_shape(self.language_model):
            return shapes.language_model(self.language_model, **self.build_options())
        return LanguageModel.load(resolve(self.language_model), self.load_options())

    def load(self) -> Backbones:
        """Returns both."""
        return self.load_encoder(), self.load_language_model()

    def load_options(self) -> LoadOptions:
        """Returns how real models are loaded."""
        return LoadOptions(self.dtype, device=self.torch_device())

    def build_options(self) -> dict[str, Any]:
        """Returns the arguments of ``shapes.build``."""
        return {"dtype": self.dtype, "device": str(self.torch_device())}

    def bridge(
        self,
        fusion: str,
        *,
        backbones: Backbones | None = None,
        texts: Sequence[str] = (),
        **settings: Any,
    ) -> LayerBridge:
        """Returns a new bridge with the same random start every time.

        Args:
            fusion: the strategy.
            backbones: loaded before, to be shared.
            texts: for an aligned start of the projection.
            **settings: of ``BridgeConfig``.
        """
        encoder, language_model = backbones or self.load()
        torch.manual_seed(0)
        # Without the names of the backbones: the bridge is never saved.
        # Speed does not depend on the start, and random models have no words to align.
        config = BridgeConfig(fusion=fusion, **{"projection_start": "random", **settings})
        return LayerBridge.from_parts(config, encoder, language_model, texts=texts)
