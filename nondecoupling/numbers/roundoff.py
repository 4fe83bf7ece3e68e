"""float64 arrays that carry a bound on their own error: where tolerances come from.

A claim evaluated in ``ROUNDOFF`` yields both sides together with a running error bound, so the
tolerance of a comparison is derived from the computation instead of chosen. Inputs may start with
an error of their own, for example log-probabilities that a float32 network has rounded.

The rules are the usual first-order running error analysis (Higham 2002, section 3.3), kept as upper
bounds by charging four units of roundoff (two units in the last place) to each elementary function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nondecoupling.numbers.floats import Floats, floats_of

UNIT = 2.0**-53
FUNCTION_UNITS = 4 * UNIT  # NumPy's exp and log stay below 2 ulp = 4 u
# excess is a difference of two functions of which neither exceeds 6 times the result, or a series
EXCESS_UNITS = 32 * UNIT
OMEGA_UNITS = 16 * UNIT  # exp of a logarithm that carries up to 4 u of its own size


class Bounded:
    """A float64 array ``value`` whose distance to the true value is at most ``error``."""

    __array_ufunc__ = None  # makes ndarray + Bounded call Bounded.__radd__

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, dtype=np.float64)
        error = np.broadcast_to(np.asarray(error, dtype=np.float64), self.value.shape)
        exact_infinity = np.isinf(self.value) & ~(error > 0)
        self.error = np.where(exact_infinity, 0.0, np.where(np.isnan(error), np.inf, error))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __getitem__(self, index: Any) -> Bounded:
        return Bounded(self.value[index], self.error[index])

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error)

    def __add__(self, other: Any) -> Bounded:
        b = lift(other)
        with np.errstate(all="ignore"):
            value = self.value + b.value
            error = self.error + b.error + UNIT * np.abs(value)
            return Bounded(value, np.where(_exact_infinity(self, b, value), 0.0, error))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Bounded:
        return self + (-lift(other))

    def __rsub__(self, other: Any) -> Bounded:
        return lift(other) + (-self)

    def __mul__(self, other: Any) -> Bounded:
        b = lift(other)
        with np.errstate(all="ignore"):
            value = self.value * b.value
            error = np.abs(self.value) * b.error + (np.abs(b.value) + b.error) * self.error
            error = error + UNIT * np.abs(value)
            return Bounded(value, np.where(_exact_infinity(self, b, value), 0.0, error))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        b = lift(other)
        with np.errstate(all="ignore"):
            value = self.value / b.value
            room = np.abs(b.value) - b.error
            error = np.where(room > 0, (self.error + np.abs(value) * b.error) / room, np.inf)
            return Bounded(value, error + UNIT * np.abs(value))

    def __rtruediv__(self, other: Any) -> Bounded:
        return lift(other) / self

    def __pow__(self, exponent: int) -> Bounded:
        if exponent != 2:
            raise ValueError(f"exponent={exponent}: only squares carry an error bound; use exp/log")
        return self * self

    def __lt__(self, other: Any) -> Any:
        return self.value < lift(other).value

    def __le__(self, other: Any) -> Any:
        return self.value <= lift(other).value

    def __gt__(self, other: Any) -> Any:
        return self.value > lift(other).value

    def __ge__(self, other: Any) -> Any:
        return self.value >= lift(other).value


def _exact_infinity(a: Bounded, b: Bounded, value: Any) -> Any:
    """Where a result is infinite because an operand truly is (log 0), not by overflow."""
    a_infinite = np.isinf(a.value) & (a.error == 0)
    b_infinite = np.isinf(b.value) & (b.error == 0)
    return np.isinf(value) & (a_infinite | b_infinite)


def law(log_p: Any) -> Bounded:
    """A float64 law, standing for the exactly normalised law next to it.

    Rounding moves each log-probability by a unit of its size and the sum by n units or less.
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return Bounded(
            log_p, (log_p.shape[-1] + 4) * UNIT * (1 + np.abs(log_p)) * (log_p > -np.inf)
        )


def lift(x: Any) -> Bounded:
    """``x`` as a Bounded; plain numbers are taken as exact."""
    return x if isinstance(x, Bounded) else Bounded(x)


