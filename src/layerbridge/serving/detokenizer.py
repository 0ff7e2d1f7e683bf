"""Detokenizer: a completion's tokens → its text, each part as soon as it is final.

A character may take several tokens, and a stop string may begin in one part and end in the next,
so some text is held back until a later token decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerbridge.serving.vocabulary import Vocabulary

# Stands for bytes that are not a character, or not yet.
_REPLACEMENT = "\ufffd"
# How far the removal of a space looks back, and a little more, as one may make room for the next.
_CLEAN_LOOKBACK = 8


class TokenDecoder:
    """Tokens → text that no later token can change.

    The parts together are ``tokenizer.decode(ids, skip_special_tokens=True)``.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        # Tokens before `_start` are done. Those up to `_end` have been emitted as `_context`; they
        # are decoded again only because the first token of a text may lose its space.
        self._ids: list[int] = []
        self._start = 0
        self._end = 0
        self._context = ""
        self._raw = ""
        self._emitted = 0

    def push(self, id: int) -> str:
        """Returns the text that this token makes final."""
        vocabulary = self._vocabulary
        if vocabulary.windowed and id in vocabulary.specials:
            return ""
        self._ids.append(id)
        # Consecutive bytes are decoded together: an invalid one spoils them all.
        if vocabulary.is_byte(id):
            return ""
        text = vocabulary.decode(self._ids[self._start :])
        if text.endswith(_REPLACEMENT) or not text.startswith(self._context):
            return ""
        return self._emit(text, last=False)

    def finish(self) -> str:
        """Returns the text still held back."""
        return self._emit(self._vocabulary.decode(self._ids[self._start :]), last=True)

    def _emit(self, text: str, *, last: bool) -> str:
        new = text[len(self._context) :]
        vocabulary = self._vocabulary
        alone = vocabulary.decode(self._ids[self._end :]) if vocabulary.windowed else ""
        if alone:
            self._start, self._context = self._end, alone
        else:
            self._context = text
        self._end = len(self._ids)
        return self._clean(new, last=last) if vocabulary.cleans else new

    def _clean(self, new: str, *, last: bool) -> str:
        self._raw += new
        cleaned = self._vocabulary.clean(self._raw)
        end = len(cleaned) if last else max(self._emitted, len(cleaned) - _CLEAN_LOOKBACK)
        part = cleaned[self._emitted : end]
        self._emitted = end
        return part


class StopStrings:
    """Cuts text before the stop string that is completed first, however the text is split."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.hit: str | None = None

    def push(self, text: str) -> str:
        """Returns the text that cannot be part of a stop string any more."""
        if self.hit is not None:
            return ""
        text = self._held + text
        starts = [(text.find(stop), stop) for stop in self._stops]
        hits = [(start + len(stop), start, stop) for start, stop in starts if start >= 0]
        if hits:
            _, start, self.hit = min(hits)
            self._held = ""
            return text[:start]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """Returns the text still held back: no stop string after all."""
        held, self._held = self._held, ""
        return held


class Detokenizer:
    """The text of one completion as it is generated.

    Args:
        vocabulary: decodes the tokens.
        stops: strings that end the completion and are not part of it.
        strip: remove white space at the beginning.
    """

    def __init__(
        self, vocabulary: Vocabulary, stops: Sequence[str] = (), *, strip: bool = False
    ) -> None:
        self._decoder = TokenDecoder(vocabulary)
        self._stops = StopStrings(stops)
        self._strip = strip
        self.decoded = 0  # characters so far
        self.emitted = 0  # characters returned so far

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended it."""
        return self._stops.hit is not None

    def push(self, id: int) -> str:
        """Returns the text that this token makes final."""
        return self._emit(self._stops.push(self._strip_start(self._decoder.push(id))))

    def finish(self) -> str:
        """Returns the text still held back."""
        text = self._stops.push(self._strip_start(self._decoder.finish()))
        return self._emit(text + self._stops.finish())

    def _strip_start(self, text: str) -> str:
        if self._strip:
            text = text.lstrip()
            self._strip = not text
        self.decoded += len(text)
        return text

    def _emit(self, text: str) -> str:
        self.emitted += len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """Returns how much of the text's end may be the beginning of the stop string."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
