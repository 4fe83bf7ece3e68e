"""The Triton kernels of ``token_kl``.

    kl_forward     [tokens, split of the vocabulary] -> partial divergences per token
    kl_finalise    partial divergences of all splits -> divergence, in float64
    kl_backward    [tokens, chunk of the vocabulary] -> d loss / d (h w + b) of both models

A token that only one of two models lacks, or a gap beyond float32, makes ``kl_forward``'s partials NaN; the launcher
takes such rows again. No atomics: every output element has one owner, which sums in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nondecoupling.kernels.triton_math import (
    COUNTS,
    expm1,
    finite_base,
    logits,
    phi,
    product,
    products,
    tile_of,
    to_tf32,
)

__all__ = ["kl_backward", "kl_finalise", "kl_forward"]


@triton.jit
def _logits_of_both(
    hidden_p,
    weight_p,
    bias_p,
    hidden_q,
    weight_q,
    bias_q,
    row,
    column,
    tokens,
    last,
    width_p,
    width_q,
    hidden_p_stride,
    weight_p_stride,
    hidden_q_stride,
    weight_q_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS_P: tl.constexpr,
    HAS_BIAS_Q: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    ONE_HEAD: tl.constexpr,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Logits of a tile by p and by q; with ONE_HEAD weight_q is weight_p, whose tiles are loaded once."""
    if ONE_HEAD:
        z, z_q = products(
            hidden_p,
            hidden_q,
            weight_p,
            row,
            column,
            tokens,
            last,
            width_p,
            hidden_p_stride,
            hidden_q_stride,
            weight_p_stride,
            TMA,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        z = logits(
            z, bias_p, column, last, inner_scale, outer_scale, HAS_BIAS_P, HAS_SOFTCAP, BLOCK_V
        )
        z_q = logits(
            z_q, bias_q, column, last, inner_scale, outer_scale, HAS_BIAS_Q, HAS_SOFTCAP, BLOCK_V
        )
    else:
        z = product(
            hidden_p,
            weight_p,
            row,
            column,
            tokens,
            last,
            width_p,
            hidden_p_stride,
            weight_p_stride,
            TMA,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        # One after the other, for which fewer registers do.
        z = logits(
            z, bias_p, column, last, inner_scale, outer_scale, HAS_BIAS_P, HAS_SOFTCAP, BLOCK_V
        )
        z_q = product(
            hidden_q,
            weight_q,
            row,
            column,
            tokens,
            last,
            width_q,
            hidden_q_stride,
            weight_q_stride,
            TMA,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        z_q = logits(
            z_q, bias_q, column, last, inner_scale, outer_scale, HAS_BIAS_Q, HAS_SOFTCAP, BLOCK_V
        )
    return z, z_q


@triton.jit(do_not_specialize=COUNTS)
def kl_forward(
    hidden_p,
    weight_p,
    bias_p,
    hidden_q,
    weight_q,
    bias_q,
    maximum_out,
    mass_out,
    offset_out,
    centre_out,
    excess_out,
    maximum_q_out,
    mass_q_out,
    tokens,
    vocabulary,
    width_p,
    width_q,
    split_width,
    splits,
    hidden_p_stride,
    weight_p_stride,
    hidden_q_stride,
    weight_q_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS_P: tl.constexpr,
    HAS_BIAS_Q: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    ONE_HEAD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP_T: tl.constexpr,
    TMA: tl.constexpr,
):
    """Partial divergences of a block of tokens over one split of the vocabulary; grid (blocks of tokens * splits,).

    hidden_p, weight_p, bias_p and the same of q: as in ``product``, of one vocabulary. ONE_HEAD is whether weight_q is
    weight_p.

    Written, float32 [splits, tokens], with g = z_q - z_p - offset: maximum_out m and mass_out the sum of e^(z_p - m);
    offset_out; centre_out c, the p-mean of g; excess_out the sum of e^(z_p - m) phi(g - c); maximum_q_out M and
    mass_q_out the sum of e^(z_q - M). Where a token is lacked by one model alone, some of them are NaN.
    """
    block, split = tile_of(tl.program_id(0), tl.cdiv(tokens, BLOCK_T), splits, GROUP_T)
    row = block * BLOCK_T
    rows = row + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    first = split * split_width
    last = tl.minimum(first + split_width, vocabulary)

    maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    mass = tl.zeros((BLOCK_T,), dtype=tl.float32)
    # The gap z_q - z_p is held relative to its first value: a common shift of the logits costs no precision.
    offset = tl.zeros((BLOCK_T,), dtype=tl.float32)
    centre = tl.zeros((BLOCK_T,), dtype=tl.float32)
    excess = tl.zeros((BLOCK_T,), dtype=tl.float32)
    maximum_q = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    mass_q = tl.zeros((BLOCK_T,), dtype=tl.float32)

    for start in range(first, last, BLOCK_V):
        columns = start + tl.arange(0, BLOCK_V)
        z, z_q = _logits_of_both(
            hidden_p,
            weight_p,
            bias_p,
            hidden_q,
            weight_q,
            bias_q,
            row,
            start,
            tokens,
            last,
            width_p,
            width_q,
            hidden_p_stride,
            weight_p_stride,
            hidden_q_stride,
            weight_q_stride,
            inner_scale,
            outer_scale,
            HAS_BIAS_P,
            HAS_BIAS_Q,
            HAS_SOFTCAP,
            ONE_HEAD,
            TMA,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        tile_maximum_q = tl.max(z_q, axis=1)
        tile_mass_q = tl.sum(tl.exp(z_q - finite_base(tile_maximum_q)[:, None]), axis=1)
        tile_maximum = tl.max(z, axis=1)
        tile_base = finite_base(tile_maximum)
        # A token that both models lack has no gap.
        gap = tl.where(z_q == z, 0.0, z_q - z)
        if start == first:
            offset = tl.sum(tl.where(columns[None, :] == start, gap, 0.0), axis=1)
        gap = tl.where(z == float("-inf"), gap, gap - offset[:, None])
        e = tl.exp(z - tile_base[:, None])
        tile_mass = tl.sum(e, axis=1)
        tile_centre = tl.sum(e * gap, axis=1) / tl.where(tile_mass == 0, 1.0, tile_mass)
        gap = tl.where(z == float("-inf"), gap, gap - tile_centre[:, None])
        tile_excess = tl.sum(tl.where(gap < 60, e * phi(gap), 0.0), axis=1)
        # Past e^60 the sum over q itself is meant: e may have underflowed where q is large.
        wide = tl.max(gap, axis=1) >= 60
        direct = tl.exp(tile_maximum_q - tile_base - offset - tile_centre) * tile_mass_q
        tile_excess = tl.where(wide, direct - tile_mass, tile_excess)

        # p, and the centred excess: every term is positive.
        new = tl.maximum(maximum, tile_maximum)
        base = finite_base(new)
        old_scale = tl.exp(maximum - base)
        scale = tl.exp(tile_maximum - base)
        old_mass = old_scale * mass
        part_mass = scale * tile_mass
        mass = old_mass + part_mass
        whole = tl.where(mass == 0, 1.0, mass)
        step = tile_centre - centre
        fraction = part_mass / whole
        back = -step * fraction
        forth = step * (old_mass / whole)
        centre += step * fraction
        # Where p underflows in one part but q does not, that part's q is its excess.
        old_direct = tl.exp(maximum_q - base - offset - centre) * mass_q
        old_excess = old_scale * excess * tl.exp(back) + old_mass * phi(back)
        excess = tl.where(old_mass == 0, old_direct, old_excess)
        part_direct = tl.exp(tile_maximum_q - base - offset - centre) * tile_mass_q
        part_excess = scale * tile_excess * tl.exp(forth) + part_mass * phi(forth)
        excess += tl.where(part_mass == 0, part_direct, part_excess)

        # q
        new_q = tl.maximum(maximum_q, tile_maximum_q)
        base_q = finite_base(new_q)
        mass_q *= tl.exp(maximum_q - base_q)
        mass_q += tile_mass_q * tl.exp(tile_maximum_q - base_q)
        maximum_q = new_q
        maximum = new

    place = split.to(tl.int64) * tokens + rows
    tl.store(maximum_out + place, maximum, mask=row_mask)
    tl.store(mass_out + place, mass, mask=row_mask)
    tl.store(offset_out + place, offset, mask=row_mask)
    tl.store(centre_out + place, centre, mask=row_mask)
    tl.store(excess_out + place, excess, mask=row_mask)
    tl.store(maximum_q_out + place, maximum_q, mask=row_mask)
    tl.store(mass_q_out + place, mass_q, mask=row_mask)


@triton.jit
def _part(weight, part, excess, q_from, q_mass, d, base, centre):
    """A state's share of the excess of two states together, as in ``Divergence.add``."""
    grown = weight * excess * tl.exp(d) + part * _wide_phi(d)
    direct = tl.exp(q_from - base - centre) * q_mass - part - part * d
    fine = (part != 0) & (tl.abs(grown) < float("inf"))
    return tl.where(fine, grown, direct)


@triton.jit
def _wide_phi(u):
    """e^u - 1 - u >= 0 in float64: a longer series, within 1/2 (its next term is below 1e-18 of it)."""
    series = 1 + u / 14 * (1 + u / 15 * (1 + u / 16))
    series = 1 + u / 11 * (1 + u / 12 * (1 + u / 13 * series))
    series = 1 + u / 8 * (1 + u / 9 * (1 + u / 10 * series))
    series = 1 + u / 5 * (1 + u / 6 * (1 + u / 7 * series))
    series = u * u / 2 * (1 + u / 3 * (1 + u / 4 * series))
    return tl.where(tl.abs(u) < 0.5, series, tl.exp(u) - 1 - u)


@triton.jit
def _wide_log1p(x):
    """log(1 + x) for x >= 0 in float64, right relative to itself."""
    u = 1 + x
    # The rounding of 1 + x is undone by x / (u - 1).
    corrected = tl.log(u) * (x / tl.where(u == 1, 1.0, u - 1))
    return tl.where(u == 1, x, tl.where(x < 1e300, corrected, tl.log(x)))


@triton.jit(do_not_specialize=COUNTS)
def kl_finalise(
    maximum_in,
    mass_in,
    offset_in,
    centre_in,
    excess_in,
    maximum_q_in,
    mass_q_in,
    kl_out,
    origins_out,
    lost_out,
    tokens,
    splits,
    BLOCK_T: tl.constexpr,
    GAP: tl.constexpr,
    LARGE: tl.constexpr,
):
    """Divergences of a block of tokens from the partials of ``kl_forward``; grid (blocks of tokens,).

    Written, float64: kl_out [tokens] and origins_out [4, tokens], as ``Divergence.result``; lost_out [tokens] int8, 1
    where float32 sums may have lost something (``too_far``), or the result is not finite.
    """
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float64)
    mass = tl.zeros((BLOCK_T,), dtype=tl.float64)
    centre = tl.zeros((BLOCK_T,), dtype=tl.float64)
    excess = tl.zeros((BLOCK_T,), dtype=tl.float64)
    origin_q = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float64)
    mass_q = tl.zeros((BLOCK_T,), dtype=tl.float64)
    lost = tl.zeros((BLOCK_T,), dtype=tl.int32)
    for split in range(splits):
        place = tl.cast(split, tl.int64) * tokens + rows
        other = tl.load(maximum_in + place, mask=row_mask, other=0.0).to(tl.float64)
        other_mass = tl.load(mass_in + place, mask=row_mask, other=1.0).to(tl.float64)
        offset = tl.load(offset_in + place, mask=row_mask, other=0.0).to(tl.float64)
        other_centre = offset + tl.load(centre_in + place, mask=row_mask, other=0.0).to(tl.float64)
        other_excess = tl.load(excess_in + place, mask=row_mask, other=0.0).to(tl.float64)
        other_q = tl.load(maximum_q_in + place, mask=row_mask, other=0.0).to(tl.float64)
        other_mass_q = tl.load(mass_q_in + place, mask=row_mask, other=1.0).to(tl.float64)
        far = (tl.abs(offset) > GAP) | (tl.abs(other_centre) > GAP)
        far = far | ((tl.abs(other) > LARGE) & (other_mass != 0))
        lost = lost | far.to(tl.int32)

        new = tl.maximum(maximum, other)
        base = finite_base(new)
        scale = tl.exp(maximum - base)
        other_scale = tl.exp(other - base)
        part = scale * mass
        other_part = other_scale * other_mass
        total = part + other_part
        # Without mass in either part there is no centre to find.
        whole = tl.where(total == 0, 1.0, total)
        step = other_centre - centre
        back = -step * (other_part / whole)
        forth = step * (part / whole)
        new_centre = centre + step * (other_part / whole)
        excess = _part(scale, part, excess, origin_q, mass_q, back, base, new_centre) + _part(
            other_scale, other_part, other_excess, other_q, other_mass_q, forth, base, new_centre
        )
        new_q = tl.maximum(origin_q, other_q)
        base_q = finite_base(new_q)
        mass_q = tl.exp(origin_q - base_q) * mass_q + tl.exp(other_q - base_q) * other_mass_q
        maximum = new
        mass = total
        centre = new_centre
        origin_q = new_q

    log_mass = tl.log(mass)
    log_mass_q = tl.log(mass_q)
    kl = _wide_log1p(excess / mass)
    # Where the excess overflows; nowhere else, since the gap cancels.
    gap = origin_q + log_mass_q - (maximum + log_mass) - centre
    kl = tl.where(kl == float("inf"), gap, kl)
    finite = tl.abs(kl) < float("inf")
    tl.store(kl_out + rows, kl, mask=row_mask)
    tl.store(lost_out + rows, tl.where(finite, lost, 1).to(tl.int8), mask=row_mask)
    place = origins_out + rows
    step = tl.cast(tokens, tl.int64)
    tl.store(place, maximum, mask=row_mask)
    tl.store(place + step, log_mass, mask=row_mask)
    tl.store(place + 2 * step, origin_q, mask=row_mask)
    tl.store(place + 3 * step, log_mass_q, mask=row_mask)


@triton.jit(do_not_specialize=COUNTS)
def kl_backward(
    hidden_p,
    weight_p,
    bias_p,
    hidden_q,
    weight_q,
    bias_q,
    high_p_in,
    factor_p_in,
    high_q_in,
    factor_q_in,
    step_in,
    half_kl_in,
    gradient_p_out,
    gradient_q_out,
    tokens,
    width_p,
    width_q,
    first,
    last,
    hidden_p_stride,
    weight_p_stride,
    hidden_q_stride,
    weight_q_stride,
    gradient_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS_P: tl.constexpr,
    HAS_BIAS_Q: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    ONE_HEAD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP_T: tl.constexpr,
    TMA: tl.constexpr,
    ROUND: tl.constexpr,
):
    """d loss / d (h w + b) of both models, as ``stats_backward``.

    hidden_p, weight_p, bias_p and the same of q: as in ``kl_forward``. The rest of what is read is [tokens] float32,
    the fields of ``KlCoefficients``.

    Written: gradient_p_out and gradient_q_out, as gradient_out of ``stats_backward``.
    """
    across = tl.cdiv(last - first, BLOCK_V)
    block, part = tile_of(tl.program_id(0), tl.cdiv(tokens, BLOCK_T), across, GROUP_T)
    row = block * BLOCK_T
    column = first + part * BLOCK_V
    rows = row + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    columns = column + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    z, z_q = _logits_of_both(
        hidden_p,
        weight_p,
        bias_p,
        hidden_q,
        weight_q,
        bias_q,
        row,
        column,
        tokens,
        last,
        width_p,
        width_q,
        hidden_p_stride,
        weight_p_stride,
        hidden_q_stride,
        weight_q_stride,
        inner_scale,
        outer_scale,
        HAS_BIAS_P,
        HAS_BIAS_Q,
        HAS_SOFTCAP,
        ONE_HEAD,
        TMA,
        PRECISION,
        BLOCK_T,
        BLOCK_V,
        BLOCK_D,
    )
    high_p = tl.load(high_p_in + rows, mask=row_mask, other=0.0)
    factor_p = tl.load(factor_p_in + rows, mask=row_mask, other=0.0)
    high_q = tl.load(high_q_in + rows, mask=row_mask, other=0.0)
    factor_q = tl.load(factor_q_in + rows, mask=row_mask, other=0.0)
    step = tl.load(step_in + rows, mask=row_mask, other=0.0)
    half_kl = tl.load(half_kl_in + rows, mask=row_mask, other=0.0)

    below_p = z - high_p[:, None]
    below_q = z_q - high_q[:, None]
    p = tl.exp(below_p) * factor_p[:, None]
    q = tl.exp(below_q) * factor_q[:, None]
    # 0 log 0 = 0. Halves of differences do not overflow.
    half = 0.5 * z_q - 0.5 * high_q[:, None] - (0.5 * z - 0.5 * high_p[:, None])
    half += half_kl[:, None] - 0.5 * step[:, None]
    gradient_p = tl.where(p == 0, 0.0, -p * half * 2)
    # q - p without its cancellation where there is one.
    u = below_q - below_p - step[:, None]
    near = (p != 0) & (u <= 60)
    gradient_q = tl.where(near, p * expm1(tl.where(near, u, 0.0)), q - p)
    if HAS_SOFTCAP:
        capped = z / outer_scale
        gradient_p *= 1 - capped * capped
        capped = z_q / outer_scale
        gradient_q *= 1 - capped * capped
    local = columns - first
    place = rows.to(tl.int64)[:, None] * gradient_stride + local[None, :]
    mask = row_mask[:, None] & column_mask[None, :]
    if ROUND:
        gradient_p = to_tf32(gradient_p)
        gradient_q = to_tf32(gradient_q)
    dtype = gradient_p_out.dtype.element_ty
    tl.store(gradient_p_out + place, gradient_p.to(dtype), mask=mask)
    tl.store(gradient_q_out + place, gradient_q.to(dtype), mask=mask)
