"""Response bodies and stream events in OpenAI's format, and those of this server's own routes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from typing_extensions import TypedDict

from layerbridge.serving.requests import FinishReason


class Usage(BaseModel):
    """Token counts.

    Attributes:
        prompt_tokens: positions of the language model's input, soft prompt included; counted once
            for all completions of a text.
        completion_tokens: of all completions, those of stop strings included.
        total_tokens: the sum of both.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A likely token.

    Attributes:
        token: its text.
        logprob: before temperature and top-p.
        bytes: of its text; a token may be part of a character.
    """

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A generated token and the most likely ones at its position."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of a completion's tokens."""

    content: list[TokenLogprob]


class ChatMessage(BaseModel):
    """A generated message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Labeled(BaseModel):
    """How an answer that is one of the options is to be taken.

    Attributes:
        any_option: the probability that the language model, left to itself, answers with one of
            the options.
        far_from_training: whether that is too little for the answer to be relied on.
    """

    any_option: float
    far_from_training: bool


class ChatChoice(BaseModel):
    """One of n completions; without ``layerbridge`` if it is free text."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason
    layerbridge: Labeled | None = None


class ChatReply(BaseModel):
    """Response of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(TypedDict, total=False):
    """What is new in a message."""

    role: Literal["assistant"]
    content: str


class ChatChunkChoice(BaseModel):
    """What is new in one of n completions; ``layerbridge`` comes with the finish reason."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None
    layerbridge: Labeled | None = None


class ChatChunk(BaseModel):
    """Stream event of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class CompletionLogprobs(BaseModel):
    """Log-probabilities of a completion's tokens.

    Attributes:
        tokens: their texts.
        token_logprobs: before temperature and top-p.
        top_logprobs: the most likely tokens at each position, and the generated one.
        text_offset: where each token begins in the completion.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """A completion, or what is new in it; finish_reason is null until it ends.

    ``layerbridge`` is as in a chat.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None
    layerbridge: Labeled | None = None


class CompletionReply(BaseModel):
    """Response and stream event of /v1/completions."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ExampleCard(BaseModel):
    """A text to try a bridge with, of its validation rows.

    Attributes:
        text: as the encoder reads it.
        target: the right answer.
        language: its code.
        meaning: the text in English, if it is in another language and that is known.
    """

    text: str
    target: str
    language: str
    meaning: str | None


class BridgeCard(BaseModel):
    """Description of a bridge.

    Attributes:
        fusion: how it combines the encoder's layers.
        encoder: its multilingual encoder.
        language_model: its language model.
        options: the label words it was trained with; answers are among them.
        instruction: what the language model reads after the soft prompt by default.
        template: the template of its training texts; texts in it work best.
        layers: how many layers it combines.
        examples: of its validation rows; none if its run has none.
    """

    fusion: str
    encoder: str | None
    language_model: str | None
    options: list[str] | None
    instruction: str | None
    template: str | None
    layers: int | None
    examples: list[ExampleCard]


class ModelCard(BaseModel):
    """A bridge as a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["layerbridge"] = "layerbridge"
    layerbridge: BridgeCard


class ModelList(BaseModel):
    """Response of /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class OptionScore(BaseModel):
    """Score of an option.

    Attributes:
        option: its label words.
        score: its log-probability (nats).
        probability: the softmax of all scores; it says nothing of how likely any option is.
    """

    option: str
    score: float
    probability: float


class ClassifyReply(BaseModel):
    """Response of /v1/classify for one text; options in the order of the request.

    ``any_option`` and ``far_from_training`` are as in ``Labeled``.
    """

    model: str
    choice: str
    options: list[OptionScore]
    any_option: float
    far_from_training: bool


class ClassifiedText(BaseModel):
    """One of several classified texts; its index is its place in the request."""

    index: int
    choice: str
    options: list[OptionScore]
    any_option: float
    far_from_training: bool


class ClassifyListReply(BaseModel):
    """Response of /v1/classify for a list of texts."""

    object: Literal["list"] = "list"
    model: str
    data: list[ClassifiedText]


class LayerWeightsReply(BaseModel):
    """Response of /v1/layer_weights.

    Attributes:
        model: the bridge's name.
        tokens: of the encoder, special tokens included.
        layers: layer numbers; 1 is the first transformer layer.
        weights: tokens × layers; each row sums to 1.
    """

    model: str
    tokens: list[str]
    layers: list[int]
    weights: list[list[float]]


class ErrorBody(BaseModel):
    """An error: one line, OpenAI's error type, the field it is about, and a code for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """Response with an error status."""

    error: ErrorBody


class Health(BaseModel):
    """Response of /healthz and /readyz."""

    status: Literal["ok", "ready", "starting", "draining", "down"]
