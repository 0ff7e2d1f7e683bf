"""`token-softmax`: each token chooses its own layers (arXiv 2508.09091, "Transformer SM").

    x = [q ; h₁+p₁ … h_L+p_L]    z = TransformerEncoderLayer(x) at q
    α = softmax(W z + b)          f = Σ α_l h_l   over the raw states

Only the block's output at q is used, and its input there is the same for every token. So the
attention among the layers themselves is never computed, and what is left collapses, exactly
(docs/method.md). Per head k, with d = E / heads:

    u_k = W_Kᵏᵀ (W_Qᵏ q + b_Qᵏ) / √d        one vector, not one a token
    a_k = softmax over [q·u_k, (h_l+p_l)·u_k]  the key bias adds the same to all and cancels
    v_k = W_Vᵏ Σ_l a_kl x_l + b_Vᵏ Σ_l a_kl   values after pooling: one product, not L+1

Where the states are, memory decides: all else is small beside them. On a GPU they are read by
kernels (token_softmax_kernel.py), twice, in the dtype they have; this file knows no Triton.

Legend: L layers, B batch, S encoder tokens, E encoder width, N = B·S, K heads, d = E / K.
"""

from __future__ import annotations

import math
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates

# Tokens that a CPU fuses at a time where no gradient is wanted: 24 layers of width 1024 are 12 MB.
BLOCK = 128

IMPLEMENTATIONS = ("collapsed", "reference", "triton", "plain")


