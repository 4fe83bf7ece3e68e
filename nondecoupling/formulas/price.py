"""The price of reward (S5): the least SFT loss that buys a reward, and the frontier of what is possible.

What is found here in floats is certified elsewhere in balls, by weak duality.
"""

from __future__ import annotations

import math
from functools import partial

from nondecoupling.formulas.laws import INF, expectation, expected_reward, log_sum_exp
from nondecoupling.formulas.roots import newton_bisection, with_root_gradient
from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, NumberSystem


def price_of_reward_dual(
    xp: NumberSystem, log_d: Array, reward: Array, target: Array, slack: Array
) -> Array:
    """S5's dual value E_d log(1 - l (r - c)/(M - c)) at slack w = 1 - l.

    Written as E_d log((1 - w) b + w) with b = (M - r)/(M - c) >= 0: a sum of nonnegative terms.
    Every l in [0, 1] gives a lower bound on KL(d||p) for every p with E_p r >= c.
    """
    b = (xp.max(reward) - reward) / (xp.max(reward) - target)
    return expectation(xp, log_d, xp.log((1 - slack) * b + slack))


def frontier_ratio(xp: NumberSystem, reward: Array, rate: Array, offset: Array) -> Array:
    """S5: b = offset + rate (M - r) > 0; a policy p = d/b lies on the frontier."""
    return offset + rate * (xp.max(reward) - reward)


def supporting_line(
    xp: NumberSystem, log_d: Array, reward: Array, rate: Array, offset: Array
) -> Array:
    """S5: h = 1 + E_d log b - offset - rate M, with KL(d||p) >= rate E_p r + h for every p.

    Holds for every rate, offset > 0, with equality iff p = d/b. Linear in the reward of p, so it
    holds for averages over prompts with one rate.
    """
    log_b = xp.log(frontier_ratio(xp, reward, rate, offset))
    return _intercept(xp, log_d, reward, rate, offset, log_b)


def _intercept(
    xp: NumberSystem, log_d: Array, reward: Array, rate: Array, offset: Array, log_b: Array
) -> Array:
    return 1 + expectation(xp, log_d, log_b) - offset - rate * xp.max(reward)


def bernoulli_kl(xp: NumberSystem, a: Array, b: Array) -> Array:
    """kl(a, b) = a log(a/b) + (1 - a) log((1 - a)/(1 - b)) for 0 < a, b < 1."""
    return a * xp.log(a / b) + (1 - a) * xp.log((1 - a) / (1 - b))


def price_of_reward(xp: Floats, log_d: Array, reward: Array, target: Array) -> Array:
    """S5: K_inf(d, c), from one batched root in log w, w = 1 - l.

    The value is taken as KL(d||p) at the optimal p, which cannot cancel; its gradient is the dual's
    (envelope theorem), so the root itself is never differentiated.
    """
    top = xp.max(reward)
    mean = expected_reward(xp, log_d, reward)
    inner = (target > mean) & (target < top)
    on = xp.support(log_d)
    # Rows outside J(d) < c < M get a harmless stand-in (a = 0, b = 1) and are overwritten below.
    room = xp.where(inner, top - target, 1.0)
    a = xp.where(inner, (reward - target) / room, 0.0)
    b = xp.where(inner, (top - reward) / room, 1.0)
    log_w = _log_slack(xp, log_d, detached(a), detached(b))
    log_mixed = _log_mixed(xp, a, b, log_w)
    at_optimum = xp.where(on, xp.excess(xp.where(on, log_d, 0.0), -log_mixed), 0.0)
    # With l = 1 the mass missing from d/b sits on argmax r, where d has none.
    missing = xp.where(log_w > -INF, 0.0, 1 - expectation(xp, log_d, xp.exp(-log_mixed)))
    value = detached(xp.sum(at_optimum) + missing)
    dual = expectation(xp, log_d, log_mixed)
    value = value + (dual - detached(dual))
    return xp.where(target <= mean, xp.full_like(value, 0.0), xp.where(inner, value, INF))


def _log_mixed(xp: Floats, a: Array, b: Array, log_w: Array) -> Array:
    """log(1 - l a) = log(l b + w), by whichever form does not cancel."""
    w, el = xp.exp(log_w), -xp.expm1(log_w)
    near = xp.abs(el * a) < 0.5
    far = xp.where(near, 1.0, el * b + w)
    return xp.where(near, xp.log1p(-xp.where(near, el * a, 0.0)), xp.log(far))


def _log_slack(xp: Floats, log_d: Array, a: Array, b: Array) -> Array:
    """log w at the maximiser of the dual; -inf where l = 1.

    The maximiser is the root of sum d a/(l b + w), which falls in w. In log w the root stays well
    scaled both for targets near M (w -> 0) and near J(d) (log w ~ -l -> 0).
    """
    log_d = detached(log_d)
    weight = xp.exp(log_d)
    on_top = xp.sum(xp.where(b == 0, weight, 0.0)) > 0
    at_one = xp.sum(xp.where(b > 0, weight / xp.where(b > 0, b, 1.0), 0.0))
    boundary = ~on_top & (at_one <= 1)

    def falling(log_w: Array) -> tuple[Array, Array]:
        w = xp.exp(log_w)
        mixed = -xp.expm1(log_w) * b + w
        ratio = xp.where(mixed > 0, a / xp.where(mixed > 0, mixed, 1.0), 0.0)
        return -xp.sum(weight * ratio), w * xp.sum(weight * ratio * ratio)

    high = xp.full_like(at_one, 0.0)
    low = xp.full_like(at_one, math.log(xp.tiny(at_one)))
    return xp.where(boundary, -INF, newton_bisection(xp, falling, low, high))


