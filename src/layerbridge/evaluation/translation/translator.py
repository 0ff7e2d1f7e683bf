"""The translator: texts of a language → English, with a memory of earlier translations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from layerbridge.errors import BackboneError, ConfigError
from layerbridge.evaluation.translation.translation_memory import TranslationMemory
from layerbridge.evaluation.translation.wording import FAMILIES, Wording
from layerbridge.hub.sources import Source, resolve
from layerbridge.models.backbone import (
    LoadOptions,
    freeze,
    load_config,
    load_tokenizer,
    load_weights,
)
from layerbridge.models.finite import naming, warn_of_overflow
from layerbridge.models.generation import checked_head
from layerbridge.progress import say

LANGUAGE = "{language}"


class _Checkpoint(NamedTuple):
    """A model without its weights."""

    source: Source
    config: PreTrainedConfig
    wording: Wording


class Translator:
    """A frozen translation model, or one for each language.

    Everything is loaded when first needed; at most one model is in memory.

    Args:
        model_id: folder, ``zoo:NAME`` or hub id of an NLLB, M2M100 or Marian model. With
            ``{language}`` in it, each language has a model: ``Helsinki-NLP/opus-mt-{language}-en``.
        options: dtype and the like.
        device: where it runs.
        revision: of a hub id.
        num_beams: 1 is greedy.
        max_new_tokens: upper limit for a translation, as are the model's positions.
        batch_size: texts at a time; it changes speed and memory only.
        folder: keeps translations for later translators with the same model and settings; None
            keeps them in memory.

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
        self.model_id = model_id
        self.options = replace(options or LoadOptions(), device=device)
        self.device = device
        self.revision = revision
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.folder = None if folder is None else Path(folder)
        for name in ("num_beams", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", allowed="1 or more")
        self._checkpoints: dict[str, _Checkpoint] = {}  # by model id
        self._memories: dict[str, TranslationMemory] = {}  # by language
        self._loaded: tuple[str, PreTrainedModel] | None = None

    def check(self, languages: Iterable[str]) -> None:
        """Checks that it has these languages, without loading any weights.

        Raises:
            BackboneError: a model cannot be found, or is not a translation model.
            DataError: a model does not have one of the languages.
        """
        for language in languages:
            self._checkpoint(language).wording.source(language)

    def into_english(
        self,
        texts: Sequence[str],
        language: str,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Each text in English; a blank one stays as it is.

        Args:
            texts: of one language; equal ones are translated once.
            language: CLDR code of the texts.
            progress: called with the different texts done and their total, after every batch.

        Raises:
            BackboneError: the model cannot be loaded.
            DataError: the model does not have the language, or its memory is damaged.
            NotFiniteError: names a text whose translation is made of NaN or infinities.
            OutputError: the memory cannot be written.
        """
        if language not in self._memories:
            self._memories[language] = TranslationMemory(self._memory_path(language))
        memory = self._memories[language]
        different = {text for text in texts if text.strip()}
        # By length and then by text, so that the batches are the same in every run.
        if cut := self._checkpoint(language).wording.count_cut(sorted(different)):
            say(f"texts cut by the translator: {cut} of {len(different)} in {language}")
        new = sorted(different - memory.keys(), key=lambda text: (len(text), text))
        done = len(different) - len(new)
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            memory.add(dict(zip(batch, self._translate(batch, language), strict=True)))
            done += len(batch)
            if progress is not None:
                progress(done, len(different))
        return [memory[text] if text in different else text for text in texts]

    def settings(self) -> dict[str, Any]:
        """What translations depend on, as results record it."""
        return {
            "model": _name(self.model_id),
            "num_beams": self.num_beams,
            "max_new_tokens": self.max_new_tokens,
        }

    @torch.no_grad()
    def _translate(self, texts: Sequence[str], language: str) -> list[str]:
        model, wording = self._model(language), self._checkpoint(language).wording
        # On the right, whatever the tokenizer's default: Marian counts positions from the left.
        batch = wording.tokenizer.pad(
            {"input_ids": wording.ids(texts, language)}, padding_side="right", return_tensors="pt"
        ).to(model.device)
        beams: dict[str, Any] = {"num_beams": self.num_beams}
        if self.num_beams == 1:
            beams["early_stopping"] = False  # published settings have it, for their beams
        with naming(texts), checked_head(model, len(texts), "the translator's logits"):
            ids = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                forced_bos_token_id=wording.english_id,
                do_sample=False,
                max_length=None,
                max_new_tokens=min(self.max_new_tokens, wording.max_tokens),
                **beams,
            )
        # Skips the decoder's start and the token of English, which some tokenizers would decode.
        marks = 1 + (wording.english_id is not None)
        decoded = wording.tokenizer.batch_decode(ids[:, marks:], skip_special_tokens=True)
        return [text.strip() for text in decoded]

    def _checkpoint(self, language: str) -> _Checkpoint:
        model_id = self.model_id.replace(LANGUAGE, language)
        if model_id not in self._checkpoints:
            source = resolve(model_id, revision=self.revision)
            config = load_config("translator", source, self.options)
            if not config.is_encoder_decoder:
                raise BackboneError(
                    f"{source.given!r} is a {config.model_type!r} model, not a translation model",
                    allowed=FAMILIES,
                )
            try:
                tokenizer = load_tokenizer("translator", source, self.options)
            except BackboneError:
                # M2M100's and Marian's own tokenizers need it; transformers is vague about that.
                if find_spec("sentencepiece") is not None:
                    raise
                raise BackboneError(
                    f"the tokenizer of the translator {source.given!r} needs sentencepiece",
                    hint="pip install sentencepiece",
                ) from None
            wording = Wording(config, tokenizer, source.given)
            self._checkpoints[model_id] = _Checkpoint(source, config, wording)
        return self._checkpoints[model_id]

    def _model(self, language: str) -> PreTrainedModel:
        model_id = self.model_id.replace(LANGUAGE, language)
        if self._loaded is None or self._loaded[0] != model_id:
            self._loaded = None  # frees the last one first
            source, config, wording = self._checkpoint(language)
            arguments = self.options.for_transformers(source)
            model = load_weights("translator", source, AutoModelForSeq2SeqLM, config, arguments)
            self._loaded = model_id, freeze(model.to(self.device))

            def is_finite(text: str) -> bool:
                ids = torch.tensor(wording.ids([text], language), device=self.device)
                return bool(model(input_ids=ids, labels=ids).logits.isfinite().all())

            warn_of_overflow("translator", source, model.dtype, is_finite)
        return self._loaded[1]

    def _memory_path(self, language: str) -> Path | None:
        """One file for each model, language and settings, so that none are mixed up."""
        if self.folder is None:
            return None
        source, _, wording = self._checkpoint(language)
        facts = {
            "model": source.revision or source.fingerprint(),
            "code": wording.source(language),
            "dtype": str(self.options.torch_dtype),
            "num_beams": self.num_beams,
            "max_new_tokens": self.max_new_tokens,
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        name = _name(self.model_id.replace(LANGUAGE, language))
        return self.folder / f"{name}.{language}.{digest}.jsonl"


def _name(model_id: str) -> str:
    """A model's own name: the last part of a path, a hub id or ``zoo:NAME``."""
    return model_id.rstrip("/").rsplit("/", 1)[-1].removeprefix("zoo:")
