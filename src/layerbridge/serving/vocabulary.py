"""Vocabulary: texts and bytes of a tokenizer's ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# How byte-level tokenizers write bytes since GPT-2.
_BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


class Vocabulary:
    """The language model's tokenizer, as far as decoding needs it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # A slow tokenizer may decode in any way it likes, so its text is always decoded whole.
        self.windowed: bool = bool(tokenizer.is_fast)
        # The backend decodes the same text four times as fast.
        self._backend = tokenizer.backend_tokenizer if self.windowed else None
        self._token_of: Callable[[int], str | None] = (
            self._backend.id_to_token if self._backend else tokenizer.convert_ids_to_tokens
        )

    def decode(self, ids: Sequence[int], *, clean: bool = False) -> str:
        """Decodes tokens without special ones.

        ``clean`` removes spaces if ``tokenizer.decode`` is configured to.
        """
        text: str
        if self._backend is not None and not clean:
            text = self._backend.decode(list(ids), skip_special_tokens=True)
        else:
            arguments = {} if clean else {"clean_up_tokenization_spaces": False}
            text = self._tokenizer.decode(list(ids), skip_special_tokens=True, **arguments)
        return text

    def clean(self, text: str) -> str:
        """Removes the spaces that the tokenizer cleans up."""
        cleaned: str = self._tokenizer.clean_up_tokenization(text)
        return cleaned

    @cached_property
    def cleans(self) -> bool:
        """Whether ``tokenizer.decode`` removes spaces.

        The setting alone does not say: transformers ignores it for most tokenizers.
        """
        ids = self._tokenizer("a , b .", add_special_tokens=False)["input_ids"]
        return self.decode(ids, clean=True) != self.decode(ids)

    @cached_property
    def specials(self) -> frozenset[int]:
        """The ids that ``decode`` skips."""
        added = self._tokenizer.added_tokens_decoder.items()
        return frozenset(id for id, token in added if token.special)

    def token(self, id: int) -> str | None:
        """Returns the token as the vocabulary writes it.

        None for an id without a token: a model may have more rows than its tokenizer has tokens.
        """
        return self._token_of(id)

    def is_byte(self, id: int) -> bool:
        """Whether the token is a byte fallback such as ``<0xE7>``."""
        return not self._byte_level and _BYTE_TOKEN.fullmatch(self.token(id) or "") is not None

    def token_bytes(self, id: int) -> bytes:
        """Returns the token's bytes; they may be part of a character."""
        token = self.token(id)
        if token is None:
            return b""
        if id in self.specials:
            return token.encode()
        if self._byte_level:
            if all(character in _BYTE_OF for character in token):
                return bytes(_BYTE_OF[character] for character in token)
            return token.encode()
        byte = _BYTE_TOKEN.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()

    def token_text(self, id: int) -> str:
        r"""Returns the token's text; part of a character in OpenAI's form: ``bytes:\xe0``."""
        encoded = self.token_bytes(id)
        try:
            return encoded.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in encoded)

    @cached_property
    def _byte_level(self) -> bool:
        return self._backend is not None and "ByteLevel" in repr(self._backend.decoder)
