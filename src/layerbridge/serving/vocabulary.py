"""Vocabulary: what a tokenizer's ids stand for. It knows no answer and no HTTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Vocabulary:
    """The language model's tokenizer, as far as the reading of answers needs it.

    Args:
        tokenizer: the language model's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        # A slow tokenizer may decode in any way it likes, so none of its text is decoded apart.
        self.windowed: bool = bool(tokenizer.is_fast)
        # The tokenizer's own methods do the same, and take four times as long.
        self._backend = tokenizer.backend_tokenizer if self.windowed else None

    def decode(self, ids: Sequence[int], *, clean: bool = False) -> str:
        """The text of the tokens, specials skipped.

        Args:
            ids: in the order they were written.
            clean: take out spaces as ``tokenizer.decode`` does if it is so set.
        """
        text: str
        if self._backend is not None and not clean:
            text = self._backend.decode(list(ids), skip_special_tokens=True)
        else:
            arguments = {} if clean else {"clean_up_tokenization_spaces": False}
            text = self._tokenizer.decode(list(ids), skip_special_tokens=True, **arguments)
        return text

    def clean(self, text: str) -> str:
        """The text without the spaces that such a tokenizer takes out."""
        cleaned: str = self._tokenizer.clean_up_tokenization(text)
        return cleaned

    @cached_property
    def cleans(self) -> bool:
        """Whether ``tokenizer.decode`` takes spaces out.

        The setting alone does not tell: newer transformers ignore it for most tokenizers.
        """
        ids = self._tokenizer("a , b .", add_special_tokens=False)["input_ids"]
        return self.decode(ids, clean=True) != self.decode(ids)

    @cached_property
    def specials(self) -> frozenset[int]:
        """The ids that ``decode`` skips."""
        added = self._tokenizer.added_tokens_decoder.items()
        return frozenset(id for id, token in added if token.special)

    def token(self, id: int) -> str | None:
        """The token as the vocabulary writes it; None where there is none of that id.

        A model may have more rows than its tokenizer has tokens.
        """
        token: str | None
        if self._backend is not None:
            token = self._backend.id_to_token(id)
        else:
            token = self._tokenizer.convert_ids_to_tokens(id)
        return token

    def is_byte(self, id: int) -> bool:
        """Whether it is one byte of a text that the vocabulary has no token for."""
        return not self._byte_level and _BYTE.fullmatch(self.token(id) or "") is not None

    def bytes_of(self, id: int) -> bytes:
        """What the token alone writes; it may be part of a character."""
        token = self.token(id)
        if token is None:
            return b""
        if id in self.specials:
            return token.encode()
        if self._byte_level:
            if all(character in _BYTE_OF for character in token):
                return bytes(_BYTE_OF[character] for character in token)
            return token.encode()
        byte = _BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()

    def text_of(self, id: int) -> str:
        r"""The token alone as text; part of a character is told as OpenAI does: ``bytes:\xe0``."""
        written = self.bytes_of(id)
        try:
            return written.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in written)

    @cached_property
    def _byte_level(self) -> bool:
        return self._backend is not None and "ByteLevel" in repr(self._backend.decoder)


def _byte_of() -> dict[str, int]:
    """Character → byte, as byte-level tokenizers write bytes since GPT-2.

    Bytes with a picture stand for themselves, the others for the characters from U+0100 on.
    """
    pictured = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in pictured]
    table = {chr(byte): byte for byte in pictured}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_of()
