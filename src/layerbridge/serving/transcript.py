"""Transcript: an answer's tokens → its text, each part as soon as it is certain.

What was given is never taken back. A character may take several tokens, and a stop string may
begin at the end of one part and end in the next, so some text waits for the token that decides.
"""

from __future__ import annotations

from collections.abc import Sequence

from layerbridge.serving.vocabulary import Vocabulary

# What stands for bytes that are no character, or not yet.
_REPLACEMENT = "\ufffd"
# As far as taking out a space looks back, and a little more: one may make room for the next.
_CLEANED_LATER = 8


class Decoding:
    """Tokens → text, no part of which a later token can change.

    All parts together are ``tokenizer.decode(ids, skip_special_tokens=True)``.

    Args:
        vocabulary: the language model's.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        # Of the tokens, those before `_start` are done with; those up to `_read` are told, and are
        # decoded again only since the first token of a text may lose its space. Their text is
        # `_context`.
        self._ids: list[int] = []
        self._start = 0
        self._read = 0
        self._context = ""
        self._raw = ""
        self._given = 0

    def push(self, id: int) -> str:
        """The text that this token makes certain."""
        vocabulary = self._vocabulary
        if vocabulary.windowed and id in vocabulary.specials:
            return ""
        self._ids.append(id)
        # Bytes that follow each other are decoded together: one that does not fit spoils them all.
        if vocabulary.is_byte(id):
            return ""
        text = vocabulary.decode(self._ids[self._start :])
        if text.endswith(_REPLACEMENT) or not text.startswith(self._context):
            return ""
        return self._tell(text, last=False)

    def finish(self) -> str:
        """What was still waiting."""
        return self._tell(self._vocabulary.decode(self._ids[self._start :]), last=True)

    def _tell(self, text: str, *, last: bool) -> str:
        new = text[len(self._context) :]
        alone = (
            self._vocabulary.decode(self._ids[self._read :]) if self._vocabulary.windowed else ""
        )
        if alone:
            self._start, self._context = self._read, alone
        else:
            self._context = text
        self._read = len(self._ids)
        return self._clean(new, last=last) if self._vocabulary.cleans else new

    def _clean(self, new: str, *, last: bool) -> str:
        self._raw += new
        cleaned = self._vocabulary.clean(self._raw)
        end = len(cleaned) if last else max(self._given, len(cleaned) - _CLEANED_LATER)
        told = cleaned[self._given : end]
        self._given = end
        return told


class Stops:
    """Text → text up to the first of some strings, no part of which is ever given.

    The one that is complete first ends the text, so it does not matter in what parts text comes.

    Args:
        stops: the strings.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.hit: str | None = None

    def push(self, text: str) -> str:
        """What no stop string can claim any more."""
        if self.hit is not None:
            return ""
        text = self._held + text
        found = [(text.find(stop), stop) for stop in self._stops]
        ends = [(place + len(stop), place, stop) for place, stop in found if place >= 0]
        if ends:
            _, place, self.hit = min(ends)
            self._held = ""
            return text[:place]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held and turned out to be no stop string."""
        held, self._held = self._held, ""
        return held


class Transcript:
    """One answer as it is written.

    Args:
        vocabulary: the language model's.
        stops: strings that end the answer, and are not part of it.
        strip: leave out white space at the beginning.
    """

    def __init__(
        self, vocabulary: Vocabulary, stops: Sequence[str] = (), *, strip: bool = False
    ) -> None:
        self._decoding = Decoding(vocabulary)
        self._stops = Stops(stops)
        self._strip = strip
        self.decoded = 0
        self.given = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended it."""
        return self._stops.hit is not None

    def push(self, id: int) -> str:
        """The text that this token makes certain; ``given`` counts it all."""
        return self._give(self._stops.push(self._stripped(self._decoding.push(id))))

    def finish(self) -> str:
        """What was still waiting."""
        text = self._stops.push(self._stripped(self._decoding.finish()))
        return self._give(text + self._stops.finish())

    def _stripped(self, text: str) -> str:
        if self._strip:
            text = text.lstrip()
            self._strip = not text
        self.decoded += len(text)
        return text

    def _give(self, text: str) -> str:
        self.given += len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end may be the beginning of the string."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
