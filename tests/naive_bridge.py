"""The method of arXiv 2508.09091, §3, as slow as it reads; it imports nothing of layerbridge.

One text at a time, so there is no padding and no mask; the block of token-softmax runs for each
token over all its positions; logits are made for every position; transformers' whole models
are used as they are. Only the trained tensors come from outside, by their names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F


def scalar_mix(t: dict[str, Tensor], states: list[Tensor]) -> Tensor:
    """f of one token, from its L states [E]."""
    return t["gamma"] * sum(a * h for a, h in zip(softmax(t["w"]), states, strict=True))


def fine_grained(t: dict[str, Tensor], states: list[Tensor]) -> Tensor:
    odds = t["w"].exp()
    return sum(odds[layer] * h for layer, h in enumerate(states)) / odds.sum(0)


def attention(t: dict[str, Tensor], states: list[Tensor]) -> Tensor:
    alpha = softmax(torch.stack([t["query"] @ h / math.sqrt(len(h)) for h in states]))
    return sum(a * h for a, h in zip(alpha, states, strict=True))


def dwatt(t: dict[str, Tensor], states: list[Tensor]) -> Tensor:
    def network(name: str, h: Tensor) -> Tensor:
        x = t[f"{name}.0.weight"] @ h + t[f"{name}.0.bias"]
        x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
        return t[f"{name}.2.weight"] @ x + t[f"{name}.2.bias"]

    query = network("query", states[-1])
    alpha = softmax(torch.stack([key @ query / math.sqrt(len(key)) for key in t["keys"]]))
    f = states[-1]
    for layer, h in enumerate(states):
        v = network(f"values.{layer}", h)
        v = (v - v.mean()) / (v.var(correction=0) + 1e-5).sqrt()
        f = f + alpha[layer] * (v * t[f"norms.{layer}.weight"] + t[f"norms.{layer}.bias"])
    return f


OTHERS = {
    "scalar-mix": scalar_mix,
    "fine-grained": fine_grained,
    "attention": attention,
    "dwatt": dwatt,
}


@dataclass
class NaiveBridge:
    """What ``LayerBridge`` should compute.

    Args:
        encoder: transformers' encoder, of an encoder-decoder model the half of the whole.
        language_model: transformers' causal language model.
        encoder_tokenizer: with the special tokens it adds by itself.
        lm_tokenizer: asked for its BOS and EOS.
        tensors: the trained tensors; gradients flow into them.
        fusion: the strategy's name.
        instruction: read after the boundary.
        heads: of token-softmax.
        normalize: ``"rms"`` or None.
    """

    encoder: torch.nn.Module
    language_model: torch.nn.Module
    encoder_tokenizer: object
    lm_tokenizer: object
    tensors: dict[str, Tensor]
    fusion: str
    instruction: str | None = None
    heads: int = 4
    normalize: str | None = None
    max_text_tokens: int = 512
    states: dict[str, list[Tensor]] = field(default_factory=dict)

    def hidden_states(self, text: str) -> list[Tensor]:
        """h₁ … h_L, each [S, E]."""
        if text not in self.states:
            ids = self.encoder_tokenizer(text)["input_ids"][: self.max_text_tokens]
            with torch.no_grad():
                output = self.encoder(input_ids=torch.tensor([ids]), output_hidden_states=True)
            layers = [*output.hidden_states[1:-1], output.last_hidden_state]
            self.states[text] = [layer[0].clone() for layer in layers]
        return self.states[text]

    def fused(self, text: str) -> Tensor:
        """f [S, E]."""
        layers = self.hidden_states(text)
        if self.normalize == "rms":
            layers = [h / h.square().mean(-1, keepdim=True).sqrt() for h in layers]
        if self.fusion in ("last", "fixed"):  # fixed: the last layer unless told otherwise
            return layers[-1]
        if self.fusion == "uniform":
            return sum(layers) / len(layers)
        if self.fusion == "global-softmax":
            tau = 1e2 + 1e5 * self.tensors["fusion.theta"]
            alpha = softmax(tau * self.tensors["fusion.w"])
            return sum(a * h for a, h in zip(alpha, layers, strict=True))
        tokens = []
        for s in range(len(layers[0])):
            states = [h[s] for h in layers]
            if self.fusion in OTHERS:
                tokens.append(OTHERS[self.fusion](self.of("fusion."), states))
                continue
            alpha = self.token_alpha(states)
            tokens.append(sum(a * h for a, h in zip(alpha, states, strict=True)))
        return torch.stack(tokens)

    def of(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part, by their names in it."""
        return {
            name.removeprefix(part): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(part)
        }

    def token_alpha(self, states: list[Tensor]) -> Tensor:
        """α of one token: the Transformer block over [q ; h₁+p₁ … h_L+p_L], read at q."""
        t = self.of("fusion.")
        x = [t["query"]] + [h + p for h, p in zip(states, t["position"], strict=True)]
        width = len(x[0])
        inputs = zip(
            t["block.self_attn.in_proj_weight"].split(width),
            t["block.self_attn.in_proj_bias"].split(width),
            strict=True,
        )
        q, k, v = (torch.stack(x) @ w.T + b for w, b in inputs)  # [L+1, E]
        d = width // self.heads
        heads = []
        for head in range(self.heads):
            part = slice(head * d, (head + 1) * d)
            a = softmax(k[:, part] @ q[0, part] / math.sqrt(d))
            heads.append(a @ v[:, part])
        out = t["block.self_attn.out_proj.weight"] @ torch.cat(heads)
        y = x[0] + out + t["block.self_attn.out_proj.bias"]
        y = F.layer_norm(y, (width,), t["block.norm1.weight"], t["block.norm1.bias"])
        hidden = (t["block.linear1.weight"] @ y + t["block.linear1.bias"]).relu()
        z = y + t["block.linear2.weight"] @ hidden + t["block.linear2.bias"]
        z = F.layer_norm(z, (width,), t["block.norm2.weight"], t["block.norm2.bias"])
        return softmax(t["score.weight"] @ z + t["score.bias"])

    def prefix(self, text: str) -> Tensor:
        """[BOS] · soft prompt · boundary · instruction, [T, D]."""
        embed = self.language_model.get_input_embeddings()
        parts = []
        if self.lm_tokenizer.bos_token_id is not None:
            parts.append(embed(torch.tensor([self.lm_tokenizer.bos_token_id])))
        t = self.tensors
        f = (self.fused(text) - t["projection.mean"]) / t["projection.std"]
        parts.append(f @ t["projection.linear.weight"].T + t["projection.linear.bias"])
        if "projection.boundary" in self.tensors:
            parts.append(self.tensors["projection.boundary"][None])
        if self.instruction:
            ids = self.lm_tokenizer(self.instruction, add_special_tokens=False)["input_ids"]
            parts.append(embed(torch.tensor(ids)))
        return torch.cat(parts)

    def target(self, answer: str) -> list[int]:
        """Its tokens, then EOS."""
        ids = self.lm_tokenizer(answer, add_special_tokens=False)["input_ids"]
        return [*ids, self.lm_tokenizer.eos_token_id]

    def logits(self, text: str, ids: list[int]) -> Tensor:
        """At every position of the prefix and then ``ids``: [T, V]."""
        embed = self.language_model.get_input_embeddings()
        inputs = self.prefix(text)
        if ids:
            inputs = torch.cat([inputs, embed(torch.tensor(ids))])
        return self.language_model(inputs_embeds=inputs[None], use_cache=False).logits[0]

    def label_logits(self, text: str, ids: list[int]) -> Tensor:
        """[n, V], the rows that predict ``ids``."""
        start = len(self.prefix(text)) - 1
        return self.logits(text, ids)[start : start + len(ids)]

    def loss(self, texts: list[str], answers: list[str]) -> Tensor:
        """Mean cross-entropy over all target and EOS tokens."""
        losses = []
        for text, answer in zip(texts, answers, strict=True):
            ids = self.target(answer)
            for row, token in zip(self.label_logits(text, ids), ids, strict=True):
                losses.append(row.logsumexp(0) - row[token])
        return sum(losses) / len(losses)

    @torch.no_grad()
    def option_score(self, text: str, option: str) -> float:
        """log p(option and EOS | text)."""
        ids = self.target(option)
        log_p = self.label_logits(text, ids).log_softmax(-1)
        return sum(log_p[i, token].item() for i, token in enumerate(ids))

    @torch.no_grad()
    def greedy(self, text: str, steps: int) -> list[int]:
        """The most likely token again and again, up to EOS."""
        ids: list[int] = []
        while len(ids) < steps and self.lm_tokenizer.eos_token_id not in ids:
            ids.append(int(self.logits(text, ids)[-1].argmax()))
        return ids


def softmax(x: Tensor) -> Tensor:
    return (x - x.max()).exp() / (x - x.max()).exp().sum()
