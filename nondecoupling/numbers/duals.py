"""Derivatives along a direction, over any number system: dual numbers.

A formula evaluated in ``Duals(xp)`` carries its derivative along, in the numbers of ``xp``: exact in
sympy, enclosed in Arb, with its rounding error in ``ROUNDOFF``. So a gradient can be taken from the
definition of an objective, beside its closed form.

>>> import numpy as np
>>> from nondecoupling.numbers.floats import floats_of
>>> x = np.array([0.5, 2.0])
>>> duals = Duals(floats_of(x))
>>> duals.sum(duals.square(Dual(x, np.ones(2)))).slope  # of x1^2 + x2^2 along (1, 1)
array([5.])
"""

from __future__ import annotations

from typing import Any, NoReturn

from nondecoupling.numbers.number_system import Array, Index, Mask, NumberSystem, Operand


class Dual:
    """A value and its derivative along a direction, two arrays of one number system."""

    __array_ufunc__ = None  # makes ndarray + Dual call Dual.__radd__

    def __init__(self, value: Array, slope: Array | float = 0.0) -> None:
        self.value = value
        self.slope: Any = slope if hasattr(slope, "shape") else slope * value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __getitem__(self, index: Any) -> Dual:
        return Dual(self.value[index], self.slope[index])

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __add__(self, other: Operand) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Operand) -> Dual:
        return -self + other

    def __mul__(self, other: Operand) -> Dual:
        if isinstance(other, Dual):
            slope = self.slope * other.value + self.value * other.slope
            return Dual(self.value * other.value, slope)
        return Dual(self.value * other, self.slope * other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Dual:
        if isinstance(other, Dual):
            ratio = self.value / other.value
            return Dual(ratio, (self.slope - ratio * other.slope) / other.value)
        return Dual(self.value / other, self.slope / other)

    def __rtruediv__(self, other: Operand) -> Dual:
        ratio = other / self.value
        return Dual(ratio, -ratio * self.slope / self.value)

    def __lt__(self, other: Operand) -> Mask:
        return self.value < _value(other)

    def __le__(self, other: Operand) -> Mask:
        return self.value <= _value(other)

    def __gt__(self, other: Operand) -> Mask:
        return self.value > _value(other)

    def __ge__(self, other: Operand) -> Mask:
        return self.value >= _value(other)


def slope(x: Array) -> Array:
    """The derivative that a result of ``Duals`` carries."""
    if not isinstance(x, Dual):
        raise TypeError(f"{type(x).__name__} carries no derivative; evaluate the formula in Duals")
    return x.slope


def _value(x: Operand) -> Any:
    return x.value if isinstance(x, Dual) else x


class Duals:
    """The number system of ``Dual`` over another one. Functions with a kink are refused."""

    def __init__(self, xp: NumberSystem) -> None:
        self._xp = xp

    def constant(self, x: Array) -> Dual:
        """What does not move along the direction."""
        return Dual(x, self._xp.full_like(x, 0))

    def _parts(self, x: Any) -> tuple[Any, Any]:
        if isinstance(x, Dual):
            return x.value, x.slope
        return x, (0 * x if not hasattr(x, "shape") else self._xp.full_like(x, 0))

    def exp(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        value = self._xp.exp(x)
        return Dual(value, value * slope)

    def log(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        return Dual(self._xp.log(x), slope / x)

    def log1p(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        return Dual(self._xp.log1p(x), slope / (1 + x))

    def expm1(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        return Dual(self._xp.expm1(x), self._xp.exp(x) * slope)

    def sqrt(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        root = self._xp.sqrt(x)
        return Dual(root, slope / (2 * root))

    def square(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        return Dual(self._xp.square(x), 2 * x * slope)

    def sum(self, x: Array) -> Dual:
        x, slope = self._parts(x)
        return Dual(self._xp.sum(x), self._xp.sum(slope))

    def where(self, condition: Mask | bool, x: Array | float, y: Array | float) -> Dual:
        (x, dx), (y, dy) = self._parts(x), self._parts(y)
        return Dual(self._xp.where(condition, x, y), self._xp.where(condition, dx, dy))

    def full_like(self, x: Array, value: float) -> Dual:
        return self.constant(self._xp.full_like(_value(x), value))

    def positive(self, x: Array) -> Mask:
        return self._xp.positive(_value(x))

    def support(self, log_p: Array) -> Mask:
        return self._xp.support(_value(log_p))

    def mode(self, log_p: Array) -> Index:
        return self._xp.mode(_value(log_p))

    def gather(self, x: Array, index: Index) -> Dual:
        x, slope = self._parts(x)
        return Dual(self._xp.gather(x, index), self._xp.gather(slope, index))

    def pivot(self, x: Array) -> Dual:
        # What is subtracted is added back: its derivative does not matter.
        return self.constant(self._xp.pivot(_value(x)))

    def excess(self, log_w: Array, u: Array) -> Dual:
        (log_w, weight_slope), (u, slope) = self._parts(log_w), self._parts(u)
        value = self._xp.excess(log_w, u)
        moved = self._xp.exp(log_w) * self._xp.expm1(u) * slope
        return Dual(value, value * weight_slope + moved)

    def wright_omega(self, z: Array) -> Dual:
        z, slope = self._parts(z)
        omega = self._xp.wright_omega(z)
        return Dual(omega, omega / (1 + omega) * slope)

    def _kink(self, *_: Any) -> NoReturn:
        raise TypeError(
            "max, min and abs have no derivative where they bend; write it without them"
        )

    max = min = abs = maximum = minimum = _kink
