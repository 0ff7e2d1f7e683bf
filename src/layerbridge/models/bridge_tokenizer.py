"""The tokenizer of a bridge: it reads as the encoder and writes as the language model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from transformers import BatchEncoding, PreTrainedTokenizerBase

from layerbridge.errors import ConfigError
from layerbridge.models.backbone import LoadOptions, load_tokenizer
from layerbridge.models.backbone_pair import backbone_source
from layerbridge.models.checkpoint import read_config
from layerbridge.models.config import BridgeConfig
from layerbridge.models.encoder_language import speaking
from layerbridge.models.encoder_text import TextInput
from layerbridge.tasks.task import template_end

# What says how much to read and how to lay it out: the bridge's settings decide that.
_DECIDED = {"padding", "truncation", "return_tensors", "add_special_tokens"}


class BridgeTokenizer(TextInput):
    """What ``AutoTokenizer`` returns for a bridge.

    A text becomes the encoder's tokens, prefix and cut included, as ``LayerBridge.encode`` reads
    it; ``decode`` reads answers, which are the language model's tokens. Everything else is asked
    of the encoder's tokenizer.

    Args:
        config: of the bridge.
        tokenizer: the encoder's.
        answer_tokenizer: the language model's.
    """

    padding_side = "right"

    def __init__(
        self,
        config: BridgeConfig,
        tokenizer: PreTrainedTokenizerBase,
        answer_tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        language = config.encoder_language
        self.tokenizer = speaking(tokenizer, language) if language else tokenizer
        self.answer_tokenizer = answer_tokenizer
        self.text_prefix = config.text_prefix or ""
        self.template_end = template_end(config.template or "")
        self.max_text_tokens = self.model_max_length = config.max_text_tokens
        self.known_ids = sys.maxsize  # the encoder checks that it has embeddings for them

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
    ) -> BridgeTokenizer:
        """Loads the two tokenizers of a bridge; the arguments are those of the bridge."""
        options = LoadOptions(
            trust_remote_code=trust_remote_code,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
        )
        config, _folder = read_config(str(path), revision=revision, access=options.access)
        tokenizers = [
            load_tokenizer(kind, backbone_source(config, name, options), options)
            for name, kind in (("encoder", "encoder"), ("language_model", "language model"))
        ]
        return cls(config, *tokenizers)

    def __call__(self, text: str | Sequence[str], **settings: Any) -> BatchEncoding:
        """Returns ``input_ids`` and ``attention_mask`` [B, S] of one text or several.

        Raises:
            ConfigError: a setting that a bridge decides otherwise.
        """
        for name in settings.keys() - _DECIDED:
            raise ConfigError(
                f"a bridge's texts are not tokenized with {name!r}",
                allowed=f"one text; it is cut at {self.max_text_tokens} tokens, as in training",
                hint="max_new_tokens limits the answer" if name == "max_length" else None,
            )
        return self.tokenize([text] if isinstance(text, str) else list(text))

    def decode(self, *ids: Any, **settings: Any) -> Any:
        """Returns the text of an answer's token ids."""
        return self.answer_tokenizer.decode(*ids, **settings)

    def batch_decode(self, *ids: Any, **settings: Any) -> list[str]:
        """Returns the texts of the answers' token ids."""
        return self.answer_tokenizer.batch_decode(*ids, **settings)

    def apply_chat_template(self, *_: Any, **__: Any) -> NoReturn:
        """Refuses: a bridge reads one text."""
        raise ConfigError(
            "a bridge reads one text, not a conversation",
            allowed="a text, or a list of texts",
            hint="layerbridge chat, or layerbridge serve",
        )

    def save_pretrained(self, *_: Any, **__: Any) -> tuple[()]:
        """Writes nothing: a bridge's ``config.json`` names both backbones."""
        return ()

    @property
    def pad_token_id(self) -> int:
        """Returns the encoder's padding token."""
        return self.pad_id

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tokenizer":  # of copies that are being made
            raise AttributeError(name)
        return getattr(self.tokenizer, name)
