"""NumPy and torch as one number system, through the array API standard."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

import array_api_compat
import array_api_compat.numpy
import numpy as np

from nondecoupling.numbers.number_system import Array, Index, Mask

if TYPE_CHECKING:
    from torch import Tensor

# 1/(k+2)!, k = 14..0: the Taylor coefficients of (e^u - 1 - u)/u^2, the last one first. The first term left out
# is below 9e-20 on |u| < 1/2, under the rounding of float64.
_EXCESS_SERIES = tuple(1.0 / math.factorial(k + 2) for k in reversed(range(15)))
_EXCESS_SERIES_RADIUS = 0.5
# Large arrays are worked through in blocks of about this many numbers, so that temporaries stay in cache.
BLOCK_NUMBERS = 32_768
# Quadratic convergence from within 0.6 of the root in log omega: six steps reach float64.
_OMEGA_STEPS = 6


def detached(x: Array) -> Array:
    """The values without their gradients (torch); NumPy arrays as they are."""
    return x.detach() if hasattr(x, "detach") else x


def dtype_of(x: Array) -> Any:
    """The dtype of a NumPy or torch array."""
    array: Any = x
    return array.dtype


def is_torch(x: object) -> TypeGuard[Tensor]:
    """Whether x is a tensor, without importing torch; torch's compiler can follow this."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def namespace_of(*arrays: Any) -> ModuleType:
    """The array API of the one library that the arrays belong to."""
    if all(is_torch(array) for array in arrays):
        from array_api_compat import torch as namespace

        return namespace
    if all(type(array) is np.ndarray for array in arrays):
        return array_api_compat.numpy
    return array_api_compat.array_namespace(*arrays)


def device_of(x: Any) -> Any:
    return x.device if is_torch(x) else "cpu"


