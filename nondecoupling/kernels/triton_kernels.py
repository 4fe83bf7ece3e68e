"""The Triton kernels: what a GPU does for one block of tokens and one stretch of the vocabulary.

    stats_forward    [tokens, split of the vocabulary] -> partial maximum, mass, ... per token
    stats_backward   [tokens, chunk of the vocabulary] -> d loss / d (h w + b)
    kl_forward       as stats_forward, for the gap between two models
    kl_backward      as stats_backward, for both models
    accumulate       out (+)= a @ b, with which the backwards turn their chunk into gradients

Implementation notes
    * A tile of logits is accumulated in float32 and reduced in float32; it is never rounded to the input dtype
      and never written out. Partials of several splits are merged on the host side in float64.
    * Columns past the vocabulary have a logit of -inf, as masked tokens do. Running maxima start at -inf, and
      differences are taken from 0 where a maximum still is.
    * A token that only one of two models lacks, or a gap beyond float32, makes ``kl_forward``'s partials NaN;
      the launcher takes such rows again.
    * Offsets into arrays with T or V rows are int64.
    * No atomics: every output element has one owner, which sums in a fixed order.
    * The log-sum keeps the number of logits at the running maximum apart from the mass below it: where one token
      dominates, log(1 + mass) survives float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["accumulate", "kl_backward", "kl_forward", "stats_backward", "stats_forward"]

# e^NOTHING is 0, and so is its product with NOTHING, which 0 * -inf is not.
NOTHING = tl.constexpr(-1e4)


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
def _at_least(x, bound):
    """max(x, bound), NaN for NaN."""
    return tl.maximum(x, bound, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _finite_base(maximum):
    """``maximum``, or 0 where it is -inf."""
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def _logits(
    hidden,
    weight,
    bias,
    rows,
    columns,
    tokens,
    last,
    width,
    hidden_stride,
    weight_stride,
    inner_scale,
    outer_scale,
    HAS_BIAS: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Logits of the tokens ``rows`` for ``columns`` of the vocabulary, float32 [rows, columns]; -inf from ``last`` on.

    outer_scale * tanh(inner_scale * (hidden @ weight.T + bias)), or inner_scale * (...) without a cap.

    hidden [tokens, width] and weight [V, width] have rows ``hidden_stride`` and ``weight_stride`` apart and contiguous
    columns; bias [V] is contiguous, or anything without HAS_BIAS.
    """
    row_mask = rows < tokens
    column_mask = columns < last
    depth = tl.arange(0, BLOCK_D)
    h = hidden + rows.to(tl.int64)[:, None] * hidden_stride + depth[None, :]
    w = weight + columns.to(tl.int64)[None, :] * weight_stride + depth[:, None]
    sums = tl.zeros((rows.shape[0], columns.shape[0]), dtype=tl.float32)
    for start in range(0, width, BLOCK_D):
        inside = depth < width - start
        a = tl.load(h, mask=row_mask[:, None] & inside[None, :], other=0.0)
        b = tl.load(w, mask=column_mask[None, :] & inside[:, None], other=0.0)
        sums = _dot(a, b, sums, PRECISION)
        h += BLOCK_D
        w += BLOCK_D
    if HAS_BIAS:
        sums += tl.load(bias + columns, mask=column_mask, other=0.0).to(tl.float32)[None, :]
    logits = sums * inner_scale
    if HAS_SOFTCAP:
        logits = _tanh(logits) * outer_scale
    return tl.where(column_mask[None, :], logits, float("-inf"))


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
    """Partial statistics of a block of tokens over one split of the vocabulary; grid (blocks of tokens, splits).

    hidden, weight, bias: as in ``_logits``. targets [tokens] int64, negative for none; exclude [tokens, listed] int64,
    padded with -1, read with HAS_EXCLUDE.

    Written, float32 [splits, tokens]: maximum_out m; ties_out the number of logits at m; mass_out the sum of
    e^(z - m) below it; spread_out the sum of e^(z - m) (m - z); with HAS_EXCLUDE rest_maximum_out and rest_mass_out, m
    and the sum of e^(z - m) over the tokens not excluded. target_out [tokens] gets the target's logit from the split
    that holds it.
    """
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
        z = _logits(
            hidden,
            weight,
            bias,
            rows,
            columns,
            tokens,
            last,
            width,
            hidden_stride,
            weight_stride,
            inner_scale,
            outer_scale,
            HAS_BIAS,
            HAS_SOFTCAP,
            PRECISION,
            BLOCK_D,
        )
        target_logit = tl.sum(tl.where(columns[None, :] == target[:, None], z, 0.0), axis=1)
        hit = (target >= start) & (target < start + BLOCK_V)
        tl.store(target_out + rows, target_logit, mask=row_mask & hit)

        new = tl.maximum(maximum, tl.max(z, axis=1))
        base = _finite_base(new)
        fall = tl.minimum(base - maximum, -NOTHING)
        # A state without mass has nothing to scale.
        raised = (fall > 0) & (maximum > float("-inf"))
        scale = tl.exp(-fall)
        spread = tl.where(raised, scale * (spread + fall * (mass + ties)), spread)
        mass = tl.where(raised, scale * (mass + ties), mass)
        ties = tl.where(raised, 0.0, ties)
        below = _at_least(z - base[:, None], NOTHING)
        e = tl.exp(below)
        spread -= tl.sum(e * below, axis=1)
        ties += tl.sum(tl.where(below == 0, 1.0, 0.0), axis=1)
        mass += tl.sum(tl.where(below == 0, 0.0, e), axis=1)
        maximum = new

        if HAS_EXCLUDE:
            for i in range(listed):
                token = tl.load(exclude + rows.to(tl.int64) * listed + i, mask=row_mask, other=-1)
                z = tl.where(columns[None, :] == token.to(tl.int32)[:, None], float("-inf"), z)
            rest_new = tl.maximum(rest_maximum, tl.max(z, axis=1))
            rest_base = _finite_base(rest_new)
            rest_mass = rest_mass * tl.exp(rest_maximum - rest_base)
            rest_mass += tl.sum(tl.exp(z - rest_base[:, None]), axis=1)
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
    """d loss / d (h w + b) of a block of tokens and of columns in [first, last); grid (blocks of tokens, of columns).

    hidden, weight, bias, targets, exclude: as in ``stats_forward``. The rest of what is read is [tokens] float32, the
    fields of ``StatsCoefficients``.

    Written: gradient_out, rows ``gradient_stride`` apart, column ``first`` of the vocabulary at its column 0.
    """
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    columns = first + tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    z = _logits(
        hidden,
        weight,
        bias,
        rows,
        columns,
        tokens,
        last,
        width,
        hidden_stride,
        weight_stride,
        inner_scale,
        outer_scale,
        HAS_BIAS,
        HAS_SOFTCAP,
        PRECISION,
        BLOCK_D,
    )

    target = tl.load(targets + rows, mask=row_mask, other=-1).to(tl.int32)
    high = tl.load(high_in + rows, mask=row_mask, other=0.0)
    constant = tl.load(constant_in + rows, mask=row_mask, other=0.0)
    linear = tl.load(linear_in + rows, mask=row_mask, other=0.0)
    at_target = tl.load(at_target_in + rows, mask=row_mask, other=0.0)
    log_p = z - high[:, None]
    bounded = _at_least(log_p, NOTHING)
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
    """Partial divergences of a block of tokens over one split of the vocabulary; grid (blocks of tokens, splits).

    hidden_p, weight_p, bias_p and the same of q: as in ``_logits``, of one vocabulary.

    Written, float32 [splits, tokens], with g = z_q - z_p - offset: maximum_out m and mass_out the sum of e^(z_p - m);
    offset_out; centre_out c, the p-mean of g; excess_out the sum of e^(z_p - m) phi(g - c); maximum_q_out M and
    mass_q_out the sum of e^(z_q - M). Where a token is lacked by one model alone, some of them are NaN.
    """
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
        z = _logits(
            hidden_p,
            weight_p,
            bias_p,
            rows,
            columns,
            tokens,
            last,
            width_p,
            hidden_p_stride,
            weight_p_stride,
            inner_scale,
            outer_scale,
            HAS_BIAS_P,
            HAS_SOFTCAP,
            PRECISION,
            BLOCK_D,
        )
        z_q = _logits(
            hidden_q,
            weight_q,
            bias_q,
            rows,
            columns,
            tokens,
            last,
            width_q,
            hidden_q_stride,
            weight_q_stride,
            inner_scale,
            outer_scale,
            HAS_BIAS_Q,
            HAS_SOFTCAP,
            PRECISION,
            BLOCK_D,
        )
        tile_maximum_q = tl.max(z_q, axis=1)
        tile_mass_q = tl.sum(tl.exp(z_q - _finite_base(tile_maximum_q)[:, None]), axis=1)
        tile_maximum = tl.max(z, axis=1)
        tile_base = _finite_base(tile_maximum)
        # A token that both models lack has no gap.
        gap = tl.where(z_q == z, 0.0, z_q - z)
        if start == first:
            offset = tl.sum(tl.where(columns[None, :] == start, gap, 0.0), axis=1)
        gap = tl.where(z == float("-inf"), gap, gap - offset[:, None])
        e = tl.exp(z - tile_base[:, None])
        tile_mass = tl.sum(e, axis=1)
        tile_centre = tl.sum(e * gap, axis=1) / tl.where(tile_mass == 0, 1.0, tile_mass)
        gap = tl.where(z == float("-inf"), gap, gap - tile_centre[:, None])
        tile_excess = tl.sum(tl.where(gap < 60, e * _phi(gap), 0.0), axis=1)
        # Past e^60 the sum over q itself is meant: e may have underflowed where q is large.
        wide = tl.max(gap, axis=1) >= 60
        direct = tl.exp(tile_maximum_q - tile_base - offset - tile_centre) * tile_mass_q
        tile_excess = tl.where(wide, direct - tile_mass, tile_excess)

        # p, and the centred excess: every term is positive.
        new = tl.maximum(maximum, tile_maximum)
        base = _finite_base(new)
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
        old_excess = old_scale * excess * tl.exp(back) + old_mass * _phi(back)
        excess = tl.where(old_mass == 0, old_direct, old_excess)
        part_direct = tl.exp(tile_maximum_q - base - offset - centre) * tile_mass_q
        part_excess = scale * tile_excess * tl.exp(forth) + part_mass * _phi(forth)
        excess += tl.where(part_mass == 0, part_direct, part_excess)

        # q
        new_q = tl.maximum(maximum_q, tile_maximum_q)
        base_q = _finite_base(new_q)
        mass_q *= tl.exp(maximum_q - base_q)
        mass_q += tile_mass_q * tl.exp(tile_maximum_q - base_q)
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
    PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """d loss / d (h w + b) of both models, as ``stats_backward``.

    hidden_p, weight_p, bias_p and the same of q: as in ``kl_forward``. The rest of what is read is [tokens] float32,
    the fields of ``KlCoefficients``.

    Written: gradient_p_out and gradient_q_out, as gradient_out of ``stats_backward``.
    """
    rows = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    row_mask = rows < tokens
    columns = first + tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    column_mask = columns < last
    z = _logits(
        hidden_p,
        weight_p,
        bias_p,
        rows,
        columns,
        tokens,
        last,
        width_p,
        hidden_p_stride,
        weight_p_stride,
        inner_scale,
        outer_scale,
        HAS_BIAS_P,
        HAS_SOFTCAP,
        PRECISION,
        BLOCK_D,
    )
    z_q = _logits(
        hidden_q,
        weight_q,
        bias_q,
        rows,
        columns,
        tokens,
        last,
        width_q,
        hidden_q_stride,
        weight_q_stride,
        inner_scale,
        outer_scale,
        HAS_BIAS_Q,
        HAS_SOFTCAP,
        PRECISION,
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
    gradient_q = tl.where(near, p * _expm1(tl.where(near, u, 0.0)), q - p)
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
        sums = _dot(left, right.to(left.dtype), sums, PRECISION)
        a_at += BLOCK_K * a_depth_stride
        b_at += BLOCK_K * b_depth_stride
    place = out + rows.to(tl.int64)[:, None] * out_stride + columns[None, :]
    mask = row_mask[:, None] & column_mask[None, :]
    if ADD:
        sums += tl.load(place, mask=mask, other=0.0).to(tl.float32)
    tl.store(place, sums.to(out.dtype.element_ty), mask=mask)
