"""Triton kernels of `token-softmax`: its two passes over the states, forward and backward.

    a = softmax over [c_0, h_l·u_k + c_l]    pooled_k = Σ_l ã_kl h_l    (`pool`)
    f = Σ_l α_l h_l                                                     (`weighted_sum`)

ã is a times the dropout mask. Everything else of the strategy is small next to the states and stays
in torch. The kernels are bound by memory: each of the four reads the states once, in their own
dtype, without a copy. The encoder is frozen, so the states have no gradient. Sums over tokens run
in a fixed order: the same input gives the same bits.

One program of `pool` holds one token's [L, E] tile on chip for both products, which run on the
tensor cores: plain multiply-adds would take longer than reading the states. Nothing is rounded: a
float32 is the sum of three bfloat16 numbers, so u and a are passed as three parts, side by side in
the 16 rows that a tensor core needs anyway. Products of bfloat16 numbers are exact in float32, and
sums are float32. Each warp works on the columns of E that it loaded.

Legend: L layers, N tokens, E encoder width, K heads, C warps; sizes in the kernels are padded: LP,
KP, EP to powers of two, R = 4·KP rows (three parts and a zero), EC = EP / C columns per warp.
"""

# Compile-time sizes are in capitals, and kernel arguments have no Python types.
# ruff: noqa: N803, N806, E741, PLR0917
# mypy: disallow-untyped-defs=false

from __future__ import annotations

import functools
import os

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# The number of bfloat16 numbers that represent one element of a state exactly.
EXACT_IN = {torch.bfloat16: 1, torch.float16: 2, torch.float32: 3}
# Columns of E per warp: a thread then holds 4·(LP·parts + R) numbers, whatever E is.
COLUMNS = 128
WIDEST = 2048
DEEPEST = 96  # limit of LP·parts + R; beyond it registers spill
# Two programs per multiprocessor: one reads while the other multiplies.
REGISTERS = 128
# Programs of `pool`'s backward, each with a share of the tokens and a sum of its own. Constant, so
# that the result is the same on every device; two rounds on the 132 multiprocessors of an H200.
SHARES = 528
# Layers per step in `pool`'s backward: the fewest for a tensor core, since registers are scarce.
STEP = 16
# Dtype of the products' operands. Triton's interpreter multiplies the bits of bfloat16 numbers, so
# there it is float32, with the same values.
OPERAND = tl.constexpr(tl.float32 if os.environ.get("TRITON_INTERPRET") == "1" else tl.bfloat16)
# Tile of `weighted_sum`.
ROWS, WIDTH = 8, 1024


def problem(states: Float[Tensor, "L *N E"], heads: int) -> str | None:
    """Returns why the kernels cannot run on these states, or None if they can."""
    layers, width = states.shape[0], states.shape[-1]
    if states.dtype not in EXACT_IN:
        return f"states are {str(states.dtype).removeprefix('torch.')}"
    if states.requires_grad:
        return "the states require a gradient"
    deep = deep_padded(layers) * EXACT_IN[states.dtype] + 4 * heads_padded(heads)
    if width_padded(width) > WIDEST or deep > DEEPEST:
        return f"{layers} layers of width {width} with {heads} heads do not fit one tile"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not states.is_cuda:
        return f"states are on the {states.device.type}, not on a GPU"
    return tried(states.device, states.dtype, layers, width, heads)