class TokenSoftmax(Fusion):
    """A query reads the L states of a token through one Transformer block and weighs them.

    Args:
        heads: K; the paper has 4, its authors' code 1. Must divide E.
        feedforward: width of the block's hidden layer.
        dropout: inside the block, while training.
        implementation: ``"collapsed"`` (fast, exact; Triton kernels where the states are on a GPU
            and the kernels can take them, else torch), ``"triton"`` or ``"plain"`` (the same,
            with the kernels or with torch, come what may) or ``"reference"`` (the block as the
            paper writes it, over all L+1 positions). Same parameters, same state dict; under
            dropout the reference is equal in distribution but draws different masks.
    """

    def __init__(
        self,
        num_layers: int,
        width: int,
        *,
        start: str = "uniform",
        normalize: str | None = None,
        heads: int = 4,
        feedforward: int = 2048,
        dropout: float = 0.1,
        implementation: str = "collapsed",
    ) -> None:
        super().__init__(num_layers, width, start=start, normalize=normalize)
        if heads < 1 or width % heads:
            raise ConfigError(
                f"heads={heads} does not divide the encoder's width {width}",
                allowed=(str(k) for k in range(1, 33) if width % k == 0),
            )
        if implementation not in IMPLEMENTATIONS:
            raise ConfigError(f"unknown implementation {implementation!r}", allowed=IMPLEMENTATIONS)
        self.heads = heads
        self.dropout = dropout
        self.implementation = implementation
        self.query = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.randn(num_layers, width))
        self.block = nn.TransformerEncoderLayer(
            width, heads, dim_feedforward=feedforward, dropout=dropout, batch_first=True
        )
        self.score = nn.Linear(width, num_layers)
        with torch.no_grad():
            self.score.bias[-1] += self.start_bias()

    def fuse(self, states: HiddenStates) -> Float[Tensor, "B S E"]:
        """f = Σ α_l h_l, over the states as they came, without their positions."""
        if torch.is_grad_enabled() or states.last.is_cuda or self.implementation == "reference":
            return self.mix(states.stacked)
        # A block of tokens stays in a CPU's cache from the scores to the sum, and the L states
        # are never copied side by side as a whole.
        blocks = zip(*(layer.flatten(0, 1).split(BLOCK) for layer in states.layers), strict=True)
        f = torch.cat([self.mix(torch.stack(block)[:, None])[0] for block in blocks])
        return f.view(states.last.shape)

    def mix(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """f of states that stand side by side."""
        alpha = self.alpha_of(stacked)
        kernels = self.kernels(stacked)
        if kernels is None:
            return torch.einsum("bsl,lbse->bse", alpha, stacked.float())
        f = kernels.weighted_sum(alpha.flatten(0, 1), stacked.flatten(1, 2))
        return f.view(stacked.shape[1:])

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """α for each token."""
        return self.alpha_of(self.prepared(states).stacked)

    def alpha_of(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S L"]:
        """α = softmax(W z + b)."""
        block = self.reference if self.implementation == "reference" else self.collapsed
        return self.score(block(stacked)).softmax(-1)

    def reference(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """z as the paper writes it: the whole block over L+1 positions, of which one is kept."""
        layers, batch, tokens, width = stacked.shape
        keys = stacked.float() + self.position[:, None, None, :]  # [L, B, S, E]
        query = self.query.expand(1, batch, tokens, width)
        x = torch.cat([query, keys]).permute(1, 2, 0, 3).reshape(-1, layers + 1, width)
        return self.block(x)[:, 0].view(batch, tokens, width)

    def collapsed(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """z at the price of a weighted sum: the same numbers, see the head of this file."""
        block = self.block
        attended = self.attention(stacked)  # [B, S, E]
        y = block.norm1(self.query + self.drop(attended))
        hidden = self.drop(F.relu(block.linear1(y)))  # [B, S, feedforward]
        return block.norm2(y + self.drop(block.linear2(hidden)))

    def attention(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """The block's attention at q alone."""
        attention = self.block.self_attn
        heads, head_width = self.heads, self.width // self.heads
        w_q, w_k, w_v = attention.in_proj_weight.view(3, self.width, self.width)
        b_q, _, b_v = attention.in_proj_bias.view(3, self.width)

        # u: [K, E], what each head looks for, in the space of the states.
        q = (w_q @ self.query + b_q).view(heads, head_width) / math.sqrt(head_width)
        u = torch.einsum("kd,kde->ke", q, w_k.view(heads, head_width, self.width))

        # The part of each input that is the same for every token: q, and the positions. [L+1, E].
        x = torch.cat([self.query[None], self.position])
        a, pooled = self.pool(stacked.flatten(1, 2), u, x @ u.T)

        # Under dropout a no longer sums to 1, and the value bias is weighted by what is left.
        w_v = w_v.view(heads, head_width, self.width)
        shared = torch.einsum("le,kde->lkd", x, w_v) + b_v.view(heads, head_width)
        v = torch.einsum("nke,kde->nkd", pooled, w_v) + torch.einsum("lnk,lkd->nkd", a, shared)
        return attention.out_proj(v.reshape(stacked.shape[1:]))

    def pool(
        self, states: Float[Tensor, "L N E"], u: Float[Tensor, "K E"], bias: Float[Tensor, "L+1 K"]
    ) -> tuple[Float[Tensor, "L+1 N K"], Float[Tensor, "N K E"]]:
        """a = softmax(bias + [0, h·u]) over q and the layers, and Σ_l a_l h_l over the layers."""
        kernels = self.kernels(states)
        if kernels is not None:
            # A mask of its own, drawn as torch would draw it for a.
            ones = u.new_ones(len(bias), states.shape[1], self.heads)
            keep = self.drop(ones) if self.training and self.dropout else None
            return kernels.pool(states, u, bias, keep)
        states = states.float()
        query = bias[0].expand(1, states.shape[1], -1)
        a = self.drop(torch.cat([query, states @ u.T + bias[1:, None]]).softmax(0))
        return a, torch.bmm(a[1:].permute(1, 2, 0), states.transpose(0, 1))

    def kernels(self, states: Float[Tensor, "L *N E"]) -> ModuleType | None:
        """The kernels, where they are wanted and can take these states.

        Raises:
            ConfigError: they are demanded and cannot.
        """
        demanded = self.implementation == "triton"
        if not demanded and (self.implementation != "collapsed" or not states.is_cuda):
            return None
        try:
            from layerbridge.models.fusion import token_softmax_kernel
        except ImportError:
            problem: str | None = "triton is not installed"
        else:
            problem = token_softmax_kernel.problem(states, self.heads)
            if problem is None:
                return token_softmax_kernel
        if demanded:
            raise ConfigError(
                f"fusion implementation 'triton' cannot run: {problem}",
                hint="take 'collapsed', which runs without the kernels where it has to; "
                "on a CPU, TRITON_INTERPRET=1 runs them slowly, to test them",
            )
        return None

    def drop(self, x: Tensor) -> Tensor:
        """The block's dropout, where the block has it."""
        return F.dropout(x, self.dropout, self.training)
