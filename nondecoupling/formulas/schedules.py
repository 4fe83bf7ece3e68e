"""Other ways to move a policy: best of n, replay, weighted SFT (T7-T9), no leash (T10), alternation (T6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import array_api_compat

from nondecoupling.formulas.laws import INF, expectation, from_mode, log_softmax, log_sum_exp
from nondecoupling.formulas.roots import newton_bisection, with_root_gradient
from nondecoupling.numbers.floats import Floats, detached
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
    mass = xp.exp(log_ref)[..., None, :]
    theirs, own = reward[..., None, :], reward[..., :, None]
    better, worse = theirs > own, theirs < own

    def total(chosen: Mask) -> Array:
        return xp.sum(xp.where(chosen, mass, 0.0))[..., 0]

    above, below, level = total(better), total(worse), total(~(better | worse))
    at_most = below + level
    beats_some = xp.positive(below)
    log_at_most = -xp.log1p(above / xp.where(xp.positive(at_most), at_most, 1.0))
    odds = level / xp.where(beats_some, below, 1.0)
    log_worse = xp.where(beats_some, -xp.log1p(odds), 0.0)
    return Levels(xp.log(level), log_at_most, log_worse, beats_some)


def best_of_n(xp: NumberSystem, log_ref: Array, n: Array, levels: Levels) -> Array:
    """T7: log of the law of the best of n draws from ref; of draws that tie, the first one wins.

    The best is no better than y with probability F^n and worse with F_-^n, where F = ref(r <= r(y)) and
    F_- = ref(r < r(y)); within a level of the reward it is distributed as ref.
    """
    on = xp.support(log_ref)
    log_share_worse = n * xp.where(levels.beats_some, levels.log_worse, -1.0)
    some_draw_is_here = xp.where(levels.beats_some, xp.log(-xp.expm1(log_share_worse)), 0.0)
    none_is_better = n * xp.where(on, levels.log_at_most, 0.0)
    within = xp.where(on, log_ref, 0.0) - xp.where(on, levels.log_level, 0.0)
    return xp.where(on, within + none_is_better + some_draw_is_here, -INF)


def best_of_n_bounds(xp: NumberSystem, n: Array) -> tuple[Array, Array]:
    """T7: log n - (n-1)/n above KL(pi_n||ref), and n - 1 - log n above KL(ref||pi_n)."""
    log_n = xp.log(n)
    return log_n - (n - 1) / n, n - 1 - log_n


def replay_bound(xp: NumberSystem, kl: Array, share: Array) -> Array:
    """T8: -log(1 - v + v e^-kl), above KL(d||(1-v) d + v p) for kl = KL(d||p)."""
    lost = share * xp.expm1(-kl)
    # Near -1 the sum of 1 - v and v e^-kl keeps the digits that 1 + lost would lose.
    near = xp.positive(lost + 0.5)
    kept = 1 - share
    some = xp.positive(kept) & ~near
    far = xp.where(some, -xp.log(xp.where(some, kept + share * xp.exp(-kl), 1.0)), kl)
    return xp.where(near, -xp.log1p(xp.where(near, lost, 0.0)), far)


def sharpened(xp: NumberSystem, log_d: Array, sharpness: Array) -> Array:
    """log of d^q / sum d^q, the tilt of d by log d at time q - 1; the shift keeps large q exact."""
    return log_softmax(xp, sharpness * from_mode(xp, log_d, log_d))


def leashless_law(
    xp: NumberSystem, log_ref: Array, reward: Array, tau: Array, room: Array
) -> tuple[Array, Array]:
    """T10: log p, p = 1/(C D), and log D, for D = 1/ref + sigma - tau r, sigma = max(tau r - 1/ref) + room.

    On the path of policy gradient from ref, room is such that sum log(ref D) = 0.
    """
    pole = tau * reward - xp.exp(-log_ref)
    log_inverse = xp.log(xp.max(pole) - pole + room)
    return log_softmax(xp, -log_inverse), log_inverse


def leashless_policy(xp: Floats, log_ref: Array, reward: Array, tau: Array) -> Array:
    """T10: log of the policy at tau on the path of policy gradient from ref.

    The unknown is u = log room, in which sum log(ref D) is increasing and convex: room may be as small as
    tau^{1-n}. log(ref D) is taken as log1p(ref (sigma - tau r)) where that is small.
    """
    on = xp.support(log_ref)
    log_ref = xp.where(on, log_ref, 0.0)
    x = tau * xp.where(on, from_mode(xp, log_ref, reward), 0.0)
    most = -math.log(xp.tiny(log_ref))
    rarity = xp.exp(xp.minimum(-log_ref, most))
    leader = xp.mode(xp.where(on, detached(x - rarity), -INF))
    behind, least = xp.gather(x, leader) - x, xp.gather(rarity, leader)
    gap = xp.where(on, behind + (rarity - least), 1.0)
    apart = gap > 0

    def log_factors(inputs: Sequence[Array], u: Array) -> Array:
        """log(ref D), zero off the support."""
        (log_ref, behind, gap, least), room = inputs, xp.exp(u)
        change = xp.exp(log_ref) * (behind + (room - least))
        near = xp.abs(change) < 0.5
        sum_of_both = xp.where(apart & ~near, gap + room, 1.0)
        far = log_ref + xp.where(apart, xp.log(sum_of_both), u)
        return xp.where(on, xp.where(near, xp.log1p(xp.where(near, change, 0.0)), far), 0.0)

    def value_and_slope(inputs: Sequence[Array], u: Array) -> tuple[Array, Array]:
        room = xp.exp(u)
        share = xp.where(apart, room / xp.where(apart, gap + room, 1.0), 1.0)
        return xp.sum(log_factors(inputs, u)), xp.sum(xp.where(on, share, 0.0))

    inputs = log_ref, behind, gap, least
    fixed = [detached(value) for value in inputs]
    # sigma = tau max r makes every factor at least one; the leader's own factor is e^u ref.
    best = xp.max(xp.where(on, detached(x), -INF))
    high = xp.log(best - xp.gather(detached(x), leader) + fixed[3])
    low = high - value_and_slope(fixed, high)[0]
    root = newton_bisection(xp, partial(value_and_slope, fixed), low, high)
    root = with_root_gradient(xp, root, *value_and_slope(inputs, root))
    return xp.where(
        on, log_softmax(xp, xp.where(on, log_ref - log_factors(inputs, root), -INF)), -INF
    )


def alternated(
    xp: NumberSystem, log_d: Array, reward: Array, rl_time: Array, log_slack: Array, phase: float
) -> tuple[Array, Array]:
    """T6: log of d e^{phase x}/(1 - k e^x), normalised, and log of what that sums to.

    x = s (r - max r), k = 1 - slack the rate. Where the share eta of SFT is one over the sum at phase 0, the
    law is the limit of cycles of RL for the time s and SFT: after SFT, or after a part of the next RL.
    """
    x = rl_time * (reward - xp.max(reward))
    weights = log_d + phase * x - _log_held(xp, x, log_slack)
    log_total = log_sum_exp(xp, weights)
    return weights - log_total, log_total


def _log_held(xp: NumberSystem, x: Array, log_slack: Array) -> Array:
    """log(1 - k e^x) as slack e^x + (1 - e^x), a sum of nonnegative terms; the slack where x = 0."""
    short = x < 0
    held = xp.exp(xp.where(short, log_slack + x, 0.0)) - xp.expm1(xp.where(short, x, 0.0))
    return xp.where(short, xp.log(held), log_slack)


def alternation_slack(
    xp: Floats, log_d: Array, reward: Array, rl_time: Array, sft_share: Array
) -> Array:
    """T6: log(1 - k), k the rate at which cycles with the share eta of SFT converge.

    eta sum d/(1 - k e^x) = 1 is solved as E (1 - k e^x - eta) = 0 under the law d/(1 - k e^x), normalised:
    no sum comes near one, where a rare best response or a tiny share would be lost.
    """
    inputs = log_d, reward, rl_time, sft_share
    mostly_sft = sft_share > 0.5

    def imbalance(inputs: Sequence[Array], log_slack: Array) -> tuple[Array, Array]:
        log_d, reward, rl_time, sft_share = inputs
        x = rl_time * (reward - xp.max(reward))
        log_held = _log_held(xp, x, log_slack)
        log_p, log_total = alternated(xp, log_d, reward, rl_time, log_slack, 0)
        few = 1 - sft_share + xp.expm1(log_slack) * xp.exp(x)  # 1 - eta - k e^x
        value = expectation(xp, log_p, xp.where(mostly_sft, few, xp.exp(log_held) - sft_share))
        moved = expectation(xp, log_p, xp.exp(log_slack + x - log_held))
        return value, xp.exp(-log_total) * moved

    fixed = [detached(value) for value in inputs]
    best = log_sum_exp(xp, xp.where(reward < xp.max(reward), -INF, fixed[0]))
    high = xp.log(fixed[3])
    root = newton_bisection(xp, partial(imbalance, fixed), high + best, high)
    return with_root_gradient(xp, root, *imbalance(inputs, root))


def levels_by_sorting(xp: Floats, log_ref: Array, reward: Array) -> Levels:
    """The same in floats in n log^2 n steps: running sums of log masses in the order of the rewards."""
    module, size = xp.module, reward.shape[-1]
    order = module.argsort(reward, axis=-1)
    ranked, log_mass = xp.gather(reward, order), xp.gather(log_ref, order)
    places = module.zeros_like(order) + module.arange(size, device=array_api_compat.device(order))
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
    log_worse = -_log_one_plus_ratio(xp, own, below)
    log_at_most = -_log_one_plus_ratio(xp, above, at_most)
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
        total = xp.module.concat([total[..., :step], _log_add(xp, later, before)], axis=-1)
        step *= 2
    return total


def _log_add(xp: Floats, a: Array, b: Array) -> Array:
    """log(e^a + e^b)."""
    top = xp.maximum(a, b)
    some = xp.support(top)
    apart = xp.abs(xp.where(some, a, 0.0) - xp.where(some, b, 0.0))
    return top + xp.where(some, xp.log1p(xp.exp(-apart)), 0.0)


def _log_one_plus_ratio(xp: Floats, log_a: Array, log_b: Array) -> Array:
    """log(1 + a/b); 0 where b is zero, whatever a."""
    some = xp.support(log_a) & xp.support(log_b)
    odds = xp.where(some, log_a, 0.0) - xp.where(some, log_b, 0.0)
    return xp.where(some, xp.maximum(odds, 0.0) + xp.log1p(xp.exp(-xp.abs(odds))), 0.0)
