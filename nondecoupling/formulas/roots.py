"""Roots that have no closed form, found for a whole batch at once; what carries their gradients."""

from __future__ import annotations

from collections.abc import Callable

from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, Mask

MAX_ITERATIONS = 100
FEW_ROUNDINGS = 8


def newton_bisection(
    xp: Floats, value_and_slope: Callable[[Array], tuple[Array, Array]], low: Array, high: Array
) -> Array:
    """Roots of increasing functions, one a row, bracketed by [low, high].

    A Newton step is taken where it stays inside the bracket and is at most half the step before the last; elsewhere
    the bracket is bisected, so every row converges. A row that has its root, or steps to and fro about it by rounding,
    stays there while the other rows go on.
    """
    eps = xp.eps(low)
    t, last, before = high, high - low, high - low
    for _ in range(MAX_ITERATIONS):
        value, slope = value_and_slope(t)
        low = xp.where(value < 0, t, low)
        high = xp.where(value > 0, t, high)
        step = -value / xp.where(slope > 0, slope, 1.0)
        moved = t + step
        inside = (slope > 0) & (moved >= low) & (moved <= high)
        newton = inside & (2 * xp.abs(step) <= xp.abs(before))
        moved = xp.where(newton, moved, 0.5 * (low + high))
        rounding = FEW_ROUNDINGS * eps * xp.abs(t)
        to_and_fro: Mask = (xp.abs(step) <= rounding) & (xp.abs(last) <= rounding)
        settled: Mask = xp.abs(step) <= eps * xp.abs(t)
        there: Mask = (slope > 0) & (settled | to_and_fro)
        moved = xp.where(there | (value == 0), t, moved)
        before, last, t = last, moved - t, moved
        if bool(xp.module.all(xp.abs(last) <= eps * xp.abs(t))):
            break
    return t


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


def with_root_gradient(xp: Floats, root: Array, value: Array, slope: Array) -> Array:
    """``root``, with the gradient that the implicit function theorem gives to the root of ``value``.

    ``slope`` is the derivative of ``value`` in the root; where it is not positive no gradient is kept.
    """
    slope = detached(slope)
    moved = (value - detached(value)) / xp.where(slope > 0, slope, 1.0)
    return detached(root) - xp.where(slope > 0, moved, 0.0)


def with_envelope_gradient(value: Array, dual: Array) -> Array:
    """``value``, with the gradient of ``dual``: at an optimum the optimiser itself does not move."""
    return detached(value) + (dual - detached(dual))
