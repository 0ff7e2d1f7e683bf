"""What LangBridge and the authors of arXiv 2508.09091 call the tensors of a bridge.

Both write the whole model; only the tensors that make a bridge are renamed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from layerbridge.errors import CheckpointError

AUTHORS, LANGBRIDGE = "the paper's authors", "LangBridge"

# Pattern of a name → our name.
_AUTHORS = (
    (r"mapping\.mlp\.fc\.(weight|bias)", r"projection.linear.\1"),
    (r"mapping\.end_boundary", "projection.boundary"),
    (r"encoder_mt\.layer_weights_lb", "fusion.w"),
    (r"encoder_mt\.temp", "fusion.theta"),
    (r"encoder_mt\.layer_weights\.cls", "fusion.query"),
    (r"encoder_mt\.layer_weights\.layer_pos_emb", "fusion.position"),
    (r"encoder_mt\.layer_weights\.transformerEncoder\.layers\.0\.(.+)", r"fusion.block.\1"),
    (r"encoder_mt\.layer_weights\.layer_weights\.(weight|bias)", r"fusion.score.\1"),
)
_LANGBRIDGE = (
    (r"lb\.alignment\.linear\.(weight|bias)", r"projection.linear.\1"),
    (r"lb\.alignment\.enc_eos", "projection.boundary"),
)
# Copies of the backbones as published, and of the language model's embeddings.
_COPIES = r"encoder_mt\.embedding_model_base\.|model_llm\.|llm_embedding_layer\.|lb\.embeddings\."
# LangBridge's own backbones: it trains them.
_ENCODER, _BODY, _HEAD = "lb.enc.", "lb.lm.", "lb.lm_head."
# T5's two names for its embeddings.
_TABLE, _TIED = "lb.enc.shared.weight", "lb.enc.encoder.embed_tokens.weight"
# What has no size of its own in ours: one vector, one number.
_FLAT = ("projection.boundary", "fusion.query", "fusion.w")


@dataclass
class ForeignBridge:
    """The parts of a checkpoint.

    Attributes:
        origin: ``AUTHORS`` or ``LANGBRIDGE``.
        fusion: ``"last"``, ``"global-softmax"`` or ``"token-softmax"``.
        tensors: of the bridge, in float32, by our names.
        encoder: weights of an encoder of its own, by their names in a model; empty for none.
        language_model: the same of a language model.
        dropped: how many tensors are copies of what is published, or of others.
    """

    origin: str
    fusion: str
    tensors: dict[str, Tensor]
    encoder: dict[str, Tensor] = field(default_factory=dict)
    language_model: dict[str, Tensor] = field(default_factory=dict)
    dropped: int = 0


def sorted_out(tensors: Mapping[str, Tensor], *, where: str) -> ForeignBridge:
    """Returns the parts of a checkpoint of either kind.

    Args:
        tensors: of the checkpoint, by its names.
        where: it is from, for messages.

    Raises:
        CheckpointError: it is of neither kind, or has tensors that no bridge has.
    """
    is_langbridge = any(name.startswith("lb.alignment.") for name in tensors)
    if not is_langbridge and not any(name.startswith("mapping.") for name in tensors):
        raise CheckpointError(
            f"{where} is no checkpoint of LangBridge or of the paper's authors: its first tensor "
            f"is {min(tensors, default='none')!r}",
            allowed="tensors such as lb.alignment.linear.weight or mapping.mlp.fc.weight",
        )
    found = ForeignBridge(LANGBRIDGE if is_langbridge else AUTHORS, "last", {})
    patterns = _LANGBRIDGE if is_langbridge else _AUTHORS
    for name, tensor in tensors.items():
        ours = _renamed(name, patterns)
        if ours is not None:
            flat = ours in _FLAT
            found.tensors[ours] = tensor.float().flatten() if flat else tensor.float().clone()
        elif re.match(_COPIES, name) or (name == _TIED and _TABLE in tensors):
            found.dropped += 1
        elif is_langbridge and name.startswith(_ENCODER):
            found.encoder[name.removeprefix(_ENCODER)] = tensor
        elif is_langbridge and name.startswith(_BODY):
            found.language_model["model." + name.removeprefix(_BODY)] = tensor
        elif is_langbridge and name.startswith(_HEAD):
            found.language_model[name.removeprefix("lb.")] = tensor
        else:
            raise CheckpointError(
                f"{where} has a tensor {name!r}, which no bridge has",
                allowed="LangBridge with the adapter linear"
                if is_langbridge
                else "the fusions global-softmax, token-softmax and last of the paper",
            )
    if "fusion.theta" in found.tensors:
        found.tensors["fusion.theta"] = found.tensors["fusion.theta"].reshape(())
    if "fusion.w" in found.tensors:
        found.fusion = "global-softmax"
    elif "fusion.query" in found.tensors:
        found.fusion = "token-softmax"
    width = found.tensors.get("projection.linear.weight", torch.empty(0, 0)).shape[-1]
    found.tensors |= {"projection.mean": torch.zeros(width), "projection.std": torch.ones(width)}
    return found


def _renamed(name: str, patterns: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, ours in patterns:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    return None
