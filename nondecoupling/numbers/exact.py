"""Number systems of Python objects: one table of operations makes a system of Arb balls or of sympy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.numbers.number_system import Array, Index, Mask

Number = Any  # an Arb ball, a sympy expression or a node of a recorded formula
Function = Callable[[Number], Number]
Function2 = Callable[[Number, Number], Number]


@dataclass(frozen=True)
class Operations:
    """What a number system does to single numbers; named as the primitives of ``NumberSystem``.

    ``number`` makes one from an int, a fraction or a float; ``truth`` decides a condition.
    """

    number: Callable[[Any], Number]
    truth: Callable[[Any], bool]
    exp: Function
    log: Function
    log1p: Function
    expm1: Function
    sqrt: Function
    abs: Function
    square: Function
    wright_omega: Function
    maximum: Function2
    minimum: Function2
    excess: Function2
    positive: Callable[[Number], bool]
    has_mass: Callable[[Number], bool]


class Exact:
    """A number system of Python objects in NumPy object arrays."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def number(self, x: Any) -> Number:
        return self._operations.number(x)

    def array(self, values: Any) -> Array:
        """An object array of this system's numbers, with at least one axis."""
        return _elementwise(self.number, np.atleast_1d(np.asarray(values, dtype=object)))

    def exp(self, x: Array) -> Array:
        return _elementwise(self._operations.exp, x)

    def log(self, x: Array) -> Array:
        return _elementwise(self._operations.log, x)

    def log1p(self, x: Array) -> Array:
        return _elementwise(self._operations.log1p, x)

    def expm1(self, x: Array) -> Array:
        return _elementwise(self._operations.expm1, x)

    def sqrt(self, x: Array) -> Array:
        return _elementwise(self._operations.sqrt, x)

    def abs(self, x: Array) -> Array:
        return _elementwise(self._operations.abs, x)

    def square(self, x: Array) -> Array:
        return _elementwise(self._operations.square, x)

    def sum(self, x: Array) -> Array:
        return np.asarray(x).sum(axis=-1, keepdims=True)

    def max(self, x: Array) -> Array:
        return _reduce(self._operations.maximum, x)

    def min(self, x: Array) -> Array:
        return _reduce(self._operations.minimum, x)

    def maximum(self, x: Array, y: Array | float) -> Array:
        return _elementwise(lambda a, b: self._operations.maximum(a, self.number(b)), x, y)

    def minimum(self, x: Array, y: Array | float) -> Array:
        return _elementwise(lambda a, b: self._operations.minimum(a, self.number(b)), x, y)

    def where(self, condition: Mask | bool, x: Array | float, y: Array | float) -> Array:
        def pick(c: Any, a: Any, b: Any) -> Number:
            return self.number(a if self._operations.truth(c) else b)

        return _elementwise(pick, condition, x, y)

    def full_like(self, x: Array, value: float) -> Array:
        return self.array(np.full(np.shape(x), value, dtype=object))

    def positive(self, x: Array) -> Mask:
        return _elementwise(self._operations.positive, x).astype(bool)

    def support(self, log_p: Array) -> Mask:
        return _elementwise(self._operations.has_mass, log_p).astype(bool)

    def mode(self, log_p: Array) -> Index:
        return np.zeros((*log_p.shape[:-1], 1), dtype=int)

    def gather(self, x: Array, index: Index) -> Array:
        return np.take_along_axis(np.asarray(x), np.asarray(index), axis=-1)

    def pivot(self, x: Array) -> Array:
        return self.array(np.zeros((*x.shape[:-1], 1), dtype=object))

    def excess(self, log_w: Array, u: Array) -> Array:
        return _elementwise(self._operations.excess, log_w, u)

    def wright_omega(self, z: Array) -> Array:
        return _elementwise(self._operations.wright_omega, z)


def the_number(x: Array) -> Number:
    """The one number that an object array with a single entry holds."""
    return np.asarray(x).item()


def _elementwise(function: Callable[..., Any], *arrays: Any) -> Any:
    objects = [np.asarray(a, dtype=object) for a in arrays]
    return np.asarray(np.frompyfunc(function, len(objects), 1)(*objects), dtype=object)


def _reduce(function: Function2, x: Array) -> Array:
    return np.frompyfunc(function, 2, 1).reduce(np.asarray(x), axis=-1, keepdims=True)
