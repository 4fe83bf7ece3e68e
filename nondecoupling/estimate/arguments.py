"""What the estimators check before they compute: errors name the argument, the value, the remedy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NoReturn

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
# One number, or one for each world of a batch.
PerWorld = float | Array

# Beyond it the sum of many samples overflows; below its inverse a quotient does.
LARGEST = 1e300
# Beyond it a float64 does not hold every whole number.
LARGEST_COUNT = 2**53
# Trainers keep rewards in float32, where 0.1 is 0.10000000149: twice the rounding of a number, relative to its size.
ROUNDED_REWARD = float(np.finfo(np.float32).eps)


def shown(value: object) -> str:
    """The value as text of a length that an error can carry."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def onto_bounds(rewards: ArrayLike, bounds: tuple[float, float], size: ArrayLike = 0.0) -> Array:
    """Rewards beyond a bound by no more than float32's rounding are put onto it; the others are as they were.

    Rounding is 2^-23 times the larger one of the sizes of the bounds and ``size``, that of the numbers that a reward is
    the sum of.

    >>> onto_bounds([-0.1, 1.1000000015], (0.0, 1.1)).tolist()
    [-0.1, 1.1]
    """
    low, high = bounds
    given = np.asarray(rewards, dtype=np.float64)
    nearest = np.clip(given, low, high)
    rounding = ROUNDED_REWARD * np.maximum(max(-low, high), size)
    return np.where(np.isfinite(given) & (np.abs(given - nearest) <= rounding), nearest, given)


@dataclass(frozen=True)
class GivenArgument:
    """An argument with a value, as Python writes it."""

    argument: str
    value: Any

    def __str__(self) -> str:
        return f"{self.argument}={shown(self.value)}"


class NamesArguments(ValueError):
    """Says what to give, so that a command can say it with its options in the place of Python's arguments.

    >>> error = NamesArguments("choose one, as ", GivenArgument("step", 20))
    >>> print(error, "|", error.said(lambda given: f"--{given.argument} {given.value}"))
    choose one, as step=20 | choose one, as --step 20
    """

    def __init__(self, *parts: str | GivenArgument) -> None:
        super().__init__("".join(map(str, parts)))
        self.parts = parts

    def said(self, written: Callable[[GivenArgument], str]) -> str:
        return "".join(
            written(part) if isinstance(part, GivenArgument) else part for part in self.parts
        )


def _refuse(name: str, values: object, why: str) -> NoReturn:
    raise ValueError(f"{name}={shown(values)}: not a real array ({why})")


def _named(name: str, bad: NDArray[np.bool_]) -> tuple[str, tuple[int, ...]]:
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return (f"{name}[{', '.join(map(str, index))}]" if index else name), index


def _as_given(name: str, values: ArrayLike) -> NDArray[Any]:
    """``values`` as a NumPy array of its own kind of real numbers; nothing is dropped on the way."""
    if array_api_compat.is_torch_array(values):
        values = _from_torch(name, values)
    if isinstance(values, np.ma.MaskedArray):
        _refuse(name, values, "masked: fill what is masked, or leave its whole prompt out")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        _refuse(name, values, str(error))
    if array.dtype.kind not in "biuf":
        kinds = {"c": "complex numbers", "O": "other things than numbers, or too large ones"}
        what = kinds.get(array.dtype.kind, f"{array.dtype}")
        _refuse(name, values, f"it holds {what}; give real numbers that float64 can hold")
    return array


def _from_torch(name: str, tensor: Any) -> NDArray[Any]:
    if tensor.is_meta or str(tensor.layout) != "torch.strided" or tensor.is_nested:
        _refuse(name, tensor, f"on device {tensor.device}, {tensor.layout}; give a dense tensor")
    if tensor.is_complex() or tensor.is_quantized:
        _refuse(name, tensor, f"it holds {tensor.dtype}; give real numbers")
    tensor = tensor.detach().cpu()
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # NumPy has no bfloat16
        return np.asarray(tensor.double().numpy())


def real_array(name: str, values: ArrayLike) -> Array:
    """``values`` in float64; NumPy, torch (any device, detached) or nested lists."""
    with np.errstate(over="ignore"):  # a longdouble out of range becomes inf, and is not finite
        return _as_given(name, values).astype(np.float64)


def rounding_of(name: str, values: ArrayLike) -> float:
    """The machine epsilon of the numbers given: that of float64 unless they are shorter floats."""
    if array_api_compat.is_torch_array(values) and values.is_floating_point():
        import torch

        return max(torch.finfo(values.dtype).eps, float(np.finfo(np.float64).eps))
    dtype = _as_given(name, values).dtype
    double = float(np.finfo(np.float64).eps)
    return max(float(np.finfo(dtype).eps), double) if dtype.kind == "f" else double


def finite_array(name: str, values: ArrayLike) -> Array:
    array = real_array(name, values)
    bad = ~np.isfinite(array)
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(
            f"{where}={array[index]}: must be finite; drop the whole prompt or fix its source, "
            "because dropping single responses biases the estimate"
        )
    bad = np.abs(array) > LARGEST
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(
            f"{where}={array[index]}: at most {LARGEST:g} in size, or sums overflow; rescale"
        )
    return array


def sample_array(name: str, values: ArrayLike, *, axes: int = 1, least: int = 1) -> Array:
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


