"""How long an input a model takes, and which token ids it knows, whatever its tokenizer says."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerbridge.errors import BackboneError

# What families call their table of positions.
_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")


def position_limit(model: PreTrainedModel) -> int | None:
    """Returns how many tokens a model takes; None if neither its config nor a table limits it.

    Of a model that also sees, only the text model counts: a vision tower's table is of patches.
    RoBERTa's family counts positions from ``padding_idx + 1`` on, and OPT's from an ``offset`` on,
    so that the first rows of their tables are no positions.
    """
    config = model.config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None)
    # XLNet states -1.
    limits = [stated] if isinstance(stated, int) and stated > 0 else []
    parts = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    text_model = next((part for part in parts if type(part.config) is type(config)), model)
    for name, module in text_model.named_modules():
        table = getattr(module, "weight", None)
        if name.rpartition(".")[2] not in _TABLES or not isinstance(table, Tensor):
            continue
        padding, offset = getattr(module, "padding_idx", None), getattr(module, "offset", 0)
        limits.append(len(table) - (offset if padding is None else padding + 1))
    return min(limits, default=None)


def known_ids(model: PreTrainedModel) -> int:
    """Returns the number of rows of a model's input embeddings."""
    try:
        table = model.get_input_embeddings().weight
    except (AttributeError, NotImplementedError):  # CANINE hashes characters
        return sys.maxsize
    return len(table)


def check_ids(
    ids: Iterable[int], known: int, tokenizer: PreTrainedTokenizerBase, model: str
) -> None:
    """Checks that token ids are rows of a model's embeddings.

    A tokenizer may have more tokens than that (Gemma 3's has one for images), as long as no text
    contains them.

    Args:
        ids: of texts.
        known: rows of the embeddings.
        tokenizer: of the model.
        model: ``"encoder"`` or ``"language model"``, for the message.

    Raises:
        BackboneError: an id is beyond the table.
    """
    largest = max(ids, default=0)
    if largest >= known:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise BackboneError(
            f"the token {token!r} has the id {largest}, but the {model} has embeddings for "
            f"{known} tokens only",
            allowed=f"texts without it, or a tokenizer that belongs to the {model}",
        )
