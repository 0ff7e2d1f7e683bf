"""Bytes of frozen backbones in 16, 8 and 4 bits, counted on the meta device: nothing is loaded.

python benchmarks/weights.py mt5-xl llama-3.1-8b …
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from layerbridge.benchmarking import shapes

# bitsandbytes: a scale of 4 bytes for each row in 8 bits; in 4 bits one of a byte for each block of
# 64, and for each 256 of these a float.
PER_WEIGHT = {16: 2.0, 8: 1.0, 4: 0.5 + (1 + 4 / 256) / 64}


def parts(model: PreTrainedModel) -> tuple[int, int]:
    """Returns the number of weights in layers that are quantized, and of the others."""
    kept = {id(model.get_output_embeddings())}
    names = tuple(model._keep_in_fp32_modules or ())
    linear = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
        and id(module) not in kept
        and name.rpartition(".")[2] not in names
    )
    return linear, sum(parameter.numel() for parameter in model.parameters()) - linear


def kept_bytes(name: str, tokens: int = 128) -> float:
    """Returns what one layer keeps of one token for the backward pass, in bytes, in bfloat16."""
    totals = []
    for layers in (1, 2):
        config = shapes.shape(name).config()
        config.num_hidden_layers = layers
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
            model.eval().requires_grad_(False)
            embeds = torch.empty(1, tokens, config.hidden_size, dtype=torch.bfloat16)
            # One of four dimensions is used as it is: on meta none can be looked into.
            mask = torch.empty(1, 1, tokens, tokens, dtype=torch.bfloat16)
        seen: dict[int, int] = {}
        weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

        def pack(
            tensor: Tensor, seen: dict[int, int] = seen, weights: set[int] = weights
        ) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                seen[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            # The output keeps the graph, and with it what was saved, alive.
            _output = model.base_model(
                inputs_embeds=embeds.requires_grad_(), attention_mask=mask, use_cache=False
            )
        totals.append(sum(seen.values()))
    return (totals[1] - totals[0]) / tokens


def main(names: list[str]) -> None:
    """Prints one line of JSON for each shape."""
    for name in names:
        model = shapes.build(shapes.shape(name), dtype="bfloat16", device="meta")
        linear, others = parts(model)
        sizes = {f"GB in {bits} bits": round((linear * each + others * 2) / 1e9, 2)
                 for bits, each in PER_WEIGHT.items()}  # fmt: skip
        found = {"shape": name, "quantized": linear, "others": others, **sizes}
        if shapes.shape(name).kind == "language model":
            found["bytes kept per token and layer"] = kept_bytes(name)
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
