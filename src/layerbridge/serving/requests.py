"""Requests to an engine, and what it answers with. Plain values: no tensors, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from layerbridge.models.inference import Classification

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    The same seed gives the same completion on the same engine, whatever else is in the batch.
    """

    max_tokens: int = 64
    temperature: float = 0.0  # 0 takes the most likely token and ignores top_p and seed
    top_p: float = 1.0  # sample from the smallest set of tokens with this total probability
    seed: int | None = None  # None for a random one
    logprobs: int | None = None  # top alternatives to report with each token; None for no logprobs
    ignore_eos: bool = False  # continue to max_tokens; for benchmarks


@dataclass(frozen=True)
class Prompt:
    """One completion to generate."""

    bridge: str  # its name in Bridges
    text: str  # the encoder's input, in any language
    # English text the language model reads after the soft prompt; None for the bridge's own.
    instruction: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    options: tuple[str, ...] | None = None  # answer with one of these; None for free text
    language: str | None = None  # of the text; None for the one with the nearest mean


@dataclass(frozen=True)
class Question:
    """One text to classify; the fields of a ``Prompt`` mean the same."""

    bridge: str
    text: str
    options: tuple[str, ...] | None = None  # label words; None for those of the training
    instruction: str | None = None
    normalize: str = "sum"  # or "mean" of the tokens' log-probabilities
    language: str | None = None


@dataclass(frozen=True)
class Started:
    """Generation has started; the prompt is counted with its soft prompt."""

    prompt_tokens: int
    classification: Classification | None = None  # of the options, if the answer is one of them


@dataclass(frozen=True)
class Token:
    """A generated token, by its id in the language model's vocabulary."""

    id: int
    logprob: float | None = None  # before temperature and top-p (nats); None if not requested
    top: tuple[tuple[int, float], ...] = ()  # the most likely tokens and logprobs, descending


@dataclass(frozen=True)
class Finished:
    """Generation has ended at an end token, ``max_tokens`` or the context limit."""

    reason: FinishReason


Event = Started | Token | Finished
