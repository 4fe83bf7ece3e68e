"""Roots and optima that have no closed form, found for a whole batch at once.

What is found here in floats is certified elsewhere in balls: by weak duality for the price of
reward, by a sign change for multipliers and durations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from nondecoupling.namespaces import Array, Floats
from nondecoupling.quantities import INF, expectation

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
    mean = expectation(xp, log_d, reward)
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
