"""Reads requests: what a client says in any language goes to the encoder, not to a chat template.

    completions   prompt → text
    chat          last user message → text, system messages → instruction

Without an instruction a bridge has its own.
"""

from __future__ import annotations

from typing import Any, cast

from vllm.exceptions import VLLMValidationError
from vllm.renderers.hf import HfRenderer

from layerbridge.models.bridge import LayerBridge
from layerbridge.serving.plugin.inputs import MODALITY, BridgeInfo


class BridgeRenderer(HfRenderer):
    """vLLM's renderer for a bridge."""

    @property
    def bridge(self) -> LayerBridge:
        """The bridge without its weights."""
        return cast(BridgeInfo, self.get_mm_processor().info).bridge

    def render_prompt(self, prompt: Any) -> Any:
        """Reads the prompt of a completion, or of ``LLM.generate``.

        Of one with ``multi_modal_data={"text": …}`` the prompt is the instruction.

        Raises:
            VLLMValidationError: there is no text.
        """
        if isinstance(prompt, bytes) or "prompt_embeds" in prompt:
            raise VLLMValidationError(
                "a bridge reads text; allowed: a prompt of text", parameter="prompt"
            )
        prompt = super().render_prompt(prompt)
        words = prompt.get("prompt")
        if prompt.get("multi_modal_data"):
            if "prompt_token_ids" in prompt:
                return prompt
            return {**prompt, "prompt_token_ids": self._instruction(words)}
        if words is None:
            raise VLLMValidationError(
                "token ids without a text for the encoder; allowed: a prompt of text, or "
                'multi_modal_data={"text": …} with them',
                parameter="prompt",
            )
        return {**prompt, **self.prompt(words)}

    async def _render_prompt_async(self, prompt: Any) -> Any:
        return self.render_prompt(prompt)

    def render_messages(self, messages: list[Any], params: Any) -> tuple[list[Any], Any]:
        """Reads a chat.

        Raises:
            VLLMValidationError: there is no user message, or a part of one is not text.
        """
        conversation = [
            {"role": message["role"], "content": _text(message)} for message in messages
        ]
        users = [message["content"] for message in conversation if message["role"] == "user"]
        if not users:
            raise VLLMValidationError(
                "no user message; allowed: at least one", parameter="messages"
            )
        system = [
            message["content"]
            for message in conversation
            if message["role"] in ("system", "developer") and message["content"].strip()
        ]
        return conversation, self.prompt(users[-1], "\n".join(system))

    async def render_messages_async(
        self, messages: list[Any], params: Any
    ) -> tuple[list[Any], Any]:
        """Does as ``render_messages``."""
        return self.render_messages(messages, params)

    def prompt(
        self, text: str, instruction: str | None = None, language: str | None = None
    ) -> dict[str, Any]:
        """Returns what the engine is given for a text.

        Args:
            text: for the encoder.
            instruction: for the language model; None takes the bridge's own.
            language: code of the text, for a bridge with language means.
        """
        return {
            "prompt": text,
            "prompt_token_ids": self._instruction(instruction),
            "multi_modal_data": {MODALITY: text},
            **({} if language is None else {"mm_processor_kwargs": {"language": language}}),
        }

    def _instruction(self, text: str | None) -> list[int]:
        text = text or self.bridge.config.instruction
        return self.bridge.language_model.token_ids(text) if text else []


def _text(message: Any) -> str:
    """Returns the text of a message, whose parts are joined with line breaks."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return content or ""
    parts = []
    for part in content:
        kind = part if isinstance(part, str) else part.get("type")
        if isinstance(part, str):
            parts.append(part)
        elif kind in ("text", "input_text", "output_text"):
            parts.append(part["text"])
        else:
            raise VLLMValidationError(
                f"a part of type {kind!r}; allowed: text", parameter="messages"
            )
    return "\n".join(parts)
