"""The tilt, ref e^{r/beta}/Z: the exact optimum of RL under a KL leash (F3, I1), and its family in time.

``x`` is the reward in units of beta; with a time t = 1/beta the family is tilt_t = ref e^{tx}/Z_t.
"""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    at_mode,
    centred,
    expected_reward,
    from_mode,
    kl_divergence,
    log_one_plus_excess,
    log_softmax,
    log_sum_exp,
)
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
    """log of tilt = ref e^{r/beta} / Z, the exact optimum of KL-regularised RL."""
    x = log_ref + reward_in_units_of_beta(xp, log_ref, reward, beta)
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


def mean_and_variance_of_tilt(
    xp: Floats, log_ref: Array, x: Array, time: Array
) -> tuple[Array, Array]:
    """E x and Var x under tilt_t; the mean is sum ref x (e^{tx} - 1)/Z_t, which keeps small ones."""
    tx = time * x
    tilt = xp.exp(log_softmax(xp, log_ref + tx))
    untilted = xp.exp(log_ref - log_one_plus_excess(xp, log_ref, tx))
    near = xp.abs(tx) < 0.5
    grown = xp.expm1(xp.where(near, tx, 0.0))
    mean = xp.sum(xp.where(near, untilted * grown, tilt - untilted) * x)
    return mean, xp.sum(tilt * xp.square(x - mean))


def divergence_of_tilt(xp: Floats, log_ref: Array, x: Array, time: Array) -> Array:
    """KL(tilt_t||ref); for small tx as the coupling gap back from tilt_t, which does not cancel."""
    tilt = log_softmax(xp, log_ref + time * x)
    back = time * centred(xp, tilt, x)
    small = xp.max(xp.abs(xp.where(xp.support(log_ref), time * x, 0.0))) < 0.5
    near = log_one_plus_excess(xp, tilt, -xp.where(small, back, 0.0))
    return xp.where(small, near, kl_divergence(xp, tilt, log_ref))
