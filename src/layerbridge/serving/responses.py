"""Replies, and the events of streams, as OpenAI writes them; and two of our own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from typing_extensions import TypedDict

from layerbridge.serving.requests import FinishReason


class Usage(BaseModel):
    """How many tokens.

    Attributes:
        prompt_tokens: positions of the language model's input, soft prompt and all; counted once
            for all answers to one text.
        completion_tokens: of all answers, those of a stop string among them.
        total_tokens: both.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that was likely.

    Attributes:
        token: its text.
        logprob: of the model itself, whatever the temperature.
        bytes: the same text as bytes; a token may be part of a character.
    """

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of an answer.

    Attributes:
        top_logprobs: the most likely tokens in its place.
    """

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """How likely an answer's tokens were."""

    content: list[TokenLogprob]


class ChatMessage(BaseModel):
    """An answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One of n answers."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatReply(BaseModel):
    """The reply of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatDelta(TypedDict, total=False):
    """What an answer grew by."""

    role: Literal["assistant"]
    content: str


class ChatChunkChoice(BaseModel):
    """What one of n answers grew by."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(BaseModel):
    """One event of /v1/chat/completions."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class CompletionLogprobs(BaseModel):
    """How likely an answer's tokens were.

    Attributes:
        tokens: their texts.
        token_logprobs: of the model itself, whatever the temperature.
        top_logprobs: the most likely tokens in each place, and the token itself.
        text_offset: where each begins in the answer.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One answer, or what it grew by; finish_reason is null while it grows."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class CompletionReply(BaseModel):
    """The reply of /v1/completions, and each event of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class BridgeCard(BaseModel):
    """What a bridge is.

    Attributes:
        fusion: how it mixes the encoder's layers.
        encoder: its multilingual encoder.
        language_model: its language model.
        options: the label words it was trained with.
        instruction: what the language model is told if a request does not say.
        template: the prompt its training texts were put in; texts do best in it.
        layers: how many layers it mixes.
    """

    fusion: str
    encoder: str | None
    language_model: str | None
    options: list[str] | None
    instruction: str | None
    template: str | None
    layers: int | None


class ModelCard(BaseModel):
    """One bridge."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["layerbridge"] = "layerbridge"
    layerbridge: BridgeCard


class ModelList(BaseModel):
    """The reply of /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class OptionScore(BaseModel):
    """One option.

    Attributes:
        option: the label words.
        score: its log-probability (nats).
        probability: the scores' softmax.
    """

    option: str
    score: float
    probability: float


class ClassifyReply(BaseModel):
    """The reply of /v1/classify; options as they were given."""

    model: str
    choice: str
    options: list[OptionScore]


class LayerWeightsReply(BaseModel):
    """The reply of /v1/layer_weights.

    Attributes:
        model: the bridge's name.
        tokens: the encoder's, specials included.
        layers: numbers of the layers; 1 is the first transformer layer.
        weights: tokens × layers; each row sums to 1.
    """

    model: str
    tokens: list[str]
    layers: list[int]
    weights: list[list[float]]


class ErrorBody(BaseModel):
    """What went wrong.

    Attributes:
        message: one line.
        type: whose mistake.
        param: the field it is about.
        code: what a program can tell it by.
    """

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(BaseModel):
    """Every reply that is no success."""

    error: ErrorBody


class Health(BaseModel):
    """The reply of /healthz and /readyz."""

    status: Literal["ok", "ready", "starting", "draining", "down"]
