"""The Triton kernels of ``token_stats``.

    stats_forward     [tokens, split of the vocabulary] -> partial maximum, mass, ... per token
    stats_finalise    partial statistics of all splits -> statistics, in float64
    stats_backward    [tokens, chunk of the vocabulary] -> d loss / d (h w + b)

Implementation notes
    * A tile of logits is accumulated in float32 and reduced in float32; it is never rounded to the input dtype and
      never written out. It is reduced in column slices, so that its sums and what is made of them share the registers.
    * Logits are kept in raw units, before the last factor (1 / temperature, or softcap / temperature), which goes into
      exponents with log2 e, and is applied to what is kept per token in float64.
    * Running maxima start at -inf, and differences are taken from 0 where a maximum still is.
    * The log-sum keeps the number of logits at the running maximum apart from the mass below it: where one token
      dominates, log(1 + mass) survives float32.
    * No atomics: every output element has one owner, which sums in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from nondecoupling.kernels.triton_math import (
    COUNTS,
    NOTHING,
    at_least,
    finite_base,
    halves,
    logits,
    product,
    tanh,
    tile_of,
    to_tf32,
)

__all__ = ["absorb", "stats_backward", "stats_finalise", "stats_forward"]

LN2 = tl.constexpr(0.6931471805599453)
LARGEST_FLOAT32 = tl.constexpr(3.4028234663852886e38)


@triton.jit
def _sum_of_three(a, b, c, x, y, z):
    return a + x, b + y, c + z


@triton.jit
def absorb(
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
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_EXCLUDE: tl.constexpr,
    TOGETHER: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The state of ``stats_forward`` with the raw products ``z`` of COLUMNS columns from ``start`` on.

    Three sums are taken in one walk with TOGETHER, for which the interpreter needs minutes.
    """
    columns = start + tl.arange(0, COLUMNS)
    if HAS_BIAS:
        z += tl.load(bias + columns, mask=columns < last, other=0.0).to(tl.float32)[None, :]
    if HAS_SOFTCAP:
        z = tanh(z * inner_scale)
    if start + COLUMNS > last:
        z = tl.where((columns < last)[None, :], z, float("-inf"))
    hit = (target >= start) & (target < start + COLUMNS)
    if tl.max(hit.to(tl.int32), axis=0) > 0:
        value = tl.sum(tl.where(columns[None, :] == target[:, None], z, 0.0), axis=1)
        tl.store(target_out + rows, value, mask=row_mask & hit)

    new = tl.maximum(maximum, tl.max(z, axis=1))
    base = finite_base(new)
    fall = tl.minimum((base - maximum) * unit2, -NOTHING)
    # A state without mass has nothing to scale.
    raised = (base > maximum) & (maximum > float("-inf"))
    scale = tl.exp2(-fall)
    spread = tl.where(raised, scale * (spread + fall * (mass + ties)), spread)
    mass = tl.where(raised, scale * (mass + ties), mass)
    ties = tl.where(raised, 0.0, ties)
    top = z == base[:, None]
    # What is at the maximum is counted; in the sums it is nothing.
    below = tl.where(top, NOTHING, at_least((z - base[:, None]) * unit2, NOTHING))
    e = tl.exp2(below)
    counted = top.to(tl.float32)
    if TOGETHER:
        sums = tl.reduce((e, e * below, counted), 1, _sum_of_three)
        more_mass, more_spread, more_ties = sums
    else:
        more_mass = tl.sum(e, axis=1)
        more_spread = tl.sum(e * below, axis=1)
        more_ties = tl.sum(counted, axis=1)
    ties += more_ties
    mass += more_mass
    spread -= more_spread

    if HAS_EXCLUDE:
        for i in range(listed):
            token = tl.load(exclude + rows.to(tl.int64) * listed + i, mask=row_mask, other=-1)
            z = tl.where(columns[None, :] == token.to(tl.int32)[:, None], float("-inf"), z)
        rest_new = tl.maximum(rest_maximum, tl.max(z, axis=1))
        rest_base = finite_base(rest_new)
        rest_mass = rest_mass * tl.exp2((rest_maximum - rest_base) * unit2)
        rest_mass += tl.sum(tl.exp2((z - rest_base[:, None]) * unit2), axis=1)
        rest_maximum = rest_new
    return new, ties, mass, spread, rest_maximum, rest_mass


