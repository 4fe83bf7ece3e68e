"""The price of reward (S5): the least SFT loss that buys a reward, and the frontier of what is possible.

What is found here in floats is certified elsewhere in balls, by weak duality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from nondecoupling.formulas.laws import (
    INF,
    centred,
    expectation,
    expected_reward,
    from_mode,
    log_add_exp,
    log_or_minus_infinity,
    log_sum_exp,
    log_sum_exp_of_some,
    total_variation_bounds,
)
from nondecoupling.formulas.roots import (
    newton_bisection,
    with_envelope_gradient,
    with_root_gradient,
)
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


def highest_reward(xp: NumberSystem, log_d: Array, reward: Array, excess: Array) -> Array:
    """S7: J(d) + R min(sqrt(x/2), sqrt(1 - e^-x)), or max r: above J(p) of every p with KL(d||p) <= x."""
    top = xp.max(reward)
    moved = (top - xp.min(reward)) * xp.minimum(*total_variation_bounds(xp, excess))
    return xp.minimum(expected_reward(xp, log_d, reward) + moved, top)


def bernoulli_kl(xp: NumberSystem, a: Array, b: Array) -> Array:
    """kl(a, b) = a log(a/b) + (1 - a) log((1 - a)/(1 - b)) for 0 < a, b < 1."""
    return a * xp.log(a / b) + (1 - a) * xp.log((1 - a) / (1 - b))


# --- the price at a reward: one root in log w, w = 1 - l -----------------------------------------


def price_of_reward(xp: Floats, log_d: Array, reward: Array, target: Array) -> Array:
    """S5: K_inf(d, c), from one batched root in log w, w = 1 - l."""
    distance = xp.max(reward) - target
    return _price(xp, log_d, reward, target, log_or_minus_infinity(xp, distance))


def price_of_policy(xp: Floats, log_d: Array, log_p: Array, reward: Array) -> Array:
    """S5: K_inf(d, c) at c = E_p r, made less by what its own rounding may add.

    The reward is measured from the mode of d, and from its maximum in logs, so that neither a small gain over
    d nor a small distance to max r loses digits.
    """
    y = from_mode(xp, log_d, reward)
    mass = xp.exp(log_p)
    # Two roundings of difference and product, three of exp, n of the sum.
    slack = 2 * xp.eps(y) * (y.shape[-1] + 5)
    target = xp.sum(mass * y) - slack * xp.sum(mass * xp.abs(y))
    log_left = log_p + log_or_minus_infinity(xp, xp.max(y) - y)
    # A logarithm rounds in units of its size.
    log_distance = log_sum_exp_of_some(xp, log_left)
    on = xp.support(log_left)
    sizes = xp.abs(log_p) + xp.abs(xp.where(on, log_left, 0.0))
    share = xp.where(on, xp.exp(log_left - xp.pivot(log_left)), 0.0)
    size = xp.sum(share * xp.where(on, sizes, 0.0)) / xp.where(
        xp.support(log_distance), xp.sum(share), 1.0
    )
    return _price(xp, log_d, y, target, log_distance + slack * (1 + size))


def _price(xp: Floats, log_d: Array, reward: Array, target: Array, log_distance: Array) -> Array:
    """K_inf(d, c), c = target = max r - distance; the smaller of c - J(d) and the distance is relied on.

    The value is taken as KL(d||p) at the optimal p, which cannot cancel; its gradient is the dual's
    (envelope theorem), so the root itself is never differentiated.
    """
    top = xp.max(reward)
    mean = expected_reward(xp, log_d, reward)
    inner = (target > mean) & xp.support(log_distance)
    on = xp.support(log_d)
    # Rows outside J(d) < c < M get a harmless stand-in (a = 0, b = 1) and are overwritten below.
    log_room = xp.where(inner, log_distance, 0.0)
    room = xp.exp(log_room)
    log_b = xp.where(inner, log_or_minus_infinity(xp, top - reward) - log_room, 0.0)
    nearer_to_mean = inner & (target - mean < room)
    by_mean = (reward - target) / xp.where(nearer_to_mean, room, 1.0)
    b = xp.exp(xp.minimum(log_b, xp.full_like(log_b, _LARGEST_LOG_RATIO)))
    a = xp.where(nearer_to_mean, by_mean, 1 - b)
    a = xp.where(inner, a, 0.0)
    log_w = _log_slack(xp, *map(detached, (log_d, a, log_b)))
    log_mixed = xp.where(on, _log_mixed(xp, a, log_b, log_w), 0.0)
    at_optimum = xp.where(on, xp.excess(xp.where(on, log_d, 0.0), -log_mixed), 0.0)
    # With l = 1 the mass missing from d/b sits on argmax r, where d has none.
    missing = xp.where(log_w > -INF, 0.0, 1 - expectation(xp, log_d, xp.exp(-log_mixed)))
    dual = expectation(xp, log_d, log_mixed)
    value = with_envelope_gradient(xp.sum(at_optimum) + missing, dual)
    return xp.where(target <= mean, xp.full_like(value, 0.0), xp.where(inner, value, INF))


# Beyond it 1 - b is used by its logarithm alone.
_LARGEST_LOG_RATIO = 80.0


def _log_mixed(xp: Floats, a: Array, log_b: Array, log_w: Array) -> Array:
    """log(1 - l a) = log(l b + w), a = 1 - b, for any size of b, by whichever form does not cancel."""
    el = -xp.expm1(log_w)
    near = (xp.abs(el * a) < 0.5) & (log_b < _LARGEST_LOG_RATIO)
    log_el = log_or_minus_infinity(xp, xp.where(near, 1.0, el))
    far = log_add_exp(xp, log_el + xp.where(near, 0.0, log_b), log_w)
    return xp.where(near, xp.log1p(-xp.where(near, el * a, 0.0)), far)


def _log_slack(xp: Floats, log_d: Array, a: Array, log_b: Array) -> Array:
    """log w at the maximiser of the dual; -inf where l = 1.

    The maximiser is the root of sum d a/(l b + w), which falls in w. There sum d/(l b + w) = 1, so w
    is at least d(argmax r), however small that is.
    """
    below = xp.support(log_b)
    log_on_top = log_sum_exp(xp, xp.where(below, -INF, log_d))
    at_one = xp.sum(xp.where(below, xp.exp(log_d - xp.where(below, log_b, 0.0)), 0.0))
    boundary = ~xp.support(log_on_top) & (at_one <= 1)
    log_size = xp.where(log_b < _LARGEST_LOG_RATIO, log_or_minus_infinity(xp, xp.abs(a)), log_b)
    sign = xp.where(a < 0, -1.0, xp.full_like(a, 1.0))

    def falling(log_w: Array) -> tuple[Array, Array]:
        log_mixed = _log_mixed(xp, a, log_b, log_w)
        log_share = log_size + log_d - log_mixed
        steep = log_share + log_size + log_w - log_mixed
        return -xp.sum(sign * xp.exp(log_share)), xp.sum(xp.exp(steep))

    high = xp.full_like(at_one, 0.0)
    low = xp.where(xp.support(log_on_top), log_on_top, math.log(xp.tiny(at_one)))
    return xp.where(boundary, -INF, newton_bisection(xp, falling, low, high))


# --- the frontier: the policy at a rate, and the rate at an average reward -----------------------


@dataclass(frozen=True)
class FrontierPolicy:
    """p = d/b, b = offset + rate (M - r), for each row; where offset = 0, ``spare`` mass is on argmax r.

    ``shortfall`` is M - J(p) and ``gain`` J(p) - J(d), each accurate where it is small; ``slope`` is
    the derivative of the gain in log rate, ``paid`` is KL(d||p).
    """

    log_offset: Array
    spare: Array
    shortfall: Array
    gain: Array
    slope: Array
    paid: Array


def _log_ratio(xp: Floats, rate: Array, below: Array, log_offset: Array) -> Array:
    """log b, b = offset + rate (M - r), also where b is near one; ``below`` is M - r."""
    room = rate * below
    # One is taken from whichever of the two is nearer to it: the other may be tiny beside it.
    above_one = xp.where(room > 0.5, room - 1 + xp.exp(log_offset), room + xp.expm1(log_offset))
    near = xp.abs(above_one) < 0.5
    log_room = log_or_minus_infinity(xp, xp.where(near, 1.0, room))
    far = log_add_exp(xp, log_room, log_offset)
    return xp.where(near, xp.log1p(xp.where(near, above_one, 0.0)), far)


def _change(xp: Floats, log_d: Array, log_b: Array) -> tuple[Array, Array]:
    """p and p - d for p = d/b; the difference is accurate where b is near one."""
    on = xp.support(log_d)
    law, ratio = xp.where(on, log_d, 0.0), xp.where(on, log_b, 0.0)
    far = xp.abs(ratio) > 1
    share, weight = xp.exp(law - ratio), xp.exp(law)
    change = xp.where(far, share - weight, weight * xp.expm1(-xp.where(far, 0.0, ratio)))
    return xp.where(on, share, 0.0), xp.where(on, change, 0.0)


def _missing_mass(
    xp: Floats, log_d: Array, rate: Array, below: Array, log_offset: Array
) -> tuple[Array, Array]:
    """-log sum d/b, which rises in the logarithm of the offset, and its slope."""
    log_b = _log_ratio(xp, rate, below, log_offset)
    share, change = _change(xp, log_d, log_b)
    mass = xp.sum(change)
    return -xp.log1p(mass), xp.sum(share * xp.exp(log_offset - log_b)) / (1 + mass)


def on_the_frontier(xp: Floats, log_d: Array, rate: Array, below: Array) -> FrontierPolicy:
    """S5: the policy p = d/b of each row that minimises KL(d||p) - rate E_p r; ``below`` is M - r.

    The offset in (0, 1] that makes d/b sum to one is sought by its logarithm, since it is as small as
    d(argmax r) may be. Where even offset = 0 leaves mass over (only if d(argmax r) = 0), that mass
    goes to argmax r.
    """
    fixed = [detached(x) for x in (log_d, rate, below)]
    log_on_top = log_sum_exp(xp, xp.where(below > 0, -INF, fixed[0]))
    log_ratio_at_zero = log_or_minus_infinity(xp, rate * below)
    at_zero = xp.where(below > 0, log_d - log_ratio_at_zero, -INF)
    left_over = ~xp.support(log_on_top) & (xp.sum(xp.exp(detached(at_zero))) <= 1)
    spare = xp.where(left_over, 1 - xp.sum(xp.exp(xp.where(left_over, at_zero, -INF))), 0.0)
    low = xp.where(xp.support(log_on_top), log_on_top, math.log(xp.tiny(rate)))
    low = xp.where(left_over, 0.0, low)  # no root to seek
    root = newton_bisection(xp, partial(_missing_mass, xp, *fixed), low, xp.full_like(low, 0.0))
    value, rise = _missing_mass(xp, log_d, rate, below, root)
    log_offset = xp.where(left_over, -INF, with_root_gradient(xp, root, value, rise))
    log_b = _log_ratio(xp, rate, below, log_offset)
    share, change = _change(xp, log_d, log_b)
    mean_below = xp.sum(xp.where(xp.support(log_d), xp.exp(log_d) * below, 0.0))
    # d gain/d rate = sum w below^2 - (sum w below)^2/sum w with w = d/b^2; argmax r counts in sum w alone.
    beside_top = xp.where(below > 0, share * xp.exp(-log_b), 0.0)
    by_room = xp.sum(beside_top * below)
    everything = xp.sum(xp.where(share > 0, share * xp.exp(-log_b), 0.0))
    correction = xp.where(left_over, 0.0, by_room * (by_room / everything))
    on = xp.support(log_d)
    paid = xp.excess(xp.where(on, log_d, 0.0), -xp.where(on, log_b, 0.0))
    return FrontierPolicy(
        log_offset=log_offset,
        spare=spare,
        shortfall=xp.sum(share * below),
        gain=xp.sum(change * (mean_below - below)) + spare * mean_below,
        slope=rate * (xp.sum(beside_top * below * below) - correction),
        paid=xp.sum(xp.where(on, paid, 0.0)) + spare,
    )


def frontier_policy(
    xp: Floats, log_d: Array, reward: Array, rate: Array
) -> tuple[Array, Array, Array]:
    """S5: log of argmin KL(d||p) - rate E_p r, that minimum (the line's intercept), and the offset.

    The intercept is the dual value, so it is a lower bound for whatever offset was found.
    """
    top = xp.max(reward)
    below = top - reward
    found = on_the_frontier(xp, log_d, rate, below)
    left_over = ~xp.support(found.log_offset)
    log_b = _log_ratio(xp, rate, below, found.log_offset)
    on, best = xp.support(log_d), below <= 0
    reached = xp.where(on, log_b, 0.0)
    log_p = xp.where(on, log_d - reached, -INF)
    log_spare = log_or_minus_infinity(xp, found.spare) - xp.log(
        xp.sum(xp.where(best, xp.full_like(reward, 1.0), 0.0))
    )
    log_p = xp.where(left_over & best, log_spare, log_p)
    # A smaller offset has no float; every offset gives a line, so that a larger one is as valid.
    offset = xp.where(left_over, 0.0, xp.maximum(xp.exp(found.log_offset), xp.tiny(rate)))
    line = _intercept(xp, log_d, reward, rate, offset, reached)
    return log_p - log_sum_exp(xp, log_p), line, offset


def frontier_rates(
    xp: Floats, log_d: Array, reward: Array, weights: Array, targets: Array
) -> Array:
    """For each target c [k, 1] the rate at which the frontier policies reach E_q E_p r = c.

    One rate for all prompts, the rows of ``log_d``, whose shares q are ``weights`` [prompts, 1]; c lies between
    E_q J(d) and E_q max r.
    """
    inputs = log_d, reward, weights, targets
    log_rate, _ = _at_average_rewards(xp, *map(detached, inputs))
    aims = gain_and_shortfall(xp, *inputs)
    past = _past_targets(xp, log_d, reward, weights, aims, log_rate)
    return xp.exp(with_root_gradient(xp, log_rate, *past))


def gain_and_shortfall(
    xp: Floats, log_d: Array, reward: Array, weights: Array, targets: Array
) -> tuple[Array, Array]:
    """c - E_q J(d) and E_q max r - c for each target: a policy has its reward iff both are positive.

    Offsets of the reward are taken out before anything is averaged.
    """
    sum_over, tops = xp.module.sum, xp.max(reward)
    below = xp.where(xp.support(log_d), xp.exp(log_d) * (tops - reward), 0.0)
    shortfall = sum_over(weights * (tops - tops[0])) + (tops[0] - targets)
    return sum_over(weights * xp.sum(below)) - shortfall, shortfall


def _averages(
    xp: Floats, log_d: Array, reward: Array, weights: Array, log_rate: Array
) -> tuple[Array, Array, Array, Array]:
    """At each rate [k, 1] shortfall, gain, slope and KL(d||p) of the frontier policies, averaged over the prompts."""
    module, (prompts, n), count = xp.module, log_d.shape, log_rate.shape[0]
    laws, rooms = (
        module.reshape(module.broadcast_to(x[None], (count, prompts, n)), (-1, n))
        for x in (log_d, xp.max(reward) - reward)
    )
    rate = module.broadcast_to(xp.exp(log_rate), (count, prompts))
    found = on_the_frontier(xp, laws, module.reshape(rate, (-1, 1)), rooms)
    shortfall, gain, slope, paid = (
        xp.sum(module.reshape(part, (count, prompts)) * weights[:, 0])
        for part in (found.shortfall, found.gain, found.slope, found.paid)
    )
    return shortfall, gain, slope, paid


def _past_targets(
    xp: Floats,
    log_d: Array,
    reward: Array,
    weights: Array,
    aims: tuple[Array, Array],
    log_rate: Array,
) -> tuple[Array, Array]:
    """By what the reward at each rate exceeds its target, and the slope in log rate.

    It is compared by the gain over d or by what is missing to the maximum, whichever is smaller: ``aims`` has both, of
    the targets.
    """
    shortfall, gain, slope, _ = _averages(xp, log_d, reward, weights, log_rate)
    goal, missing = aims
    by_gain = goal < missing
    size = xp.where(by_gain, gain, shortfall)
    value = log_or_minus_infinity(xp, size) - xp.log(xp.where(by_gain, goal, missing))
    return xp.where(by_gain, value, -value), slope / size


def _at_average_rewards(
    xp: Floats, log_d: Array, reward: Array, weights: Array, targets: Array
) -> tuple[Array, Array]:
    """For each target the log of the rate, and the price: KL(d||p) + rate (c - J(p)), averaged, at that rate.

    The reward reached rises with the rate. The frontier's slope is at least 2 gain/R^2 (Pinsker), and at
    most the inverse of what is missing, since E_p (M - r) = sum d (M - r)/b <= 1/rate.
    """
    goal, missing = gain_and_shortfall(xp, log_d, reward, weights, targets)
    high = -xp.log(missing)
    widest = xp.module.max(xp.max(reward) - reward)
    low = xp.minimum(xp.log(2 * goal) - 2 * xp.log(widest), high)
    past = partial(_past_targets, xp, log_d, reward, weights, (goal, missing))
    log_rate = newton_bisection(xp, past, low, high)
    shortfall, gain, _, paid = _averages(xp, log_d, reward, weights, log_rate)
    left = xp.where(goal < missing, goal - gain, shortfall - missing)
    return log_rate, paid + xp.exp(log_rate) * left


def price_of_average_reward(
    xp: Floats, log_d: Array, reward: Array, weights: Array, targets: Array
) -> Array:
    """S5 for averages: the dual value at each target's rate, [k, 1]; prompts are the rows, with shares [prompts, 1]."""
    module = xp.module
    gain, shortfall = gain_and_shortfall(xp, log_d, reward, weights, targets)
    # Nothing moves it, but it has a gradient.
    outside = xp.where(gain <= 0, xp.full_like(targets, 0.0), INF) + 0.0 * (gain + shortfall)
    inner = (gain > 0) & (shortfall > 0)
    if not bool(module.any(inner)):
        return outside
    asked = xp.where(inner, targets, targets + 0.5 * (shortfall - gain))
    log_rates, values = _at_average_rewards(xp, *map(detached, (log_d, reward, weights, asked)))
    rates = xp.exp(log_rates)
    one = xp.full_like(reward[:, :1], 1.0)
    lines = [
        module.sum(weights * frontier_policy(xp, log_d, reward, one * rates[k])[1])
        for k in range(rates.shape[0])
    ]
    price = with_envelope_gradient(values, rates * asked + module.stack(lines)[:, None])
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
    # Beyond this b the root no longer depends on it, and its square would overflow.
    log_b_in_root = xp.minimum(log_b, -0.48 * math.log(xp.tiny(log_room)))
    b = xp.exp(log_b_in_root)
    a = xp.where((b > 0.5) & (b < 2), gain * b / xp.where(below, top - reward, 1.0), 1 - b)
    a = xp.where(inner, a, 0.0)
    log_w = _log_slack(xp, *map(detached, (log_d, a, log_b_in_root)))
    log_w = xp.where(inner, log_w, 0.0)
    return overpaid(xp, log_d, log_p, _log_mixed(xp, a, log_b, log_w))
