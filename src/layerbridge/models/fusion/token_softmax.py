"""`token-softmax`: each token chooses its own layers (arXiv 2508.09091, "Transformer SM").

    x = [q ; h₁+p₁ … h_L+p_L]    z = TransformerEncoderLayer(x) at q
    α = softmax(W z + b)          f = Σ α_l h_l   over the raw states

Only the block's output at q is used, and q is the same for every token. So the attention among the
layers is never computed, and the rest collapses, exactly. Per head k, with d = E / heads:

    u_k = W_Kᵏᵀ (W_Qᵏ q + b_Qᵏ) / √d          one vector, not one per token
    a_k = softmax over [q·u_k, (h_l+p_l)·u_k]  the key bias adds the same to all and cancels
    v_k = W_Vᵏ Σ_l a_kl x_l + b_Vᵏ Σ_l a_kl    values after pooling: one product, not L+1

The states are by far the largest tensor, so reading them decides the speed. On a GPU, Triton
kernels (``token_softmax_kernel``) read them twice, in their own dtype.

Legend: L layers, B batch, S encoder tokens, E encoder width, N = B·S, K heads, d = E / K.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from layerbridge.errors import ConfigError
from layerbridge.models.fusion.strategy import Fusion
from layerbridge.models.hidden_states import HiddenStates
from layerbridge.progress import say_once

# Tokens per block on a CPU without gradients: 12 MB for 24 layers of width 1024.
BLOCK = 128

IMPLEMENTATIONS = ("collapsed", "reference", "triton", "plain")


class TokenSoftmax(Fusion):
    """A query reads the L states of a token through one Transformer block and weighs them.

    Args:
        heads: K, a divisor of E; 4 in the paper, 1 in its authors' code.
        feedforward: width of the block's hidden layer.
        dropout: inside the block, while training.
        implementation: ``"collapsed"`` (the equations above; by Triton kernels on a GPU that can
            run them, else by torch), ``"triton"`` or ``"plain"`` (always the kernels, or always
            torch), or ``"reference"`` (the whole block, over all L+1 positions). All have the
            same parameters; the reference draws other dropout masks.

    Raises:
        ConfigError: ``heads`` does not divide E, or the implementation is unknown.
    """

    learning_rate_scale: ClassVar[float] = 0.1

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
        """Returns f = Σ α_l h_l over the states without their positions."""
        if torch.is_grad_enabled() or states.last.is_cuda or self.implementation == "reference":
            return self.mix(states.stacked)
        # A block of tokens stays in the CPU's cache from the scores to the sum, and the states
        # are never stacked as a whole.
        blocks = zip(*(layer.flatten(0, 1).split(BLOCK) for layer in states.layers), strict=True)
        f = torch.cat([self.mix(torch.stack(block)[:, None])[0] for block in blocks])
        return f.view(states.last.shape)

    def mix(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """Returns f of stacked states."""
        alpha = self.alpha_of(stacked)
        kernels = self.kernels(stacked)
        if kernels is None:
            return torch.einsum("bsl,lbse->bse", alpha, stacked.float())
        f = kernels.weighted_sum(alpha.flatten(0, 1), stacked.flatten(1, 2))
        return f.view(stacked.shape[1:])

    def weights(self, states: HiddenStates) -> Float[Tensor, "B S L"]:
        """Returns α of each token."""
        return self.alpha_of(self.prepared(states).stacked)

    def alpha_of(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S L"]:
        """Returns α = softmax(W z + b)."""
        block = self.reference if self.implementation == "reference" else self.collapsed
        return self.score(block(stacked)).softmax(-1)

    def reference(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """Returns z as in the paper: the whole block over L+1 positions, read at q."""
        layers, batch, tokens, width = stacked.shape
        keys = stacked.float() + self.position[:, None, None, :]  # [L, B, S, E]
        query = self.query.expand(1, batch, tokens, width)
        x = torch.cat([query, keys]).permute(1, 2, 0, 3).reshape(-1, layers + 1, width)
        return self.block(x)[:, 0].view(batch, tokens, width)

    def collapsed(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """Returns the same z by the equations at the top of this file."""
        block = self.block
        attended = self.attention(stacked)  # [B, S, E]
        y = block.norm1(self.query + self.drop(attended))
        hidden = self.drop(F.relu(block.linear1(y)))  # [B, S, feedforward]
        return block.norm2(y + self.drop(block.linear2(hidden)))

    def attention(self, stacked: Float[Tensor, "L B S E"]) -> Float[Tensor, "B S E"]:
        """Returns the block's attention output at q."""
        attention = self.block.self_attn
        heads, head_width = self.heads, self.width // self.heads
        w_q, w_k, w_v = attention.in_proj_weight.view(3, self.width, self.width)
        b_q, _, b_v = attention.in_proj_bias.view(3, self.width)

        # u [K, E]: the query of each head, in the space of the states.
        q = (w_q @ self.query + b_q).view(heads, head_width) / math.sqrt(head_width)
        u = torch.einsum("kd,kde->ke", q, w_k.view(heads, head_width, self.width))

        # The part of each input that all tokens share, q and the positions: [L+1, E].
        x = torch.cat([self.query[None], self.position])
        a, pooled = self.pool(stacked.flatten(1, 2), u, x @ u.T)

        # Under dropout a does not sum to 1, so it weighs the value bias too.
        w_v = w_v.view(heads, head_width, self.width)
        shared = torch.einsum("le,kde->lkd", x, w_v) + b_v.view(heads, head_width)
        v = torch.einsum("nke,kde->nkd", pooled, w_v) + torch.einsum("lnk,lkd->nkd", a, shared)
        return attention.out_proj(v.reshape(stacked.shape[1:]))

    def pool(
        self, states: Float[Tensor, "L N E"], u: Float[Tensor, "K E"], bias: Float[Tensor, "L+1 K"]
    ) -> tuple[Float[Tensor, "L+1 N K"], Float[Tensor, "N K E"]]:
        """Returns a = softmax(bias + [0, h·u]) over q and the layers, and Σ_l a_l h_l."""
        kernels = self.kernels(states)
        if kernels is not None:
            # The mask that torch would draw for a.
            ones = u.new_ones(len(bias), states.shape[1], self.heads)
            keep = self.drop(ones) if self.training and self.dropout else None
            return kernels.pool(states, u, bias, keep)
        states = states.float()
        query = bias[0].expand(1, states.shape[1], -1)
        a = self.drop(torch.cat([query, states @ u.T + bias[1:, None]]).softmax(0))
        return a, torch.bmm(a[1:].permute(1, 2, 0), states.transpose(0, 1))

    def kernels(self, states: Float[Tensor, "L *N E"]) -> ModuleType | None:
        """Returns the kernels if they are wanted and can run on these states, else None.

        On a GPU, the reason why they cannot is said.

        Raises:
            ConfigError: ``implementation`` is ``"triton"``, and they cannot.
        """
        required = self.implementation == "triton"
        if not required and (self.implementation != "collapsed" or not states.is_cuda):
            return None
        try:
            from layerbridge.models.fusion import token_softmax_kernel
        except ImportError:
            problem: str | None = "triton is not installed"
        else:
            problem = token_softmax_kernel.problem(states, self.heads)
            if problem is None:
                return token_softmax_kernel
        if required:
            raise ConfigError(
                f"fusion implementation 'triton' cannot run: {problem}",
                hint="use 'collapsed', which falls back to torch; on a CPU, TRITON_INTERPRET=1 "
                "runs the kernels slowly, for tests",
            )
        say_once(f"token-softmax runs without its Triton kernels: {problem}")
        return None

    def drop(self, x: Tensor) -> Tensor:
        """The block's dropout, where the block has it."""
        return F.dropout(x, self.dropout, self.training)
