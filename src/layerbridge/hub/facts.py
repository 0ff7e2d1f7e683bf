"""What a bridge's card says of a backbone: its name on the hub, and its license."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from layerbridge.errors import LayerBridgeError
from layerbridge.hub import zoo
from layerbridge.hub.sources import is_local

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

_CARD = "README.md"
_TIMEOUT_S = 5.0


def hub_name(model_id: str | None) -> str | None:
    """Returns a model's id on the hub; of a model of the zoo, that of the one it was made from.

    None for a folder, which nobody else has.
    """
    if model_id is None:
        return None
    entry = _zoo_entry(model_id)
    if entry is not None:
        return entry.origin
    return None if is_local(model_id) else model_id


@cache
def license_of(model_id: str | None, revision: str | None = None) -> str | None:
    """Returns the license that a model's own card states, as the hub spells it; None if unknown.

    Args:
        model_id: a folder, ``zoo:NAME`` or a hub id, which is asked once a process, and briefly.
        revision: on the hub.
    """
    if model_id is None:
        return None
    entry = _zoo_entry(model_id)
    if entry is not None:
        return entry.licence.lower()
    if is_local(model_id):
        card = _card_of_folder(Path(model_id).expanduser())
    else:
        card = _card_on_hub(model_id, revision)
    if card is None:
        return None
    named = card.license_name if card.license == "other" else None
    return named or card.license


def _card_of_folder(folder: Path) -> ModelCardData | None:
    from huggingface_hub import ModelCard

    # A card that somebody wrote may hold anything, or there may be none.
    with suppress(Exception):
        return ModelCard.load(folder / _CARD, ignore_metadata_errors=True).data
    return None


def _card_on_hub(model_id: str, revision: str | None) -> ModelCardData | None:
    from huggingface_hub import HfApi, try_to_load_from_cache

    # A card is worth no failure: there may be no network, or no card.
    with suppress(Exception):
        cached = try_to_load_from_cache(model_id, _CARD, revision=revision)
        if isinstance(cached, str):
            return _card_of_folder(Path(cached).parent)
        return HfApi().model_info(model_id, revision=revision, timeout=_TIMEOUT_S).card_data
    return None


def _zoo_entry(model_id: str) -> zoo.Entry | None:
    with suppress(LayerBridgeError):
        return zoo.entry(model_id.removeprefix("zoo:"))
    return None
