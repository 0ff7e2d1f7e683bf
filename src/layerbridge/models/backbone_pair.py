"""The two backbones that a bridge's config names: where they are, and which weights they have."""

from __future__ import annotations

from layerbridge.errors import CheckpointError
from layerbridge.hub.sources import Source, resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel


def backbone_source(config: BridgeConfig, backbone: str) -> Source:
    """Returns where ``"encoder"`` or ``"language_model"`` is, at the revision the config names."""
    return resolve(getattr(config, backbone), revision=getattr(config, f"{backbone}_revision"))


def load_backbones(
    config: BridgeConfig,
    options: LoadOptions,
    encoder: Encoder | None = None,
    language_model: LanguageModel | None = None,
    *,
    trained: bool = False,
) -> tuple[Encoder, LanguageModel]:
    """Loads the backbones that are not given.

    Args:
        config: gets revision and fingerprint of both.
        options: dtype and the like.
        encoder: one that is loaded already.
        language_model: one that is loaded already.
        trained: accept only the weights whose fingerprints the config has.

    Raises:
        CheckpointError: a backbone has other weights.
        BackboneError: a backbone cannot be found or loaded.
    """
    encoder_source = record_weights(config, "encoder", check=trained)
    lm_source = record_weights(config, "language_model", check=trained)
    if encoder is None:
        encoder = Encoder.load(
            encoder_source,
            options,
            max_text_tokens=config.max_text_tokens,
            embedding_layer=config.embedding_layer,
        )
    return encoder, language_model or LanguageModel.load(lm_source, options)


def record_weights(config: BridgeConfig, backbone: str, *, check: bool = False) -> Source:
    """Writes a backbone's revision and fingerprint to the config, and returns its source.

    Raises:
        CheckpointError: with ``check``, the fingerprint differs from the config's.
    """
    assert getattr(config, backbone) is not None, f"a bridge needs the {backbone}"
    source = backbone_source(config, backbone)
    fingerprint, known = source.fingerprint(), getattr(config, f"{backbone}_fingerprint")
    if check and known is not None and known != fingerprint:
        raise CheckpointError(
            f"the {backbone.replace('_', ' ')} {source.given!r} is not the one this bridge was "
            f"trained with: its weights are {fingerprint[:12]}",
            allowed=f"weights {known[:12]}",
            hint="restore those weights, or train a new bridge",
        )
    setattr(config, f"{backbone}_fingerprint", fingerprint)
    setattr(config, f"{backbone}_revision", source.revision)
    return source
