"""What the Triton kernels share: functions of a tile, and the product of a tile of hidden states with one of the head.

Logits are -inf in columns past the vocabulary, as those of masked tokens are. Offsets into arrays with T or V rows are
int64. Matrices come as pointers with strides, or with TMA as descriptors of blocks, made by the launcher.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "COUNTS",
    "NOTHING",
    "at_least",
    "dot",
    "expm1",
    "finite_base",
    "halves",
    "logits",
    "phi",
    "product",
    "products",
    "tanh",
    "tile_of",
    "to_tf32",
]

# Of these parameters no compiled variant is made for 1 and multiples of 16: they bound loops and masks.
COUNTS = ("tokens", "vocabulary", "split_width", "splits", "listed", "first", "last")
# e^NOTHING is 0, and so is its product with NOTHING, which 0 * -inf is not.
NOTHING = tl.constexpr(-1e4)


@triton.jit
def expm1(u):
    """e^u - 1: the series within 1/2 (its next term is below 1e-9 of it), the difference outside."""
    series = 1 + u / 6 * (1 + u / 7 * (1 + u / 8))
    series = 1 + u / 3 * (1 + u / 4 * (1 + u / 5 * series))
    series = u * (1 + u / 2 * series)
    return tl.where(tl.abs(u) < 0.5, series, tl.exp(u) - 1)


@triton.jit
def phi(u):
    """e^u - 1 - u >= 0, likewise."""
    series = 1 + u / 6 * (1 + u / 7 * (1 + u / 8 * (1 + u / 9)))
    series = 1 + u / 3 * (1 + u / 4 * (1 + u / 5 * series))
    series = u * u / 2 * series
    return tl.where(tl.abs(u) < 0.5, series, tl.exp(u) - 1 - u)


@triton.jit
def tanh(x):
    """From expm1(-2 |x|) in (-1, 0]: no overflow, and no cancellation near 0."""
    e = expm1(-2 * tl.abs(x))
    size = -e / (e + 2)
    return tl.where(x < 0, -size, size)


@triton.jit
def dot(a, b, sums, PRECISION: tl.constexpr):
    """sums + a @ b; "upcast" is for the interpreter, whose dot takes bfloat16 for the integers that hold it."""
    if PRECISION == "upcast":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), sums, input_precision="ieee")
    return tl.dot(a, b, sums, input_precision=PRECISION)


@triton.jit
def at_least(x, bound):
    """max(x, bound), NaN for NaN."""
    return tl.maximum(x, bound, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def finite_base(maximum):
    """``maximum``, or 0 where it is -inf."""
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def to_tf32(x):
    """x rounded to tf32's 11 bits, to nearest; tensor cores would cut the rest off, towards zero."""
    bits = x.to(tl.int32, bitcast=True)
    finite = (bits & 0x7F800000) != 0x7F800000
    rounded = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return tl.where(finite, rounded, x)


