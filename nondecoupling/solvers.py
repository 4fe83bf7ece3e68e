"""Roots and optima that have no closed form, found for a whole batch at once.

What is found here in floats is certified elsewhere in balls: by weak duality for the price of
reward, by a sign change for multipliers and durations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import array_api_compat

from nondecoupling.joint import joint_closed_form
from nondecoupling.landscape import (
    duration_slope,
    duration_utility,
    earliest_duration,
    highest_stationary_reward,
    reward_gain,
    tilt_at,
)
from nondecoupling.namespaces import Array, Floats
from nondecoupling.quantities import (
    INF,
    centred,
    expectation,
    expected_reward,
    frontier_ratio,
    gibbs_tilt,
    kl_divergence,
    log_one_plus_excess,
    log_softmax,
    log_sum_exp,
    max_on_support,
    min_on_support,
    pinsker_decoupling_radius,
    supporting_line,
    variance,
)

MAX_ITERATIONS = 100


def newton_bisection(
    xp: Floats, value_and_slope: Callable[[Array], tuple[Array, Array]], low: Array, high: Array
) -> Array:
    """Roots of increasing functions, one a row, bracketed by [low, high].

    A Newton step is taken where it stays inside the bracket and is at most half the step before;
    elsewhere the bracket is bisected, so every row converges.
    """
    module = xp.module
    eps = float(module.finfo(low.dtype).eps)
    t, last = high, high - low
    for _ in range(MAX_ITERATIONS):
        value, slope = value_and_slope(t)
        low = xp.where(value < 0, t, low)
        high = xp.where(value > 0, t, high)
        step = -value / xp.where(slope > 0, slope, 1.0)
        moved = t + step
        newton = (slope > 0) & (moved >= low) & (moved <= high) & (2 * xp.abs(step) <= xp.abs(last))
        moved = xp.where(newton, moved, 0.5 * (low + high))
        moved = xp.where(value == 0, t, moved)
        last, t = moved - t, moved
        if bool(module.all(xp.abs(last) <= eps * xp.abs(t))):
            break
    return t


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
    log_w = _log_slack(xp, log_d, _detached(a), _detached(b))
    log_mixed = _log_mixed(xp, a, b, log_w)
    at_optimum = xp.where(on, xp.excess(xp.where(on, log_d, 0.0), -log_mixed), 0.0)
    # With l = 1 the mass missing from d/b sits on argmax r, where d has none.
    missing = xp.where(log_w > -INF, 0.0, 1 - expectation(xp, log_d, xp.exp(-log_mixed)))
    value = _detached(xp.sum(at_optimum) + missing)
    dual = expectation(xp, log_d, log_mixed)
    value = value + (dual - _detached(dual))
    return xp.where(target <= mean, xp.full_like(value, 0.0), xp.where(inner, value, INF))


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
    low = xp.where(on_top > 0, on_top, float(xp.module.finfo(rate.dtype).tiny))
    fixed = _detached(weight), _detached(room)
    root = newton_bisection(
        xp, partial(missing_mass, *fixed), _detached(low), xp.full_like(_detached(rate), 1.0)
    )
    # One more Newton step, whose derivative is the root's (implicit function theorem).
    slope = _detached(missing_mass(weight, room, root)[1])
    root = root - missing_mass(weight, room, root)[0] / slope
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
    eps = float(module.finfo(reward.dtype).eps)
    low = xp.full_like(targets, math.log(eps / spread))
    high = xp.full_like(targets, -2 * math.log(eps) - math.log(spread))
    for _ in range(RATE_BISECTIONS):
        middle = 0.5 * (low + high)
        rates = module.broadcast_to(xp.exp(middle), (count, prompts)).reshape(-1, 1)
        log_p, *_ = frontier_policy(xp, laws, rewards, rates)
        reached = expectation(xp, log_p, rewards).reshape(count, prompts)
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
    rates = frontier_rates(xp, _detached(log_d), _detached(reward), _detached(asked))
    one = xp.full_like(reward[:, :1], 1.0)
    lines = [module.mean(frontier_policy(xp, log_d, reward, one * rate)[1]) for rate in rates]
    price = rates * asked + module.stack(lines)[:, None]
    price = xp.where(price > 0, price, 0.0)  # a rounded dual value near J(d)
    return xp.where(inner, price, outside)


def _detached(x: Array) -> Array:
    return x.detach() if hasattr(x, "detach") else x


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
    log_d = _detached(log_d)
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
    low = xp.full_like(at_one, math.log(float(xp.module.finfo(at_one.dtype).tiny)))
    return xp.where(boundary, -INF, newton_bisection(xp, falling, low, high))


# --- times of exponential families (S6, R4) ---------------------------------------------------
# x is a reward with E_ref x = 0, tilt_t = ref e^{tx}/Z_t. Its mean increases with t.


def bracketed_above(
    xp: Floats, value_and_slope: Callable[[Array], tuple[Array, Array]], start: Array
) -> Array:
    """``start`` doubled, row by row, until the increasing function is no longer negative."""
    high = start
    for _ in range(64):
        short = value_and_slope(high)[0] < 0
        if not bool(xp.module.any(short)):
            break
        high = xp.where(short, 2 * high, high)
    return high


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


def with_envelope_gradient(value: Array, dual: Array) -> Array:
    """``value``, with the gradient of ``dual``: at an optimum the optimiser itself does not move."""
    return _detached(value) + (dual - _detached(dual))


def decoupling_threshold(
    xp: Floats, log_ref: Array, reward: Array, beta: Array
) -> tuple[Array, Array]:
    """S6: Pinsker's and the exact radius; the latter from J(tilt_t) = beta log Z, 0 < t < 1/beta."""
    x = centred(xp, log_ref, reward) / beta
    soft_value = log_one_plus_excess(xp, log_ref, x)
    law, fixed, level = _detached(log_ref), _detached(x), _detached(soft_value)

    def excess_mean(t: Array) -> tuple[Array, Array]:
        mean, slope = mean_and_variance_of_tilt(xp, law, fixed, t)
        return mean - level, slope

    zero = xp.full_like(level, 0.0)
    t = newton_bisection(xp, excess_mean, zero, xp.full_like(level, 1.0))
    dual = t * soft_value - log_one_plus_excess(xp, log_ref, t * x)
    exact = with_envelope_gradient(divergence_of_tilt(xp, law, fixed, t), dual)
    return (
        pinsker_decoupling_radius(xp, log_ref, reward, beta),
        xp.where(level > 0, exact, 0.0),
    )


