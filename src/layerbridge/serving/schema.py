"""Request bodies in OpenAI's format, and those of this server's own routes.

Unknown fields are ignored, except those that would change the answer: they are refused, unless
their value has no effect.
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

from layerbridge.tasks.text import has_surrogate

# Unsupported fields of OpenAI's API and of vLLM, and the values without an effect, which are
# allowed. So is null.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("allowed_token_ids", "audio", "chat_template", "documents", "image"), ()),
    **dict.fromkeys(("guided_choice", "guided_grammar", "guided_json", "guided_regex"), ()),
    **dict.fromkeys(("logits_processors", "mm_payload", "moderation", "prediction"), ()),
    **dict.fromkeys(("logprob_token_ids", "prompt_embeds", "prompt_logprobs"), ()),
    **dict.fromkeys(("repetition_detection", "structured_outputs", "truncate_prompt_tokens"), ()),
    "web_search_options": (),
    **dict.fromkeys(("bad_words", "functions", "images", "stop_token_ids"), ([],)),
    **dict.fromkeys(("tool_calls", "tools"), ([],)),
    **dict.fromkeys(("frequency_penalty", "min_p", "min_tokens", "presence_penalty"), (0,)),
    **dict.fromkeys(("best_of", "repetition_penalty"), (1,)),
    **dict.fromkeys(("continue_final_message", "continuous_usage_stats", "echo"), (False,)),
    **dict.fromkeys(("include_stop_str_in_output", "use_beam_search", "watermarking"), (False,)),
    **dict.fromkeys(("return_prompt_text", "return_token_ids", "return_token_offsets"), (False,)),
    **dict.fromkeys(("return_mm_kwargs", "return_tokens_as_token_ids"), (False,)),
    "function_call": ("none",),
    **dict.fromkeys(("logit_bias", "vllm_xargs"), ({},)),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "skip_special_tokens": (True,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "top_k": (0, -1),
    "truncation_side": ("right",),
    "verbosity": ("medium",),
}

_INT64 = 2**63


def _unsupported(allowed: tuple[Any, ...]) -> PydanticCustomError:
    values = ", ".join(map(json.dumps, allowed))
    suffix = f"; allowed: {values}" if values else ""
    return PydanticCustomError("unsupported", "not supported{suffix}", {"suffix": suffix})


def _field_errors(
    title: str, problems: list[tuple[str, PydanticCustomError, Any]]
) -> ValidationError:
    """Builds an error with field names, which a model validator's ValueError would lack."""
    details = [
        InitErrorDetails(type=problem, loc=(name,), input=value)
        for name, problem, value in problems
    ]
    return ValidationError.from_exception_data(title, details)


def _check_unicode(text: str) -> str:
    if has_surrogate(text):
        raise PydanticCustomError("unicode", "invalid Unicode: unpaired surrogate")
    return text


# JSON can express half of a surrogate pair, which no tokenizer accepts.
Text = Annotated[str, AfterValidator(_check_unicode)]
StopString = Annotated[Text, Field(min_length=1, max_length=500)]


