"""The model card of a bridge: Markdown below the hub's metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from layerbridge.hub.facts import hub_name, license_of
from layerbridge.models.config import BridgeConfig
from layerbridge.version import __version__

TAGS = ("layerbridge", "multilingual", "cross-lingual-transfer", "soft-prompt")
# What a card says where it is not known yet where the bridge will be.
_SOMEWHERE = "THIS FOLDER OR ID"
_HERE = re.compile(r'(LayerBridge\.from_pretrained\(|, model=)"[^"\n]*"')
_RESULTS = re.compile(r"\n## Results\n.*?(?=\n## |\Z)", re.DOTALL)
_BACKBONES = ("encoder", "language_model")


def model_card(
    config: BridgeConfig,
    *,
    data: str,
    rows: int,
    settings: Mapping[str, Any],
    steps: int,
    seconds: float,
    dataset: str | None = None,
) -> str:
    """Returns the card of a trained bridge.

    Args:
        config: of the bridge.
        data: name of the task or the training data.
        rows: number of English training rows.
        settings: training settings that differ from the defaults.
        steps: optimizer steps.
        seconds: of training.
        dataset: id on the hub of the training data.
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
    sections = [
        "Only the bridge is stored here; both models it joins stay as published.",
        f"| | |\n|---|---|\n{rows_of_table}",
        f"It answers with one of: {', '.join(config.options)}." if config.options else None,
        f"Its encoder texts follow the template `{config.template}`." if config.template else None,
        _example(config),
        _licenses(config),
    ]
    return _card(config, sections, tags=TAGS, datasets=[dataset] if dataset else None)


def plain_card(config: BridgeConfig) -> str:
    """Returns the card of a bridge of which only the settings are known."""
    sections = [
        f"It lets `{config.language_model}` read what `{config.encoder}` understands, through "
        f"`{config.fusion}` fusion of the encoder's layers. Only the bridge is stored here.",
        _example(config),
        _licenses(config),
    ]
    return _card(config, sections, tags=("layerbridge", "multilingual", "soft-prompt"))


def card_at(card: str, place: str) -> str:
    """Returns a card whose examples load the bridge from this folder or hub id."""
    return _HERE.sub(lambda found: f'{found[1]}"{place}"', card)


def card_with_results(card: str, results: Sequence[EvalResult], table: str, name: str) -> str:
    """Returns a card with these results in place of earlier ones.

    Args:
        card: with the hub's metadata; any other is returned as it is.
        results: for the metadata (``model-index``).
        table: in Markdown, for the section "Results".
        name: of the bridge, in the metadata.
    """
    if not card.startswith("---\n"):
        return card
    parsed = ModelCard(card, ignore_metadata_errors=True)
    data: ModelCardData = parsed.data  # type: ignore[assignment]
    data.model_name, data.eval_results = name, list(results)
    parsed.text = _RESULTS.sub("", parsed.text).rstrip() + f"\n\n## Results\n\n{table.strip()}\n"
    return str(parsed)


def _card(
    config: BridgeConfig,
    sections: Sequence[str | None],
    *,
    tags: Sequence[str],
    datasets: list[str] | None = None,
) -> str:
    # A folder is no link on the hub.
    names = [name for each in _BACKBONES if (name := hub_name(getattr(config, each)))]
    data = ModelCardData(
        library_name="layerbridge",
        pipeline_tag=_task(config),
        # Trained on the first, for all the encoder's.
        language=["en", "multilingual"],
        tags=list(tags),
        datasets=datasets,
        base_model=names or None,
        base_model_relation="adapter" if names else None,
    )
    order = ["library_name", "pipeline_tag", "language", "tags", "datasets", "base_model"]
    front = data.to_yaml(original_order=order)
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{front}\n---\n\n# A layerbridge bridge\n\n{body}\n"


def _task(config: BridgeConfig) -> str:
    return "text-classification" if config.options else "text-generation"


def _example(config: BridgeConfig) -> str:
    call = "classify" if config.options else "generate_text"
    return (
        "```bash\npip install layerbridge\n```\n\n"
        "```python\nfrom layerbridge import LayerBridge\n\n"
        f'bridge = LayerBridge.from_pretrained("{_SOMEWHERE}")\nbridge.{call}(["…"])\n```\n\n'
        "Or as a pipeline of transformers:\n\n"
        "```python\nimport layerbridge\nfrom transformers import pipeline\n\n"
        f'pipe = pipeline("{_task(config)}", model="{_SOMEWHERE}")\npipe("…")\n```'
    )


def _licenses(config: BridgeConfig) -> str:
    stated = []
    for backbone in _BACKBONES:
        found = license_of(getattr(config, backbone), getattr(config, f"{backbone}_revision"))
        name = f"`{found}`" if found else "not stated in its card"
        stated.append(f"the {backbone.replace('_', ' ')}'s is {name}")
    return (
        "## License\n\nThe licenses of both models hold for their use through this bridge: "
        + ", and ".join(stated)
        + ". That of the bridge itself is for its author to choose."
    )


def _version(config: BridgeConfig, backbone: str) -> str:
    revision = getattr(config, f"{backbone}_revision")
    fingerprint = getattr(config, f"{backbone}_fingerprint")
    return f"(revision `{revision}`)" if revision else f"(weights `{(fingerprint or '')[:12]}`)"