class Floats:
    """NumPy or torch, through the array API standard; their own where the layers of that cost as much as the work."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self._numpy = module.__name__.endswith("numpy")
        of: Any
        if self._numpy:
            of = (np.add.reduce, np.maximum.reduce, np.minimum.reduce, np.ndarray.argmax)
        else:
            import torch

            of = (torch.sum, torch.amax, torch.amin, torch.argmax)
        self._sum, self._max, self._min, self._argmax = of

    def exp(self, x: Array) -> Array:
        return self.module.exp(x)

    def log(self, x: Array) -> Array:
        if self._numpy:
            with np.errstate(divide="ignore"):
                return self.module.log(x)
        return self.module.log(x)

    def log1p(self, x: Array) -> Array:
        return self.module.log1p(x)

    def expm1(self, x: Array) -> Array:
        return self.module.expm1(x)

    def sqrt(self, x: Array) -> Array:
        return self.module.sqrt(x)

    def abs(self, x: Array) -> Array:
        return self.module.abs(x)

    def eps(self, x: Array) -> float:
        """The distance of one to the next number, in the precision of x."""
        return float(self.module.finfo(dtype_of(x)).eps)

    def tiny(self, x: Array) -> float:
        """The smallest normal number in the precision of x."""
        return float(self.module.finfo(dtype_of(x)).smallest_normal)

    def sum(self, x: Array) -> Array:
        return self._sum(x, axis=-1, keepdims=True)

    def max(self, x: Array) -> Array:
        return self._max(x, axis=-1, keepdims=True)

    def min(self, x: Array) -> Array:
        return self._min(x, axis=-1, keepdims=True)

    def where(self, condition: Mask | bool, x: Array | float, y: Array | float) -> Array:
        """x where the condition holds, else y; a number takes the dtype of the other, and must fit into it."""
        if self._numpy:
            return self.module.where(condition, x, y)
        like = x if hasattr(x, "dtype") else y
        if isinstance(condition, np.ndarray):  # a pattern of responses
            condition = self.module.asarray(condition, device=device_of(like))
        # Torch takes a number as it is, several times faster than an array of it.
        tensor: Any = like
        chosen: Array = tensor.where(condition, y) if like is x else tensor.where(~condition, x)
        return chosen

    def minimum(self, x: Array, y: Array | float) -> Array:
        return self.module.minimum(x, self._like(y, x))

    def maximum(self, x: Array, y: Array | float) -> Array:
        return self.module.maximum(x, self._like(y, x))

    def square(self, x: Array) -> Array:
        return x * x

    def positive(self, x: Array) -> Mask:
        return x > 0

    def full_like(self, x: Array, value: float) -> Array:
        return self.module.full_like(x, value)

    def constants(self, values: Sequence[float] | np.ndarray, like: Array) -> Array:
        """Plain numbers as an array of the dtype and on the device of ``like``."""
        device = device_of(like)
        return self.module.asarray(values, dtype=dtype_of(like), device=device)

    def gather(self, x: Array, index: Index) -> Array:
        if self._numpy:
            return _rows_at(x, index)
        index = self.module.asarray(index, device=device_of(x))
        return self.module.take_along_dim(x, index, dim=-1)

    def mode(self, log_p: Array) -> Index:
        return self._argmax(log_p, axis=-1, keepdims=True)

    def support(self, log_p: Array) -> Mask:
        return log_p > -math.inf

    def pivot(self, x: Array) -> Array:
        top = detached(self.max(x))
        return self.where(self.module.isfinite(top), top, 0.0)

    def excess(self, log_w: Array, u: Array) -> Array:
        size = self.abs(u)
        near, infinite = size < _EXCESS_SERIES_RADIUS, size == math.inf
        small = self.where(near, u, 0.0)
        large = self.where(near | infinite, 1.0, u)
        weight = self.exp(log_w)
        series = self._polynomial(_EXCESS_SERIES, small)
        far = self.exp(log_w + large) - weight * (1.0 + large)
        curve = self.where(near, weight * small * small * series, far)
        return self.where(infinite, math.inf, curve)

    def wright_omega(self, z: Array) -> Array:
        """Newton for l = log omega: e^l + l is increasing and convex, so from the right of the root
        the steps fall monotonically. For large z the value is read off as z - l.
        """
        there = z > -math.inf
        z = self.where(there, z, 0.0)
        fixed = detached(z)
        large = fixed > 1
        log_omega = self.where(large, self.log(self.where(large, fixed, 1.0)), fixed)
        for _ in range(_OMEGA_STEPS):
            omega = self.exp(log_omega)
            log_omega = log_omega - (omega + log_omega - fixed) / (omega + 1)
        omega = self.where(large, fixed - log_omega, self.exp(log_omega))
        # Zero but for its gradient, d omega/dz = omega/(1 + omega).
        omega = omega + omega / (1 + omega) * (z - fixed)
        return self.where(there, omega, 0.0)

    def _polynomial(self, coefficients: tuple[float, ...], x: Array) -> Array:
        """Horner's rule, from the coefficient of the highest power."""
        numbers = _numpy_numbers(coefficients, dtype_of(x)) if self._numpy else coefficients
        total: Any = x * numbers[0] + numbers[1]
        for number in numbers[2:]:
            if self._numpy:
                total *= x
                total += number
            else:  # torch keeps each step for its gradient
                total = total * x + number
        return total

    def _like(self, value: Array | float, like: Any) -> Any:
        if self._numpy or hasattr(value, "dtype"):  # NumPy itself fits a number to the array
            return value
        return self.module.asarray(value, dtype=like.dtype, device=device_of(like))


@cache
def _numpy_numbers(values: tuple[float, ...], dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Numbers as NumPy's arrays, which it would make of them anew in each operation."""
    return tuple(np.asarray(value, dtype=dtype) for value in values)


def _rows_at(x: Array, index: Index) -> Array:
    """NumPy's take_along_axis for the last axis; several times faster where the other axes agree."""
    values, places = np.asarray(x), np.asarray(index)
    if values.shape[:-1] != places.shape[:-1]:
        return np.take_along_axis(values, places, axis=-1)
    rows = values.reshape(-1, values.shape[-1])
    found = rows[np.arange(len(rows))[:, None], places.reshape(-1, places.shape[-1])]
    return found.reshape(places.shape)


def floats_of(*arrays: Array) -> Floats:
    """The float number system (NumPy or torch) to which the arrays belong."""
    return Floats(namespace_of(*arrays))