class _Request(BaseModel):
    # Strict: "5" is not accepted as 5.
    model_config = ConfigDict(strict=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        problems = [
            (name, _unsupported(UNSUPPORTED[name]), data[name])
            for name in sorted(UNSUPPORTED.keys() & data.keys())
            if data[name] is not None and data[name] not in UNSUPPORTED[name]
        ]
        if problems:
            raise _field_errors(cls.__name__, problems)
        # Clients send null for what they do not set.
        return {name: value for name, value in data.items() if value is not None}


class StreamOptions(_Request):
    """Options of a stream.

    Attributes:
        include_usage: end with a chunk of token counts.
    """

    include_usage: bool = False


class GenerationRequest(_Request):
    """Fields that chat and completions share.

    Attributes:
        model: a bridge's name.
        n: completions per text.
        stop: up to four strings; the completion ends before the first of them.
        temperature: 0 takes the most likely token. OpenAI's default is 1; here it is 0, as bridges
            are trained for one right answer.
        top_p: sample from the smallest set of tokens with this total probability.
        max_tokens: of each completion; None is 64.
        seed: completion i uses seed + i.
        stream: send server-sent events.
        stream_options: options of the stream.
        instruction: not in OpenAI's API. English text the language model reads after the soft
            prompt; None for the bridge's own.
        language: not in OpenAI's API. Code of the texts' language, for a bridge with language
            means; None for the one with the nearest mean.
        options: not in OpenAI's API. The answer is one of these label words; an empty list asks
            for free text. None takes those the bridge was trained with, if any.
        ignore_eos: not in OpenAI's API. Continue to max_tokens, in free text; for benchmarks.
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
    options: list[Text] | None = None
    language: Text | None = None
    ignore_eos: bool = False
    user: Text | None = None

    @model_validator(mode="after")
    def _free_text_has_no_end(self) -> GenerationRequest:
        if self.ignore_eos and self.options:
            problem = PydanticCustomError("unsupported", "options end; allowed: options: []")
            raise _field_errors("GenerationRequest", [("ignore_eos", problem, True)])
        return self

    @property
    def stops(self) -> list[str]:
        """``stop`` as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with token counts."""
        return self.stream_options is not None and self.stream_options.include_usage


def _check_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind != "text":
        raise PydanticCustomError(
            "unsupported", "unsupported content type {kind}; allowed: text", {"kind": kind[:50]}
        )
    return part


class TextPart(_Request):
    """A text part of a message."""

    type: Literal["text"]
    text: Text


class Message(_Request):
    """A chat message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Annotated[TextPart, BeforeValidator(_check_part)]] = ""

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)

    @model_validator(mode="after")
    def _check_content(self) -> Message:
        # An assistant's may be missing, as where it has called tools. An empty text stands for
        # itself, but null is hardly what somebody wanted to ask.
        if self.role != "assistant" and "content" not in self.model_fields_set:
            problem = PydanticCustomError("missing", "Field required; allowed: a string, or parts")
            raise _field_errors("Message", [("content", problem, None)])
        return self


class ChatRequest(GenerationRequest):
    """Body of POST /v1/chat/completions.

    Attributes:
        messages: the chat; the server's settings say which of them a bridge reads.
        max_completion_tokens: the newer name of max_tokens; takes precedence.
        logprobs: return the log-probability of each token.
        top_logprobs: how many of the most likely tokens to return with each token.
    """

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            problem = PydanticCustomError("unsupported", "requires logprobs: true")
            raise _field_errors("ChatRequest", [("top_logprobs", problem, self.top_logprobs)])
        return self


def _refuse_token_ids(prompt: Any) -> Any:
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if isinstance(first, int | list):
        raise PydanticCustomError(
            "unsupported",
            "token ids are not supported, as encoder and language model have different ones; "
            "allowed: a string, or a list of strings",
        )
    return prompt


class CompletionRequest(GenerationRequest):
    """Body of POST /v1/completions.

    Attributes:
        prompt: the encoder's input, in any language; each string of a list on its own.
        logprobs: how many of the most likely tokens to return with each token.
    """

    prompt: Annotated[
        Text | Annotated[list[Text], Field(min_length=1)], BeforeValidator(_refuse_token_ids)
    ]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def prompts(self) -> list[str]:
        """``prompt`` as a list."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class ClassifyRequest(_Request):
    """Body of POST /v1/classify.

    Attributes:
        model: a bridge's name.
        text: the encoder's input, in any language; each string of a list on its own.
        options: label words; None for those the bridge was trained with.
        instruction: as for generation.
        normalize: score by the "sum" or the "mean" of the tokens' log-probabilities.
        language: as for generation.
    """

    model: Text
    text: Text | Annotated[list[Text], Field(min_length=1)]
    options: Annotated[list[Text], Field(min_length=1)] | None = None
    instruction: Text | None = None
    normalize: Literal["sum", "mean"] = "sum"
    language: Text | None = None


class LayerWeightsRequest(_Request):
    """Body of POST /v1/layer_weights.

    Attributes:
        model: a bridge's name.
        text: the encoder's input, in any language.
    """

    model: Text
    text: Text