def best_early_stop(xp: Floats, log_d: Array, log_ref: Array, reward: Array) -> tuple[Array, Array]:
    """S6: the time s0 with J(tilt_{s0}) = J(d), and the change -KL(tilt_{s0}||ref) there."""
    raw = centred(xp, log_ref, reward)
    top, bottom = max_on_support(xp, log_ref, raw), min_on_support(xp, log_ref, raw)
    goal = expectation(xp, log_d, raw)
    inner = (goal > 0) & (goal < top)
    unit = xp.where(inner, top - bottom, 1.0)
    x, level = xp.where(xp.support(log_ref), raw, 0.0) / unit, xp.where(inner, goal, 0.0) / unit
    law, fixed, aim = _detached(log_ref), _detached(x), _detached(level)

    def excess_mean(t: Array) -> tuple[Array, Array]:
        mean, slope = mean_and_variance_of_tilt(xp, law, fixed, t)
        return mean - aim, slope

    high = bracketed_above(xp, excess_mean, xp.full_like(aim, 1.0))
    t = newton_bisection(xp, excess_mean, xp.full_like(aim, 0.0), high)
    mean, slope = mean_and_variance_of_tilt(xp, log_ref, x, t)
    offset = mean - level
    moved = (offset - _detached(offset)) / xp.where(inner, _detached(slope), 1.0)
    time = (t - moved) / unit
    dual = log_one_plus_excess(xp, log_ref, t * x) - t * level
    change = with_envelope_gradient(-divergence_of_tilt(xp, law, fixed, t), dual)
    on_top = xp.where(raw >= top, xp.exp(log_ref), 0.0)
    at_once = goal <= 0
    return (
        xp.where(at_once, 0.0, xp.where(inner, time, INF)),
        xp.where(at_once, 0.0, xp.where(inner, change, xp.log(xp.sum(on_top)))),
    )


