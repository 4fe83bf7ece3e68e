"""float64 arrays that carry a bound on their own error: where tolerances come from.

A claim evaluated in ``ROUNDOFF`` yields both sides together with a running error bound, so the
tolerance of a comparison is derived from the computation instead of chosen. Inputs may start with
an error of their own, for example log-probabilities that a float32 network has rounded.

The rules are the usual first-order running error analysis (Higham 2002, section 3.3), kept as upper
bounds by charging four units of roundoff (two units in the last place) to each elementary function.

Where a result may underflow, it is charged ``UNDERFLOW`` as well, unless it is exactly zero. An
infinity is exact, like log 0, or the result has overflowed and its error is infinite.
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
# Two units in the last place of the smallest numbers, and as much for the products that make up an error bound
UNDERFLOW = 4 * 2.0**-1074


class Bounded:
    """A float64 array ``value`` whose distance to the true value is at most ``error``.

    An infinite value has the error 0 where it is exact, and an infinite one elsewhere.
    """

    __array_ufunc__ = None  # makes ndarray + Bounded call Bounded.__radd__

    def __init__(self, value: Any, error: Any = 0.0) -> None:
        self.value = np.asarray(value, dtype=np.float64)
        error = np.broadcast_to(np.asarray(error, dtype=np.float64), self.value.shape)
        unknown = np.isnan(self.value) | np.isnan(error) | (np.isinf(self.value) & (error != 0))
        self.error = np.where(unknown, np.inf, error)

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
            known = np.isfinite(self.error) & np.isfinite(b.error)
            exact = np.isinf(value) & known & (_infinite(self) | _infinite(b))
            return Bounded(value, np.where(exact, 0.0, error))

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
            error = error + UNIT * np.abs(value) + UNDERFLOW
            infinite = _infinite(self) & _signed(b) | _infinite(b) & _signed(self)
            exact = infinite | (_zero(self) & _known(b)) | (_zero(b) & _known(self))
            return Bounded(value, np.where(exact, 0.0, error))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Bounded:
        b = lift(other)
        with np.errstate(all="ignore"):
            value = self.value / b.value
            room = np.abs(b.value) - b.error
            moved = self.error / room + (np.abs(value) + UNDERFLOW) * (b.error / room)
            error = np.where(room > 0, moved, np.inf) + UNIT * np.abs(value) + UNDERFLOW
            signed = (room > 0) & _known(b)
            exact = signed & (_infinite(self) | _zero(self)) | _infinite(b) & _known(self)
            return Bounded(value, np.where(exact, 0.0, error))

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


def _infinite(x: Bounded) -> Any:
    """Where it truly is infinite (log 0), not by overflow."""
    return np.isinf(x.value) & (x.error == 0)


def _zero(x: Bounded) -> Any:
    """Where it truly is zero, not by underflow."""
    return (x.value == 0) & (x.error == 0)


def _known(x: Bounded) -> Any:
    """Where it is finite, with a finite error."""
    return np.isfinite(x.value) & np.isfinite(x.error)


def _signed(x: Bounded) -> Any:
    """Where it certainly is not zero, and has the sign of its value."""
    return np.abs(x.value) > x.error


def law(log_p: Any) -> Bounded:
    """A float64 law, standing for the exactly normalised law next to it.

    Rounding moves each log-probability by a unit of its size and the sum by n units or less.
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    error = (log_p.shape[-1] + 4) * UNIT * (1 + np.abs(log_p))
    return Bounded(log_p, np.where(log_p > -np.inf, error, 0.0))


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
            error = (value + UNDERFLOW) * (np.expm1(x.error) + FUNCTION_UNITS) + UNDERFLOW
            return Bounded(value, np.where(_infinite(x), 0.0, error))

    def expm1(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.expm1(x.value)
            slope = (np.exp(x.value) + UNDERFLOW) * np.expm1(x.error)
            error = slope + FUNCTION_UNITS * np.abs(value) + UNDERFLOW
            return Bounded(value, np.where(_infinite(x) | _zero(x), 0.0, error))

    def log(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.log(x.value)
            share = np.where(x.error == 0, 0.0, x.error / x.value)
            spread = np.where(share < 1, -np.log1p(-share), np.inf)
            error = spread + FUNCTION_UNITS * np.abs(value)
            return Bounded(value, np.where(_infinite(x) | _zero(x), 0.0, error))

    def log1p(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.log1p(x.value)
            share = x.error / (1 + x.value)
            spread = np.where(share < 1, -np.log1p(-share), np.inf)
            error = spread + FUNCTION_UNITS * np.abs(value) + UNDERFLOW
            least = (x.value == -1) & (x.error == 0)
            return Bounded(value, np.where(_infinite(x) | _zero(x) | least, 0.0, error))

    def sqrt(self, x: Any) -> Bounded:
        x = lift(x)
        with np.errstate(all="ignore"):
            value = np.sqrt(np.maximum(x.value, 0.0))
            spread = np.minimum(np.sqrt(x.error), x.error / value)
            error = np.where(x.error == 0, 0.0, spread) + UNIT * value
            return Bounded(value, np.where(_infinite(x), 0.0, error))

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
            infinite = _infinite(x)
            known = np.all(infinite | _known(x), axis=-1, keepdims=True)
            exact = known & np.any(infinite, axis=-1, keepdims=True)
            return Bounded(np.sum(x.value, axis=-1, keepdims=True), np.where(exact, 0.0, error))

    def max(self, x: Any) -> Bounded:
        x = lift(x)
        error = np.max(x.error, axis=-1, keepdims=True)
        exact = np.any(_infinite(x) & (x.value > 0), axis=-1, keepdims=True)
        return Bounded(np.max(x.value, axis=-1, keepdims=True), np.where(exact, 0.0, error))

    def min(self, x: Any) -> Bounded:
        return -self.max(-lift(x))

    def maximum(self, x: Any, y: Any) -> Bounded:
        x, y = lift(x), lift(y)
        exact = _infinite(x) & (x.value > 0) | _infinite(y) & (y.value > 0)
        error = np.where(exact, 0.0, np.maximum(x.error, y.error))
        return Bounded(np.maximum(x.value, y.value), error)

    def minimum(self, x: Any, y: Any) -> Bounded:
        return -self.maximum(-lift(x), -lift(y))

    def where(self, condition: Any, x: Any, y: Any) -> Bounded:
        x, y = lift(x), lift(y)
        return Bounded(np.where(condition, x.value, y.value), np.where(condition, x.error, y.error))

    def positive(self, x: Any) -> Any:
        # As in exact systems: what may be positive must not take the branch of a degenerate world.
        x = lift(x)
        with np.errstate(invalid="ignore"):
            return ~(x.value + x.error <= 0)

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
        log_p = lift(log_p)
        return self._xp.support(log_p.value) | (log_p.error > 0)

    def pivot(self, x: Any) -> Bounded:
        # Any number serves as pivot as long as the same one is added back: it carries no error.
        return Bounded(self._xp.pivot(lift(x).value))

    def excess(self, log_w: Any, u: Any) -> Bounded:
        log_w, u = lift(log_w), lift(u)
        with np.errstate(all="ignore"):
            value = self._xp.excess(log_w.value, u.value)
            weight = np.exp(log_w.value)
            slope = np.abs(np.exp(log_w.value + u.value) - weight) + UNDERFLOW
            curvature = 0.5 * np.exp(log_w.value + u.value + u.error) + UNDERFLOW
            size = 1 + np.abs(log_w.value) + np.abs(u.value)
            lost = UNDERFLOW * (1 + np.abs(u.value))
            error = (value + lost) * (np.expm1(log_w.error) + EXCESS_UNITS * size) + lost
            moved = np.where(u.error == 0, 0.0, slope * u.error + curvature * u.error**2)
            error = error + np.exp(log_w.error) * moved
            return Bounded(value, np.where(_infinite(u) & _known(log_w), 0.0, error))

    def wright_omega(self, z: Any) -> Bounded:
        z = lift(z)
        with np.errstate(all="ignore"):
            value = self._xp.wright_omega(z.value)
            # d omega/dz = omega/(1 + omega) is below 1 and below omega
            spread = np.minimum(z.error, (value + UNDERFLOW) * np.expm1(z.error))
            size = 1 + np.where(z.value < 0, np.abs(z.value), 0.0)
            error = spread + OMEGA_UNITS * size * value + UNDERFLOW
            return Bounded(value, np.where(_infinite(z) & (z.value < 0), 0.0, error))


ROUNDOFF = RoundOff()
