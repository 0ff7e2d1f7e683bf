"""A translation model's input, and the token that makes it answer in English.

    NLLB, M2M100    [source language] text [EOS]  →  [English] translation
    Marian          text [EOS]                    →  translation

The special tokens are added by hand: ``tokenizer.src_lang`` is a state that would outlast the call,
and not every tokenizer file has it.
"""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from layerbridge.errors import BackboneError, DataError
from layerbridge.evaluation.translation.codes import M2M100, NLLB, code_in

FAMILIES = "NLLB, M2M100 or Marian"

# How each family writes a language's token, its code for English, and its codes. NLLB is an M2M100
# with another vocabulary; only the tokenizer tells which of the two a model is.
_MULTILINGUAL = (("{}", "eng_Latn", NLLB), ("__{}__", "en", M2M100))


class Wording:
    """Texts as token ids with the language's token, for one model.

    Args:
        config: of the model.
        tokenizer: of the model.
        name: of the model in errors.

    Attributes:
        english_id: the token that every translation starts with; None for Marian.

    Raises:
        BackboneError: the model's family is not supported, or it does not translate into English.
    """

    def __init__(
        self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str
    ) -> None:
        if config.model_type not in ("m2m_100", "nllb-moe", "marian"):
            raise BackboneError(
                f"{name!r} is a {config.model_type!r} model, whose language tokens are unknown",
                allowed=FAMILIES,
            )
        self.tokenizer = tokenizer
        self.name = name
        self.max_tokens: int = config.max_position_embeddings
        self.english_id: int | None = None
        if config.model_type == "marian":
            target = tokenizer.init_kwargs.get("target_lang")
            if target not in (None, "en", "eng"):
                raise BackboneError(
                    f"the translator {name!r} translates into {target!r}",
                    allowed="a model that translates into English",
                )
            return
        for self._form, english, self._codes in _MULTILINGUAL:
            self.english_id = self._id(english)
            if self.english_id is not None:
                return
        raise BackboneError(
            f"the tokenizer of {name!r} has no token for English",
            allowed=" or ".join(form.format(english) for form, english, _ in _MULTILINGUAL),
            hint="use the tokenizer that the model was trained with",
        )

    def source(self, language: str) -> str:
        """The model's own code for a language; for Marian, ours.

        Raises:
            DataError: the model does not have it.
        """
        if self.english_id is None:
            self._check_source(language)
            return language
        code = code_in(self._codes, language, self.name)
        if self._id(code) is None:
            raise DataError(
                f"the translator {self.name} does not support {language!r}: "
                f"{self._form.format(code)!r} is not in its vocabulary"
            )
        return code

    def ids(self, texts: Sequence[str], language: str) -> list[list[int]]:
        """Token ids of texts, truncated to the model's positions."""
        mark = None if self.english_id is None else self._id(self.source(language))
        marks = [] if mark is None else [mark]
        eos: int = self.tokenizer.eos_token_id
        room, bare = self._room, self._bare(texts)
        # NLLB's first release put the language last, by mistake; tokenizers can still ask for that.
        if getattr(self.tokenizer, "legacy_behaviour", False):
            return [[*ids[:room], eos, *marks] for ids in bare]
        return [[*marks, *ids[:room], eos] for ids in bare]

    def count_cut(self, texts: Sequence[str]) -> int:
        """The number of texts that ``ids`` truncates."""
        return sum(len(ids) > self._room for ids in self._bare(texts))

    @property
    def _room(self) -> int:
        """Tokens of a text, without EOS and the language's token."""
        return self.max_tokens - 1 - (self.english_id is not None)

    def _bare(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def _id(self, code: str) -> int | None:
        token_id = self.tokenizer.convert_tokens_to_ids(self._form.format(code))
        return None if token_id in (None, self.tokenizer.unk_token_id) else token_id

    def _check_source(self, language: str) -> None:
        """Refuses a pair of another language. Longer codes are groups: ``mul``, ``dra``."""
        source = self.tokenizer.init_kwargs.get("source_lang") or ""
        base = language.replace("_", "-").split("-")[0]
        if len(source) == 2 and source not in (base, M2M100.get(base)):
            raise DataError(
                f"the translator {self.name} reads {source!r}, not {language!r}",
                hint="an id with {language} in it, such as Helsinki-NLP/opus-mt-{language}-en",
            )
