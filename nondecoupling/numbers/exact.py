"""Number systems of Python objects: one table of functions makes a system of Arb balls or of sympy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nondecoupling.numbers.number_system import Array


class Exact:
    """A number system of Python objects (Arb balls or sympy expressions) in NumPy object arrays."""

    def __init__(self, name: str, functions: dict[str, Callable[..., Any]]) -> None:
        self.name = name
        self._number = functions["number"]
        self._truth = functions["truth"]
        self._maximum2, self._minimum2 = functions["maximum"], functions["minimum"]
        self._finite, self._positive = functions["positive_mass"], functions["positive"]
        self.exp = self._elementwise(functions["exp"])
        self.log = self._elementwise(functions["log"])
        self.log1p = self._elementwise(functions["log1p"])
        self.expm1 = self._elementwise(functions["expm1"])
        self.sqrt = self._elementwise(functions["sqrt"])
        self.abs = self._elementwise(functions["abs"])
        self.square = self._elementwise(functions["square"])
        self.wright_omega = self._elementwise(functions["wright_omega"])
        self._excess = functions["excess"]

    @staticmethod
    def _elementwise(function: Callable[..., Any]) -> Callable[..., Array]:
        def apply(*arrays: Array) -> Array:
            broadcast = np.broadcast_arrays(*(np.asarray(a, dtype=object) for a in arrays))
            out = np.empty(broadcast[0].shape, dtype=object)
            for index in np.ndindex(*out.shape):
                out[index] = function(*(a[index] for a in broadcast))
            return out

        return apply

    def number(self, x: Any) -> Any:
        return self._number(x)

    def array(self, values: Any) -> Array:
        """An object array of this system's numbers, with at least one axis."""
        return self._elementwise(self._number)(np.atleast_1d(np.asarray(values, dtype=object)))

    def full_like(self, x: Array, value: float) -> Array:
        return self.array(np.full(np.shape(x), value, dtype=object))

    def sum(self, x: Array) -> Array:
        return np.sum(x, axis=-1, keepdims=True)

    def _reduce(self, function: Callable[[Any, Any], Any], x: Array) -> Array:
        return np.frompyfunc(function, 2, 1).reduce(x, axis=-1, keepdims=True)

    def max(self, x: Array) -> Array:
        return self._reduce(self._maximum2, x)

    def min(self, x: Array) -> Array:
        return self._reduce(self._minimum2, x)

    def maximum(self, x: Array, y: Array) -> Array:
        return self._elementwise(lambda a, b: self._maximum2(a, self._number(b)))(x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        return self._elementwise(lambda a, b: self._minimum2(a, self._number(b)))(x, y)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        pick = self._elementwise(lambda c, a, b: self._number(a if self._truth(c) else b))
        return pick(condition, x, y)

    def gather(self, x: Array, index: Array) -> Array:
        return np.take_along_axis(x, index, axis=-1)

    def mode(self, log_p: Array) -> Array:
        """Any index serves in an exact system; the first one does for sympy and for Arb."""
        return np.zeros((*np.shape(log_p)[:-1], 1), dtype=int)

    def positive(self, x: Array) -> Array:
        return self._elementwise(self._positive)(x).astype(bool)

    def support(self, log_p: Array) -> Array:
        return self._elementwise(self._finite)(log_p).astype(bool)

    def pivot(self, x: Array) -> Array:
        return self.full_like(self.sum(self.support(x)), 0)

    def excess(self, log_w: Array, u: Array) -> Array:
        return self._elementwise(self._excess)(log_w, u)
