"""The translator: texts of a language → English, remembered.

It knows which model is asked and how; the marks of its languages are ``wording.py``'s, what was
translated before is ``translation_memory.py``'s. Nothing of tasks or of what the English is for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.evaluation.translation.translation_memory import TranslationMemory
from layerbridge.evaluation.translation.wording import Wording
from layerbridge.hub.sources import Source, resolve
from layerbridge.models.backbone import (
    LoadOptions,
    freeze,
    load_config,
    load_tokenizer,
    load_weights,
)

LANGUAGE = "{language}"

# How errors call it.
_WHAT = "translator"


class Translator:
    """A frozen translation model, or one for each language, and what it has translated so far.

    Nothing is read before it is needed; of several models one is in memory at a time.

    Args:
        model_id: folder, ``zoo:NAME`` or hub id of an NLLB, M2M100 or Marian model. Where it has
            ``{language}`` in it, each language has a model: ``Helsinki-NLP/opus-mt-{language}-en``.
        options: dtype and the like.
        device: where it runs.
        revision: of a hub id.
        num_beams: 1 is greedy.
        max_new_tokens: of a translation, at most; the model's positions bound it, too.
        batch_size: texts at a time; it changes speed and memory only.
        folder: where translations are kept, to be found by the next one with the same model and
            settings; None keeps them for as long as this object lives.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(
        self,
        model_id: str,
        *,
        options: LoadOptions | None = None,
        device: str = "cpu",
        revision: str | None = None,
        num_beams: int = 1,
        max_new_tokens: int = 256,
        batch_size: int = 32,
        folder: str | Path | None = None,
    ) -> None:
        numbers = {
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "batch_size": batch_size,
        }
        for name, value in numbers.items():
            if value < 1:
                raise ConfigError(f"{name} is {value}", allowed="1 or more")
        self.model_id = model_id
        self.options = options or LoadOptions()
        self.device = device
        self.revision = revision
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.folder = None if folder is None else Path(folder)
        self._sources: dict[str, Source] = {}  # by id
        self._wordings: dict[str, Wording] = {}  # by id
        self._memories: dict[str, TranslationMemory] = {}  # by language
        self._loaded: tuple[str, PreTrainedModel] | None = None

    def check(self, languages: Iterable[str]) -> None:
        """Whether it has these languages, without reading any weights.

        Raises:
            BackboneError: a model cannot be found, or is no translation model.
            DataError: a model does not have one of the languages.
        """
        for language in languages:
            self._wording(language).source(language)

    def into_english(
        self,
        texts: Sequence[str],
        language: str,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Each text in English; a blank one stays as it is.

        Args:
            texts: of one language; one that is there twice is translated once.
            language: CLDR code of the texts.
            progress: told the different texts done and those in all, after every batch.

        Raises:
            BackboneError: the model cannot be loaded.
            DataError: the model does not have the language, or its memory is damaged.
            OutputError: the memory cannot be written.
        """
        memory = self._memory(language)
        different = {text for text in texts if text.strip()}
        # The text itself after its length, so that the batches are the same in every run.
        wanted = sorted(
            (text for text in different if text not in memory), key=lambda text: (len(text), text)
        )
        done = len(different) - len(wanted)
        for start in range(0, len(wanted), self.batch_size):
            batch = wanted[start : start + self.batch_size]
            memory.add(dict(zip(batch, self._translate(batch, language), strict=True)))
            done += len(batch)
            if progress is not None:
                progress(done, len(different))
        return [memory[text] if text in different else text for text in texts]

    def settings(self) -> dict[str, Any]:
        """What translations depend on, for a result's record."""
        return {
            "model": _last(self.model_id),
            "num_beams": self.num_beams,
            "max_new_tokens": self.max_new_tokens,
        }

    @torch.no_grad()
    def _translate(self, texts: Sequence[str], language: str) -> list[str]:
        model, wording = self._model(language), self._wording(language)
        rows = [torch.tensor(ids) for ids in wording.ids(texts, language)]
        pad = model.config.pad_token_id
        # On the right, whatever the tokenizer would do: Marian counts positions from the left end.
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        beams: dict[str, Any] = {"num_beams": self.num_beams}
        if self.num_beams == 1:
            beams["early_stopping"] = False  # which published settings have, for their beams
        found = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.long().to(model.device),
            forced_bos_token_id=wording.english_id,
            do_sample=False,
            max_length=None,
            max_new_tokens=min(self.max_new_tokens, wording.max_tokens),
            **beams,
        )
        # The decoder's start, and the mark of English: not every tokenizer takes that for special.
        marks = 1 + (wording.english_id is not None)
        decoded = wording.tokenizer.batch_decode(found[:, marks:], skip_special_tokens=True)
        return [text.strip() for text in decoded]

    def _id(self, language: str) -> str:
        return self.model_id.replace(LANGUAGE, language)

    def _source(self, language: str) -> Source:
        model_id = self._id(language)
        if model_id not in self._sources:
            self._sources[model_id] = resolve(model_id, revision=self.revision)
        return self._sources[model_id]

    def _wording(self, language: str) -> Wording:
        model_id = self._id(language)
        if model_id not in self._wordings:
            source = self._source(language)
            config = load_config(_WHAT, source, self.options)
            if not config.is_encoder_decoder:
                raise BackboneError(
                    f"{source.given!r} is a {config.model_type!r} model, which is no translation "
                    "model",
                    allowed="NLLB, M2M100 or Marian",
                )
            try:
                tokenizer = load_tokenizer(_WHAT, source, self.options)
            except BackboneError:
                # M2M100's and Marian's own tokenizers need it; transformers is vague about that.
                if find_spec("sentencepiece") is not None:
                    raise
                raise BackboneError(
                    f"the tokenizer of the translator {source.given!r} cannot be read without the "
                    "package sentencepiece",
                    hint="pip install sentencepiece",
                ) from None
            self._wordings[model_id] = Wording(config, tokenizer, source.given)
        return self._wordings[model_id]

    def _model(self, language: str) -> PreTrainedModel:
        model_id = self._id(language)
        if self._loaded is None or self._loaded[0] != model_id:
            self._loaded = None  # before the next one comes
            source = self._source(language)
            config = load_config(_WHAT, source, self.options)
            arguments = self.options.for_transformers(source)
            model = load_weights(_WHAT, source, AutoModelForSeq2SeqLM, config, arguments)
            self._loaded = model_id, freeze(model.to(self.device))
        return self._loaded[1]

    def _memory(self, language: str) -> TranslationMemory:
        if language not in self._memories:
            self._memories[language] = TranslationMemory(self._path(language))
        return self._memories[language]

    def _path(self, language: str) -> Path | None:
        """A file for each model, way of asking it and language, so that no two are mixed up."""
        if self.folder is None:
            return None
        source = self._source(language)
        facts = {
            "model": source.fingerprint(),
            "code": self._wording(language).source(language),
            "dtype": str(self.options.for_transformers(source)["dtype"]),
            "num_beams": self.num_beams,
            "max_new_tokens": self.max_new_tokens,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        return self.folder / f"{_last(self._id(language))}.{language}.{digest}.jsonl"


def _last(model_id: str) -> str:
    """A model's own name: of a path, a hub id or ``zoo:NAME`` the last part."""
    return model_id.rstrip("/").rsplit("/", 1)[-1].removeprefix("zoo:")
