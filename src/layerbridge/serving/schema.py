"""Schema: requests as OpenAI writes them, and two of our own.

Fields that a bridge has nothing to do with are ignored, except those whose being ignored would
make the answer another one than was asked for: they are refused, unless they ask for nothing.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

# Field → what it may be, since that asks for nothing. None always does.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "chat_template": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "image": (),
    "images": ([],),
    "logit_bias": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_calls": ([],),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (0, -1),
    "use_beam_search": (False,),
    "web_search_options": (),
}

_INT64 = 2**63


def _unsupported(allowed: tuple[Any, ...]) -> PydanticCustomError:
    words = ", ".join(json.dumps(value) for value in allowed)
    return PydanticCustomError(
        "unsupported", "not supported{allowed}", {"allowed": f"; allowed: {words}" if words else ""}
    )


def _invalid(title: str, problems: list[tuple[str, PydanticCustomError, Any]]) -> ValidationError:
    """An error that names its fields, as a plain ValueError of a model's validator would not."""
    details = [
        InitErrorDetails(type=problem, loc=(name,), input=value)
        for name, problem, value in problems
    ]
    return ValidationError.from_exception_data(title, details)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "unicode", "half of a surrogate pair is no character; allowed: Unicode text"
        ) from None
    return text


# JSON can write half of a character, which no tokenizer takes.
Text = Annotated[str, AfterValidator(_unicode)]
StopString = Annotated[Text, Field(min_length=1, max_length=500)]


class _Request(BaseModel):
    # Strict: "5" for 5 is a mistake worth telling.
    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        problems = [
            (name, _unsupported(allowed), data[name])
            for name, allowed in _NEUTRAL.items()
            if data.get(name) is not None and data[name] not in allowed
        ]
        if problems:
            raise _invalid(cls.__name__, problems)
        # Clients write null for what they do not set.
        return {name: value for name, value in data.items() if value is not None}


class StreamOptions(_Request):
    """How to stream.

    Attributes:
        include_usage: a last chunk that counts tokens.
    """

    include_usage: bool = False


class GenerationRequest(_Request):
    """What chat and completions share.

    Attributes:
        model: a bridge's name.
        n: how many answers.
        stop: up to four strings; the answer ends before the first of them.
        temperature: 0 takes the most likely token. OpenAI's default is 1; here it is 0, as bridges
            are trained for one right answer.
        top_p: the most likely tokens that have so much of the probability together.
        max_tokens: of each answer; None is 64.
        seed: answer number i is drawn with seed + i.
        stream: server-sent events.
        stream_options: how.
        instruction: not OpenAI's. English text that the language model reads after the soft
            prompt; None takes the bridge's own.
        ignore_eos: not OpenAI's. Go on to max_tokens; for benchmarks.
        user: ignored.
    """

    model: Text
    n: Annotated[int, Field(ge=1)] = 1
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    instruction: Text | None = None
    ignore_eos: bool = False
    user: Text | None = None

    @property
    def stops(self) -> list[str]:
        """``stop`` as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with usage."""
        return self.stream_options is not None and self.stream_options.include_usage


def _is_text(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind != "text":
        raise PydanticCustomError(
            "unsupported",
            "a part of type {kind} is not supported; allowed: text",
            {"kind": kind[:50]},
        )
    return part


class TextPart(_Request):
    """A part of a message; only text is read."""

    type: Literal["text"]
    text: Text


class Message(_Request):
    """One message of a chat.

    Attributes:
        role: who says it.
        content: what.
    """

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Annotated[TextPart, BeforeValidator(_is_text)]] = ""

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions.

    Attributes:
        messages: the chat; README and docs tell what a bridge reads of it.
        max_completion_tokens: the newer name of max_tokens; it wins.
        logprobs: whether to tell how likely each token was.
        top_logprobs: and the most likely tokens in its place.
    """

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            problem = PydanticCustomError("unsupported", "it needs logprobs to be true")
            raise _invalid("ChatRequest", [("top_logprobs", problem, self.top_logprobs)])
        return self


def _no_ids(prompt: Any) -> Any:
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(first, int | list):
        raise PydanticCustomError(
            "unsupported",
            "token ids are not supported, as encoder and language model have different ones; "
            "allowed: a string, or a list of strings",
        )
    return prompt


class CompletionRequest(GenerationRequest):
    """POST /v1/completions.

    Attributes:
        prompt: what the encoder reads, in any language; each of a list on its own.
        logprobs: of how many of the most likely tokens to tell, beside each token.
    """

    prompt: Annotated[Text | Annotated[list[Text], Field(min_length=1)], BeforeValidator(_no_ids)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def prompts(self) -> list[str]:
        """``prompt`` as a list."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class ClassifyRequest(_Request):
    """POST /v1/classify.

    Attributes:
        model: a bridge's name.
        text: what the encoder reads, in any language.
        options: label words; None takes those the bridge was trained with.
        instruction: as for generation.
        normalize: "sum" of the tokens' log-probabilities, or their "mean".
    """

    model: Text
    text: Text
    options: Annotated[list[Text], Field(min_length=1)] | None = None
    instruction: Text | None = None
    normalize: Literal["sum", "mean"] = "sum"


class LayerWeightsRequest(_Request):
    """POST /v1/layer_weights.

    Attributes:
        model: a bridge's name.
        text: what the encoder reads, in any language.
    """

    model: Text
    text: Text
