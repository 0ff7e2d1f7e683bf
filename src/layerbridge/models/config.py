"""BridgeConfig: which two backbones, how their layers are fused, what the language model is told.

It knows no tensor and loads no model; it is what ``config.json`` of a checkpoint holds.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from layerbridge.errors import ConfigError
from layerbridge.version import __version__

NORMALIZATIONS = ("rms",)
STARTS = ("uniform", "last")
# `last` would not look at it, and the layers that `fixed` names would have other numbers.
WITHOUT_EMBEDDINGS = ("last", "fixed")
PROJECTION_STARTS = ("random", "scaled", "aligned")


class BridgeConfig(PreTrainedConfig):
    """The settings of one bridge.

    Args:
        encoder: the multilingual encoder: a folder, ``zoo:NAME``, or a hub id.
        encoder_revision: the hub commit it was trained with, resolved.
        encoder_fingerprint: hash of the weights it was trained with (folders and zoo models).
        language_model: the causal language model, named as the encoder is.
        language_model_revision: the hub commit it was trained with, resolved.
        language_model_fingerprint: hash of the weights it was trained with.
        encoder_width: E, the width of the encoder's hidden states.
        encoder_layers: L, how many states a token has: one a transformer layer, and with
            ``embedding_layer`` one more.
        language_model_width: D, the width of the language model's input embeddings.
        fusion: a strategy of ``layerbridge.models.fusion.names()``.
        fusion_options: what the strategy takes beyond ``start`` (``heads``, ``implementation``, …).
        embedding_layer: whether the output of the encoder's embeddings is mixed as well, as the
            lowest layer; the paper leaves it out.
        normalize: ``"rms"`` scales each layer's state to unit RMS before mixing; None leaves it.
        start: ``"uniform"`` mixes all layers alike at first (the paper); ``"last"`` puts
            nearly all weight on the last layer, so that training starts as LangBridge.
        projection_start: ``"random"`` (LangBridge, the paper), ``"scaled"`` (random, at the scale
            of the language model's embeddings), ``"aligned"`` (ridge regression on English text).
        boundary: whether one learned vector closes the soft prompt.
        instruction: English text the language model reads after the soft prompt, or None.
        max_text_tokens: S at most; longer texts are cut at the end.
        options: the label words of the task it was trained on, if it has any.
        template: the prompt that the training texts were put in, if any (for whoever reads it).
    """

    model_type = "layerbridge"

    encoder: str | None = None
    encoder_revision: str | None = None
    encoder_fingerprint: str | None = None
    language_model: str | None = None
    language_model_revision: str | None = None
    language_model_fingerprint: str | None = None
    encoder_width: int | None = None
    encoder_layers: int | None = None
    language_model_width: int | None = None
    fusion: str = "token-softmax"
    fusion_options: dict[str, Any] | None = None
    embedding_layer: bool = False
    normalize: str | None = None
    start: str = "uniform"
    projection_start: str = "random"
    boundary: bool = True
    instruction: str | None = None
    max_text_tokens: int = 512
    options: list[str] | None = None
    template: str | None = None
    layerbridge_version: str = __version__

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.fusion_options = dict(self.fusion_options or {})
        if self.fusion == "fixed" and "which" in self.fusion_options:  # its name before 0.2
            self.fusion_options["layers"] = self.fusion_options.pop("which")
        _one_of("normalize", self.normalize, (*NORMALIZATIONS, None))
        _one_of("start", self.start, STARTS)
        _one_of("projection_start", self.projection_start, PROJECTION_STARTS)
        if self.embedding_layer and self.fusion in WITHOUT_EMBEDDINGS:
            raise ConfigError(
                f"fusion {self.fusion!r} has no use for embedding_layer",
                allowed="a fusion that mixes all layers",
                hint="leave it out",
            )
        if self.max_text_tokens < 1:
            raise ConfigError(
                f"max_text_tokens={self.max_text_tokens} leaves nothing to read",
                allowed="a whole number from 1",
            )


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        words = ["none" if item is None else str(item) for item in allowed]
        raise ConfigError(f"unknown {name} {value!r}", allowed=words)
