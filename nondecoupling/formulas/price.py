"""The price of reward (S5): the least SFT loss that buys a reward, and the frontier of what is possible.

What is found here in floats is certified elsewhere in balls, by weak duality.
"""

from __future__ import annotations

import math
from functools import partial

from nondecoupling.formulas.laws import INF, centred, expectation, expected_reward, log_sum_exp
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
    b = frontier_ratio(xp, reward, rate, offset)
    return 1 + expectation(xp, log_d, xp.log(b)) - offset - rate * xp.max(reward)


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
    intercept is the dual value, so it is a lower bound for whatever offset was found.
    """
    top = xp.max(reward)
    room = rate * (top - reward)
    weight, on, best = xp.exp(log_d), xp.support(log_d), reward == top
    on_top = xp.sum(xp.where(best, weight, 0.0))
    at_zero = xp.sum(xp.where(room > 0, weight / xp.where(room > 0, room, 1.0), 0.0))
    left_over = ~(on_top > 0) & (at_zero <= 1)

    def missing_mass(weight: Array, room: Array, offset: Array) -> tuple[Array, Array]:
        share = xp.where(on, weight / (offset + room), 0.0)
        return 1 - xp.sum(share), xp.sum(xp.where(on, share / (offset + room), 0.0))

    # Where argmax r has mass its part of the sum alone, d/offset, is at most one.
    low = xp.where(on_top > 0, on_top, xp.tiny(rate))
    fixed = detached(weight), detached(room)
    root = newton_bisection(
        xp, partial(missing_mass, *fixed), detached(low), xp.full_like(detached(rate), 1.0)
    )
    root = with_root_gradient(xp, root, *missing_mass(weight, room, root))
    offset = xp.where(left_over, 0.0, root)
    log_p = xp.where(on, log_d - xp.log(frontier_ratio(xp, reward, rate, offset)), -INF)
    spare = (1 - at_zero) / xp.sum(xp.where(best, xp.full_like(reward, 1.0), 0.0))
    log_p = xp.where(left_over & best, xp.log(spare), log_p)
    line = supporting_line(xp, log_d, reward, rate, offset)
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


def overpaid(xp: NumberSystem, log_d: Array, log_p: Array, log_ratio: Array) -> Array:
    """S9: E_d[z - 1 - log z] + E_p[1_{d=0} b], z = p b/d, for a ratio b > 0 on supp d.

    Equals KL(d||p) - E_d log b - (1 - E_p b) for every b, which at the b of the frontier is what p pays
    beyond the price of its reward; a sum of nonnegative terms.
    """
    on = xp.support(log_d)
    log_z = xp.where(on, log_p + log_ratio, 0.0) - xp.where(on, log_d, 0.0)
    on_data = xp.excess(xp.where(on, log_d, 0.0), log_z)
    return xp.sum(xp.where(on, on_data, xp.exp(log_p + log_ratio)))


def dual_ratio(xp: NumberSystem, reward: Array, target: Array, slack: Array) -> Array:
    """1 - l (r - c)/(M - c) at slack w = 1 - l, as the sum l (M - r)/(M - c) + w."""
    top = xp.max(reward)
    return (1 - slack) * (top - reward) / (top - target) + slack


def overpayment(xp: Floats, log_d: Array, log_p: Array, reward: Array) -> Array:
    """S9: KL(d||p) - K_inf(d, J(p)), as ``overpaid`` at the maximiser of the dual.

    Errors in l and in c = J(p) enter squared, since the identity is stationary in both there; for the
    same reason both are held fixed under differentiation. M - J(p) is summed as E_p (M - r) in logarithms.
    """
    top = xp.max(reward)
    below = reward < top
    log_gap = xp.where(below, xp.log(xp.where(below, top - reward, 1.0)), -INF)
    log_room = detached(log_sum_exp(xp, log_p + log_gap))
    gain = detached(centred(xp, log_p, reward)) + (reward - detached(reward))
    # At or below J(d) the price is zero, and at M only a p that misses data is left: b = 1 for both.
    inner = (expectation(xp, log_d, detached(gain)) < 0) & (log_room > -INF)
    log_room = xp.where(inner, log_room, 0.0)
    unit = xp.maximum(xp.exp(log_room), xp.tiny(log_room))
    log_b = xp.where(inner, log_gap - log_room - (top - detached(top)) / unit, 0.0)
    # Beyond this b only log b matters, and its square would overflow.
    b = xp.exp(xp.minimum(log_b, -0.48 * math.log(xp.tiny(log_room))))
    a = xp.where((b > 0.5) & (b < 2), gain * b / xp.where(below, top - reward, 1.0), 1 - b)
    a = xp.where(inner, a, 0.0)
    log_w = xp.where(inner, _log_slack(xp, log_d, detached(a), detached(b)), 0.0)
    return overpaid(xp, log_d, log_p, _log_dual_ratio(xp, a, log_b, log_w))


def _log_dual_ratio(xp: Floats, a: Array, log_b: Array, log_w: Array) -> Array:
    """log(1 - l a) = log(l b + w) for any size of b, by whichever form does not cancel."""
    el = -xp.expm1(log_w)
    small = xp.abs(el * a) < 0.5
    log_lb = xp.log(el) + log_b
    size = detached(xp.maximum(log_lb, log_w))
    size = xp.where(size > -INF, size, 0.0)
    total = xp.exp(log_lb - size) + xp.exp(log_w - size)
    some = (total > 0) & ~small
    far = xp.where(some, size + xp.log(xp.where(some, total, 1.0)), -INF)
    return xp.where(small, xp.log1p(-xp.where(small, el * a, 0.0)), far)
