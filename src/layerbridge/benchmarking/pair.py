"""The pair of backbones that a benchmark runs on: real ones, or random ones of a true shape."""

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

ENCODER = "zoo:multilingual-e5-small"
LANGUAGE_MODEL = "zoo:smollm2-135m-instruct"
SHAPE = "shape:"


@dataclass(frozen=True)
class Pair:
    """Which models, how precise and where; it can be sent to another process.

    Args:
        encoder: ``zoo:NAME``, a hub id, a folder, or ``shape:NAME``.
        language_model: the same.
        dtype: of both, as in ``LoadOptions``.
        device: ``"cpu"``, ``"cuda"``, …; None takes the best there is.
    """

    encoder: str = ENCODER
    language_model: str = LANGUAGE_MODEL
    dtype: str = "auto"
    device: str | None = None

    def place(self) -> torch.device:
        """Where it runs."""
        return torch.device(choose_device(self.device))

    def load_encoder(self) -> Encoder:
        """The encoder, in place.

        Raises:
            BackboneError: there is none of that name.
        """
        if self.encoder.startswith(SHAPE):
            name = self.encoder.removeprefix(SHAPE)
            return shapes.encoder(name, dtype=self.dtype, device=str(self.place()))
        return Encoder.load(resolve(self.encoder), LoadOptions(self.dtype)).to(self.place())

    def load_language_model(self) -> LanguageModel:
        """The language model, in place.

        Raises:
            BackboneError: there is none of that name.
        """
        if self.language_model.startswith(SHAPE):
            name = self.language_model.removeprefix(SHAPE)
            return shapes.language_model(name, dtype=self.dtype, device=str(self.place()))
        source = resolve(self.language_model)
        return LanguageModel.load(source, LoadOptions(self.dtype)).to(self.place())

    def bridge(
        self,
        fusion: str,
        *,
        backbones: tuple[Encoder, LanguageModel] | None = None,
        texts: Sequence[str] = (),
        seed: int = 0,
        **settings: Any,
    ) -> LayerBridge:
        """A new bridge, the same for the same seed.

        Args:
            fusion: the strategy.
            backbones: loaded before, to be shared.
            texts: for a start of the projection that asks for some.
            seed: of the bridge's random start.
            **settings: of ``BridgeConfig``.
        """
        encoder, language_model = backbones or (self.load_encoder(), self.load_language_model())
        torch.manual_seed(seed)
        # No ids of backbones: nothing of this is ever saved.
        config = BridgeConfig(fusion=fusion, **settings)
        return LayerBridge.from_parts(config, encoder, language_model, texts=texts)