def frontier_policy(
    xp: Floats, log_d: Array, reward: Array, rate: Array
) -> tuple[Array, Array, Array]:
    """S5: log of argmin KL(d||p) - rate E_p r, that minimum (the line's intercept), and the offset.

    p = d/b, b = offset + rate (M - r), with the offset in (0, 1] that makes it sum to one; where
    even offset = 0 leaves mass over (only if d(argmax r) = 0), that mass goes to argmax r. The
    unknown is the logarithm of the offset, which may be as small as the probability of argmax r. The
    intercept is the dual value, so it is a lower bound for whatever offset was found.
    """
    top = xp.max(reward)
    room = rate * (top - reward)
    on, best = xp.support(log_d), reward == top
    log_d = xp.where(on, log_d, -INF)
    log_top = log_sum_exp(xp, xp.where(best, log_d, -INF))
    log_room = xp.log(xp.where(best, 1.0, room))
    at_zero = xp.sum(xp.exp(xp.where(best, -INF, log_d - log_room)))
    left_over = ~xp.support(log_top) & (at_zero <= 1)

    def log_ratio(room: Array, log_offset: Array) -> Array:
        others = xp.log(xp.exp(log_offset) + xp.where(best, 1.0, room))
        return xp.where(best, log_offset + xp.full_like(room, 0.0), others)

    def missing_mass(log_d: Array, room: Array, log_offset: Array) -> tuple[Array, Array]:
        """E (b - 1) under d/b, normalised: it keeps its digits where room is one and argmax r rare."""
        log_b = log_ratio(room, log_offset)
        weights = log_d - log_b
        log_mass = log_sum_exp(xp, weights)
        offset, far = xp.exp(log_offset), xp.where(best, 0.0, room)
        above_one = xp.where(far > 0.5, far - 1 + offset, far + xp.expm1(log_offset))
        law = xp.exp(weights - log_mass)
        slope = xp.exp(-log_mass) * xp.sum(law * xp.exp(log_offset - log_b))
        return xp.sum(law * above_one), slope

    # Where argmax r has mass its part of the sum alone, d/offset, is at most one.
    low = xp.maximum(detached(log_top), math.log(xp.tiny(rate)))
    low = xp.where(xp.support(log_top), detached(log_top), low)
    fixed = detached(log_d), detached(room)
    root = newton_bisection(xp, partial(missing_mass, *fixed), low, xp.full_like(low, 0.0))
    log_offset = with_root_gradient(xp, root, *missing_mass(log_d, room, root))
    offset = xp.where(left_over, 0.0, xp.exp(log_offset))
    log_b = xp.where(left_over, log_room, log_ratio(room, log_offset))
    log_p = xp.where(on, log_d - log_b, -INF)
    spare = (1 - at_zero) / xp.sum(xp.where(best, xp.full_like(reward, 1.0), 0.0))
    log_p = xp.where(left_over & best, xp.log(spare), log_p)
    line = _intercept(xp, log_d, reward, rate, offset, log_b)
    return log_p - log_sum_exp(xp, log_p), line, offset


RATE_BISECTIONS = 64


def frontier_rates(xp: Floats, log_d: Array, reward: Array, targets: Array) -> Array:
    """For each target c [k, 1] the rate at which the frontier policies reach E_q E_p r = c.

    One rate for all prompts, the rows of ``log_d``; c lies between E_q J(d) and E_q max r. The
    reward reached rises with the rate, which is bisected in its logarithm.
    """
    module, count = xp.module, targets.shape[0]
    prompts, n = log_d.shape
    laws, rewards = (
        module.broadcast_to(x[None], (count, prompts, n)).reshape(-1, n) for x in (log_d, reward)
    )
    spread = float(module.max(xp.max(reward) - xp.min(reward)))
    eps = xp.eps(reward)
    low = xp.full_like(targets, math.log(eps / spread))
    high = xp.full_like(targets, -2 * math.log(eps) - math.log(spread))
    for _ in range(RATE_BISECTIONS):
        middle = 0.5 * (low + high)
        rates = module.broadcast_to(xp.exp(middle), (count, prompts)).reshape(-1, 1)
        log_p, *_ = frontier_policy(xp, laws, rewards, rates)
        reached = module.reshape(expectation(xp, log_p, rewards), (count, prompts))
        short = xp.sum(reached) / prompts < targets
        low, high = xp.where(short, middle, low), xp.where(short, high, middle)
    return xp.exp(0.5 * (low + high))


def price_of_average_reward(xp: Floats, log_d: Array, reward: Array, targets: Array) -> Array:
    """S5 for averages: the dual value at each target's rate, [k, 1]; prompts are the rows."""
    module = xp.module
    free, top = module.mean(expected_reward(xp, log_d, reward)), module.mean(xp.max(reward))
    outside = xp.where(targets <= free, xp.full_like(targets, 0.0), INF)
    inner = (targets > free) & (targets < top)
    if not bool(module.any(inner)):
        return outside
    asked = xp.where(inner, targets, 0.5 * (free + top))
    rates = frontier_rates(xp, detached(log_d), detached(reward), detached(asked))
    one = xp.full_like(reward[:, :1], 1.0)
    lines = [
        module.mean(frontier_policy(xp, log_d, reward, one * rates[k])[1])
        for k in range(rates.shape[0])
    ]
    price = rates * asked + module.stack(lines)[:, None]
    price = xp.where(price > 0, price, 0.0)  # a rounded dual value near J(d)
    return xp.where(inner, price, outside)