def largest_rise(xp: Floats, log_tilt: Array, reward: Array, kl: Array) -> Array:
    """R4, exact: max{J(p) - J(tilt): KL(p||tilt) <= A}, attained on the family of tilts."""
    raw = centred(xp, log_tilt, reward)
    top, bottom = max_on_support(xp, log_tilt, raw), min_on_support(xp, log_tilt, raw)
    on_top = xp.where(raw >= top, xp.exp(log_tilt), 0.0)
    inner = (kl > 0) & (kl < -xp.log(xp.sum(on_top))) & (top > bottom)
    unit = xp.where(inner, top - bottom, 1.0)
    x = xp.where(xp.support(log_tilt), raw, 0.0) / unit
    law, fixed, aim = _detached(log_tilt), _detached(x), _detached(xp.where(inner, kl, 0.0))

    def excess_divergence(t: Array) -> tuple[Array, Array]:
        _, variance = mean_and_variance_of_tilt(xp, law, fixed, t)
        return divergence_of_tilt(xp, law, fixed, t) - aim, t * variance

    high = bracketed_above(xp, excess_divergence, xp.full_like(aim, 1.0))
    t = xp.where(inner, newton_bisection(xp, excess_divergence, xp.full_like(aim, 0.0), high), 1.0)
    rise, _ = mean_and_variance_of_tilt(xp, law, fixed, t)
    dual = unit * (kl + log_one_plus_excess(xp, log_tilt, t * x)) / t
    exact = with_envelope_gradient(_detached(unit) * rise, dual)
    return xp.where(inner, exact, xp.where(kl > 0, top, 0.0))


def joint_optimum(
    xp: Floats, log_d: Array, log_ref: Array, reward: Array, beta: Array, weight: Array
) -> Array:
    """J1: log of argmax J_b(p) - lambda CE(d, p), from one batched root for its multiplier.

    The unknown is offset = (mu - beta log Z)/beta in [0, lambda/beta]; -log sum p rises in it.
    """
    log_tilt, ratio = gibbs_tilt(xp, log_ref, reward, beta), weight / beta
    tilt, fixed = _detached(log_tilt), _detached(ratio)

    def excess_mass(offset: Array) -> tuple[Array, Array]:
        log_p, u = joint_closed_form(xp, log_d, tilt, fixed, offset)
        log_mass = log_sum_exp(xp, log_p)
        return -log_mass, xp.sum(xp.exp(log_p - log_mass) / (1 + u))

    low = xp.full_like(fixed, 0.0)
    offset = newton_bisection(xp, excess_mass, low, fixed)
    # One more Newton step, whose derivative is the root's (implicit function theorem).
    log_p, u = joint_closed_form(xp, log_d, log_tilt, ratio, offset)
    log_mass = log_sum_exp(xp, log_p)
    slope = _detached(xp.sum(xp.exp(log_p - log_mass) / (1 + u)))
    log_p, _ = joint_closed_form(xp, log_d, log_tilt, ratio, offset + log_mass / slope)
    return log_p - log_sum_exp(xp, log_p)


DURATION_GRID = 129
DURATION_CANDIDATES = 3


