"""The Triton kernel that turns a chunk of float16's gradients of logits into gradients, by tf32 tensor cores.

For bfloat16 and float32 inputs cuBLAS does it. float16 has too few exponents for the gradients of logits, which are
kept in float32, rounded to the 11 bits of tf32; ``torch.mm`` takes no pair of dtypes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nondecoupling.kernels.triton_math import dot

__all__ = ["accumulate"]


@triton.jit(do_not_specialize=("height", "width", "depth"))
def accumulate(
    a,
    b,
    out,
    height,
    width,
    depth,
    a_row_stride,
    a_depth_stride,
    b_depth_stride,
    out_stride,
    ADD: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
):
    """out [height, width] (+)= a [height, depth] @ b [depth, width], summed in float32; grid (blocks of out,).

    a may be strided both ways; b and out have contiguous rows. The sum is added to what is in out with ADD.
    Programs walk blocks of ``GROUP`` rows column by column, so that neighbours share tiles in the cache.
    """
    across = tl.cdiv(width, BLOCK_N)
    down = tl.cdiv(height, BLOCK_M)
    program = tl.program_id(0)
    group = program // (GROUP * across)
    first = group * GROUP
    size = tl.minimum(down - first, GROUP)
    rows = (first + program % size) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = (program % (GROUP * across)) // size * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < height
    column_mask = columns < width
    steps = tl.arange(0, BLOCK_K)
    a_at = a + rows.to(tl.int64)[:, None] * a_row_stride
    a_at += steps.to(tl.int64)[None, :] * a_depth_stride
    b_at = b + steps.to(tl.int64)[:, None] * b_depth_stride + columns[None, :]
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, depth, BLOCK_K):
        inside = steps < depth - start
        left = tl.load(a_at, mask=row_mask[:, None] & inside[None, :], other=0.0)
        right = tl.load(b_at, mask=inside[:, None] & column_mask[None, :], other=0.0)
        sums = dot(left, right.to(left.dtype), sums, "tf32")
        a_at += BLOCK_K * a_depth_stride
        b_at += BLOCK_K * b_depth_stride
    place = out + rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
    mask = row_mask[:, None] & column_mask[None, :]
    if ADD:
        sums += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, sums.to(out.dtype.element_ty), mask=mask)
