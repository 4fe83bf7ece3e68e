"""What the estimators check before they compute: errors name the argument, the value, the remedy."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np


def _named(name: str, bad: np.ndarray) -> tuple[str, tuple[int, ...]]:
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return (f"{name}[{', '.join(map(str, index))}]" if index else name), index


def real_array(name: str, values: Any) -> np.ndarray:
    """``values`` in float64; NumPy, torch (any device, detached) or nested lists."""
    if array_api_compat.is_torch_array(values):
        values = values.detach().cpu().double().numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={values!r}: not a real array ({error})") from None


def finite_array(name: str, values: Any) -> np.ndarray:
    array = real_array(name, values)
    bad = ~np.isfinite(array)
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(
            f"{where}={array[index]}: must be finite; drop the whole prompt or fix its source, "
            "because dropping single responses biases the estimate"
        )
    return array


def sample_array(name: str, values: Any, *, axes: int = 1, least: int = 1) -> np.ndarray:
    """Finite samples of shape [..., n] (``axes`` of them name samples), n >= ``least``."""
    array = finite_array(name, values)
    if array.ndim < axes:
        raise ValueError(f"{name} has shape {array.shape}: needs at least {axes} axes of samples")
    if min(array.shape[-axes:]) < 1 or array.shape[-1] < least:
        raise ValueError(
            f"{name} has shape {array.shape}: needs at least {least} sample{'s' * (least > 1)} "
            "on the last axis"
        )
    return array


def checked_bounds(name: str, bounds: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={bounds!r}: give two numbers (low, high)") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"{name}=({low}, {high}): give finite numbers with low < high")
    return low, high


def require_within(name: str, array: np.ndarray, low: float, high: float, bounds: str) -> None:
    bad = (array < low) | (array > high)
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(
            f"{where}={array[index]}: outside {bounds}=({low}, {high}); give bounds that hold "
            "for every possible value, not only for those seen"
        )


def positive_number(name: str, value: Any) -> float:
    array = real_array(name, value)
    if array.ndim or not (np.isfinite(array) and array > 0):
        raise ValueError(f"{name}={value}: must be one positive finite number")
    return float(array)


def positive_array(name: str, values: Any) -> np.ndarray:
    array = finite_array(name, values)
    if (array <= 0).any():
        where, index = _named(name, array <= 0)
        raise ValueError(f"{where}={array[index]}: must be positive")
    return array


def probability(name: str, value: Any) -> float:
    """A number strictly between 0 and 1: ``delta``, ``power``."""
    array = real_array(name, value)
    if array.ndim or not 0 < array < 1:
        raise ValueError(f"{name}={value}: must lie strictly between 0 and 1, for instance 0.05")
    return float(array)


def count_array(name: str, values: Any, least: int) -> np.ndarray:
    array = finite_array(name, values)
    bad = (array != np.floor(array)) | (array < least)
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(f"{where}={array[index]}: must be a whole number, at least {least}")
    return array
