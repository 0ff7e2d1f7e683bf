"""Training with a language model whose layers are divided among processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layerbridge.errors import TrainingError
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.backbone_pair import load_backbones
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.training.arguments import BridgeTrainingArguments


def sharded_backbones(
    settings: Mapping[str, Any], loading: Mapping[str, Any], device: str | None
) -> tuple[Encoder, LanguageModel]:
    """Loads the backbones, of the language model only this process's part of each layer.

    Args:
        settings: of ``BridgeConfig``.
        loading: of a recipe's backbones.
        device: of this process.
    """
    revisions = ("encoder_revision", "language_model_revision")
    given = {name: loading[name] for name in revisions if name in loading}
    config = BridgeConfig(**settings, **given)
    return load_backbones(config, LoadOptions.of(loading, device), shard=True)


def check_sharded(language_model: LanguageModel, arguments: BridgeTrainingArguments) -> None:
    """Checks that each step runs the language model equally often in every process.

    Raises:
        TrainingError: it does not, or the arguments do not allow a divided model.
    """
    if arguments.torch_compile:
        raise TrainingError(
            "torch_compile cannot be combined with fsdp", hint="leave one of the two out"
        )
    if not language_model.traits.ignores_pads:
        raise TrainingError(
            f"fsdp needs a language model that takes padded batches, and a "
            f"{language_model.model.config.model_type!r} model does not",
            hint="leave --fsdp out",
        )