@triton.jit(do_not_specialize=COUNTS)
def stats_forward(
    hidden,
    weight,
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
    tokens,
    vocabulary,
    width,
    listed,
    split_width,
    splits,
    hidden_stride,
    weight_stride,
    inner_scale,
    unit2,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_EXCLUDE: tl.constexpr,
    TMA: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SLICES: tl.constexpr,
    TOGETHER: tl.constexpr,
    GROUP_T: tl.constexpr,
):
    """Partial statistics of a block of tokens over one split of the vocabulary; grid (blocks of tokens * splits,).

    hidden, weight: as in ``product``. bias [V]; targets [tokens] int64, negative for none; exclude [tokens, listed]
    int64, padded with -1, read with HAS_EXCLUDE. ``unit2`` is log2 e times the logit of a raw unit.

    Written, float32 [splits, tokens], in raw units: maximum_out m; ties_out the number of logits at m; mass_out the sum
    of e^(z - m) below it; spread_out the sum of e^(z - m) (m - z) / log 2; with HAS_EXCLUDE rest_maximum_out and
    rest_mass_out, m and the sum of e^(z - m) over the tokens not excluded. target_out [tokens] gets the target's raw
    logit from the split that holds it.
    """
    block, split = tile_of(tl.program_id(0), tl.cdiv(tokens, BLOCK_T), splits, GROUP_T)
    row = block * BLOCK_T
    rows = row + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    first = split * split_width
    last = tl.minimum(first + split_width, vocabulary)
    target = tl.load(targets + rows, mask=row_mask, other=-1).to(tl.int32)

    maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    ties = tl.zeros((BLOCK_T,), dtype=tl.float32)
    mass = tl.zeros((BLOCK_T,), dtype=tl.float32)
    spread = tl.zeros((BLOCK_T,), dtype=tl.float32)
    rest_maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    rest_mass = tl.zeros((BLOCK_T,), dtype=tl.float32)

    for start in range(first, last, BLOCK_V):
        z = product(
            hidden,
            weight,
            row,
            start,
            tokens,
            last,
            width,
            hidden_stride,
            weight_stride,
            TMA,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        if SLICES == 4:
            left, right = halves(z, BLOCK_T, BLOCK_V)
            slices = halves(left, BLOCK_T, BLOCK_V // 2) + halves(right, BLOCK_T, BLOCK_V // 2)
        elif SLICES == 2:
            slices = halves(z, BLOCK_T, BLOCK_V)
        else:
            slices = (z,)
        for i in tl.static_range(SLICES):
            maximum, ties, mass, spread, rest_maximum, rest_mass = absorb(
                slices[i],
                start + i * (BLOCK_V // SLICES),
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
                BLOCK_V // SLICES,
            )

    place = split.to(tl.int64) * tokens + rows
    tl.store(maximum_out + place, maximum, mask=row_mask)
    tl.store(ties_out + place, ties, mask=row_mask)
    tl.store(mass_out + place, mass, mask=row_mask)
    tl.store(spread_out + place, spread, mask=row_mask)
    if HAS_EXCLUDE:
        tl.store(rest_maximum_out + place, rest_maximum, mask=row_mask)
        tl.store(rest_mass_out + place, rest_mass, mask=row_mask)


@triton.jit
def _in_nats(raw, unit):
    """A raw logit in float64; infinite where it would be in float32."""
    value = raw.to(tl.float64) * unit
    value = tl.where(value > LARGEST_FLOAT32, float("inf"), value)
    return tl.where(value < -LARGEST_FLOAT32, float("-inf"), value)


@triton.jit
def _merged(maximum, mass, spread, other, other_mass, other_spread):
    """``Mass.add`` of ``partials``: two states as one."""
    new = tl.maximum(maximum, other)
    base = finite_base(new)
    fall = tl.minimum(base - maximum, -NOTHING)
    other_fall = tl.minimum(base - other, -NOTHING)
    scale = tl.exp(-fall)
    other_scale = tl.exp(-other_fall)
    spread = scale * (spread + fall * mass) + other_scale * (other_spread + other_fall * other_mass)
    return new, scale * mass + other_scale * other_mass, spread


@triton.jit(do_not_specialize=(*COUNTS, "ignore_index"))
def stats_finalise(
    maximum_in,
    ties_in,
    mass_in,
    spread_in,
    target_in,
    rest_maximum_in,
    rest_mass_in,
    targets,
    logprob_out,
    logsumexp_out,
    entropy_out,
    rest_out,
    origins_out,
    tokens,
    vocabulary,
    splits,
    ignore_index,
    unit_high,
    unit_low,
    HAS_EXCLUDE: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    """Statistics of a block of tokens from the partials of ``stats_forward``; grid (blocks of tokens,).

    ``unit_high`` + ``unit_low`` is the logit of a raw unit. Written, float64: what ``token_stats_forward`` returns. A
    target that is no token and not ``ignore_index`` has the log-probability NaN.
    """
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    unit = tl.cast(unit_high, tl.float64) + tl.cast(unit_low, tl.float64)
    maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float64)
    mass = tl.zeros((BLOCK_T,), dtype=tl.float64)
    spread = tl.zeros((BLOCK_T,), dtype=tl.float64)
    rest_maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float64)
    rest_mass = tl.zeros((BLOCK_T,), dtype=tl.float64)
    nothing = tl.zeros((BLOCK_T,), dtype=tl.float64)
    for split in range(splits):
        place = tl.cast(split, tl.int64) * tokens + rows
        part = _in_nats(tl.load(maximum_in + place, mask=row_mask, other=0.0), unit)
        part_mass = tl.load(mass_in + place, mask=row_mask, other=0.0).to(tl.float64)
        part_mass += tl.load(ties_in + place, mask=row_mask, other=0.0).to(tl.float64)
        part_spread = tl.load(spread_in + place, mask=row_mask, other=0.0).to(tl.float64) * LN2
        maximum, mass, spread = _merged(maximum, mass, spread, part, part_mass, part_spread)
        if HAS_EXCLUDE:
            part = _in_nats(tl.load(rest_maximum_in + place, mask=row_mask, other=0.0), unit)
            part_mass = tl.load(rest_mass_in + place, mask=row_mask, other=0.0).to(tl.float64)
            rest_maximum, rest_mass, _ = _merged(
                rest_maximum, rest_mass, nothing, part, part_mass, nothing
            )
    # A row with +inf is no law.
    mass = tl.where(maximum == float("inf"), float("nan"), mass)
    log_mass = tl.log(mass)
    target = tl.load(targets + rows, mask=row_mask, other=0)
    known = (target >= 0) & (target < vocabulary) & (target != ignore_index)
    raw = tl.load(target_in + rows, mask=row_mask & known, other=0.0)
    # (z - m) - log s rounds at the size of its terms; z - logsumexp would round at the size of m.
    logprob = (_in_nats(raw, unit) - maximum) - log_mass
    logprob = tl.where(known, logprob, float("nan"))
    logprob = tl.where(target == ignore_index, 0.0, logprob)
    tl.store(logprob_out + rows, logprob, mask=row_mask)
    tl.store(logsumexp_out + rows, maximum + log_mass, mask=row_mask)
    tl.store(entropy_out + rows, log_mass + spread / mass, mask=row_mask)
    tl.store(origins_out + rows, maximum, mask=row_mask)
    place = origins_out + tl.cast(tokens, tl.int64)
    tl.store(place + rows, log_mass, mask=row_mask)
    if HAS_EXCLUDE:
        rest_mass = tl.where(rest_maximum == float("inf"), float("nan"), rest_mass)
        log_rest = tl.log(rest_mass)
        tl.store(rest_out + rows, rest_maximum + log_rest, mask=row_mask)
        place += tokens
        tl.store(place + rows, rest_maximum, mask=row_mask)
        place += tokens
        tl.store(place + rows, log_rest, mask=row_mask)


@triton.jit(do_not_specialize=COUNTS)
def stats_backward(
    hidden,
    weight,
    bias,
    targets,
    exclude,
    high_in,
    constant_in,
    linear_in,
    at_target_in,
    rest_high_in,
    rest_factor_in,
    gradient_out,
    tokens,
    width,
    listed,
    first,
    last,
    hidden_stride,
    weight_stride,
    gradient_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_EXCLUDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP_T: tl.constexpr,
    TMA: tl.constexpr,
    ROUND: tl.constexpr,
):
    """d loss / d (h w + b) of a block of tokens and of columns in [first, last); grid (blocks of tokens * of columns,).

    hidden, weight, bias, targets, exclude: as in ``stats_forward``. The rest of what is read is [tokens] float32, the
    fields of ``StatsCoefficients``.

    Written: gradient_out, rows ``gradient_stride`` apart, column ``first`` of the vocabulary at its column 0; rounded
    to tf32 with ROUND.
    """
    across = tl.cdiv(last - first, BLOCK_V)
    block, step = tile_of(tl.program_id(0), tl.cdiv(tokens, BLOCK_T), across, GROUP_T)
    row = block * BLOCK_T
    column = first + step * BLOCK_V
    rows = row + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    columns = column + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    z = product(
        hidden,
        weight,
        row,
        column,
        tokens,
        last,
        width,
        hidden_stride,
        weight_stride,
        TMA,
        PRECISION,
        BLOCK_T,
        BLOCK_V,
        BLOCK_D,
    )
    z = logits(z, bias, column, last, inner_scale, outer_scale, HAS_BIAS, HAS_SOFTCAP, BLOCK_V)

    target = tl.load(targets + rows, mask=row_mask, other=-1).to(tl.int32)
    high = tl.load(high_in + rows, mask=row_mask, other=0.0)
    constant = tl.load(constant_in + rows, mask=row_mask, other=0.0)
    linear = tl.load(linear_in + rows, mask=row_mask, other=0.0)
    at_target = tl.load(at_target_in + rows, mask=row_mask, other=0.0)
    log_p = z - high[:, None]
    bounded = at_least(log_p, NOTHING)
    gradient = tl.exp(log_p) * (linear[:, None] * bounded + constant[:, None])
    gradient = tl.where(columns[None, :] == target[:, None], at_target[:, None], gradient)
    if HAS_EXCLUDE:
        rest_high = tl.load(rest_high_in + rows, mask=row_mask, other=0.0)
        rest_factor = tl.load(rest_factor_in + rows, mask=row_mask, other=0.0)
        outside = tl.exp(z - rest_high[:, None])
        for i in range(listed):
            token = tl.load(exclude + rows.to(tl.int64) * listed + i, mask=row_mask, other=-1)
            outside = tl.where(columns[None, :] == token.to(tl.int32)[:, None], 0.0, outside)
        gradient += rest_factor[:, None] * outside
    if HAS_SOFTCAP:
        capped = z / outer_scale
        gradient *= 1 - capped * capped
    local = columns - first
    place = rows.to(tl.int64)[:, None] * gradient_stride + local[None, :]
    if ROUND:
        gradient = to_tf32(gradient)
    gradient = gradient.to(gradient_out.dtype.element_ty)
    tl.store(gradient_out + place, gradient, mask=row_mask[:, None] & column_mask[None, :])
