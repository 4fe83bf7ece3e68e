"""What every number system offers to the formulas: the primitives, listed once.

A formula is written once as ``f(xp, ...)``. ``xp`` is one of

* ``floats_of(array)``: NumPy or torch, batched, differentiable in torch;
* ``roundoff.ROUNDOFF``: float64 values that carry a bound on their own error;
* ``arb()``: arrays of Arb balls; every result encloses the true value;
* ``sympy_numbers()``: arrays of sympy expressions;
* ``jets.Recorder().numbers()``: a graph that is replayed on balls with their derivatives.

Arrays have the responses on the last axis and per-world scalars keep that axis with length one,
so nothing ever collapses to a 0-d array. The primitives ``excess``, ``pivot`` and ``support`` hide
every branch and series: in exact systems they are what the formula says.
"""

from __future__ import annotations

from typing import Any, Protocol

# An array of the same system, or a plain number. NumPy and torch each accept operands of their own
# kinds, for which there is no common narrower type.
Operand = Any


class Mask(Protocol):
    """An array of truth values, one per number of the array that it came from."""

    def __and__(self, other: Operand, /) -> Mask: ...
    def __or__(self, other: Operand, /) -> Mask: ...
    def __invert__(self) -> Mask: ...


class Array(Protocol):
    """An array of one number system: NumPy's, torch's, ``Bounded``, or an object array."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, index: Any, /) -> Array: ...
    def __neg__(self) -> Array: ...
    def __add__(self, other: Operand, /) -> Array: ...
    def __radd__(self, other: Operand, /) -> Array: ...
    def __sub__(self, other: Operand, /) -> Array: ...
    def __rsub__(self, other: Operand, /) -> Array: ...
    def __mul__(self, other: Operand, /) -> Array: ...
    def __rmul__(self, other: Operand, /) -> Array: ...
    def __truediv__(self, other: Operand, /) -> Array: ...
    def __rtruediv__(self, other: Operand, /) -> Array: ...
    def __lt__(self, other: Operand, /) -> Mask: ...
    def __le__(self, other: Operand, /) -> Mask: ...
    def __gt__(self, other: Operand, /) -> Mask: ...
    def __ge__(self, other: Operand, /) -> Mask: ...


class Index(Protocol):
    """Places on the last axis, one per row, as ``mode`` returns them."""

    def __add__(self, other: int, /) -> Index: ...
    def __rmul__(self, other: int, /) -> Index: ...


class NumberSystem(Protocol):
    """The primitives. Reductions go along the last axis and keep it with length one."""

    def exp(self, x: Array, /) -> Array:
        """e^x."""

    def log(self, x: Array, /) -> Array:
        """Natural logarithm; log 0 = -inf."""

    def log1p(self, x: Array, /) -> Array:
        """log(1 + x), accurate near 0."""

    def expm1(self, x: Array, /) -> Array:
        """e^x - 1, accurate near 0."""

    def sqrt(self, x: Array, /) -> Array:
        """Square root of a number that is nonnegative but for rounding."""

    def abs(self, x: Array, /) -> Array:
        """|x|."""

    def square(self, x: Array, /) -> Array:
        """x^2; a ball times itself would reach below zero."""

    def sum(self, x: Array, /) -> Array:
        """Sum of each row."""

    def max(self, x: Array, /) -> Array:
        """Largest number of each row."""

    def min(self, x: Array, /) -> Array:
        """Smallest number of each row."""

    def maximum(self, x: Array, y: Array | float, /) -> Array:
        """The larger of two numbers, place by place."""

    def minimum(self, x: Array, y: Array | float, /) -> Array:
        """The smaller of two numbers, place by place."""

    def where(self, condition: Mask | bool, x: Array | float, y: Array | float, /) -> Array:
        """x where the condition is true, else y; at least one of them is an array."""

    def full_like(self, x: Array, value: float, /) -> Array:
        """An array of the shape of x that holds one number."""

    def positive(self, x: Array, /) -> Mask:
        """Where x > 0; in exact systems, where x is not certainly <= 0."""

    def support(self, log_p: Array, /) -> Mask:
        """Where a law has mass."""

    def mode(self, log_p: Array, /) -> Index:
        """Index of the most probable response of each row; any index serves in an exact system."""

    def gather(self, x: Array, index: Index, /) -> Array:
        """The entry of each row of x at the row's index, with a last axis of one."""

    def pivot(self, x: Array, /) -> Array:
        """What to subtract before exponentiating: the row maximum in floats, 0 in exact systems."""

    def excess(self, log_w: Array, u: Array, /) -> Array:
        """w (e^u - 1 - u) >= 0 for w = e^log_w, accurate near u = 0 and in both tails.

        This one primitive carries KL, the coupling gap and the two-point bounds.
        """

    def wright_omega(self, z: Array, /) -> Array:
        """omega > 0 with omega + log omega = z, that is W(e^z); 0 at z = -inf."""
