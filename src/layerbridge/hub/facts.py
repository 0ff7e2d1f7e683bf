"""What a bridge's card says of a backbone: its name on the hub, and its license."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import yaml

from layerbridge.errors import LayerBridgeError
from layerbridge.hub import zoo
from layerbridge.hub.sources import is_local

_CARD = "README.md"


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


def license_of(model_id: str | None, revision: str | None = None) -> str | None:
    """Returns the license that a model's own card states, as the hub spells it; None if unknown.

    Args:
        model_id: a folder, ``zoo:NAME`` or a hub id, whose card is read if it can be had.
        revision: on the hub.
    """
    if model_id is None:
        return None
    entry = _zoo_entry(model_id)
    if entry is not None:
        return entry.licence.lower()
    file = Path(model_id).expanduser() / _CARD
    if not is_local(model_id):
        file = _downloaded(model_id, revision) or file
    with suppress(OSError, ValueError, AttributeError, yaml.YAMLError):
        _, front, _ = file.read_text(encoding="utf-8").split("---\n", 2)
        facts = yaml.safe_load(front)
        stated = facts.get("license_name") if facts.get("license") == "other" else None
        return stated or facts.get("license")
    return None


def _zoo_entry(model_id: str) -> zoo.Entry | None:
    with suppress(LayerBridgeError):
        return zoo.entry(model_id.removeprefix("zoo:"))
    return None


def _downloaded(model_id: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download

    # A card is worth no failure: there may be no network, or no card.
    with suppress(Exception):
        return Path(hf_hub_download(model_id, _CARD, revision=revision, etag_timeout=5))
    return None
