"""What an engine is asked, and what it says while it answers. Plain values; no tensor, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from layerbridge.serving.decoding import Chosen as Token
from layerbridge.serving.decoding import Sampling

__all__ = ["Ask", "Begun", "Event", "FinishReason", "Finished", "Question", "Sampling", "Token"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Ask:
    """One answer to be generated.

    Attributes:
        bridge: its name in ``Bridges``.
        text: what the encoder reads, in any language.
        instruction: English text that the language model reads after the soft prompt; None takes
            the bridge's own.
        sampling: how.
    """

    bridge: str
    text: str
    instruction: str | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Question:
    """One text to be classified.

    Attributes:
        bridge: its name in ``Bridges``.
        text: what the encoder reads.
        options: label words; None takes those the bridge was trained with.
        instruction: as in ``Ask``.
        normalize: ``"sum"`` of the tokens' log-probabilities, or their ``"mean"``.
    """

    bridge: str
    text: str
    options: tuple[str, ...] | None = None
    instruction: str | None = None
    normalize: str = "sum"


@dataclass(frozen=True)
class Begun:
    """The answer has begun.

    Attributes:
        prompt_tokens: positions of the language model's input, soft prompt and all.
    """

    prompt_tokens: int


@dataclass(frozen=True)
class Finished:
    """The answer is over.

    Attributes:
        reason: ``"stop"`` at an end token, ``"length"`` at ``max_tokens`` or where the model can
            hold no more.
    """

    reason: FinishReason


Event = Begun | Token | Finished