@functools.cache
def tried(
    device: torch.device, dtype: torch.dtype, layers: int, width: int, heads: int
) -> str | None:
    """Returns what fails on two tokens of this shape: no C compiler, an old GPU, … or None.

    Raises:
        torch.OutOfMemoryError: the GPU is full; the kernels may run another time.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            states = torch.zeros(layers, 2, width, dtype=dtype, device=device)
            u = torch.zeros(heads, width, device=device, requires_grad=True)
            a, pooled = pool(states, u, u.new_zeros(layers + 1, heads), None)
            f = weighted_sum(a[1:, :, 0].T, states)
            (pooled.sum() + f.sum()).backward()
    except Exception as error:  # whatever it is, torch works without the kernels
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower():
            raise
        reason = " ".join(str(error).split())[:200]
        return f"triton fails here ({type(error).__name__}: {reason})"
    return None


def pool(
    states: Float[Tensor, "L N E"],
    u: Float[Tensor, "K E"],
    bias: Float[Tensor, "L+1 K"],
    keep: Float[Tensor, "L+1 N K"] | None,
) -> tuple[Float[Tensor, "L+1 N K"], Float[Tensor, "N K E"]]:
    """Returns ã = keep · softmax(bias + [0, h·u]) over L+1, and Σ_l ã_l h_l over L.

    Args:
        states: h, with any strides; not differentiated.
        u: the query of each head.
        bias: added to the scores; its first row is the score of q.
        keep: dropout mask, 0 or 1/(1-p); None without dropout.
    """
    return Pool.apply(states, u.float(), bias.float(), keep)


def weighted_sum(
    alpha: Float[Tensor, "N L"], states: Float[Tensor, "L N E"]
) -> Float[Tensor, "N E"]:
    """Returns f = Σ_l α_l h_l; the states are not differentiated."""
    return WeightedSum.apply(alpha.float(), states)


class Pool(torch.autograd.Function):
    """Scores, softmax and pooling, in one pass over the states."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, states: Tensor, u: Tensor, bias: Tensor, keep: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns ã [L+1, N, K] and pooled [N, K, E]."""
        states = along_e(states)
        layers, tokens, width = states.shape
        heads = len(u)
        a = u.new_empty(layers + 1, tokens, heads)
        pooled = u.new_empty(tokens, heads, width)
        keep = keep.contiguous() if keep is not None else None
        with torch.cuda.device_of(states):
            pool_forward[(tokens,)](
                states, in_parts(u), bias.contiguous(), a if keep is None else keep, a, pooled,
                tokens, *states.stride()[:2],
                DROPOUT=keep is not None, LP=deep_padded(layers), **shape(states, heads),
            )  # fmt: skip
        kept = a if keep is None else a * keep
        ctx.save_for_backward(states, a, kept, pooled)
        return kept, pooled

    @staticmethod
    @once_differentiable
    def backward(
        ctx: FunctionCtx, d_kept: Tensor, d_pooled: Tensor
    ) -> tuple[None, Tensor, Tensor, None]:
        """Returns du [K, E] and dbias [L+1, K]."""
        states, a, kept, pooled = ctx.saved_tensors  # type: ignore[attr-defined]
        _, tokens, width = states.shape
        heads = a.shape[-1]
        options = shape(states, heads)
        shares = min(tokens, SHARES)
        d_scores = torch.empty_like(a)
        d_u = a.new_empty(shares, options["KP"], options["EP"])
        with torch.cuda.device_of(states):
            pool_backward[(shares,)](
                states, a, kept, pooled, d_kept.contiguous(), (kept * d_kept).sum(0),
                d_pooled.contiguous(), d_scores, d_u, tokens, *states.stride()[:2],
                STEP=STEP, **options,
            )  # fmt: skip
        return None, d_u.sum(0)[:heads, :width], d_scores.sum(1), None


class WeightedSum(torch.autograd.Function):
    """f = Σ_l α_l h_l, in one pass over the states."""

    @staticmethod
    def forward(ctx: FunctionCtx, alpha: Tensor, states: Tensor) -> Tensor:
        """Returns f [N, E]."""
        states, alpha = along_e(states), alpha.contiguous()
        _, tokens, width = states.shape
        f = alpha.new_empty(tokens, width)
        ctx.save_for_backward(states)
        with torch.cuda.device_of(states):
            sum_forward[(tokens, triton.cdiv(width, WIDTH))](
                states, alpha, f, *states.stride()[:2], **sum_shape(states)
            )
        return f

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_f: Tensor) -> tuple[Tensor, None]:
        """Returns dα [N, L] = df · h."""
        (states,) = ctx.saved_tensors  # type: ignore[attr-defined]
        layers, tokens, _ = states.shape
        d_alpha = d_f.new_empty(tokens, layers)
        with torch.cuda.device_of(states):
            sum_backward[(tokens,)](
                states, d_f.contiguous(), d_alpha, *states.stride()[:2], **sum_shape(states)
            )
        return d_alpha, None


