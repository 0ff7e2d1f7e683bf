"""How long texts may be so that prompt and answer fit the language model's positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from layerbridge.errors import LengthError
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder import Encoder
from layerbridge.models.language_model import LanguageModel
from layerbridge.models.projection.registry import soft_tokens
from layerbridge.progress import say

# Positions kept for a free answer, or a quarter of a model's if it has few.
ANSWER = 64


def text_limit(config: BridgeConfig, encoder: Encoder, language_model: LanguageModel) -> int:
    """Returns the limit of S: the encoder's, or a lower one if the language model has no room.

    The lower one keeps room for the longest label word, or for a free answer. It is said.

    Raises:
        LengthError: the instruction leaves no room at all.
    """
    most = language_model.max_tokens
    if most is None:
        return encoder.max_text_tokens
    answer = min(ANSWER, most // 4)
    if config.options:
        answer = 1 + max(len(language_model.token_ids(option)) for option in config.options)
    room = most - fixed_tokens(config, language_model) - answer
    latents = soft_tokens(config.projection, config.projection_options)
    if latents is not None:
        if latents > room:
            raise LengthError(
                f"{latents} latents, instruction and answer take {latents + most - room} tokens",
                allowed=f"{most}, the language model's context length",
                hint="fewer latents (projection_options), or a shorter instruction",
            )
        return encoder.max_text_tokens
    if room < 1:
        raise LengthError(
            f"instruction and answer leave no room for a text: they take {most - room} tokens",
            allowed=f"fewer than {most}, the language model's context length",
            hint="shorten the instruction or the options",
        )
    if room < encoder.max_text_tokens:
        say(
            f"texts are cut at {room} encoder tokens instead of {encoder.max_text_tokens}: the "
            f"language model has {most} positions, for prompt and answer"
        )
    return min(room, encoder.max_text_tokens)


def fixed_tokens(
    config: BridgeConfig, language_model: LanguageModel, instruction: str | None = None
) -> int:
    """Returns the LM tokens of a prompt besides those of its text.

    Args:
        config: of the bridge.
        language_model: reads the prompt.
        instruction: None takes the config's.
    """
    instruction = config.instruction if instruction is None else instruction
    ids = language_model.token_ids(instruction) if instruction else []
    return (language_model.bos_id is not None) + config.boundary + len(ids)


def prompt_lengths(config: BridgeConfig, lengths: Sequence[int]) -> list[int]:
    """Returns the soft tokens of texts, by their encoder tokens."""
    latents = soft_tokens(config.projection, config.projection_options)
    return list(lengths) if latents is None else [latents] * len(lengths)


def check_rows(
    config: BridgeConfig,
    language_model: LanguageModel,
    lengths: Sequence[int] | np.ndarray,
) -> None:
    """Checks that training rows fit the language model's positions.

    Args:
        config: of the bridge.
        language_model: reads the rows.
        lengths: soft tokens of the text and LM tokens of the target, EOS included, in all.

    Raises:
        LengthError: counts the rows that do not fit.
    """
    most = language_model.max_tokens
    if most is None:
        return
    # The last token of a target predicts nothing and is not read.
    fixed = fixed_tokens(config, language_model) - 1
    totals = np.asarray(lengths) + fixed
    long = int((totals > most).sum())
    if long:
        excess = int(totals.max()) - most
        raise LengthError(
            f"{long} of {len(lengths)} rows do not fit the language model: text, instruction and "
            f"target take up to {most + excess} tokens",
            allowed=f"{most}, its context length",
            hint=f"--max-text-tokens {max(1, config.max_text_tokens - excess)}, or shorter targets",
        )
