"""Requests to an engine, and the events it answers with. Plain values: no tensors, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        max_tokens: upper limit for the completion.
        temperature: 0 takes the most likely token and ignores ``top_p`` and ``seed``.
        top_p: sample from the smallest set of tokens with this total probability.
        seed: the same seed gives the same completion on the same engine, whatever else is in the
            batch; None for a random one.
        logprobs: how many top alternatives to report with each token; None for no logprobs.
        ignore_eos: continue to ``max_tokens``; for benchmarks.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int | None = None
    ignore_eos: bool = False


@dataclass(frozen=True)
class Prompt:
    """One completion to generate.

    Attributes:
        bridge: its name in ``Bridges``.
        text: the encoder's input, in any language.
        instruction: English text the language model reads after the soft prompt; None for the
            bridge's own.
        sampling: how tokens are chosen.
    """

    bridge: str
    text: str
    instruction: str | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Question:
    """One text to classify.

    Attributes:
        bridge: its name in ``Bridges``.
        text: the encoder's input.
        options: label words; None for those the bridge was trained with.
        instruction: as in ``Prompt``.
        normalize: score by the ``"sum"`` or the ``"mean"`` of the tokens' log-probabilities.
    """

    bridge: str
    text: str
    options: tuple[str, ...] | None = None
    instruction: str | None = None
    normalize: str = "sum"


@dataclass(frozen=True)
class Started:
    """Generation has started; the prompt is counted with its soft prompt."""

    prompt_tokens: int


@dataclass(frozen=True)
class Token:
    """A generated token.

    Attributes:
        id: in the language model's vocabulary.
        logprob: before temperature and top-p (nats); None if not requested.
        top: most likely tokens with their log-probabilities, in descending order.
    """

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Finished:
    """Generation has ended at an end token, ``max_tokens`` or the context limit."""

    reason: FinishReason


Event = Started | Token | Finished
