"""What may be given to the public API, read as arrays of one library, device and dtype.

NumPy arrays, torch tensors, numbers and sequences of numbers are; everything that would silently lose
something on the way (imaginary parts, masks, dates, digits) is refused by its name, with the remedy.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat
import numpy as np

from nondecoupling.numbers.floats import device_of, is_torch, namespace_of

# Of Python's integers, those below are float64 numbers.
LARGEST_EXACT = 2.0**53

_NUMPY_NAMES = {np.dtype(name): name for name in ("float32", "float64")}


class Kind(NamedTuple):
    """The library, device and dtype that the arguments of a call share."""

    module: ModuleType
    device: Any
    dtype: Any


def common_kind(values: Mapping[str, object]) -> Kind:
    """Torch if one of the arguments is a tensor; the dtype of those that have a floating one."""
    tensor, floating = None, {}
    for name, value in values.items():
        require_known(name, value)
        if tensor is None and is_torch(value):
            tensor = value
        if hasattr(value, "dtype") and hasattr(value, "shape") and len(value.shape) > 0:
            dtype = _name_of_dtype(value)
            if "float" in dtype:
                floating[name] = dtype
    for name, dtype in floating.items():
        if dtype not in ("float32", "float64"):
            raise ValueError(f"{name}.dtype={dtype}: convert to float32 or float64 first")
    kinds = set(floating.values())
    if len(kinds) > 1:
        shown = ", ".join(f"{name}: {dtype}" for name, dtype in floating.items())
        raise ValueError(f"dtypes differ ({shown}): convert all arguments to one of them")
    lead = np.zeros(0) if tensor is None else tensor
    module = namespace_of(lead)
    dtype = getattr(module, kinds.pop() if kinds else "float64")
    return Kind(module, device_of(lead), dtype)


def read(name: str, value: object, kind: Kind) -> Any:
    """The argument, of which ``require_known`` was asked, as an array of the kind; gradients are kept."""
    if is_torch(value):
        if value.device != kind.device:
            raise ValueError(
                f"{name} is on {value.device}, another argument on {kind.device}: move one with .to()"
            )
        return value if value.dtype == kind.dtype else value.to(kind.dtype)
    if (type(value) is float or type(value) is int) and abs(value) < LARGEST_EXACT:
        # Not by way of NumPy, which torch's compiler cannot follow.
        return kind.module.asarray(float(value), dtype=kind.dtype, device=kind.device)
    numbers = _real_numbers(name, value)
    if kind.module.__name__.endswith("torch"):
        return kind.module.asarray(numbers, dtype=kind.dtype, device=kind.device)
    return numbers.astype(kind.dtype, copy=False)


def whole_number(name: str, value: Any, least: int, *, otherwise: str = "") -> int:
    """A count that is no array: an integer of Python, NumPy or torch; ``otherwise`` says what else may be given."""
    try:
        count = operator.index(value)
    except TypeError:
        count = least - 1
    if count < least or isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: a whole number, at least {least}{otherwise}")
    return count


def _name_of_dtype(value: Any) -> str:
    if isinstance(value, np.ndarray):
        # NumPy composes the name anew at each call; two of them are nearly all that is asked for.
        return _NUMPY_NAMES.get(value.dtype) or str(value.dtype)
    return str(value.dtype).removeprefix("torch.")


def _real_numbers(name: str, value: object) -> np.ndarray:
    """NumPy's array of integers or floats, from whatever is not a tensor."""
    try:
        array = np.asarray(value)
        if array.dtype == object:  # fractions, decimals, Python integers of any size
            if any(item is None for item in array.flat):
                raise TypeError("None is no number")
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        shown = repr(value)
        shown = shown if len(shown) < 80 else f"{shown[:77]}..."
        raise ValueError(
            f"{name}={shown}: not a real array ({_remedy(name, value) or error})"
        ) from None
    if array.dtype.kind not in "iuf":
        raise ValueError(
            f"{name}: an array of {array.dtype}; give real numbers (float32, float64 or integers)"
        )
    return array


def _remedy(name: str, value: object) -> str:
    """Of a distribution, or of a model's output: what makes log-probabilities of it; those of rewards are no law's."""
    for part in ("logits", "probs"):
        if hasattr(value, part):
            if "log_" in name:
                return f"it has .{part}: policies.from_{part} makes log-probabilities of it"
            return f"it has .{part}: give its .{part} as an array"
    return ""


def require_known(name: str, value: object) -> None:
    """Arrays of kinds that would lose something are refused."""
    if type(value) in (float, int):
        return
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{name}: a masked array, whose mask would be lost; fill it, with -inf for responses that a "
            "law does not have"
        )
    if is_torch(value):
        strided = str(value.layout) == "torch.strided"
        if not strided or value.device.type == "meta" or value.is_quantized:
            what = value.layout if not strided else f"on {value.device}"
            raise ValueError(
                f"{name}: a tensor {what}; give a dense tensor with values (.to_dense())"
            )
        if value.is_complex():
            raise ValueError(f"{name}: a tensor of {value.dtype}; give real numbers (.real)")
    elif isinstance(value, (list, tuple)):
        for item in value:
            if is_torch(item):
                raise ValueError(
                    f"{name}: tensors in a {type(value).__name__}, whose gradients would be lost; torch.stack them"
                )
            require_known(name, item)
    elif not isinstance(value, (np.ndarray, np.generic)):
        _require_readable(name, value)


def _require_readable(name: str, value: object) -> None:
    """Arrays of other libraries would give a NumPy result without a word."""
    library = type(value).__module__
    if library.partition(".")[0] in ("jax", "jaxlib") or hasattr(value, "__jax_array__"):
        raise ValueError(
            f"{name}: an array of JAX, which is not supported; give np.asarray({name}), or "
            f"torch.from_dlpack({name}) for gradients; inside jit: jax.pure_callback"
        )
    if array_api_compat.is_array_api_obj(value):
        raise ValueError(
            f"{name}: an array of {library}; give NumPy arrays or torch tensors (np.asarray)"
        )


def read_mask(value: object, kind: Kind) -> Any:
    """``mask`` as an array of truth values beside arrays of the kind."""
    require_known("mask", value)
    dtype = str(getattr(value, "dtype", np.asarray(value).dtype)).removeprefix("torch.")
    if dtype != "bool":
        raise ValueError(f"mask.dtype={dtype}: give truth values, True where a response counts")
    if is_torch(value):
        if kind.module.__name__.endswith("numpy"):
            raise ValueError("mask is a torch tensor beside NumPy arrays: give mask.numpy()")
        return value
    return kind.module.asarray(np.asarray(value), device=kind.device)
