"""RL then SFT: what SFT does to the reward (R1-R8)."""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    INF,
    centred,
    expectation,
    kl_divergence,
    log_one_plus_excess,
    log_or_minus_infinity,
    log_sum_exp,
    max_on_support,
    min_on_support,
    total_variation_bounds,
)
from nondecoupling.formulas.logits import reward_gradient, sft_loss_gradient
from nondecoupling.formulas.roots import bracketed_above, newton_bisection, with_envelope_gradient
from nondecoupling.formulas.tilt import (
    divergence_of_tilt,
    kl_of_tilt,
    kl_to_tilt,
    log_tilt_ratio,
    mean_and_variance_of_tilt,
)
from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, NumberSystem


def regularized_reward_drop(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """R1: J_b(tilt) - J_b(p) = beta KL(p||tilt)."""
    return beta * kl_to_tilt(xp, log_p, log_ref, log_tilt_ratio(xp, log_ref, reward, beta))


def reward_drop(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """R2: J(tilt) - J(p) = beta [KL(p||tilt) + KL(tilt||ref) - KL(p||ref)]."""
    ratio = log_tilt_ratio(xp, log_ref, reward, beta)
    return beta * (
        kl_to_tilt(xp, log_p, log_ref, ratio)
        + kl_of_tilt(xp, log_ref, ratio)
        - kl_divergence(xp, log_p, log_ref)
    )


def reward_drop_in_kl_ball(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """R3: beta KL(p||tilt) inside the ball KL(p||ref) <= KL(tilt||ref); -inf (no bound) outside."""
    ratio = log_tilt_ratio(xp, log_ref, reward, beta)
    inside = kl_divergence(xp, log_p, log_ref) <= kl_of_tilt(xp, log_ref, ratio)
    return xp.where(inside, beta * kl_to_tilt(xp, log_p, log_ref, ratio), -INF)


def cycle_loss(xp: NumberSystem, log_d: Array, reward: Array, beta: Array) -> Array:
    """R6, ref = d: J(tilt) - J(d) = beta [KL(d||tilt) + KL(tilt||d)]."""
    ratio = log_tilt_ratio(xp, log_d, reward, beta)
    return beta * (kl_to_tilt(xp, log_d, log_d, ratio) + kl_of_tilt(xp, log_d, ratio))


def reward_change_bounds(
    xp: NumberSystem, log_tilt: Array, reward: Array, kl: Array
) -> tuple[Array, Array, Array, Array]:
    """R4: (Pinsker, Bretagnolle-Huber, Bernstein for drops, Bernstein for rises) at KL(p||tilt).

    R sqrt(A/2), R sqrt(1 - e^{-A}), sqrt(2 A Var) + (E r - min r) A/3 and with (max r - E r).
    """
    x = centred(xp, log_tilt, reward)
    below, above = -min_on_support(xp, log_tilt, x), max_on_support(xp, log_tilt, x)
    spread = below + above
    product = 2 * kl * expectation(xp, log_tilt, xp.square(x))
    varies = xp.positive(product)  # the slope of a square root at 0 is infinite
    pinsker, bretagnolle_huber = total_variation_bounds(xp, kl)
    gaussian = xp.where(varies, xp.sqrt(xp.where(varies, product, 1.0)), 0.0)
    return (
        spread * pinsker,
        spread * bretagnolle_huber,
        gaussian + below * kl / 3,
        gaussian + above * kl / 3,
    )


def sft_step_reward_slope(xp: NumberSystem, log_p: Array, log_d: Array, reward: Array) -> Array:
    """R7: dJ/d eta of a gradient step on CE(d, softmax(theta)): -<p - d, p (r - E_p r)>."""
    return -xp.sum(sft_loss_gradient(xp, log_p, log_d) * reward_gradient(xp, log_p, reward))


def largest_rise(xp: Floats, log_tilt: Array, reward: Array, kl: Array) -> Array:
    """R4, exact: max{J(p) - J(tilt): KL(p||tilt) <= A}, attained on the family of tilts."""
    raw = centred(xp, log_tilt, reward)
    top, bottom = max_on_support(xp, log_tilt, raw), min_on_support(xp, log_tilt, raw)
    log_on_top = log_sum_exp(xp, xp.where(raw >= top, log_tilt, -INF))
    inner = (kl > 0) & (kl < -log_on_top) & (top > bottom)
    unit = xp.where(inner, top - bottom, 1.0)
    x = xp.where(xp.support(log_tilt), raw, 0.0) / unit
    law, fixed, aim = detached(log_tilt), detached(x), detached(xp.where(inner, kl, 1.0))

    def too_far(t: Array) -> tuple[Array, Array]:
        _, variance = mean_and_variance_of_tilt(xp, law, fixed, t)
        divergence = divergence_of_tilt(xp, law, fixed, t)
        value = log_or_minus_infinity(xp, divergence) - xp.log(aim)
        # With no divergence the slope is 0/0, and not used.
        slope = t * variance / xp.where(divergence > 0, divergence, 1.0)
        return xp.where(inner, value, 0.0), slope

    high = bracketed_above(xp, too_far, xp.full_like(aim, 1.0))
    t = xp.where(inner, newton_bisection(xp, too_far, xp.full_like(aim, 0.0), high), 1.0)
    rise, _ = mean_and_variance_of_tilt(xp, law, fixed, t)
    dual = unit * ((kl + log_one_plus_excess(xp, log_tilt, t * x)) / t)
    exact = with_envelope_gradient(detached(unit) * rise, dual)
    return xp.where(inner, exact, xp.where(kl > 0, top, 0.0))
