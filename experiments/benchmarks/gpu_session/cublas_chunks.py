"""A rival of the fused forward: cuBLAS writes a chunk of the logits that stays in the L2 cache, a kernel reduces it.

It takes and returns what ``triton_launch.token_stats_forward`` does. Nothing ships it: the session says whether it is
the faster one.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nondecoupling.kernels.head import Head
from nondecoupling.kernels.triton_gradients import full_precision
from nondecoupling.kernels.triton_launch import LOG2E, SUMS_TOGETHER, StatsPartials
from nondecoupling.kernels.triton_math import COUNTS
from nondecoupling.kernels.triton_stats import absorb

__all__ = ["CHUNK", "token_stats_forward"]

# Tokens and columns of a chunk: 32 MiB in float32, of the 50 MB of an H100's L2 cache.
CHUNK = (1024, 8192)
# Rows of a program: as many programs as processors, or more. Columns that it takes at a time.
BLOCK_T, BLOCK_V = 4, 1024
NUM_WARPS = 4


@triton.jit(do_not_specialize=(*COUNTS, "top", "split"))
def reduce_logits(
    products,
    bias,
    targets,
    exclude,
    maximum_out,
    ties_out,
    mass_out,
    spread_out,
    target_out,
    rest_maximum_out,
    rest_mass_out,
    top,
    tokens,
    first,
    last,
    split,
    listed,
    stride,
    inner_scale,
    unit2,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_EXCLUDE: tl.constexpr,
    TOGETHER: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """What ``stats_forward`` writes of one split, columns [first, last), from their raw products; grid (blocks,).

    products: float32, rows ``stride`` apart; token ``top`` at its row 0, column ``first`` at its column 0.
    """
    local = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    rows = top + local
    row_mask = rows < tokens
    target = tl.load(targets + rows, mask=row_mask, other=-1).to(tl.int32)
    maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    ties = tl.zeros((BLOCK_T,), dtype=tl.float32)
    mass = tl.zeros((BLOCK_T,), dtype=tl.float32)
    spread = tl.zeros((BLOCK_T,), dtype=tl.float32)
    rest_maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    rest_mass = tl.zeros((BLOCK_T,), dtype=tl.float32)
    for start in range(first, last, BLOCK_V):
        columns = start + tl.arange(0, BLOCK_V)
        place = products + local[:, None] * stride + (columns - first)[None, :]
        z = tl.load(place, mask=row_mask[:, None] & (columns < last)[None, :], other=0.0)
        maximum, ties, mass, spread, rest_maximum, rest_mass = absorb(
            z,
            start,
            last,
            maximum,
            ties,
            mass,
            spread,
            rest_maximum,
            rest_mass,
            bias,
            exclude,
            listed,
            target,
            target_out,
            rows,
            row_mask,
            inner_scale,
            unit2,
            HAS_BIAS,
            HAS_SOFTCAP,
            HAS_EXCLUDE,
            TOGETHER,
            BLOCK_V,
        )
    place = tl.cast(split, tl.int64) * tokens + rows
    tl.store(maximum_out + place, maximum, mask=row_mask)
    tl.store(ties_out + place, ties, mask=row_mask)
    tl.store(mass_out + place, mass, mask=row_mask)
    tl.store(spread_out + place, spread, mask=row_mask)
    if HAS_EXCLUDE:
        tl.store(rest_maximum_out + place, rest_maximum, mask=row_mask)
        tl.store(rest_mass_out + place, rest_mass, mask=row_mask)


def token_stats_forward(
    head: Head,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    chunk: tuple[int, int] = CHUNK,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest, origins) in float64, as the launcher's function of that name."""
    starts = range(0, head.vocabulary, chunk[1])
    partials = StatsPartials(head, exclude, len(starts))
    products = head.hidden.new_empty(
        min(chunk[0], head.tokens), min(chunk[1], head.vocabulary), dtype=torch.float32
    )
    with full_precision():
        for top in range(0, head.tokens, chunk[0]):
            hidden = head.hidden[top : top + chunk[0]]
            for split, first in enumerate(starts):
                last = min(first + chunk[1], head.vocabulary)
                z = products[: len(hidden), : last - first]
                _product(hidden, head.weight[first:last], z)
                reduce_logits[(-(-len(hidden) // BLOCK_T),)](
                    **partials.written(),
                    products=products,
                    bias=head.hidden if head.bias is None else head.bias,
                    targets=targets,
                    exclude=targets if exclude is None else exclude,
                    top=top,
                    tokens=head.tokens,
                    first=first,
                    last=last,
                    split=split,
                    listed=0 if exclude is None else exclude.shape[1],
                    stride=products.stride(0),
                    inner_scale=head.scales[0],
                    unit2=partials.unit * LOG2E,
                    HAS_BIAS=head.bias is not None,
                    HAS_SOFTCAP=head.softcap is not None,
                    HAS_EXCLUDE=exclude is not None,
                    TOGETHER=SUMS_TOGETHER,
                    BLOCK_T=BLOCK_T,
                    BLOCK_V=BLOCK_V,
                    num_warps=NUM_WARPS,
                )
    return partials.together(targets, ignore_index)


def _product(hidden: Tensor, weight: Tensor, out: Tensor) -> None:
    """out = hidden @ weight.T, float32 whatever the inputs are."""
    if hidden.device.type != "cuda":
        # The interpreter's CPU has no product of another dtype than its inputs.
        torch.mm(hidden.float(), weight.float().T, out=out)
    elif hidden.dtype == torch.float32:
        torch.mm(hidden, weight.T, out=out)
    else:
        torch.mm(hidden, weight.T, out_dtype=torch.float32, out=out)
