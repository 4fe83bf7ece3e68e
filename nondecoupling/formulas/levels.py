"""Levels of the reward: under a law, the mass that is better, as good and worse than each response."""

from __future__ import annotations

from typing import NamedTuple

from nondecoupling.formulas.laws import INF, log_add_exp, log_sum_exp, overflow_shift
from nondecoupling.numbers.floats import Floats, device_of
from nondecoupling.numbers.number_system import Array, Mask, NumberSystem


class Levels(NamedTuple):
    """The masses that a draw of each response's reward competes with, under one law."""

    log_level: Array
    """log of the mass at the same reward."""
    log_at_most: Array
    """log of the mass that is no better; at most 0 and accurate near it."""
    log_worse: Array
    """log of the share of that mass which is worse; 0 where nothing is worse."""
    beats_some: Mask
    """Where some mass is worse."""


def levels_by_comparison(xp: NumberSystem, log_ref: Array, reward: Array) -> Levels:
    """Every reward against every other, in any number system.

    Rewards that a ball cannot tell apart count as equal: precision, not a tolerance, separates them.
    """
    theirs, own = reward[..., None, :], reward[..., :, None]
    better, worse = theirs > own, theirs < own

    def log_mass(chosen: Mask) -> Array:
        return log_sum_exp(xp, xp.where(chosen, log_ref[..., None, :], -INF))[..., 0]

    below, level = log_mass(worse), log_mass(~(better | worse))
    log_at_most = -log_one_plus_ratio(xp, log_mass(better), log_mass(~better))
    return Levels(level, log_at_most, -log_one_plus_ratio(xp, level, below), xp.support(below))


def levels_by_sorting(xp: Floats, log_ref: Array, reward: Array) -> Levels:
    """The same in floats in n log^2 n steps: running sums of log masses in the order of the rewards."""
    module, size = xp.module, reward.shape[-1]
    order = module.argsort(reward, axis=-1)
    ranked, log_mass = xp.gather(reward, order), xp.gather(log_ref, order)
    places = module.zeros_like(order) + module.arange(size, device=device_of(order))
    new = ranked[..., 1:] != ranked[..., :-1]
    opens = module.concat([places[..., :1] == 0, new], axis=-1)
    level = module.cumulative_sum(module.astype(opens, places.dtype), axis=-1) - 1
    ends = module.zeros_like(places[..., :1]) + size
    firsts = module.concat([module.sort(xp.where(opens, places, ends), axis=-1), ends], axis=-1)
    first, stop = xp.gather(firsts, level), xp.gather(firsts, level + 1)

    def up_to(log_mass: Array) -> Array:
        nothing = xp.full_like(log_mass[..., :1], -INF)
        sums = _running_log_sum(xp, log_mass, module.zeros_like(places))
        return module.concat([nothing, sums], axis=-1)

    from_below = up_to(log_mass)
    from_above = module.flip(up_to(module.flip(log_mass, axis=-1)), axis=-1)
    own = xp.gather(_running_log_sum(xp, log_mass, level), stop - 1)
    below, at_most = xp.gather(from_below, first), xp.gather(from_below, stop)
    above = xp.gather(from_above, stop)
    log_worse = -log_one_plus_ratio(xp, own, below)
    log_at_most = -log_one_plus_ratio(xp, above, at_most)
    back = module.argsort(order, axis=-1)
    own, log_at_most, log_worse, below = (
        xp.gather(x, back) for x in (own, log_at_most, log_worse, below)
    )
    return Levels(own, log_at_most, log_worse, xp.support(below))


def _running_log_sum(xp: Floats, log_mass: Array, segment: Array) -> Array:
    """log of the running sums of masses along the last axis, begun anew in each segment."""
    step, total = 1, log_mass
    while step < log_mass.shape[-1]:
        same = segment[..., step:] == segment[..., :-step]
        before = xp.where(same, total[..., :-step], -INF)
        later = total[..., step:]
        total = xp.module.concat([total[..., :step], log_add_exp(xp, later, before)], axis=-1)
        step *= 2
    return total


def log_one_plus_ratio(xp: NumberSystem, log_a: Array, log_b: Array) -> Array:
    """log(1 + a/b); 0 where b is zero, whatever a."""
    some = xp.support(log_a) & xp.support(log_b)
    odds = xp.where(some, log_a, 0.0) - xp.where(some, log_b, 0.0)
    shift = overflow_shift(xp, odds[..., None])[..., 0]
    ratio = xp.log1p(xp.expm1(-shift) + xp.exp(odds - shift))
    return xp.where(some, shift + ratio, 0.0)