class RoundOff:
    """The number system of ``Bounded`` arrays."""

    def __init__(self) -> None:
        self._xp: Floats = floats_of(np.zeros(1))

    def exp(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.exp(x.value)
            return Bounded(value, value * (np.expm1(x.error) + FUNCTION_UNITS))

    def expm1(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.expm1(x.value)
            slope = np.exp(x.value) * np.expm1(x.error)
            return Bounded(value, slope + FUNCTION_UNITS * np.abs(value))

    def log(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.log(x.value)
            share = np.where(x.error == 0, 0.0, x.error / x.value)
            spread = np.where(share < 1, -np.log1p(-share), np.inf)
            return Bounded(value, spread + FUNCTION_UNITS * np.abs(value))

    def log1p(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.log1p(x.value)
            share = x.error / (1 + x.value)
            spread = np.where(share < 1, -np.log1p(-share), np.inf)
            return Bounded(value, spread + FUNCTION_UNITS * np.abs(value))

    def sqrt(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.sqrt(np.maximum(x.value, 0.0))
            spread = np.minimum(np.sqrt(x.error), x.error / value)
            return Bounded(value, np.where(x.error == 0, 0.0, spread) + UNIT * value)

    def abs(self, x: Any) -> Bounded:
        x = lift(x)
        return Bounded(np.abs(x.value), x.error)

    def square(self, x: Any) -> Bounded:
        return lift(x) * x

    def sum(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            terms = np.sum(np.abs(x.value), axis=-1, keepdims=True)
            error = np.sum(x.error, axis=-1, keepdims=True) + x.shape[-1] * UNIT * terms
            return Bounded(np.sum(x.value, axis=-1, keepdims=True), error)

    def max(self, x: Any) -> Bounded:
        x = lift(x)
        error = np.max(x.error, axis=-1, keepdims=True)
        return Bounded(np.max(x.value, axis=-1, keepdims=True), error)

    def min(self, x: Any) -> Bounded:
        return -self.max(-lift(x))

    def maximum(self, x: Any, y: Any) -> Bounded:
        x, y = lift(x), lift(y)
        return Bounded(np.maximum(x.value, y.value), np.maximum(x.error, y.error))

    def minimum(self, x: Any, y: Any) -> Bounded:
        return -self.maximum(-lift(x), -lift(y))

    def where(self, condition: Any, x: Any, y: Any) -> Bounded:
        x, y = lift(x), lift(y)
        return Bounded(np.where(condition, x.value, y.value), np.where(condition, x.error, y.error))

    def positive(self, x: Any) -> Any:
        return lift(x).value > 0

    def full_like(self, x: Any, value: float) -> Bounded:
        return Bounded(np.full(lift(x).shape, value))

    def gather(self, x: Any, index: Any) -> Bounded:
        x = lift(x)
        return Bounded(
            np.take_along_axis(x.value, index, axis=-1), np.take_along_axis(x.error, index, axis=-1)
        )

    def mode(self, log_p: Any) -> Any:
        return self._xp.mode(lift(log_p).value)

    def support(self, log_p: Any) -> Any:
        return self._xp.support(lift(log_p).value)

    def pivot(self, x: Any) -> Bounded:
        # Any number serves as pivot as long as the same one is added back: it carries no error.
        return Bounded(self._xp.pivot(lift(x).value))

    def excess(self, log_w: Any, u: Any) -> Bounded:
        log_w, u = lift(log_w), lift(u)
        with np.errstate(all="ignore"):
            value = self._xp.excess(log_w.value, u.value)
            weight = np.exp(log_w.value)
            slope = np.abs(np.exp(log_w.value + u.value) - weight)
            curvature = 0.5 * np.exp(log_w.value + u.value + u.error)
            size = 1 + np.abs(log_w.value) + np.abs(u.value)
            error = value * (np.expm1(log_w.error) + EXCESS_UNITS * size)
            moved = np.where(u.error == 0, 0.0, slope * u.error + curvature * u.error**2)
            return Bounded(value, error + moved)

    def wright_omega(self, z: Any) -> Bounded:
        z = lift(z)
        with np.errstate(all="ignore"):
            value = self._xp.wright_omega(z.value)
            # d omega/dz = omega/(1 + omega) is below 1 and below omega
            spread = np.minimum(z.error, value * np.expm1(z.error))
            size = 1 + np.where(z.value < 0, np.abs(z.value), 0.0)
            return Bounded(value, np.where(value == 0, 0.0, spread + OMEGA_UNITS * size * value))


ROUNDOFF = RoundOff()
