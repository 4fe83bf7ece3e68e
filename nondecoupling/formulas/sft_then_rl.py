"""SFT then RL: what RL does to the SFT loss (S1-S4, S6, S8)."""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    INF,
    centred,
    expectation,
    from_mode,
    kl_divergence,
    log_one_plus_excess,
    log_or_minus_infinity,
    log_softmax,
    log_sum_exp,
    max_on_support,
    min_on_support,
    overflow_shift,
)
from nondecoupling.formulas.roots import (
    bracketed_above,
    newton_bisection,
    with_envelope_gradient,
    with_root_gradient,
)
from nondecoupling.formulas.tilt import (
    divergence_of_tilt,
    log_partition_at,
    mean_and_variance_of_tilt,
    reward_in_units_of_beta,
    time_of_tilt,
)
from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, Mask, NumberSystem


def sft_loss_increase(
    xp: NumberSystem, log_d: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """S1, at the tilt: DeltaL = log Z - E_d r / beta."""
    x = reward_in_units_of_beta(xp, log_ref, reward, beta)
    return log_sum_exp(xp, log_ref + x) - expectation(xp, log_d, x)


def sft_loss_change(xp: NumberSystem, log_d: Array, log_ref: Array, log_p: Array) -> Array:
    """S1, for any policy: DeltaL(p) = KL(ref||p) - (E_d - E_ref) log(p/ref), d << ref.

    Both terms diverge where p misses mass of ref; there their difference is -E_d log(p/ref), which is
    inf only where p misses mass of d.
    """
    reached = xp.support(log_p)
    shared = xp.where(reached, log_ref, -INF)
    on = xp.support(shared)
    ratio = xp.where(on, log_p, 0.0) - xp.where(on, log_ref, 0.0)
    difference = expectation(xp, log_d, ratio) - expectation(xp, shared, ratio)
    missed_d, missed_ref = (xp.sum(xp.where(reached, 0.0, xp.exp(law))) for law in (log_d, log_ref))
    change = kl_divergence(xp, shared, log_p) - missed_ref - difference
    return xp.where(missed_d > 0, INF, change)


def coupling_gap(xp: NumberSystem, log_d: Array, reward: Array, beta: Array) -> Array:
    """S2: log E_d e^{r/beta} - E_d r/beta = log(1 + sum d (e^x - 1 - x)), x = (r - E_d r)/beta."""
    return log_one_plus_excess(xp, log_d, centred(xp, log_d, reward) / beta)


def two_point_gap(xp: NumberSystem, second_moment: Array, point: Array) -> Array:
    """Coupling gap of the centred two-point law with one atom at ``point``, variance as given.

    The other atom is at -variance/point, with mass point^2/(point^2 + variance). Zero where the
    law is degenerate (point = 0).
    """
    # The square of a tiny point would underflow: weights come from point : other end instead.
    spread = xp.positive(xp.abs(point)) & xp.positive(second_moment)
    x1 = xp.where(spread, point, 1.0)
    x2 = -xp.where(spread, second_moment, 1.0) / x1
    log_w1, log_w2 = xp.log(x2 / (x2 - x1)), xp.log(x1 / (x1 - x2))
    shift = overflow_shift(xp, xp.maximum(log_w1 + x1, log_w2 + x2))
    terms = xp.excess(log_w1 - shift, x1) + xp.excess(log_w2 - shift, x2)
    gap = shift + xp.log1p(xp.expm1(-shift) + terms)
    return xp.where(spread, gap, 0.0)


def coupling_gap_bounds(
    xp: NumberSystem, log_d: Array, reward: Array, beta: Array
) -> tuple[Array, Array, Array]:
    """S3: (lower Bennett, upper Bennett, Hoeffding s^2 R^2/8), ranges over the support of d."""
    x = centred(xp, log_d, reward) / beta
    v = expectation(xp, log_d, xp.square(x))
    below, above = -min_on_support(xp, log_d, x), max_on_support(xp, log_d, x)
    return (
        two_point_gap(xp, v, -below),
        two_point_gap(xp, v, above),
        xp.square(below + above) / 8,
    )


def decoupling_radius_dual(
    xp: NumberSystem, log_ref: Array, reward: Array, beta: Array, time: Array
) -> Array:
    """S6: t beta log Z - log Z_t, a lower bound on the exact radius for every t >= 0.

    The largest value, at J(tilt_t) = beta log Z, is the exact radius KL(tilt_t||ref).
    """
    soft_gain = beta * coupling_gap(xp, log_ref, reward, beta)
    return time * soft_gain - log_partition_at(xp, log_ref, reward, time)


def pinsker_decoupling_radius(
    xp: NumberSystem, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """S6: 2 (beta KL(ref||tilt)/R)^2; zero for constant rewards."""
    spread = max_on_support(xp, log_ref, reward) - min_on_support(xp, log_ref, reward)
    gap = beta * coupling_gap(xp, log_ref, reward, beta)
    varies = xp.positive(spread)
    return xp.where(varies, 2 * xp.square(gap / xp.where(varies, spread, 1.0)), 0.0)


def samples_to_detect(
    xp: NumberSystem, log_d: Array, reward: Array, beta: Array, z: Array
) -> Array:
    """S8: n = z^2 s^2 Var_d(r) / DeltaL^2, in units of beta so that s^2 never overflows."""
    x = centred(xp, log_d, reward) / beta
    gap = log_one_plus_excess(xp, log_d, x)
    varies = xp.positive(gap)
    safe = xp.where(varies, gap, 1.0)
    per_gap = expectation(xp, log_d, xp.square(x)) / safe
    return xp.where(varies, xp.square(z) * per_gap / safe, INF)


def _below_the_top(xp: Floats, log_p: Array, x: Array) -> Array:
    """max x - log E_p e^x = -log E_p e^{x - max}, accurate also where p is almost all at the top."""
    room = xp.where(xp.support(log_p), x - max_on_support(xp, log_p, x), 0.0)
    lost = xp.sum(xp.exp(log_p) * xp.expm1(room))
    mostly = lost > -0.5
    far = log_sum_exp(xp, log_p + room)
    return -xp.where(mostly, xp.log1p(xp.where(mostly, lost, 0.0)), far)


def decoupling_threshold(
    xp: Floats, log_ref: Array, reward: Array, beta: Array
) -> tuple[Array, Array]:
    """S6: Pinsker's and the exact radius; the latter from J(tilt_t) = beta log Z, 0 < t < 1/beta."""
    x = centred(xp, log_ref, reward) / beta
    soft_value = log_one_plus_excess(xp, log_ref, x)
    law, fixed, level = detached(log_ref), detached(x), detached(soft_value)
    inner = level > 0
    gain = xp.where(inner, level, 1.0)
    shortfall = xp.where(inner, _below_the_top(xp, law, fixed), 1.0)
    t = time_of_tilt(xp, law, fixed, gain, shortfall, xp.full_like(level, 1.0))
    t = xp.where(inner, t, 1.0)
    dual = t * soft_value - log_one_plus_excess(xp, log_ref, t * x)
    exact = with_envelope_gradient(divergence_of_tilt(xp, law, fixed, t), dual)
    return (
        pinsker_decoupling_radius(xp, log_ref, reward, beta),
        xp.where(level > 0, exact, 0.0),
    )


def best_early_stop(xp: Floats, log_d: Array, log_ref: Array, reward: Array) -> tuple[Array, Array]:
    """S6: the time s0 with J(tilt_{s0}) = J(d), and the change -KL(tilt_{s0}||ref) there."""
    raw = centred(xp, log_ref, reward)
    top, bottom = max_on_support(xp, log_ref, raw), min_on_support(xp, log_ref, raw)
    goal = expectation(xp, log_d, raw)
    inner = (goal > 0) & (expectation(xp, log_d, top - raw) > 0)
    unit = xp.where(inner, top - bottom, 1.0)
    x, level = xp.where(xp.support(log_ref), raw, 0.0) / unit, xp.where(inner, goal, 0.0) / unit
    law, fixed = detached(log_ref), detached(x)
    t = _time_to_reach(xp, detached(log_d), law, fixed, inner)
    mean, slope = mean_and_variance_of_tilt(xp, log_ref, x, t)
    time = with_root_gradient(xp, t, mean - level, xp.where(inner, slope, 0.0)) / unit
    dual = log_one_plus_excess(xp, log_ref, t * x) - t * level
    change = with_envelope_gradient(-divergence_of_tilt(xp, law, fixed, t), dual)
    on_top = xp.where(raw >= top, xp.exp(log_ref), 0.0)
    at_once = goal <= 0
    return (
        xp.where(at_once, 0.0, xp.where(inner, time, INF)),
        xp.where(at_once, 0.0, xp.where(inner, change, xp.log(xp.sum(on_top)))),
    )


def _time_to_reach(xp: Floats, log_d: Array, log_ref: Array, x: Array, inner: Mask) -> Array:
    """The t with E_{tilt_t} x = E_d x, where ``inner``; one elsewhere.

    With u = x - x(mode of d), E_tilt u+ + E_d u- = E_tilt u- + E_d u+: neither side cancels, the left one
    rises with t and the right one falls.
    """
    u = from_mode(xp, log_d, x)
    above, below = xp.maximum(u, 0.0 * u), xp.maximum(-u, 0.0 * u)
    d_above, d_below = (xp.sum(xp.exp(log_d) * part) for part in (above, below))

    def too_far(t: Array) -> tuple[Array, Array]:
        log_tilt = log_softmax(xp, log_ref + t * x)
        tilt, deviation = xp.exp(log_tilt), centred(xp, log_tilt, u)
        rising, falling = (xp.sum(tilt * part) for part in (above, below))
        rise, fall = (
            xp.sum(tilt * centred(xp, log_tilt, part) * deviation) for part in (above, below)
        )
        left, right = (xp.where(inner, side, 1.0) for side in (rising + d_below, falling + d_above))
        value = xp.where(
            inner, log_or_minus_infinity(xp, left) - log_or_minus_infinity(xp, right), 0.0
        )
        return value, rise / left - fall / right

    start = xp.full_like(xp.sum(x), 1.0)
    return newton_bisection(xp, too_far, 0.0 * start, bracketed_above(xp, too_far, start))


def coupling_from_run(xp: NumberSystem, reward_gain: Array, kl: Array, beta: Array) -> Array:
    """S10: (J(p) - J(d))/beta - KL(p||ref) <= DeltaL(tilt_beta), for any policy p."""
    return reward_gain / beta - kl
