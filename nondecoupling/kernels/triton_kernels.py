"""The Triton kernels: what a GPU does for one block of tokens and one stretch of the vocabulary.

    stats_forward    [tokens, split of the vocabulary] -> partial maximum, mass, ... per token
    stats_backward   [tokens, chunk of the vocabulary] -> d loss / d (h w + b)
    kl_forward       as stats_forward, for the gap between two models
    kl_backward      as stats_backward, for both models
    accumulate       out (+)= a @ b, with which the backwards turn their chunk into gradients

Implementation notes
    * A tile of logits is accumulated in float32 and reduced in float32; it is never rounded to the input dtype
      and never written out. Partials of several splits are merged on the host side in float64.
    * Columns past the vocabulary have a logit of -1e30 before the softmax. Running maxima start at -inf.
    * Offsets into arrays with T or V rows are int64.
    * No atomics: every output element has one owner, which sums in a fixed order.
    * The log-sum keeps the number of logits at the running maximum apart from the mass below it: where one token
      dominates, log(1 + mass) survives float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["accumulate", "kl_backward", "kl_forward", "stats_backward", "stats_forward"]

# The logit of a column past the vocabulary: below any real one, and finite.
PADDING = tl.constexpr(-1e30)


@triton.jit
def _expm1(u):
    """e^u - 1: the series within 1/2 (its next term is below 1e-9 of it), the difference outside."""
    series = 1 + u / 6 * (1 + u / 7 * (1 + u / 8))
    series = 1 + u / 3 * (1 + u / 4 * (1 + u / 5 * series))
    series = u * (1 + u / 2 * series)
    return tl.where(tl.abs(u) < 0.5, series, tl.exp(u) - 1)


@triton.jit
def _phi(u):
    """e^u - 1 - u >= 0, likewise."""
    series = 1 + u / 6 * (1 + u / 7 * (1 + u / 8 * (1 + u / 9)))
    series = 1 + u / 3 * (1 + u / 4 * (1 + u / 5 * series))
    series = u * u / 2 * series
    return tl.where(tl.abs(u) < 0.5, series, tl.exp(u) - 1 - u)


@triton.jit
def _tanh(x):
    """From expm1(-2 |x|) in (-1, 0]: no overflow, and no cancellation near 0."""
    e = _expm1(-2 * tl.abs(x))
    size = -e / (e + 2)
    return tl.where(x < 0, -size, size)


@triton.jit
def _dot(a, b, sums, PRECISION: tl.constexpr):
    """sums + a @ b; "upcast" is for the interpreter, whose dot takes bfloat16 for the integers that hold it."""
    if PRECISION == "upcast":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), sums, input_precision="ieee")
    return tl.dot(a, b, sums, input_precision=PRECISION)


@triton.jit
def _product(
    hidden,
    weight,
    rows,
    row_mask,
    columns,
    column_mask,
    width,
    hidden_stride,
    weight_stride,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """hidden[rows] @ weight[columns].T in float32, [BLOCK_T, BLOCK_V]."""
    depth = tl.arange(0, BLOCK_D)
    h = hidden + rows.to(tl.int64)[:, None] * hidden_stride + depth[None, :]
    w = weight + columns.to(tl.int64)[None, :] * weight_stride + depth[:, None]
    sums = tl.zeros((BLOCK_T, BLOCK_V), dtype=tl.float32)
    for start in range(0, width, BLOCK_D):
        inside = depth < width - start
        a = tl.load(h, mask=row_mask[:, None] & inside[None, :], other=0.0)
        b = tl.load(w, mask=column_mask[None, :] & inside[:, None], other=0.0)
        sums = _dot(a, b, sums, PRECISION)
        h += BLOCK_D
        w += BLOCK_D
    return sums


@triton.jit
def _logits(
    product,
    bias,
    columns,
    column_mask,
    inner_scale,
    outer_scale,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
):
    """outer * tanh(inner * (product + bias)), or inner * (product + bias) without a cap."""
    if HAS_BIAS:
        product += tl.load(bias + columns, mask=column_mask, other=0.0).to(tl.float32)[None, :]
    logits = product * inner_scale
    if HAS_SOFTCAP:
        logits = _tanh(logits) * outer_scale
    return logits


@triton.jit
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
    hidden_stride,
    weight_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    HAS_EXCLUDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    first = tl.program_id(1) * split_width
    last = tl.minimum(first + split_width, vocabulary)
    target = tl.load(targets + rows, mask=row_mask, other=-1).to(tl.int32)

    maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    ties = tl.zeros((BLOCK_T,), dtype=tl.float32)
    mass = tl.zeros((BLOCK_T,), dtype=tl.float32)
    spread = tl.zeros((BLOCK_T,), dtype=tl.float32)
    rest_maximum = tl.full((BLOCK_T,), float("-inf"), dtype=tl.float32)
    rest_mass = tl.zeros((BLOCK_T,), dtype=tl.float32)

    for start in range(first, last, BLOCK_V):
        columns = start + tl.arange(0, BLOCK_V)
        column_mask = columns < last
        z = _product(
            hidden,
            weight,
            rows,
            row_mask,
            columns,
            column_mask,
            width,
            hidden_stride,
            weight_stride,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        z = _logits(z, bias, columns, column_mask, inner_scale, outer_scale, HAS_BIAS, HAS_SOFTCAP)
        # Finite, so that e^(z - max) (z - max) is 0 there and not NaN.
        z = tl.where(column_mask[None, :], z, PADDING)
        target_logit = tl.sum(tl.where(columns[None, :] == target[:, None], z, 0.0), axis=1)
        hit = (target >= start) & (target < start + BLOCK_V)
        tl.store(target_out + rows, target_logit, mask=row_mask & hit)

        new = tl.maximum(maximum, tl.max(z, axis=1))
        fall = new - maximum
        raised = fall > 0
        scale = tl.exp(-fall)
        # A state without mass has fallen by infinity: scaling it would give 0 * inf.
        empty = maximum == float("-inf")
        moved = scale * (spread + fall * (mass + ties))
        spread = tl.where(empty, 0.0, tl.where(raised, moved, spread))
        mass = tl.where(empty, 0.0, tl.where(raised, scale * (mass + ties), mass))
        ties = tl.where(raised, 0.0, ties)
        below = z - new[:, None]
        e = tl.exp(below)
        spread -= tl.sum(e * below, axis=1)
        ties += tl.sum(tl.where(below == 0, 1.0, 0.0), axis=1)
        mass += tl.sum(tl.where(below == 0, 0.0, e), axis=1)
        maximum = new

        if HAS_EXCLUDE:
            z = tl.where(column_mask[None, :], z, float("-inf"))
            for i in range(listed):
                token = tl.load(exclude + rows.to(tl.int64) * listed + i, mask=row_mask, other=-1)
                z = tl.where(columns[None, :] == token.to(tl.int32)[:, None], float("-inf"), z)
            rest_new = tl.maximum(rest_maximum, tl.max(z, axis=1))
            base = tl.where(rest_new == float("-inf"), 0.0, rest_new)
            rest_mass = rest_mass * tl.exp(rest_maximum - base)
            rest_mass += tl.sum(tl.exp(z - base[:, None]), axis=1)
            rest_maximum = rest_new

    place = tl.program_id(1).to(tl.int64) * tokens + rows
    tl.store(maximum_out + place, maximum, mask=row_mask)
    tl.store(ties_out + place, ties, mask=row_mask)
    tl.store(mass_out + place, mass, mask=row_mask)
    tl.store(spread_out + place, spread, mask=row_mask)
    if HAS_EXCLUDE:
        tl.store(rest_maximum_out + place, rest_maximum, mask=row_mask)
        tl.store(rest_mass_out + place, rest_mass, mask=row_mask)


@triton.jit
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
):
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    columns = first + tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    z = _product(
        hidden,
        weight,
        rows,
        row_mask,
        columns,
        column_mask,
        width,
        hidden_stride,
        weight_stride,
        PRECISION,
        BLOCK_T,
        BLOCK_V,
        BLOCK_D,
    )
    z = _logits(z, bias, columns, column_mask, inner_scale, outer_scale, HAS_BIAS, HAS_SOFTCAP)

    target = tl.load(targets + rows, mask=row_mask, other=-1).to(tl.int32)
    high = tl.load(high_in + rows, mask=row_mask, other=0.0)
    constant = tl.load(constant_in + rows, mask=row_mask, other=0.0)
    linear = tl.load(linear_in + rows, mask=row_mask, other=0.0)
    at_target = tl.load(at_target_in + rows, mask=row_mask, other=0.0)
    log_p = z - high[:, None]
    gradient = tl.exp(log_p) * (linear[:, None] * log_p + constant[:, None])
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
        tanh = z / outer_scale
        gradient *= 1 - tanh * tanh
    local = columns - first
    place = rows.to(tl.int64)[:, None] * gradient_stride + local[None, :]
    gradient = gradient.to(gradient_out.dtype.element_ty)
    tl.store(gradient_out + place, gradient, mask=row_mask[:, None] & column_mask[None, :])


@triton.jit
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
    hidden_p_stride,
    weight_p_stride,
    hidden_q_stride,
    weight_q_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS_P: tl.constexpr,
    HAS_BIAS_Q: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    first = tl.program_id(1) * split_width
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
        column_mask = columns < last
        z = _product(
            hidden_p,
            weight_p,
            rows,
            row_mask,
            columns,
            column_mask,
            width_p,
            hidden_p_stride,
            weight_p_stride,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        z = _logits(
            z, bias_p, columns, column_mask, inner_scale, outer_scale, HAS_BIAS_P, HAS_SOFTCAP
        )
        gap = _product(
            hidden_q,
            weight_q,
            rows,
            row_mask,
            columns,
            column_mask,
            width_q,
            hidden_q_stride,
            weight_q_stride,
            PRECISION,
            BLOCK_T,
            BLOCK_V,
            BLOCK_D,
        )
        gap = _logits(
            gap, bias_q, columns, column_mask, inner_scale, outer_scale, HAS_BIAS_Q, HAS_SOFTCAP
        )
        gap -= z
        z = tl.where(column_mask[None, :], z, float("-inf"))
        if start == first:
            offset = tl.sum(tl.where(columns[None, :] == start, gap, 0.0), axis=1)
        gap -= offset[:, None]
        gap = tl.where(column_mask[None, :], gap, 0.0)

        tile_maximum = tl.max(z, axis=1)
        z -= tile_maximum[:, None]
        e = tl.exp(z)
        tile_mass = tl.sum(e, axis=1)
        tile_centre = tl.sum(e * gap, axis=1) / tile_mass
        gap -= tile_centre[:, None]
        # q relative to the tile: z + gap = z_q - tile_maximum - offset - tile_centre.
        z += gap
        tile_maximum_q = tl.max(z, axis=1)
        tile_mass_q = tl.sum(tl.exp(z - tile_maximum_q[:, None]), axis=1)
        tile_excess = tl.sum(tl.where(gap < 60, e * _phi(gap), 0.0), axis=1)
        # Past e^60 the sum over q itself is meant: e may have underflowed where q is large.
        wide = tl.max(gap, axis=1) >= 60
        tile_excess = tl.where(wide, tl.exp(tile_maximum_q) * tile_mass_q - tile_mass, tile_excess)

        # p, and the centred excess: every term is positive.
        new = tl.maximum(maximum, tile_maximum)
        old_scale = tl.exp(maximum - new)
        scale = tl.exp(tile_maximum - new)
        old_mass = old_scale * mass
        part_mass = scale * tile_mass
        mass = old_mass + part_mass
        step = tile_centre - centre
        fraction = part_mass / mass
        back = -step * fraction
        forth = step * (old_mass / mass)
        tile_maximum_q += tile_maximum + tile_centre
        centre += step * fraction
        # Where p underflows in one part but q does not, that part's q is its excess.
        old_direct = tl.exp(maximum_q - new - centre) * mass_q
        old_excess = old_scale * excess * tl.exp(back) + old_mass * _phi(back)
        excess = tl.where(old_mass == 0, old_direct, old_excess)
        part_direct = tl.exp(tile_maximum_q - new - centre) * tile_mass_q
        part_excess = scale * tile_excess * tl.exp(forth) + part_mass * _phi(forth)
        excess += tl.where(part_mass == 0, part_direct, part_excess)

        # q
        new_q = tl.maximum(maximum_q, tile_maximum_q)
        mass_q = mass_q * tl.exp(maximum_q - new_q) + tile_mass_q * tl.exp(tile_maximum_q - new_q)
        maximum_q = new_q
        maximum = new

    place = tl.program_id(1).to(tl.int64) * tokens + rows
    tl.store(maximum_out + place, maximum, mask=row_mask)
    tl.store(mass_out + place, mass, mask=row_mask)
    tl.store(offset_out + place, offset, mask=row_mask)
    tl.store(centre_out + place, centre, mask=row_mask)
    tl.store(excess_out + place, excess, mask=row_mask)
    tl.store(maximum_q_out + place, maximum_q, mask=row_mask)
    tl.store(mass_q_out + place, mass_q, mask=row_mask)


@triton.jit
def kl_backward(
    hidden_p,
    weight_p,
    bias_p,
    hidden_q,
    weight_q,
    bias_q,
    high_in,
    gap_high_in,
    gap_low_in,
    kl_in,
    factor_in,
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
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    columns = first + tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    z = _product(
        hidden_p,
        weight_p,
        rows,
        row_mask,
        columns,
        column_mask,
        width_p,
        hidden_p_stride,
        weight_p_stride,
        PRECISION,
        BLOCK_T,
        BLOCK_V,
        BLOCK_D,
    )
    z = _logits(z, bias_p, columns, column_mask, inner_scale, outer_scale, HAS_BIAS_P, HAS_SOFTCAP)
    z_q = _product(
        hidden_q,
        weight_q,
        rows,
        row_mask,
        columns,
        column_mask,
        width_q,
        hidden_q_stride,
        weight_q_stride,
        PRECISION,
        BLOCK_T,
        BLOCK_V,
        BLOCK_D,
    )
    z_q = _logits(
        z_q, bias_q, columns, column_mask, inner_scale, outer_scale, HAS_BIAS_Q, HAS_SOFTCAP
    )
    high = tl.load(high_in + rows, mask=row_mask, other=0.0)
    gap_high = tl.load(gap_high_in + rows, mask=row_mask, other=0.0)
    gap_low = tl.load(gap_low_in + rows, mask=row_mask, other=0.0)
    kl = tl.load(kl_in + rows, mask=row_mask, other=0.0)
    factor = tl.load(factor_in + rows, mask=row_mask, other=0.0)

    log_p = z - high[:, None]
    u = z_q - z - gap_high[:, None] - gap_low[:, None]
    p = tl.exp(log_p) * factor[:, None]
    gradient_p = -p * (u + kl[:, None])
    q = tl.exp(log_p + u) * factor[:, None]
    gradient_q = tl.where(u > 60, q - p, p * _expm1(tl.minimum(u, 60.0)))
    if HAS_SOFTCAP:
        tanh = z / outer_scale
        gradient_p *= 1 - tanh * tanh
        tanh = z_q / outer_scale
        gradient_q *= 1 - tanh * tanh
    local = columns - first
    place = rows.to(tl.int64)[:, None] * gradient_stride + local[None, :]
    mask = row_mask[:, None] & column_mask[None, :]
    dtype = gradient_p_out.dtype.element_ty
    tl.store(gradient_p_out + place, gradient_p.to(dtype), mask=mask)
    tl.store(gradient_q_out + place, gradient_q.to(dtype), mask=mask)


@triton.jit
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
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
):
    """out [height, width] (+)= a [height, depth] @ b [depth, width], summed in float32.

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
        sums = _dot(left, right.to(left.dtype), sums, PRECISION)
        a_at += BLOCK_K * a_depth_stride
        b_at += BLOCK_K * b_depth_stride
    place = out + rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
    mask = row_mask[:, None] & column_mask[None, :]
    if ADD:
        sums += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, sums.to(out.dtype.element_ty), mask=mask)
