"""The tilt, ref e^{r/beta}/Z: the exact optimum of RL under a KL leash (F3, I1), and its family in time.

``x`` is the reward in units of beta; with a time t = 1/beta the family is tilt_t = ref e^{tx}/Z_t.
"""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    at_mode,
    centred,
    expected_reward,
    from_mode,
    kl_by_definition,
    kl_divergence,
    log_one_plus_excess,
    log_or_minus_infinity,
    log_softmax,
    log_sum_exp,
    max_on_support,
    variance,
)
from nondecoupling.formulas.roots import bracketed_above, newton_bisection
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, NumberSystem


def reward_in_units_of_beta(xp: NumberSystem, log_ref: Array, reward: Array, beta: Array) -> Array:
    """(r - r(mode of ref)) / beta: the shift first, since r/beta would round large offsets away."""
    return from_mode(xp, log_ref, reward) / beta


def log_partition(xp: NumberSystem, log_ref: Array, reward: Array, beta: Array) -> Array:
    """log Z = log E_ref e^{r/beta}."""
    x = reward_in_units_of_beta(xp, log_ref, reward, beta)
    return at_mode(xp, log_ref, reward) / beta + log_sum_exp(xp, log_ref + x)


def gibbs_tilt(xp: NumberSystem, log_ref: Array, reward: Array, beta: Array) -> Array:
    """log of tilt = ref e^{r/beta} / Z, the exact optimum of KL-regularised RL.

    The rewards are taken from the tilt's own mode: far from it r/beta would swallow log ref.
    """
    there = log_ref + reward_in_units_of_beta(xp, log_ref, reward, beta)
    x = log_ref + from_mode(xp, there, reward) / beta
    return x - log_sum_exp(xp, x)


def regularized_reward(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """J_b(p) = E_p r - beta KL(p||ref)."""
    return expected_reward(xp, log_p, reward) - beta * kl_divergence(xp, log_p, log_ref)


def implicit_reward(xp: NumberSystem, log_p: Array, log_ref: Array, beta: Array) -> Array:
    """I1: r' = beta log(p/ref), the reward for which p is the exact RL optimum."""
    return beta * (log_p - log_ref)


def log_partition_at(xp: NumberSystem, log_ref: Array, reward: Array, time: Array) -> Array:
    """log E_ref e^{t (r - E_ref r)}, stable at small t: S2's gap, in times instead of betas."""
    return log_one_plus_excess(xp, log_ref, time * centred(xp, log_ref, reward))


def tilt_at(xp: NumberSystem, log_d: Array, reward: Array, duration: Array) -> Array:
    """log tilt_s, s = 1/beta, from ref = d."""
    return gibbs_tilt(xp, log_d, reward, 1 / duration)


def log_exponential_ratio(xp: NumberSystem, log_ref: Array, x: Array) -> Array:
    """log(q/ref) = x - log E_ref e^x of q proportional to ref e^x: small where x varies little."""
    return _ratio_of_centred(xp, log_ref, centred(xp, log_ref, x))


def log_tilt_ratio(xp: NumberSystem, log_ref: Array, reward: Array, beta: Array) -> Array:
    """log(tilt/ref) = r/beta - log Z."""
    return _ratio_of_centred(xp, log_ref, centred(xp, log_ref, reward) / beta)


def _ratio_of_centred(xp: NumberSystem, log_ref: Array, x: Array) -> Array:
    """x - log E_ref e^x where E_ref x = 0."""
    return x - log_one_plus_excess(xp, log_ref, x)


def kl_to_tilt(xp: NumberSystem, log_p: Array, log_ref: Array, ratio: Array) -> Array:
    """KL(p||tilt), from ``ratio`` = log(tilt/ref), which keeps what the tilt's own logarithm would round away."""
    on = xp.support(log_p)
    u = ratio + (xp.where(on, log_ref, 0.0) - xp.where(on, log_p, 0.0))
    missed = xp.exp(log_ref + ratio)
    return xp.sum(xp.where(on, xp.excess(xp.where(on, log_p, 0.0), u), missed))


def kl_of_tilt(xp: NumberSystem, log_ref: Array, ratio: Array) -> Array:
    """KL(tilt||ref), from ``ratio`` = log(tilt/ref)."""
    on = xp.support(log_ref)
    return xp.sum(xp.where(on, xp.excess(xp.where(on, log_ref, 0.0) + ratio, -ratio), 0.0))


def mean_and_variance_of_tilt(
    xp: Floats, log_ref: Array, x: Array, time: Array
) -> tuple[Array, Array]:
    """E x and Var x under tilt_t; the mean is sum ref x (e^{tx} - 1)/Z_t, which keeps small ones."""
    tx = time * x
    log_tilt = log_softmax(xp, log_ref + tx)
    tilt = xp.exp(log_tilt)
    untilted = xp.exp(log_ref - log_one_plus_excess(xp, log_ref, tx))
    near = xp.abs(tx) < 0.5
    grown = xp.expm1(xp.where(near, tx, 0.0))
    mean = xp.sum(xp.where(near, untilted * grown, tilt - untilted) * x)
    return mean, variance(xp, log_tilt, x)


def divergence_of_tilt(xp: Floats, log_ref: Array, x: Array, time: Array) -> Array:
    """KL(tilt_t||ref); by its definition from the tilt's own mode where it is large and tx may be huge."""
    tilt = log_softmax(xp, log_ref + time * from_mode(xp, log_ref + time * x, x))
    large = kl_by_definition(xp, tilt, log_ref)
    ratio = log_exponential_ratio(xp, log_ref, time * x)
    return xp.where(large > 1, large, kl_of_tilt(xp, log_ref, ratio))


def time_of_tilt(
    xp: Floats, log_ref: Array, x: Array, gain: Array, shortfall: Array, high: Array
) -> Array:
    """The t in [0, high] with E_{tilt_t} x = gain = max x - shortfall, where E_ref x = 0.

    Both are given, each accurate where it is small, and the smaller one is compared.
    """
    by_gain = gain < shortfall
    top = max_on_support(xp, log_ref, x)
    left = xp.where(xp.support(log_ref), top - x, 0.0)

    def too_far(t: Array) -> tuple[Array, Array]:
        mean, spread = mean_and_variance_of_tilt(xp, log_ref, x, t)
        missing = xp.sum(xp.exp(log_softmax(xp, log_ref + t * x)) * left)
        beyond_gain = log_or_minus_infinity(xp, mean) - xp.log(gain)
        beyond_top = xp.log(shortfall) - log_or_minus_infinity(xp, missing)
        value = xp.where(by_gain, beyond_gain, beyond_top)
        return value, spread / xp.where(by_gain, mean, missing)

    return newton_bisection(
        xp, too_far, xp.full_like(high, 0.0), bracketed_above(xp, too_far, high)
    )