def checked_bounds(name: str, bounds: ArrayLike) -> tuple[float, float]:
    array = real_array(name, bounds)
    if array.shape != (2,):
        raise ValueError(f"{name}={shown(bounds)}: give two numbers (low, high)")
    low, high = map(float, array)
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise NamesArguments(
            GivenArgument(name, (low, high)), ": give finite numbers with low < high"
        )
    if max(-low, high) > LARGEST:
        raise NamesArguments(
            GivenArgument(name, (low, high)),
            f": at most {LARGEST:g} in size, or sums overflow; rescale",
        )
    return low, high


def require_within(name: str, array: Array, low: float, high: float, bounds: str) -> None:
    bad = (array < low) | (array > high)
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(
            f"{where}={array[index]}: outside {bounds}=({low}, {high}); give bounds that hold "
            "for every possible value, not only for those seen"
        )


def require_one_shape(**arrays: ArrayLike) -> None:
    """Named arrays must broadcast against each other."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{', '.join(shapes)}: shapes that do not fit, {listed}") from None


def finite_number(name: str, value: ArrayLike) -> float:
    array = finite_array(name, value)
    if array.ndim:
        raise ValueError(f"{name} has shape {array.shape}: must be one number")
    return float(array)


def positive_number(name: str, value: ArrayLike) -> float:
    array = real_array(name, value)
    if array.ndim or not 1 / LARGEST <= array <= LARGEST:
        raise NamesArguments(
            GivenArgument(name, value),
            f": must be one positive number, from {1 / LARGEST:g} to {LARGEST:g}",
        )
    return float(array)


def nonnegative_number(name: str, value: ArrayLike) -> float:
    array = real_array(name, value)
    if array.ndim or not 0 <= array < np.inf:
        raise ValueError(f"{name}={shown(value)}: must be a finite number, at least 0")
    return float(array)


def positive_array(name: str, values: ArrayLike) -> Array:
    array = finite_array(name, values)
    if (array <= 0).any():
        where, index = _named(name, array <= 0)
        raise ValueError(f"{where}={array[index]}: must be positive")
    return array


def probability(name: str, value: ArrayLike) -> float:
    """A number strictly between 0 and 1: ``delta``, ``power``."""
    array = real_array(name, value)
    if array.ndim or not 1 / LARGEST <= array < 1:
        raise NamesArguments(
            GivenArgument(name, value),
            ": must lie strictly between 0 and 1 (at least 1e-300), as 0.05",
        )
    return float(array)


def count_array(name: str, values: ArrayLike, least: int) -> Array:
    array = finite_array(name, values)
    bad = (array != np.floor(array)) | (array < least) | (array > LARGEST_COUNT)
    if bad.any():
        where, index = _named(name, bad)
        raise ValueError(
            f"{where}={array[index]}: must be a whole number, at least {least} and at most 2^53"
        )
    return array


def whole_number(name: str, value: object, least: int, most: int = LARGEST_COUNT) -> int:
    """A Python or NumPy integer: ``seed``, ``resamples``."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not least <= int(value) <= most:  # type: ignore[call-overload]
        raise ValueError(
            f"{name}={shown(value)}: must be a whole number, at least {least} and at most {most}"
        )
    return int(value)  # type: ignore[call-overload]


def one_of(name: str, value: str, choices: Sequence[str], remedy: str = "") -> str:
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name}={shown(value)}: choose one of {listed}{remedy}")
    return value


def prompt_weights(name: str, weights: ArrayLike, count: int) -> Array:
    """``count`` finite numbers, at least 0, not all of them 0."""
    array = finite_array(name, weights)
    if array.shape != (count,):
        raise ValueError(f"{name} has shape {array.shape}: give one weight for each of the {count}")
    if (array < 0).any():
        where, index = _named(name, array < 0)
        raise ValueError(f"{where}={array[index]}: must not be negative")
    if not array.any():
        raise ValueError(f"{name}: all are 0; one at least must be positive")
    return array


def prompt_labels(name: str, labels: ArrayLike, count: int) -> list[Hashable]:
    """``count`` labels that tell prompts apart: whole numbers, or strings, not both.

    Floats (1e16 + 1 == 1e16, NaN != NaN), None and True (== 1) would merge prompts or split one.
    """
    if array_api_compat.is_torch_array(labels):
        labels = _from_torch(name, labels)
    if isinstance(labels, np.ma.MaskedArray):
        _refuse(name, labels, "masked: leave what is masked out, with its responses")
    # A list is read as it is: NumPy would turn ["1", 1] into two equal strings.
    listed = labels if isinstance(labels, (list, tuple)) else np.asarray(labels)
    shape = (len(listed),) if isinstance(listed, (list, tuple)) else listed.shape
    if shape != (count,):
        raise ValueError(
            f"{name} has shape {shape}: give one prompt label for each of the {count} responses"
        )
    found: list[Hashable] = []
    for place, label in enumerate(listed):
        whole = isinstance(label, Integral) and not isinstance(label, bool)
        if not whole and not isinstance(label, str):
            raise ValueError(
                f"{name}[{place}]={shown(label)}: give whole numbers or strings as prompt labels"
            )
        found.append(int(label) if whole else str(label))
    if len({type(label) for label in found}) > 1:
        raise ValueError(
            f"{name}={shown(labels)}: whole numbers or strings, not both, tell prompts apart"
        )
    return found
