"""The model card of a bridge: Markdown below the hub's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import ModelCardData

from layerbridge.models.config import BridgeConfig
from layerbridge.version import __version__

TAGS = ("layerbridge", "multilingual", "cross-lingual-transfer", "soft-prompt")


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
    """Returns the card of a trained bridge.

    Args:
        config: of the bridge.
        data: name of the task or the training data.
        rows: number of English training rows.
        settings: training settings that differ from the defaults.
        steps: optimizer steps.
        seconds: of training.
        results: a Markdown table.
    """
    table = {
        "encoder": f"`{config.encoder}` {_version(config, 'encoder')}",
        "language model": f"`{config.language_model}` {_version(config, 'language_model')}",
        "fusion": f"`{config.fusion}`, start `{config.start}`, "
        f"normalize `{config.normalize or 'none'}`",
        "projection": ("" if config.projection == "linear" else f"`{config.projection}`, ")
        + f"{config.encoder_width} → {config.language_model_width}, "
        f"start `{config.projection_start}`",
        "training data": f"{data}, {rows} rows, English only",
        "training": f"{steps} steps, {seconds:.0f} s",
        **{f"`{name}`": f"`{value}`" for name, value in settings.items()},
        "layerbridge": __version__,
    }
    rows_of_table = "\n".join(f"| {name} | {value} |" for name, value in table.items())
    backbones = (
        (config.encoder, config.encoder_revision),
        (config.language_model, config.language_model_revision),
    )
    sections = [
        "Only the bridge is stored here; both models it joins stay as published.",
        f"| | |\n|---|---|\n{rows_of_table}",
        f"It answers with one of: {', '.join(config.options)}." if config.options else None,
        f"Its encoder texts follow the template `{config.template}`." if config.template else None,
        _example("classify" if config.options else "generate_text"),
        f"## Results\n\n{results}" if results else None,
    ]
    # The hub knows only backbones with a revision.
    base_models = [name for name, revision in backbones if name and revision]
    return _card(sections, tags=TAGS, base_model=base_models)


def plain_card(config: BridgeConfig) -> str:
    """Returns the card of a bridge of which only the settings are known."""
    sections = [
        f"It lets `{config.language_model}` read what `{config.encoder}` understands, through "
        f"`{config.fusion}` fusion of the encoder's layers. Only the bridge is stored here.",
        _example("generate_text"),
    ]
    return _card(sections, tags=("layerbridge", "multilingual", "soft-prompt"))


def _card(
    sections: Sequence[str | None], *, tags: Sequence[str], base_model: list[str] | None = None
) -> str:
    data = ModelCardData(library_name="layerbridge", tags=list(tags), base_model=base_model)
    front = data.to_yaml(original_order=["library_name", "tags", "base_model"])
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{front}\n---\n\n# A layerbridge bridge\n\n{body}\n"


def _example(call: str) -> str:
    return (
        "```python\nfrom layerbridge import LayerBridge\n\n"
        f'bridge = LayerBridge.from_pretrained("THIS FOLDER OR ID")\nbridge.{call}(["…"])\n```'
    )


def _version(config: BridgeConfig, backbone: str) -> str:
    revision = getattr(config, f"{backbone}_revision")
    fingerprint = getattr(config, f"{backbone}_fingerprint")
    return f"(revision `{revision}`)" if revision else f"(weights `{(fingerprint or '')[:12]}`)"
