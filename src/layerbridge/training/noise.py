"""The noise that a run's arguments ask for."""

from __future__ import annotations

from typing import Any

from layerbridge.errors import ConfigError
from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_means import LanguageMeans
from layerbridge.models.state_noise import StateNoise, has_dropout
from layerbridge.training.arguments import BridgeTrainingArguments


def needs_means(arguments: BridgeTrainingArguments) -> bool:
    """Returns whether the run's noise is relative to the mean states of languages."""
    return bool(arguments.state_noise or arguments.language_noise)


def check_noise(arguments: BridgeTrainingArguments, *, language_texts: bool) -> None:
    """Checks that there is what the noise needs, before models are loaded.

    Raises:
        ConfigError: language noise without texts of other languages.
    """
    if arguments.language_noise and not language_texts:
        raise ConfigError(
            f"language_noise={arguments.language_noise} needs unlabeled text of other languages",
            hint="--language-texts FOLDER, with files such as si.txt",
        )


def check_dropout(arguments: BridgeTrainingArguments, bridge: LayerBridge) -> None:
    """Checks that the encoder has the dropout that is asked for.

    Raises:
        ConfigError: it has none.
    """
    if arguments.encoder_dropout and not has_dropout(bridge.encoder.model):
        raise ConfigError(
            f"encoder_dropout has no effect on {bridge.config.encoder!r}, which has no dropout",
            hint="leave it out, or --state-noise 0.25",
        )


def state_noise(
    arguments: BridgeTrainingArguments, bridge: LayerBridge, means: LanguageMeans | None
) -> StateNoise | None:
    """Returns the noise of a run; None for none.

    Raises:
        ConfigError: no language but English has a mean.
    """
    if arguments.encoder_dropout:
        # What the encoder does at its first call only would draw numbers, and a resumed run not.
        bridge.encode(["a"])
    if arguments.language_noise and (means is None or len(means.by_code) < 2):
        raise ConfigError(
            "language_noise needs a language besides English", hint="--language-texts FOLDER"
        )
    asked: dict[str, Any] = {
        "state_noise": arguments.state_noise,
        "language_noise": arguments.language_noise,
        "mixup": arguments.state_mixup,
        "encoder_dropout": arguments.encoder_dropout,
    }
    return StateNoise(means, **asked) if any(asked.values()) else None
