"""Other ways to move a policy: best of n, replay, weighted SFT (T7-T9), no leash (T10), alternation (T6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from nondecoupling.formulas.laws import INF, expectation, from_mode, log_softmax, log_sum_exp
from nondecoupling.formulas.levels import Levels
from nondecoupling.formulas.roots import newton_bisection, with_root_gradient
from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, NumberSystem


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
    on = xp.support(log_d)
    shifted = from_mode(xp, log_d, xp.where(on, log_d, 0.0))
    return log_softmax(xp, xp.where(on, sharpness * shifted, -INF))


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
