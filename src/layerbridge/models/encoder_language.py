"""The language code that some encoders' tokenizers add to each text."""

from __future__ import annotations

import copy

from transformers import PreTrainedTokenizerBase

from layerbridge.errors import ConfigError


def speaking(tokenizer: PreTrainedTokenizerBase, language: str) -> PreTrainedTokenizerBase:
    """Returns a copy of a tokenizer that marks texts as of this language.

    Args:
        tokenizer: of NLLB, M2M100, mBART and the like.
        language: as the tokenizer writes it: ``eng_Latn``, ``en`` or ``en_XX``.

    Raises:
        ConfigError: the tokenizer adds no language code, or knows no such language.
    """
    if not hasattr(tokenizer, "src_lang"):
        raise ConfigError(
            f"the encoder's tokenizer ({type(tokenizer).__name__}) adds no language code",
            hint="leave encoder_language out",
        )
    copied = copy.deepcopy(tokenizer)
    before = tokenizer("")["input_ids"]
    try:
        copied.src_lang = language
        marks = copied("")["input_ids"]
    except KeyError:
        marks = [copied.unk_token_id]
    if copied.unk_token_id in marks or (marks == before and tokenizer.src_lang != language):
        raise ConfigError(
            f"the encoder's tokenizer knows no language {language!r}",
            allowed="its codes, such as eng_Latn for NLLB and en_XX for mBART",
        )
    return copied
