"""Conversation: chat messages → the encoder's text and the language model's instruction.

A bridge is trained on single texts and knows no turns. So by default the last user message is the
text and the system messages, in English, are the instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import ApiError
from layerbridge.serving.schema import Message

SYSTEMS = ("instruction", "ignore", "text")
HISTORIES = ("none", "text")


@dataclass(frozen=True)
class ChatMapping:
    """How chat messages are read.

    Attributes:
        system: use system and developer messages as the ``"instruction"``, prepend them to the
            ``"text"`` for the encoder, or ``"ignore"`` them.
        history: ``"none"`` reads only the last user message, ``"text"`` all user and assistant
            messages, one per line.
    """

    system: Literal["instruction", "ignore", "text"] = "instruction"
    history: Literal["none", "text"] = "none"

    def __post_init__(self) -> None:
        for name, allowed in (("system", SYSTEMS), ("history", HISTORIES)):
            value = getattr(self, name)
            if value not in allowed:
                raise ConfigError(f"unknown {name} {value!r}", allowed=allowed)

    def read(self, messages: Sequence[Message]) -> tuple[str, str | None]:
        """Returns the text for the encoder, and the instruction; None for the bridge's own.

        Raises a 400 if there is no user message.
        """
        system = [message.text for message in messages if message.role in ("system", "developer")]
        turns = [message for message in messages if message.role in ("user", "assistant")]
        users = [message.text for message in turns if message.role == "user"]
        if not users:
            message = "messages: no user message; allowed: at least one"
            raise ApiError(400, message, "invalid_value", param="messages")
        lines = [message.text for message in turns] if self.history == "text" else users[-1:]
        preamble = "\n".join(text for text in system if text.strip())
        if self.system == "text" and preamble:
            lines = [preamble, *lines]
        return "\n".join(lines), preamble if self.system == "instruction" and preamble else None
