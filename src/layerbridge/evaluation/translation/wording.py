"""What a translation model reads for a text, and how it is told to answer in English.

    NLLB, M2M100    [source language] text [EOS]  →  [English] translation
    Marian          text [EOS]                    →  translation

The special tokens are put there by hand and not by ``tokenizer.src_lang``: that is a state, which
would hold for whatever is read next, and not every tokenizer file has it. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from layerbridge.errors import BackboneError, DataError
from layerbridge.evaluation.translation import codes

_KINDS = ("m2m_100", "nllb-moe", "marian")
_ENGLISH = ("en", "eng")


@dataclass(frozen=True)
class _Family:
    """One way of naming languages: how a code becomes a token, and the codes there are."""

    form: str
    english: str
    table: Mapping[str, str]

    def token(self, code: str) -> str:
        return self.form.format(code)


# NLLB is an M2M100 with another vocabulary: which of the two it is, only the tokenizer tells.
_FAMILIES = {
    "NLLB": _Family("{}", "eng_Latn", codes.NLLB),
    "M2M100": _Family("__{}__", "en", codes.M2M100),
}


class Wording:
    """Texts as token ids with a language's marks, for one model.

    Args:
        config: of the model.
        tokenizer: of the model.
        name: what errors call it.

    Attributes:
        english_id: the token that every translation begins with; None where there is none.

    Raises:
        BackboneError: the model is of no family that is known here, or does not write English.
    """

    def __init__(
        self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> None:
        if config.model_type not in _KINDS:
            raise BackboneError(
                f"{name!r} is a {config.model_type!r} model, and how that one is told its "
                "languages is not known here",
                allowed="NLLB, M2M100 or Marian",
            )
        self.tokenizer = tokenizer
        self.name = name
        self.max_tokens: int = config.max_position_embeddings
        self.english_id: int | None = None
        self._family: _Family | None = None
        if config.model_type == "marian":
            self._check_target()
            return
        for family in _FAMILIES.values():
            english = self._id(family.token(family.english))
            if english is not None:
                self._family, self.english_id = family, english
                return
        raise BackboneError(
            f"the tokenizer of {name!r} has no token for English",
            allowed=" or ".join(family.token(family.english) for family in _FAMILIES.values()),
            hint="use the tokenizer that the model was trained with",
        )

    def source(self, language: str) -> str:
        """The model's own code for a language; of a Marian pair, ours.

        Raises:
            DataError: the model does not have it.
        """
        if self._family is None:
            self._check_source(language)
            return language
        code = codes.code_in(self._family.table, language, self.name)
        if self._id(self._family.token(code)) is None:
            raise DataError(
                f"the translator {self.name} has no language {language!r}: "
                f"{self._family.token(code)!r} is not in its vocabulary"
            )
        return code

    def ids(self, texts: Sequence[str], language: str) -> list[list[int]]:
        """The token ids of texts; what the model's positions do not hold is cut off the end."""
        marks: list[int] = []
        if self._family is not None:
            mark = self._id(self._family.token(self.source(language)))
            assert mark is not None
            marks = [mark]
        eos: int = self.tokenizer.eos_token_id
        room = self.max_tokens - len(marks) - 1
        bare = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        # How NLLB's first release wrote it, mistakenly; a tokenizer can still ask for that.
        if getattr(self.tokenizer, "legacy_behaviour", False):
            return [[*ids[:room], eos, *marks] for ids in bare]
        return [[*marks, *ids[:room], eos] for ids in bare]

    def _id(self, token: str) -> int | None:
        found = self.tokenizer.convert_tokens_to_ids(token)
        return None if found in (None, self.tokenizer.unk_token_id) else found

    def _check_target(self) -> None:
        target = self.tokenizer.init_kwargs.get("target_lang")
        if target not in (None, *_ENGLISH):
            raise BackboneError(
                f"the translator {self.name!r} writes {target!r}",
                allowed="a model that translates into English",
            )

    def _check_source(self, language: str) -> None:
        """Refuses a pair of another language. Longer codes are groups: ``mul``, ``dra``."""
        reads = self.tokenizer.init_kwargs.get("source_lang") or ""
        base = language.replace("_", "-").split("-")[0]
        if len(reads) == 2 and reads not in (base, codes.M2M100.get(base)):
            raise DataError(
                f"the translator {self.name} reads {reads!r}, not {language!r}",
                hint="an id with {language} in it, such as Helsinki-NLP/opus-mt-{language}-en",
            )
