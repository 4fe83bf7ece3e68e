"""How long to run RL (P5): U(s) = J(tilt_s) - lambda DeltaL(tilt_s), ref = d."""

from __future__ import annotations

import math
from functools import partial

from nondecoupling.formulas.laws import (
    INF,
    centred,
    expectation,
    expected_reward,
    from_mode,
    kl_divergence,
    log_add_exp,
    log_or_minus_infinity,
    log_sum_exp,
    max_on_support,
    min_on_support,
    variance,
)
from nondecoupling.formulas.roots import newton_bisection, with_root_gradient
from nondecoupling.formulas.tilt import log_exponential_ratio, tilt_at
from nondecoupling.numbers.floats import BLOCK_NUMBERS, Floats, detached, device_of, dtype_of
from nondecoupling.numbers.number_system import Array, Mask, NumberSystem


def duration_utility(
    xp: NumberSystem, log_d: Array, reward: Array, weight: Array, duration: Array
) -> Array:
    """P5: U(s) = J(tilt_s) - lambda DeltaL(tilt_s), ref = d."""
    tilt = tilt_at(xp, log_d, reward, duration)
    return expected_reward(xp, tilt, reward) - weight * kl_divergence(xp, log_d, tilt)


def duration_slope(
    xp: NumberSystem, log_d: Array, reward: Array, weight: Array, duration: Array
) -> Array:
    """P5: U'(s) = Var_{tilt_s}(r) - lambda (J(tilt_s) - J(d))."""
    tilt = tilt_at(xp, log_d, reward, duration)
    return variance(xp, tilt, reward) - weight * reward_gain(xp, log_d, tilt, reward)


def duration_curvature(
    xp: NumberSystem, log_d: Array, reward: Array, weight: Array, duration: Array
) -> Array:
    """P5: U''(s) = third central moment - lambda Var, under tilt_s."""
    tilt = tilt_at(xp, log_d, reward, duration)
    deviation = centred(xp, tilt, reward)
    square = xp.square(deviation)
    third = expectation(xp, tilt, square * deviation)
    return third - weight * expectation(xp, tilt, square)


def reward_gain(xp: NumberSystem, log_d: Array, log_p: Array, reward: Array) -> Array:
    """J(p) - J(d), offsets of the reward taken out first."""
    shifted = from_mode(xp, log_d, reward)
    return expectation(xp, log_p, shifted) - expectation(xp, log_d, shifted)


def stationary_weight(xp: NumberSystem, log_d: Array, reward: Array, duration: Array) -> Array:
    """P5: the lambda for which s is a stationary point of U: Var_{tilt_s}(r)/(J(tilt_s) - J(d))."""
    tilt = tilt_at(xp, log_d, reward, duration)
    return variance(xp, tilt, reward) / reward_gain(xp, log_d, tilt, reward)


def earliest_duration(xp: NumberSystem, log_d: Array, reward: Array, weight: Array) -> Array:
    """P5: every stationary point has s >= log(1 + R/lambda)/R, R the range of r on supp d."""
    spread = max_on_support(xp, log_d, reward) - min_on_support(xp, log_d, reward)
    return xp.log1p(spread / weight) / spread


def highest_stationary_reward(
    xp: NumberSystem, log_d: Array, reward: Array, weight: Array
) -> Array:
    """P5: J+ - J(d), where (max r - J+)(J+ - min r) = lambda (J+ - J(d)), J+ > J(d)."""
    shifted = from_mode(xp, log_d, reward)
    mean = expectation(xp, log_d, shifted)
    above = max_on_support(xp, log_d, shifted) - mean
    below = mean - min_on_support(xp, log_d, shifted)
    return xp.exp(log_stationary_climb(xp, xp.log(above), xp.log(below), weight))


def log_stationary_climb(
    xp: NumberSystem, log_above: Array, log_below: Array, weight: Array
) -> Array:
    """log of J+ - J(d) from A = max r - J(d) and B = J(d) - min r, either of which may be tiny.

    x = J+ - J(d) solves x^2 + (lambda + B - A) x - A B = 0.
    """
    above, below = xp.exp(log_above), xp.exp(log_below)
    linear = weight + below - above
    root = xp.sqrt(xp.square(linear) + 4 * above * below)
    # The branch that does not cancel.
    safe = xp.where(linear > 0, linear + root, 1.0)
    slow = log_above + log_below - xp.log(safe / 2)
    return xp.where(linear > 0, slow, xp.log(xp.where(linear > 0, 1.0, root - linear) / 2))


