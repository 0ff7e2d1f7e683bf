"""The model card of a bridge: what it joins, what it was trained on, how, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from layerbridge.models.config import BridgeConfig
from layerbridge.version import __version__


def model_card(
    config: BridgeConfig,
    *,
    data: str,
    rows: int,
    settings: Mapping[str, Any],
    steps: int,
    seconds: float,
    results: str | None = None,
) -> str:
    """The card, as Markdown with the hub's metadata on top.

    Args:
        config: of the bridge.
        data: name of the task or the data it was trained on.
        rows: how many English rows that was.
        settings: of the training, where they differ from the defaults.
        steps: optimiser steps taken.
        seconds: of training.
        results: a Markdown table, once there is one.
    """
    front = yaml.safe_dump(
        {
            "library_name": "layerbridge",
            "tags": ["layerbridge", "multilingual", "cross-lingual-transfer", "soft-prompt"],
            "base_model": _hub_ids(config),
        },
        sort_keys=False,
    )
    table = {
        "encoder": f"`{config.encoder}` {_version(config, 'encoder')}",
        "language model": f"`{config.language_model}` {_version(config, 'language_model')}",
        "fusion": f"`{config.fusion}`, start `{config.start}`, "
        f"normalize `{config.normalize or 'none'}`",
        "projection": f"{config.encoder_width} → {config.language_model_width}, "
        f"start `{config.projection_start}`",
        "training data": f"{data}, {rows} rows, English alone",
        "training": f"{steps} steps, {seconds:.0f} s",
        **{f"`{name}`": f"`{value}`" for name, value in settings.items()},
        "layerbridge": __version__,
    }
    lines = [
        f"---\n{front}---\n",
        "# A layerbridge bridge\n",
        "Only the bridge is stored here; both models it joins stay as they were published.\n",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in table.items()),
        "",
    ]
    if config.options:
        lines.append(f"It answers with one of: {', '.join(config.options)}.\n")
    if config.template:
        lines.append(f"Its encoder texts were made with the template `{config.template}`.\n")
    lines.append(
        "```python\nfrom layerbridge import LayerBridge\n\n"
        'bridge = LayerBridge.from_pretrained("THIS FOLDER OR ID")\n'
        'bridge.classify(["…"])\n```\n'
        if config.options
        else "```python\nfrom layerbridge import LayerBridge\n\n"
        'bridge = LayerBridge.from_pretrained("THIS FOLDER OR ID")\n'
        'bridge.generate_text(["…"])\n```\n'
    )
    if results:
        lines.append(f"## Results\n\n{results}\n")
    return "\n".join(lines)


def _version(config: BridgeConfig, what: str) -> str:
    revision = getattr(config, f"{what}_revision")
    fingerprint = getattr(config, f"{what}_fingerprint")
    return f"(revision `{revision}`)" if revision else f"(weights `{(fingerprint or '')[:12]}`)"


def _hub_ids(config: BridgeConfig) -> list[str]:
    """The backbones that the hub knows: those with a revision."""
    pairs = (
        (config.encoder, config.encoder_revision),
        (config.language_model, config.language_model_revision),
    )
    return [name for name, revision in pairs if name and revision]
