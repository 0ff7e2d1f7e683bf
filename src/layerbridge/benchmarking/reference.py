"""The reference: the same method as LangBridge and the paper's authors run it.

Written from their papers and public code. Nothing here is slower than there:
    fusion        all layer states are stacked, multiplied by the weights and summed; token-softmax
                  runs the whole Transformer block over the L+1 positions of every token and keeps
                  one of them (the authors' fusion module)
    logits        the language model's own forward: every position, padding included
    loss          labels shifted, −100 ignored, logits in float32 (transformers' causal loss)
    batches       rows in the order of the file, padded to the longest; the soft prompt's padding
                  stays between prompt and target, masked (LangBridge)
    tokenizing    one text at a time, within the step (the authors' collator)
    encoder       run for every batch of every epoch
    evaluation    greedy generation with transformers' ``generate``, batch by batch in the order
                  of the file, strip, exact match
    precision     float32, LangBridge's default; optionally bfloat16
Position ids count real tokens. LangBridge's cached decoding does not, which changes answers with
the batch and makes nothing faster.

Legend: L layers, B batch, S encoder tokens, T LM tokens, E encoder width, D LM width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layerbridge.models.bridge import LayerBridge
from layerbridge.models.language_model import IGNORED
from layerbridge.tasks import Row


class ReferenceTokenSoftmax(nn.Module):
    """token-softmax as the paper writes it, with layerbridge's parameter names."""

    def __init__(self, layers: int, width: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.randn(layers, width))
        self.block = nn.TransformerEncoderLayer(
            width, heads, dim_feedforward=2048, dropout=dropout, batch_first=True
        )
        self.score = nn.Linear(width, layers)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """L × [B, S, E] → [B, S, E]."""
        stacked = torch.stack(list(layers), dim=2)  # [B, S, L, E]
        batch, tokens, depth, width = stacked.shape
        keys = stacked.view(batch * tokens, depth, width) + self.position
        query = self.query.expand(batch * tokens, 1, width)
        z = self.block(torch.cat([query, keys], dim=1))[:, 0]
        alpha = self.score(z).softmax(-1).view(batch, tokens, depth, 1)
        return (alpha * stacked).sum(2)