def optimal_rl_duration(
    xp: Floats, log_d: Array, reward: Array, weight: Array
) -> tuple[Array, Array, Array]:
    """P5: the global maximiser of U, and an interval that contains every stationary point.

    Signs of U' on a grid, even in s and in log s, find the local maxima; the best few are refined.
    Rows with a reward that is constant on supp d get zeros.
    """
    top, least = max_on_support(xp, log_d, reward), min_on_support(xp, log_d, reward)
    varies = top > least
    n = reward.shape[-1]
    if n == 1:
        return (xp.full_like(top, 0.0),) * 3
    # Even laws with two levels stand in for the rows that have nothing to solve.
    first = xp.module.arange(n, device=array_api_compat.device(reward)) == 0
    stand_in = xp.where(first, xp.full_like(reward, 1.0), 0.0)
    reward = xp.where(varies, xp.where(xp.support(log_d), reward - least, 0.0), stand_in)
    log_d = xp.where(varies, log_d, -math.log(n))
    law, value, multiplier = (_detached(x) for x in (log_d, reward, weight))
    low, high = duration_interval(xp, law, value, multiplier)
    high = xp.maximum(high, low)
    grid = _duration_grid(xp, low, high)
    cells = law[:, None, :], value[:, None, :], multiplier[:, None, :], grid[:, :, None]
    slope = duration_slope(xp, *cells)[:, :, 0]
    utility = duration_utility(xp, *cells)[:, :, 0]
    falls = (slope[:, :-1] > 0) & (slope[:, 1:] <= 0)
    score = xp.where(falls, xp.maximum(utility[:, :-1], utility[:, 1:]), -INF)
    best, best_value = low, xp.full_like(low, -INF)

    def falling(s: Array) -> tuple[Array, Array]:
        tilt = tilt_at(xp, law, value, s)
        deviation = value - expectation(xp, tilt, value)
        square = xp.square(deviation)
        slope = expectation(xp, tilt, square) - multiplier * reward_gain(xp, law, tilt, value)
        third = expectation(xp, tilt, square * deviation)
        return -slope, multiplier * expectation(xp, tilt, square) - third

    for _ in range(DURATION_CANDIDATES):
        cell = xp.module.argmax(score, axis=-1, keepdims=True)
        found = xp.gather(score, cell) > -INF
        left = xp.where(found, xp.gather(grid, cell), low)
        right = xp.where(found, xp.gather(grid, cell + 1), high)
        root = newton_bisection(xp, falling, left, right)
        reached = duration_utility(xp, law, value, multiplier, root)
        better = reached > best_value
        best, best_value = xp.where(better, root, best), xp.where(better, reached, best_value)
        taken = xp.module.arange(score.shape[-1], device=array_api_compat.device(score)) == cell
        score = xp.where(taken, -INF, score)
    # As in joint_optimum: a last Newton step carries the gradient.
    _, curvature = falling(best)
    slope = duration_slope(xp, log_d, reward, weight, best)
    safe = xp.where(curvature > 0, curvature, 1.0)
    best = best + xp.where(curvature > 0, (slope - _detached(slope)) / safe, 0.0)
    return tuple(xp.where(varies, x, 0.0) for x in (best, low, high))


def duration_interval(
    xp: Floats, log_d: Array, reward: Array, weight: Array
) -> tuple[Array, Array]:
    """P5: [log(1 + R/lambda)/R, the s at which J(tilt_s) = J+]; rewards from 0, not constant."""
    low = earliest_duration(xp, log_d, reward, weight)
    top, mean = max_on_support(xp, log_d, reward), expectation(xp, log_d, reward)
    climb = highest_stationary_reward(xp, log_d, reward, weight)
    # top - J+ = lambda (J+ - J(d))/(J+ - least), which does not cancel for small lambda
    room = weight * climb / (climb + mean - min_on_support(xp, log_d, reward))

    def shortfall(s: Array) -> tuple[Array, Array]:
        tilt = tilt_at(xp, log_d, reward, s)
        missing = expectation(xp, tilt, top - reward)
        safe = xp.where(missing > 0, missing, 1.0)
        return xp.where(missing > 0, -xp.log(safe / room), INF), variance(xp, tilt, reward) / safe

    # E_tilt (top - r) <= R e^{-s g}/d(argmax r) from s >= 1/g, g the gap below the top.
    gap = xp.min(xp.where(xp.support(log_d) & (reward < top), top - reward, INF))
    on_top = xp.sum(xp.where(reward >= top, xp.exp(log_d), 0.0))
    late = (1 + xp.maximum(xp.log(top) - xp.log(room) - xp.log(on_top), 0.0)) / gap
    high = newton_bisection(xp, shortfall, low, xp.maximum(late, low))
    bounded = weight > top
    share = top / xp.where(bounded, weight, 2 * top)
    return low, xp.where(bounded, xp.minimum(high, -xp.log1p(-share) / top), high)


def _duration_grid(xp: Floats, low: Array, high: Array) -> Array:
    """Points of [low, high], half of them even in s and half in log s, in order."""
    steps = xp.module.linspace(
        0.0, 1.0, DURATION_GRID, dtype=low.dtype, device=array_api_compat.device(low)
    )
    even = low + (high - low) * steps
    geometric = low * xp.exp(xp.log(high / low) * steps)
    both = xp.module.concat([even, xp.minimum(xp.maximum(geometric, low), high)], axis=-1)
    return xp.module.sort(both, axis=-1)
