"""A run's tokenizer is its language model's: vLLM asks for it before a model can name another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from layerbridge.models.backbone_pair import backbone_source
from layerbridge.models.checkpoint import read_config


class RunTokenizer(PreTrainedTokenizerFast):
    """What ``AutoTokenizer`` loads of a run."""

    @classmethod
    def from_pretrained(cls, path: str | Path, *inputs: Any, **arguments: Any) -> Any:
        """Returns the tokenizer of the run's language model."""
        config, _ = read_config(str(path), revision=arguments.pop("revision", None))
        source = backbone_source(config, "language_model")
        for name in ("config", "_from_auto", "_commit_hash"):
            arguments.pop(name, None)
        return AutoTokenizer.from_pretrained(
            source.path, *inputs, revision=source.revision, **arguments
        )