def surrogate_shortfall(
    xp: NumberSystem, log_gain: Array, rate: Array, cost: Array, duration: Array
) -> Array:
    """P5: G - [G (1 - e^{-aT}) - lambda b T^2] = G e^{-aT} + lambda b T^2, cost = lambda b."""
    return xp.exp(log_gain - rate * duration) + cost * xp.square(duration)


def surrogate_duration(xp: NumberSystem, log_gain: Array, rate: Array, cost: Array) -> Array:
    """P5: T* = W(a^2 G/(2 lambda b))/a, where the shortfall is smallest."""
    return xp.wright_omega(log_gain + 2 * xp.log(rate) - xp.log(2 * cost)) / rate


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
        nothing = xp.where(varies, top, 0.0)
        return nothing, nothing, nothing
    # Even laws with two levels stand in for the rows that have nothing to solve.
    first = xp.module.arange(n, device=device_of(reward)) == 0
    stand_in = xp.where(first, xp.full_like(reward, 1.0), 0.0)
    reward = xp.where(varies, xp.where(xp.support(log_d), reward - least, 0.0), stand_in)
    log_d = xp.where(varies, log_d, -math.log(n))
    law, value, multiplier = (detached(x) for x in (log_d, reward, weight))
    earliest, latest = duration_interval(xp, log_d, reward, weight)
    latest = xp.maximum(latest, earliest)
    low, high = detached(earliest), detached(latest)
    grid = _duration_grid(xp, low, high)
    beyond, utility = _on_grid(xp, law, value, multiplier, grid)
    falls = (beyond[:, :-1] < 0) & (beyond[:, 1:] >= 0)
    score = xp.where(falls, xp.maximum(utility[:, :-1], utility[:, 1:]), -INF)
    best, best_value = low, xp.full_like(low, -INF)

    def falling(s: Array) -> tuple[Array, Array]:
        return _past_the_optimum(xp, law, value, multiplier, s)

    for _ in range(DURATION_CANDIDATES):
        cell = xp.module.argmax(score, axis=-1, keepdims=True)
        found = xp.gather(score, cell) > -INF
        left = xp.where(found, xp.gather(grid, cell), low)
        right = xp.where(found, xp.gather(grid, cell + 1), high)
        root = newton_bisection(xp, falling, left, right)
        reached = duration_utility(xp, law, value, multiplier, root)
        better = reached > best_value
        best, best_value = xp.where(better, root, best), xp.where(better, reached, best_value)
        taken = xp.module.arange(score.shape[-1], device=device_of(score)) == cell
        score = xp.where(taken, -INF, score)
    beyond, steepness = _past_the_optimum(xp, log_d, reward, weight, best)
    best = with_root_gradient(xp, best, beyond, steepness)
    best, earliest, latest = (xp.where(varies, s, 0.0) for s in (best, earliest, latest))
    return best, earliest, latest


