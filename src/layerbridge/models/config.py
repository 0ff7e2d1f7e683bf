"""BridgeConfig: the settings of a bridge, and the content of a checkpoint's ``config.json``."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from layerbridge.errors import ConfigError
from layerbridge.version import __version__

NORMALIZATIONS = ("rms",)
STARTS = ("uniform", "last")
# `last` does not read it, and it would renumber the layers that `fixed` names.
WITHOUT_EMBEDDINGS = ("last", "fixed")
PROJECTION_STARTS = ("random", "scaled", "aligned")


class BridgeConfig(PreTrainedConfig):
    """The settings of one bridge.

    Args:
        encoder: the multilingual encoder: a folder, ``zoo:NAME``, or a hub id.
        encoder_revision: its commit on the hub.
        encoder_fingerprint: hash of its weights.
        language_model: the causal language model: a folder, ``zoo:NAME``, or a hub id.
        language_model_revision: its commit on the hub.
        language_model_fingerprint: hash of its weights.
        encoder_quantization: how the encoder was quantized as it was loaded: ``"4bit"``,
            ``"8bit"`` or a quantization config of transformers; None if it was not, or has been in
            its checkpoint.
        language_model_quantization: the same of the language model.
        encoder_width: E, the width of the encoder's hidden states.
        encoder_layers: L, the number of hidden states that are fused.
        language_model_width: D, the width of the language model's input embeddings.
        fusion: a strategy of ``layerbridge.models.fusion.names()``.
        fusion_options: of the strategy (``heads``, ``implementation``, …).
        embedding_layer: also fuse the output of the encoder's embeddings, as the lowest layer; the
            paper does not.
        normalize: ``"rms"`` scales each hidden state to unit RMS before fusion; None does not.
        start: ``"last"`` gives the last layer nearly all weight, so that training starts as
            LangBridge; ``"uniform"`` weighs all layers alike at first (the paper). None takes
            ``"last"`` where weights are learned.
        projection: ``"linear"`` (LangBridge, the paper), ``"mlp"`` or ``"perceiver"``.
        projection_options: of the projection (``activation``, ``latents``, …).
        projection_start: ``"aligned"`` (ridge regression on English), ``"scaled"`` (random, at the
            scale of the language model's embeddings), or ``"random"`` (LangBridge, the paper).
            None takes ``"aligned"``, or ``"scaled"`` for a projection that cannot be aligned.
        boundary: end the soft prompt with one learned vector.
        instruction: English text between the soft prompt and the answer, or None.
        max_text_tokens: limit of S, in encoder tokens. A longer text is cut at its end, before the
            words with which the template ends.
        text_prefix: text before each text that the encoder reads, for encoders that were trained
            with one, such as ``"query: "`` for E5; None for none.
        encoder_language: language code of the texts, for encoders whose tokenizer adds one, such
            as ``"eng_Latn"`` for NLLB; None keeps the tokenizer's own, in training and after it.
        options: label words of the training task, or None.
        template: prompt template of the training texts, or None. Texts come rendered; only its end
            is used, to cut them.
        usual_any_option: median over validation rows of ``Classification.any_option`` at the end of
            training; None if there were none, and before 0.2.
        training_seed: that the bridge was trained with; None before training, and before 0.2.
        training_start: hash of the trained tensors before the first step; None before training, and
            before 0.2.
        averaged_runs: number of runs whose average this is; None for a single run.
        layerbridge_version: that wrote the config.

    Raises:
        ConfigError: a setting is unknown or invalid.
    """

    model_type = "layerbridge"

    encoder: str | None = None
    encoder_revision: str | None = None
    encoder_fingerprint: str | None = None
    language_model: str | None = None
    language_model_revision: str | None = None
    language_model_fingerprint: str | None = None
    encoder_quantization: str | dict[str, Any] | None = None
    language_model_quantization: str | dict[str, Any] | None = None
    encoder_width: int | None = None
    encoder_layers: int | None = None
    language_model_width: int | None = None
    fusion: str = "token-softmax"
    fusion_options: dict[str, Any] | None = None
    embedding_layer: bool = False
    normalize: str | None = None
    start: str | None = None
    projection: str = "linear"
    projection_options: dict[str, Any] | None = None
    projection_start: str | None = None
    boundary: bool = True
    instruction: str | None = None
    max_text_tokens: int = 512
    text_prefix: str | None = None
    encoder_language: str | None = None
    options: list[str] | None = None
    template: str | None = None
    usual_any_option: float | None = None
    training_seed: int | None = None
    training_start: str | None = None
    averaged_runs: int | None = None
    layerbridge_version: str = __version__

    def __post_init__(self, **kwargs: Any) -> None:
        # Inside, because it needs torch, and reading a config does not.
        from layerbridge.models.projection import registry as projections

        super().__post_init__(**kwargs)
        self.fusion_options = dict(self.fusion_options or {})
        if self.fusion == "fixed" and "which" in self.fusion_options:  # the name before 0.2
            self.fusion_options["layers"] = self.fusion_options.pop("which")
        _one_of("normalize", self.normalize, (*NORMALIZATIONS, None))
        if self.start is not None:
            _one_of("start", self.start, STARTS)
        if self.projection_start is None:
            self.projection_start = projections.default_start(self.projection)
        _one_of("projection_start", self.projection_start, PROJECTION_STARTS)
        self.projection_options = dict(self.projection_options or {})
        projections.check(self.projection, self.projection_start)
        if self.embedding_layer and self.fusion in WITHOUT_EMBEDDINGS:
            raise ConfigError(
                f"fusion {self.fusion!r} does not support embedding_layer",
                allowed="a fusion that mixes all layers",
            )
        if self.max_text_tokens < 1:
            raise ConfigError(
                f"max_text_tokens={self.max_text_tokens} is too small", allowed="1 or more"
            )


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        names = ["none" if item is None else str(item) for item in allowed]
        raise ConfigError(f"unknown {name} {value!r}", allowed=names)
