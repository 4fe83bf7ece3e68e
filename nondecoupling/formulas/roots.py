"""Roots that have no closed form, found for a whole batch at once; what carries their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, Mask

MAX_ITERATIONS = 100
FEW_ROUNDINGS = 8


def newton_bisection(
    xp: Floats, value_and_slope: Callable[[Array], tuple[Array, Array]], low: Array, high: Array
) -> Array:
    """Roots of increasing functions, one a row, bracketed by [low, high].

    A Newton step is taken where it stays inside the bracket and is at most half the step before the last; elsewhere
    the bracket is bisected, so every row converges. From 0 or from a number far below ``high`` it is bisected by
    orders of magnitude, so that a root of any size is found. A row that has its root, or steps to and fro about it by
    rounding, stays there while the other rows go on.

    Raises:
        ArithmeticError: a row does not settle.
    """
    eps = xp.eps(low)
    t, last, before = high, high - low, high - low
    shrink = xp.full_like(high, 0.5)
    for _ in range(MAX_ITERATIONS):
        value, slope = value_and_slope(t)
        low = xp.where(value < 0, t, low)
        high = xp.where(value > 0, t, high)
        step = -value / xp.where(slope > 0, slope, 1.0)
        moved = t + step
        inside = (slope > 0) & (moved >= low) & (moved <= high)
        newton = inside & (2 * xp.abs(step) <= xp.abs(before))
        middle, shrink = _middle(xp, low, high, shrink, ~newton)
        moved = xp.where(newton, moved, middle)
        rounding = FEW_ROUNDINGS * eps * xp.abs(t)
        to_and_fro: Mask = (xp.abs(step) <= rounding) & (xp.abs(last) <= rounding)
        settled: Mask = xp.abs(step) <= eps * xp.abs(t)
        there: Mask = (slope > 0) & (settled | to_and_fro)
        moved = xp.where(there | (value == 0), t, moved)
        before, last, t = last, moved - t, moved
        if bool(xp.module.all(xp.abs(last) <= eps * xp.abs(t))):
            return t
    unsettled = xp.abs(last) > math.sqrt(eps) * xp.abs(t)
    if bool(xp.module.any(unsettled)):
        found: Any = t
        raise ArithmeticError(
            f"a root near {float(found[unsettled][0]):.6g} is not found in {MAX_ITERATIONS} steps; give less extreme "
            "numbers, as by another unit of the reward, or without responses far less probable than the others"
        )
    return t


def _middle(
    xp: Floats, low: Array, high: Array, shrink: Array, bisected: Mask
) -> tuple[Array, Array]:
    """Where to cut the brackets: in the middle, or that of the logarithms where the ends are positive and far apart.

    There is no logarithm of 0: from there ``shrink`` times ``high``, a share that is squared each time.
    """
    wide = (low > 0) & (low < high / 4)
    from_zero: Mask = (high > 0) & (low == 0)
    root = xp.sqrt(xp.where(wide, low, 1.0)) * xp.sqrt(xp.where(wide, high, 1.0))
    middle = xp.where(wide, root, xp.where(from_zero, shrink * high, 0.5 * (low + high)))
    smaller = xp.maximum(xp.square(shrink), xp.tiny(shrink))
    return middle, xp.where(from_zero & bisected, smaller, shrink)


def bracketed_above(
    xp: Floats, value_and_slope: Callable[[Array], tuple[Array, Array]], start: Array
) -> Array:
    """``start`` raised, row by row, until the increasing function is no longer negative.

    It is doubled, then multiplied by 4, 16 and so on, up to the largest number with a normal inverse.
    """
    high, growth = start, xp.full_like(start, 2.0)
    most = 1 / xp.tiny(start)
    while True:
        short = (value_and_slope(high)[0] < 0) & (high < most)
        if not bool(xp.module.any(short)):
            return high
        high = xp.where(short, xp.minimum(growth * high, most), high)
        growth = xp.minimum(xp.square(growth), most)


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