def _on_grid(
    xp: Floats, log_d: Array, reward: Array, weight: Array, grid: Array
) -> tuple[Array, Array]:
    """At the times of each row what has the sign of -U', and U, both [rows, times]."""
    rows, times = grid.shape
    width = max(1, BLOCK_NUMBERS // max(1, rows * reward.shape[-1]))
    beyond, utility = [], []
    for start in range(0, times, width):
        at = grid[:, start : start + width, None]
        cells = log_d[:, None, :], reward[:, None, :], weight[:, None, :], at
        beyond.append(_past_the_optimum(xp, *cells)[0][:, :, 0])
        utility.append(duration_utility(xp, *cells)[:, :, 0])
    return xp.module.concat(beyond, axis=-1), xp.module.concat(utility, axis=-1)


def _past_the_optimum(
    xp: Floats, log_d: Array, reward: Array, weight: Array, duration: Array
) -> tuple[Array, Array]:
    """log(lambda (J(tilt_s) - J(d))/Var_{tilt_s} r), which has the sign of -U'(s), and its slope in s.

    In logs, since both vanish together with the mass that differs in reward. s (J(tilt) - J(d)) is the
    Jeffreys divergence sum |tilt - d| |log(tilt/d)|, a sum of terms that are not negative.
    """
    tilt = tilt_at(xp, log_d, reward, duration)
    moved = xp.abs(log_exponential_ratio(xp, log_d, duration * from_mode(xp, log_d, reward)))
    moved = xp.where(xp.support(log_d), moved, 0.0)
    apart = log_or_minus_infinity(xp, moved) + log_or_minus_infinity(xp, -xp.expm1(-moved))
    log_gain = log_sum_exp(xp, xp.maximum(log_d, tilt) + apart) - xp.log(duration)
    deviation = xp.where(xp.support(log_d), centred(xp, tilt, reward), 0.0)
    spread = tilt + 2 * log_or_minus_infinity(xp, xp.abs(deviation))
    log_variance = log_sum_exp(xp, spread)
    # Third moment over variance, and variance over gain.
    skew = xp.sum(xp.exp(spread - log_variance) * deviation)
    return xp.log(weight) + log_gain - log_variance, xp.exp(log_variance - log_gain) - skew


def duration_interval(
    xp: Floats, log_d: Array, reward: Array, weight: Array
) -> tuple[Array, Array]:
    """P5: [log(1 + R/lambda)/R, the s at which J(tilt_s) = J+]; rewards from 0, not constant."""
    low = earliest_duration(xp, log_d, reward, weight)
    top = max_on_support(xp, log_d, reward)
    inputs = log_d, reward, weight
    fixed = [detached(x) for x in inputs]
    _, _, room = _highest_reward_by_its_ends(xp, *fixed)
    # E_tilt (top - r) <= R e^{-s g}/d(argmax r) from s >= 1/g, g the gap below the top.
    gap = xp.min(xp.where(xp.support(log_d) & (reward < top), top - reward, INF))
    on_top = log_sum_exp(xp, xp.where(reward >= top, log_d, -INF))
    late = detached((1 + xp.maximum(xp.log(top) - room - on_top, 0.0)) / gap)
    start = detached(low)
    high = newton_bisection(
        xp, partial(_past_the_highest_reward, xp, *fixed), start, xp.maximum(late, start)
    )
    high = with_root_gradient(xp, high, *_past_the_highest_reward(xp, *inputs, high))
    bounded = weight > top
    share = top / xp.where(bounded, weight, 2 * top)
    return low, xp.where(bounded, xp.minimum(high, -xp.log1p(-share) / top), high)


def _logs_from_the_ends(xp: Floats, log_d: Array, reward: Array) -> tuple[Array, Array]:
    """log of r and of max r - r, rewards from 0; -inf where d has no mass."""
    on = xp.support(log_d)
    room = max_on_support(xp, log_d, reward) - reward
    by_reward, by_room = (
        log_or_minus_infinity(xp, xp.where(on, part, 0.0)) for part in (reward, room)
    )
    return by_reward, by_room


def _highest_reward_by_its_ends(
    xp: Floats, log_d: Array, reward: Array, weight: Array
) -> tuple[Mask, Array, Array]:
    """Whether J+ is nearer to the least reward, and the logs of its distances to that one and to the top."""
    below, above = (
        log_sum_exp(xp, log_d + part) for part in _logs_from_the_ends(xp, log_d, reward)
    )
    climb = log_stationary_climb(xp, above, below, weight)
    risen = log_add_exp(xp, climb, below)
    # top - J+ = lambda (J+ - J(d))/(J+ - least)
    room = xp.log(weight) + climb - risen
    return risen < room, risen, room


def _past_the_highest_reward(
    xp: Floats, log_d: Array, reward: Array, weight: Array, duration: Array
) -> tuple[Array, Array]:
    """By what J(tilt_s) exceeds J+, compared by the distance of J+ to the nearer end, and its slope in s."""
    low_down, risen, room = _highest_reward_by_its_ends(xp, log_d, reward, weight)
    tilt = tilt_at(xp, log_d, reward, duration)
    reached, missing = (
        log_sum_exp(xp, tilt + part) for part in _logs_from_the_ends(xp, log_d, reward)
    )
    deviation = log_or_minus_infinity(xp, xp.abs(centred(xp, tilt, reward)))
    log_variance = log_sum_exp(xp, tilt + 2 * deviation)
    slope = xp.exp(log_variance - xp.where(low_down, reached, missing))
    return xp.where(low_down, reached - risen, room - missing), slope


def _duration_grid(xp: Floats, low: Array, high: Array) -> Array:
    """Points of [low, high], half of them even in s and half in log s, in order."""
    steps = xp.module.linspace(0.0, 1.0, DURATION_GRID, dtype=dtype_of(low), device=device_of(low))
    even = low + (high - low) * steps
    geometric = low * xp.exp(xp.log(high / low) * steps)
    both = xp.module.concat([even, xp.minimum(xp.maximum(geometric, low), high)], axis=-1)
    return xp.module.sort(both, axis=-1)