def along_e(states: Float[Tensor, "L N E"]) -> Float[Tensor, "L N E"]:
    """Returns the states, copied only if E is not contiguous."""
    return states if states.stride(-1) == 1 else states.contiguous()


def deep_padded(layers: int) -> int:
    """Returns LP; a tensor core needs 16."""
    return max(16, triton.next_power_of_2(layers))


def heads_padded(heads: int) -> int:
    """Returns KP; four heads of four parts are 16 rows."""
    return max(4, triton.next_power_of_2(heads))


def width_padded(width: int) -> int:
    """Returns EP."""
    return max(16, triton.next_power_of_2(width))


def shape(states: Float[Tensor, "L N E"], heads: int) -> dict[str, int | bool]:
    """Returns the compile-time arguments of `pool`'s kernels."""
    wide = width_padded(states.shape[-1])
    warps = max(1, wide // COLUMNS)
    return {
        "L": len(states),
        "K": heads,
        "E": states.shape[-1],
        "KP": heads_padded(heads),
        "EP": wide,
        "C": warps,
        "PARTS": EXACT_IN[states.dtype],
        "num_warps": warps,
        "maxnreg": REGISTERS,
        "enable_fp_fusion": True,
    }


def sum_shape(states: Float[Tensor, "L N E"]) -> dict[str, int | bool]:
    """Returns the compile-time arguments of `weighted_sum`'s kernels."""
    layers, _, width = states.shape
    tile = min(WIDTH, triton.next_power_of_2(width))
    return {"L": layers, "E": width, "ROWS": ROWS, "WIDTH": tile, "enable_fp_fusion": True}


def in_parts(u: Float[Tensor, "K E"]) -> Float[Tensor, "R EP"]:
    """Returns u as three bfloat16 matrices that sum to it, and one of zeros (see `parts_of`)."""
    heads, width = u.shape
    parts = u.new_zeros(4, heads_padded(heads), width_padded(width), dtype=torch.bfloat16)
    rest = u
    for part in parts[:3]:
        part[:heads, :width] = rest
        rest = rest - part[:heads, :width].float()
    return parts.flatten(0, 1)


@triton.jit
def parts_of(x, KP: tl.constexpr, X: tl.constexpr):
    """Splits [KP, X] float32 into [R, X] bfloat16: rows k, KP + k, … sum to row k exactly."""
    high = x.to(tl.bfloat16)
    rest = x - high.to(tl.float32)
    middle = rest.to(tl.bfloat16)
    low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
    four = tl.join(tl.join(high, middle), tl.join(low, tl.zeros_like(low)))  # [KP, X, 2, 2]
    return tl.permute(four, (2, 3, 0, 1)).reshape(4 * KP, X)


@triton.jit
def by_warp(x, ROWS: tl.constexpr, C: tl.constexpr, EC: tl.constexpr):
    """Splits [ROWS, EP] into [C, ROWS, EC]: a batched product with one matrix per warp."""
    return tl.permute(x.reshape(ROWS, C, EC), (1, 0, 2)).to(OPERAND)


@triton.jit
def scores_of(
    h, parts,
    LP: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, EC: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Returns [LP, KP] float32: h [LP, EP] times the KP vectors that `parts` sums to."""
    columns = tl.permute(by_warp(parts, 4 * KP, C, EC), (0, 2, 1))
    if PARTS == 1:
        sums = tl.dot(by_warp(h, LP, C, EC), columns)  # [C, LP, R]
    else:
        sums = tl.zeros([C, LP, 4 * KP], tl.float32)
        rest = h.to(tl.float32)
        for _ in tl.static_range(PARTS):
            part = rest.to(tl.bfloat16)
            sums = tl.dot(by_warp(part, LP, C, EC), columns, sums)
            rest -= part.to(tl.float32)
    return tl.sum(tl.sum(sums, 0).reshape(LP, 4, KP), 1)


@triton.jit
def pooled_with(
    w, h,
    LP: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, EC: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Returns wᵀ h [C, KP, EC] in float32, for w [LP, KP] and h [LP, EP]."""
    rows = tl.broadcast_to(parts_of(tl.trans(w), KP, LP)[None], [C, 4 * KP, LP]).to(OPERAND)
    if PARTS == 1:
        sums = tl.dot(rows, by_warp(h, LP, C, EC))  # [C, R, EC]
    else:
        sums = tl.zeros([C, 4 * KP, EC], tl.float32)
        rest = h.to(tl.float32)
        for _ in tl.static_range(PARTS):
            part = rest.to(tl.bfloat16)
            sums = tl.dot(rows, by_warp(part, LP, C, EC), sums)
            rest -= part.to(tl.float32)
    return tl.sum(sums.reshape(C, 4, KP, EC), 1)


@triton.jit
def pool_forward(
    states, u_parts, bias, keep, a, pooled, tokens, stride_l, stride_n,
    DROPOUT: tl.constexpr, L: tl.constexpr, K: tl.constexpr, E: tl.constexpr, LP: tl.constexpr,
    KP: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """One token per program. Offsets are 64 bits: the states may have more than 2³¹ elements."""
    EC: tl.constexpr = EP // C
    n = tl.program_id(0).to(tl.int64)
    l, k, e = tl.arange(0, LP), tl.arange(0, KP), tl.arange(0, EP)
    real = (l < L)[:, None] & (k < K)[None, :]
    h = tl.load(
        states + l[:, None].to(tl.int64) * stride_l + n * stride_n + e[None, :],
        mask=(l < L)[:, None] & (e < E)[None, :],
        other=0.0,
    )
    u = tl.load(u_parts + tl.arange(0, 4 * KP)[:, None] * EP + e[None, :])

    query = tl.load(bias + k, mask=k < K, other=0.0)
    score = scores_of(h, u, LP, KP, C, EC, PARTS)
    score += tl.load(bias + (l[:, None] + 1) * K + k[None, :], mask=real, other=0.0)
    score = tl.where((l < L)[:, None], score, float("-inf"))
    top = tl.maximum(query, tl.max(score, 0))
    query = tl.exp(query - top)
    score = tl.exp(score - top[None, :])
    total = query + tl.sum(score, 0)
    weight = score / total[None, :]

    at = ((l[:, None] + 1).to(tl.int64) * tokens + n) * K + k[None, :]
    tl.store(a + n * K + k, query / total, mask=k < K)
    tl.store(a + at, weight, mask=real)
    if DROPOUT:
        weight *= tl.load(keep + at, mask=real, other=0.0)

    sums = pooled_with(weight, h, LP, KP, C, EC, PARTS)
    tl.store(
        pooled + (n * K + k[:, None]) * E + e[None, :],
        tl.permute(sums, (1, 0, 2)).reshape(KP, EP),
        mask=(k < K)[:, None] & (e < E)[None, :],
    )


@triton.jit
def pool_backward(
    states, a, kept, pooled, d_kept, outer, d_pooled, d_scores, d_u, tokens, stride_l, stride_n,
    L: tl.constexpr, K: tl.constexpr, E: tl.constexpr, STEP: tl.constexpr,
    KP: tl.constexpr, EP: tl.constexpr, C: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Every SHARES-th token per program.

    With g_l = dã_l + h_l·dpooled the softmax gives ds_l = ã_l g_l - a_l Σ_m ã_m g_m. The sum over m
    is known before any state is read: it is Σ ã dã (`outer`) + pooled·dpooled.
    """
    EC: tl.constexpr = EP // C
    share = tl.program_id(0)
    k, e = tl.arange(0, KP), tl.arange(0, EP)
    ke = (k < K)[:, None] & (e < E)[None, :]
    sums = tl.zeros([C, KP, EC], tl.float32)
    n = share.to(tl.int64)
    for _ in tl.range(share, tokens, tl.num_programs(0), num_stages=1):
        row = (n * K + k[:, None]) * E + e[None, :]
        d_row = tl.load(d_pooled + row, mask=ke, other=0.0)
        mean = tl.sum(d_row * tl.load(pooled + row, mask=ke, other=0.0), 1)
        mean += tl.load(outer + n * K + k, mask=k < K, other=0.0)
        d_parts = parts_of(d_row, KP, EP)

        query = n * K + k  # the column of q, which has no state
        d_query = tl.load(kept + query, mask=k < K, other=0.0)
        d_query *= tl.load(d_kept + query, mask=k < K, other=0.0)
        d_query -= tl.load(a + query, mask=k < K, other=0.0) * mean
        tl.store(d_scores + query, d_query, mask=k < K)

        for first in tl.range(0, L, STEP, num_stages=1):
            l = first + tl.arange(0, STEP)
            h = tl.load(
                states + l[:, None].to(tl.int64) * stride_l + n * stride_n + e[None, :],
                mask=(l < L)[:, None] & (e < E)[None, :],
                other=0.0,
            )
            g = scores_of(h, d_parts, STEP, KP, C, EC, PARTS)
            real = (l < L)[:, None] & (k < K)[None, :]
            at = ((l[:, None] + 1).to(tl.int64) * tokens + n) * K + k[None, :]
            g += tl.load(d_kept + at, mask=real, other=0.0)
            d_score = tl.load(kept + at, mask=real, other=0.0) * g
            d_score -= tl.load(a + at, mask=real, other=0.0) * mean[None, :]
            tl.store(d_scores + at, d_score, mask=real)
            sums += pooled_with(d_score, h, STEP, KP, C, EC, PARTS)
        n += tl.num_programs(0)
    tl.store(
        d_u + (share.to(tl.int64) * KP + k[:, None]) * EP + e[None, :],
        tl.permute(sums, (1, 0, 2)).reshape(KP, EP),
    )


@triton.jit
def sum_forward(
    states, alpha, f, stride_l, stride_n,
    L: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One token and WIDTH of its columns per program; all tiles can be in flight at once."""
    n = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros([WIDTH], tl.float32)
    for first in tl.static_range(0, L, ROWS):
        l = first + tl.arange(0, ROWS)
        h = tl.load(
            states + l[:, None].to(tl.int64) * stride_l + n * stride_n + e[None, :],
            mask=(l < L)[:, None] & (e < E)[None, :],
            other=0.0,
        )
        weight = tl.load(alpha + n * L + l, mask=l < L, other=0.0)
        total += tl.sum(weight[:, None] * h.to(tl.float32), 0)
    tl.store(f + n * E + e, total, mask=e < E)


@triton.jit
def sum_backward(
    states, d_f, d_alpha, stride_l, stride_n,
    L: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One token per program."""
    n = tl.program_id(0).to(tl.int64)
    for first in tl.static_range(0, L, ROWS):
        l = first + tl.arange(0, ROWS)
        total = tl.zeros([ROWS], tl.float32)
        for start in tl.static_range(0, E, WIDTH):
            e = start + tl.arange(0, WIDTH)
            h = tl.load(
                states + l[:, None].to(tl.int64) * stride_l + n * stride_n + e[None, :],
                mask=(l < L)[:, None] & (e < E)[None, :],
                other=0.0,
            )
            upstream = tl.load(d_f + n * E + e, mask=e < E, other=0.0)
            total += tl.sum(h.to(tl.float32) * upstream[None, :], 1)
        tl.store(d_alpha + n * L + l, total, mask=l < L)
