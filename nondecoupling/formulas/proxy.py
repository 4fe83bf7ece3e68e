"""Proxy and gold (G1): a policy is trained on one reward and judged by another."""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    expectation,
    from_mode,
    kl_divergence,
    max_on_support,
    min_on_support,
)
from nondecoupling.formulas.rl_then_sft import largest_rise
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, NumberSystem


def covariance(xp: NumberSystem, log_p: Array, one: Array, other: Array) -> Array:
    """Cov_p(g, r) = E_p[(g - E_p g) r], both taken from the mode."""
    one, other = from_mode(xp, log_p, one), from_mode(xp, log_p, other)
    return expectation(xp, log_p, (one - expectation(xp, log_p, one)) * other)


def reward_gain(xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array) -> Array:
    """J(p) - J(ref), with rewards from one response so that an offset does not cancel."""
    shifted = from_mode(xp, log_ref, reward)
    return expectation(xp, log_p, shifted) - expectation(xp, log_ref, shifted)


def disagreement(xp: NumberSystem, log_ref: Array, reward: Array, gold: Array) -> Array:
    """G1: the range of r - g on supp ref."""
    gap = reward - gold
    return max_on_support(xp, log_ref, gap) - min_on_support(xp, log_ref, gap)


def overrated(xp: NumberSystem, log_ref: Array, reward: Array, gold: Array) -> tuple[Array, Array]:
    """G1: (range f, range (1 - f)), f = (r - g - min)/range: how far r overrates a response, and not."""
    gap = reward - gold
    low, high = min_on_support(xp, log_ref, gap), max_on_support(xp, log_ref, gap)
    return gap - low, high - gap


def gold_gain_bound(xp: Floats, log_p: Array, log_ref: Array, reward: Array, gold: Array) -> Array:
    """G1: J_r(p) - J_r(ref) - range (x - E_ref f), x the largest with kl(x, E_ref f) <= KL(p||ref).

    x is R4's exact rise of the law (1 - m, m), m = E_ref f, of the reward (0, 1).
    """
    spread = disagreement(xp, log_ref, reward, gold)
    differs = spread > 0
    # Where r - g is constant any law stands in for (1 - m, m), and nothing is taken off.
    part, rest = (
        xp.where(differs, expectation(xp, log_ref, f / xp.where(differs, spread, 1.0)), 0.5)
        for f in overrated(xp, log_ref, reward, gold)
    )
    two_outcomes = xp.module.concat([xp.log(rest), xp.log(part)], axis=-1)
    scores = xp.module.concat([0.0 * rest, 1.0 + 0.0 * part], axis=-1)
    rise = largest_rise(xp, two_outcomes, scores, kl_divergence(xp, log_p, log_ref))
    return reward_gain(xp, log_p, log_ref, reward) - xp.where(differs, spread * rise, 0.0)
