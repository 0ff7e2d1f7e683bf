"""Conversation: chat messages → what the encoder reads, and what the language model is told.

A bridge was trained on one text at a time and knows no turns. So the last thing the user said is
the text, and what the system says, in English, is the instruction; both can be set otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from layerbridge.errors import ConfigError
from layerbridge.serving.errors import BadRequestError
from layerbridge.serving.schema import Message

SYSTEMS = ("instruction", "ignore", "text")
HISTORIES = ("none", "text")


@dataclass(frozen=True)
class ChatMapping:
    """What becomes of chat messages.

    Attributes:
        system: system and developer messages are the language model's ``"instruction"``, or come
            before the ``"text"`` the encoder reads, or are left out (``"ignore"``).
        history: ``"none"`` reads the last user message alone; ``"text"`` reads all that user and
            assistant said, one turn a line.
    """

    system: Literal["instruction", "ignore", "text"] = "instruction"
    history: Literal["none", "text"] = "none"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("system", self.system, SYSTEMS),
            ("history", self.history, HISTORIES),
        ):
            if value not in allowed:
                raise ConfigError(f"unknown {name} {value!r}", allowed=allowed)

    def read(self, messages: Sequence[Message]) -> tuple[str, str | None]:
        """Text for the encoder, and instruction; None leaves the bridge its own.

        Raises:
            BadRequestError: the user says nothing.
        """
        system = [message.text for message in messages if message.role in ("system", "developer")]
        turns = [message for message in messages if message.role in ("user", "assistant")]
        users = [message.text for message in turns if message.role == "user"]
        if not users:
            raise BadRequestError(
                "messages: none of them is the user's", allowed="one at least", param="messages"
            )
        lines = [message.text for message in turns] if self.history == "text" else users[-1:]
        told = "\n".join(text for text in system if text.strip())
        if self.system == "text" and told:
            lines = [told, *lines]
        instruction = told if self.system == "instruction" and told else None
        return "\n".join(lines), instruction