@triton.jit
def halves(z, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The left and the right half of a tile."""
    return tl.split(tl.permute(tl.reshape(z, (ROWS, 2, COLUMNS // 2)), (0, 2, 1)))


@triton.jit
def tile_of(program, blocks, splits, GROUP_T: tl.constexpr):
    """(block of tokens, split of the vocabulary) of a program of a grid of blocks * splits.

    Groups of ``GROUP_T`` blocks run together, all their splits, so that the group's hidden states and one tile of the
    head per split stay in the L2 cache.
    """
    group = program // (GROUP_T * splits)
    first = group * GROUP_T
    size = tl.minimum(blocks - first, GROUP_T)
    inside = program - first * splits
    return first + inside % size, inside // size


@triton.jit
def product(
    hidden,
    weight,
    row,
    column,
    tokens,
    last,
    width,
    hidden_stride,
    weight_stride,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """hidden @ weight.T for tokens from ``row`` and columns from ``column`` on, float32 [BLOCK_T, BLOCK_V].

    What is past ``tokens`` or ``last`` may be anything finite. hidden [tokens, width] and weight [V, width] have rows
    ``hidden_stride`` and ``weight_stride`` apart and contiguous columns; with TMA they are descriptors.
    """
    sums = tl.zeros((BLOCK_T, BLOCK_V), dtype=tl.float32)
    if TMA:
        for step in tl.range(0, tl.cdiv(width, BLOCK_D)):
            a = hidden.load([row, step * BLOCK_D])
            b = weight.load([column, step * BLOCK_D])
            sums = dot(a, b.T, sums, PRECISION)
    else:
        rows = row + tl.arange(0, BLOCK_T)
        columns = column + tl.arange(0, BLOCK_V)
        depth = tl.arange(0, BLOCK_D)
        row_mask = rows < tokens
        column_mask = columns < last
        h = hidden + rows.to(tl.int64)[:, None] * hidden_stride + depth[None, :]
        w = weight + columns.to(tl.int64)[None, :] * weight_stride + depth[:, None]
        for start in range(0, width, BLOCK_D):
            inside = depth < width - start
            a = tl.load(h, mask=row_mask[:, None] & inside[None, :], other=0.0)
            b = tl.load(w, mask=column_mask[None, :] & inside[:, None], other=0.0)
            sums = dot(a, b, sums, PRECISION)
            h += BLOCK_D
            w += BLOCK_D
    return sums


@triton.jit
def products(
    hidden_p,
    hidden_q,
    weight,
    row,
    column,
    tokens,
    last,
    width,
    hidden_p_stride,
    hidden_q_stride,
    weight_stride,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """``product`` of two models' hidden states with one head, which is loaded once."""
    sums_p = tl.zeros((BLOCK_T, BLOCK_V), dtype=tl.float32)
    sums_q = tl.zeros((BLOCK_T, BLOCK_V), dtype=tl.float32)
    if TMA:
        for step in tl.range(0, tl.cdiv(width, BLOCK_D)):
            b = weight.load([column, step * BLOCK_D]).T
            sums_p = dot(hidden_p.load([row, step * BLOCK_D]), b, sums_p, PRECISION)
            sums_q = dot(hidden_q.load([row, step * BLOCK_D]), b, sums_q, PRECISION)
    else:
        rows = row + tl.arange(0, BLOCK_T)
        columns = column + tl.arange(0, BLOCK_V)
        depth = tl.arange(0, BLOCK_D)
        row_mask = rows < tokens
        column_mask = columns < last
        h_p = hidden_p + rows.to(tl.int64)[:, None] * hidden_p_stride + depth[None, :]
        h_q = hidden_q + rows.to(tl.int64)[:, None] * hidden_q_stride + depth[None, :]
        w = weight + columns.to(tl.int64)[None, :] * weight_stride + depth[:, None]
        for start in range(0, width, BLOCK_D):
            inside = depth < width - start
            mask = row_mask[:, None] & inside[None, :]
            b = tl.load(w, mask=column_mask[None, :] & inside[:, None], other=0.0)
            sums_p = dot(tl.load(h_p, mask=mask, other=0.0), b, sums_p, PRECISION)
            sums_q = dot(tl.load(h_q, mask=mask, other=0.0), b, sums_q, PRECISION)
            h_p += BLOCK_D
            h_q += BLOCK_D
            w += BLOCK_D
    return sums_p, sums_q


@triton.jit
def logits(
    z,
    bias,
    column,
    last,
    inner_scale,
    outer_scale,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Logits of a tile from its ``product`` z: outer_scale * tanh(inner_scale * (z + bias)), or inner_scale * (...)
    without a cap; -inf from column ``last`` on. bias [V] is contiguous, or anything without HAS_BIAS.
    """
    columns = column + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    if HAS_BIAS:
        z += tl.load(bias + columns, mask=column_mask, other=0.0).to(tl.float32)[None, :]
    z = z * inner_scale
    if HAS_SOFTCAP:
        z = tanh(z) * outer_scale
    return tl.where(column_mask[None, :], z, float("-inf"))
