"""The two backbones that a bridge's config names: where they are, and which weights they have."""

from __future__ import annotations

from contextlib import suppress

from layerbridge.errors import CheckpointError, LayerBridgeError
from layerbridge.hub.sources import Source, resolve
from layerbridge.models.backbone import LoadOptions
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.quantization import record_of


def backbone_source(
    config: BridgeConfig, backbone: str, options: LoadOptions | None = None
) -> Source:
    """Returns where ``"encoder"`` or ``"language_model"`` is, at the revision the config names."""
    access = (options or LoadOptions()).access
    revision = getattr(config, f"{backbone}_revision")
    return resolve(getattr(config, backbone), revision=revision, access=access)


def identified_source(config: BridgeConfig, backbone: str) -> Source:
    """Returns where a backbone is; a config that does not say which weights it has now does."""
    source = backbone_source(config, backbone)
    if getattr(config, f"{backbone}_fingerprint") is None:
        _record(config, backbone, source)
    return source


def options_for(config: BridgeConfig, options: LoadOptions) -> LoadOptions:
    """Returns options that quantize backbones as the config says, where they do not say it."""
    for backbone in ("encoder", "language_model"):
        options = options.with_default(backbone, getattr(config, f"{backbone}_quantization"))
    return options


def load_backbones(
    config: BridgeConfig,
    options: LoadOptions,
    encoder: Encoder | None = None,
    language_model: LanguageModel | None = None,
    *,
    trained: bool = False,
    shard: bool = False,
) -> tuple[Encoder, LanguageModel]:
    """Loads the backbones that are not given; those that are need no network.

    Args:
        config: gets revision and fingerprint of both.
        options: dtype and the like; what they do not say about quantization, the config does.
        encoder: one that is loaded already.
        language_model: one that is loaded already.
        trained: accept only the weights whose fingerprints the config has.
        shard: divide the layers of a language model that is loaded here among the processes.

    Raises:
        CheckpointError: a backbone has other weights.
        BackboneError: a backbone cannot be found or loaded.
    """
    # Both are found before either is loaded.
    sources = {}
    for name, given in (("encoder", encoder), ("language_model", language_model)):
        assert getattr(config, name) is not None, f"a bridge needs the {name}"
        source = backbone_source(config, name, options) if given is None else given.source
        if source is not None:
            if trained:
                _check_weights(config, name, source)
            sources[name] = source
    were_given = {"encoder": encoder is not None, "language_model": language_model is not None}
    if not all(were_given.values()):
        options = options_for(config, options)
    if encoder is None:
        encoder = Encoder.load(
            sources["encoder"],
            options,
            max_text_tokens=config.max_text_tokens,
            embedding_layer=config.embedding_layer,
        )
    if language_model is None:
        language_model = LanguageModel.load(sources["language_model"], options, shard=shard)
    # Only now are the files of a hub model on this machine.
    for name, source in sources.items():
        if not were_given[name]:
            _record(config, name, source)
    return encoder, language_model


def record_weights(config: BridgeConfig, encoder: Encoder, language_model: LanguageModel) -> None:
    """Writes what loaded backbones are to the config of a new bridge, offline.

    Revision and fingerprint, if it has none, and how they were quantized.
    """
    for name, backbone in (("encoder", encoder), ("language_model", language_model)):
        setattr(config, f"{name}_quantization", record_of(backbone.model))
        model_id = getattr(config, name)
        if model_id is None or getattr(config, f"{name}_fingerprint") is not None:
            continue
        source = backbone.source
        if source is None:  # built by hand: what the config names may still be on this machine
            with suppress(LayerBridgeError):
                revision = getattr(config, f"{name}_revision")
                source = resolve(model_id, revision=revision, offline=True)
        if source is not None:
            _record(config, name, source)


def have_same_weights(first: BridgeConfig, second: BridgeConfig, backbone: str) -> bool:
    """Returns whether two configs name the same weights: a folder and a commit may."""
    mine, others = _identities(first, backbone), _identities(second, backbone)
    if mine and others:
        return not mine.isdisjoint(others)
    return getattr(first, backbone) == getattr(second, backbone)


def _record(config: BridgeConfig, backbone: str, source: Source) -> None:
    setattr(config, f"{backbone}_fingerprint", source.fingerprint())
    setattr(config, f"{backbone}_revision", source.revision)


def _identities(config: BridgeConfig, backbone: str) -> frozenset[str]:
    """Returns what identifies the weights that a config names."""
    model_id, revision = getattr(config, backbone), getattr(config, f"{backbone}_revision")
    known = {getattr(config, f"{backbone}_fingerprint"), revision} - {None}
    if known and revision is not None:
        # A folder of the same weights has the fingerprint of the downloaded files.
        known |= Source(model_id, "hub", model_id, revision).identities()
    return frozenset(known)


def _check_weights(config: BridgeConfig, backbone: str, source: Source) -> None:
    known = _identities(config, backbone)
    if known and known.isdisjoint(source.identities()):
        trained_with = getattr(config, f"{backbone}_fingerprint") or min(known)
        raise CheckpointError(
            f"the {backbone.replace('_', ' ')} {source.given!r} is not the one this bridge was "
            f"trained with: its weights are {source.fingerprint()[:12]}",
            allowed=f"weights {trained_with[:12]}",
            hint="restore those weights, or train a new bridge",
        )