class ReferenceGlobalSoftmax(nn.Module):
    """global-softmax over the stacked states."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((layers,), 3e-5))
        self.theta = nn.Parameter(torch.tensor(1e-5))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """L × [B, S, E] → [B, S, E]."""
        alpha = ((1e2 + 1e5 * self.theta) * self.w).softmax(0)
        return (alpha.view(-1, 1, 1, 1) * torch.stack(list(layers))).sum(0)


class ReferenceLast(nn.Module):
    """LangBridge: the last layer."""

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """L × [B, S, E] → [B, S, E]."""
        return layers[-1]


class ReferenceBridge(nn.Module):
    """The whole model: the same frozen backbones, and a copy of the bridge's tensors.

    Args:
        bridge: with ``last``, ``global-softmax`` or ``token-softmax`` over unnormalized states.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, bridge: LayerBridge) -> None:
        super().__init__()
        config = bridge.config
        assert config.normalize is None
        assert bridge.projection.boundary is not None
        self.encoder = bridge.encoder.model
        self.encoder_tokenizer = bridge.encoder.tokenizer
        self.max_text_tokens = bridge.encoder.max_text_tokens
        self.lm = bridge.language_model.model
        self.lm_tokenizer = bridge.language_model.tokenizer
        layers, width = bridge.encoder.num_layers, bridge.encoder.width
        if config.fusion == "token-softmax":
            options = config.fusion_options or {}
            known = {name: options[name] for name in ("heads", "dropout") if name in options}
            self.fusion: nn.Module = ReferenceTokenSoftmax(layers, width, **known)
        elif config.fusion == "global-softmax":
            self.fusion = ReferenceGlobalSoftmax(layers)
        else:
            assert config.fusion == "last"
            self.fusion = ReferenceLast()
        self.projection = nn.Linear(width, bridge.language_model.width)
        self.fusion.load_state_dict(bridge.fusion.state_dict())
        self.projection.load_state_dict(bridge.projection.linear.state_dict())
        self.boundary = nn.Parameter(bridge.projection.boundary.detach().clone())
        # 0 and 1, unless the projection's start is aligned or scaled.
        self.register_buffer("mean", bridge.projection.mean.clone())
        self.register_buffer("std", bridge.projection.std.clone())
        self.instruction = config.instruction
        self.to(bridge.language_model.device)

    def trained(self) -> list[nn.Parameter]:
        """Returns the parameters of fusion, projection and boundary."""
        return [*self.fusion.parameters(), *self.projection.parameters(), self.boundary]

    def train(self, mode: bool = True) -> ReferenceBridge:
        """Switches the mode; the backbones stay in eval mode."""
        super().train(mode)
        self.encoder.eval()
        self.lm.eval()
        return self

    def prefix(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns BOS, soft prompt, boundary and instruction, [B, T, D], and their mask [B, T].

        The padding of a soft prompt stays before the boundary.
        """
        device, tokenizer = self.boundary.device, self.encoder_tokenizer
        rows = [
            torch.tensor(tokenizer(t, truncation=True, max_length=self.max_text_tokens).input_ids)
            for t in texts
        ]
        pad = tokenizer.pad_token_id or 0
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
        with torch.no_grad():
            output = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        states = [*output.hidden_states[1:-1], output.last_hidden_state]
        fused = self.fusion([layer.to(self.projection.weight.dtype) for layer in states])
        soft = self.projection((fused - self.mean) / self.std)
        embed = self.lm.get_input_embeddings()

        def words(ids: list[int]) -> Tensor:
            return embed(torch.tensor(ids, device=device).expand(len(rows), -1))

        bos = self.lm_tokenizer.bos_token_id
        head = [] if bos is None else [words([bos])]
        tail = [self.boundary.to(embed.weight.dtype).expand(len(rows), 1, -1)]
        if self.instruction is not None:
            tail.append(
                words(self.lm_tokenizer(self.instruction, add_special_tokens=False).input_ids)
            )
        soft = soft.to(embed.weight.dtype)

        def ones(parts: list[Tensor]) -> list[Tensor]:
            return [mask.new_ones(part.shape[:2]) for part in parts]

        return torch.cat([*head, soft, *tail], 1), torch.cat([*ones(head), mask, *ones(tail)], 1)

    def loss(self, rows: Sequence[Row]) -> Tensor:
        """Returns the mean cross-entropy over target and EOS tokens."""
        prefix, mask = self.prefix([row.text for row in rows])
        tokenizer, device = self.lm_tokenizer, prefix.device
        eos = tokenizer.eos_token_id
        targets = [
            torch.tensor([*tokenizer(row.target, add_special_tokens=False).input_ids, eos])
            for row in rows
        ]
        labels = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORED)
        labels = labels.to(device)
        real = (labels != IGNORED).long()
        embeds = self.lm.get_input_embeddings()(labels.clamp_min(0))
        mask = torch.cat([mask, real], 1)
        logits = self.lm(
            inputs_embeds=torch.cat([prefix, embeds], 1),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            use_cache=False,
        ).logits.float()
        ignored = labels.new_full(prefix.shape[:2], IGNORED)
        shifted = torch.cat([ignored, labels], 1)[:, 1:]
        return F.cross_entropy(
            logits[:, :-1].flatten(0, 1), shifted.flatten(), ignore_index=IGNORED
        )

    @torch.no_grad()
    def answers(self, texts: Sequence[str], max_new_tokens: int) -> list[str]:
        """Generates the answers of one batch greedily, decoded and stripped."""
        prefix, mask = self.prefix(texts)
        # ``generate`` continues at the right end, so padding moves to the left.
        order = mask.argsort(dim=1, stable=True)
        prefix = prefix.gather(1, order[..., None].expand_as(prefix))
        eos = self.lm_tokenizer.eos_token_id
        pad = self.lm_tokenizer.pad_token_id
        ids = self.lm.generate(
            inputs_embeds=prefix,
            attention_mask=mask.gather(1, order),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=eos,
            pad_token_id=eos if pad is None else pad,
        )
        decoded = self.lm_tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in decoded]
