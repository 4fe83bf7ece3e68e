"""How long to run RL (P5): U(s) = J(tilt_s) - lambda DeltaL(tilt_s), ref = d."""

from __future__ import annotations

import math

import array_api_compat

from nondecoupling.formulas.laws import (
    INF,
    centred,
    expectation,
    expected_reward,
    from_mode,
    kl_divergence,
    log_or_minus_infinity,
    max_on_support,
    min_on_support,
    variance,
)
from nondecoupling.formulas.roots import newton_bisection, with_root_gradient
from nondecoupling.formulas.tilt import tilt_at
from nondecoupling.numbers.floats import Floats, detached, dtype_of
from nondecoupling.numbers.number_system import Array, NumberSystem


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
    """P5: J+ - J(d), where (max r - J+)(J+ - min r) = lambda (J+ - J(d)), J+ > J(d).

    With x = J+ - J(d), A = max r - J(d), B = J(d) - min r: x^2 + (lambda + B - A) x - A B = 0.
    """
    shifted = from_mode(xp, log_d, reward)
    mean = expectation(xp, log_d, shifted)
    above = max_on_support(xp, log_d, shifted) - mean
    below = mean - min_on_support(xp, log_d, shifted)
    linear = weight + below - above
    root = xp.sqrt(xp.square(linear) + 4 * above * below)
    # The branch that does not cancel.
    safe = xp.where(linear > 0, linear + root, 1.0)
    return xp.where(linear > 0, 2 * above * below / safe, (root - linear) / 2)


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
        nothing = xp.full_like(top, 0.0)
        return nothing, nothing, nothing
    # Even laws with two levels stand in for the rows that have nothing to solve.
    first = xp.module.arange(n, device=array_api_compat.device(reward)) == 0
    stand_in = xp.where(first, xp.full_like(reward, 1.0), 0.0)
    reward = xp.where(varies, xp.where(xp.support(log_d), reward - least, 0.0), stand_in)
    log_d = xp.where(varies, log_d, -math.log(n))
    law, value, multiplier = (detached(x) for x in (log_d, reward, weight))
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
        world = law, value, multiplier, s
        return -duration_slope(xp, *world), -duration_curvature(xp, *world)

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
    _, curvature = falling(best)
    slope = duration_slope(xp, log_d, reward, weight, best)
    best = with_root_gradient(xp, best, -slope, curvature)
    return xp.where(varies, best, 0.0), xp.where(varies, low, 0.0), xp.where(varies, high, 0.0)


def duration_interval(
    xp: Floats, log_d: Array, reward: Array, weight: Array
) -> tuple[Array, Array]:
    """P5: [log(1 + R/lambda)/R, the s at which J(tilt_s) = J+]; rewards from 0, not constant."""
    low = earliest_duration(xp, log_d, reward, weight)
    top, mean = max_on_support(xp, log_d, reward), expectation(xp, log_d, reward)
    climb = highest_stationary_reward(xp, log_d, reward, weight)
    # J+ above the least reward, and below the top: top - J+ = lambda (J+ - J(d))/(J+ - least)
    risen = climb + mean - min_on_support(xp, log_d, reward)
    room = weight * climb / risen
    low_down = risen < room

    def shortfall(s: Array) -> tuple[Array, Array]:
        """By what J(tilt_s) exceeds J+, compared by its distance to the nearer end."""
        tilt = tilt_at(xp, log_d, reward, s)
        reached = expectation(xp, tilt, reward)
        missing = expectation(xp, tilt, top - reward)
        above = log_or_minus_infinity(xp, reached) - xp.log(risen)
        below = xp.log(room) - log_or_minus_infinity(xp, missing)
        slope = variance(xp, tilt, reward) / xp.where(low_down, reached, missing)
        return xp.where(low_down, above, below), slope

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
        0.0, 1.0, DURATION_GRID, dtype=dtype_of(low), device=array_api_compat.device(low)
    )
    even = low + (high - low) * steps
    geometric = low * xp.exp(xp.log(high / low) * steps)
    both = xp.module.concat([even, xp.minimum(xp.maximum(geometric, low), high)], axis=-1)
    return xp.module.sort(both, axis=-1)
