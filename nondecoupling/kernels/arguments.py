"""Checks shared by every implementation: shapes, dtypes, devices and token ids.

Shape checks read metadata only, so they survive ``torch.compile(fullgraph=True)``. Token ids are data: they are
checked inside the custom operator :func:`checked_tokens`, which a compiler treats as opaque.
"""

from __future__ import annotations

import numbers
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "check_head",
    "check_ignore_index",
    "check_logit_options",
    "check_tensor",
    "check_token_shapes",
    "checked_law_options",
    "checked_number",
    "checked_tokens",
]

FLOAT_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)


def check_tensor(name: str, tensor: Any) -> None:
    """Raise ``TypeError`` unless ``tensor`` is a dense torch tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} has the layout {tensor.layout}; use a dense tensor (.to_dense())")


def check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, suffix: str = "") -> None:
    """Raise unless ``hidden`` [T, D], ``weight`` [V, D] and ``bias`` [V] belong together.

    Raises:
        TypeError: an argument is not a dense tensor, or its dtype is not a supported one or differs.
        ValueError: a shape or a device does not fit.
    """
    named = {f"hidden{suffix}": hidden, f"weight{suffix}": weight}
    if bias is not None:
        named[f"bias{suffix}"] = bias
    for name, tensor in named.items():
        check_tensor(name, tensor)
        if tensor.dtype not in FLOAT_DTYPES:
            raise TypeError(
                f"{name} has dtype {tensor.dtype}; use bfloat16, float16, float32 or float64"
            )
        if tensor.dtype != hidden.dtype:
            raise TypeError(
                f"{name} has dtype {tensor.dtype} but hidden{suffix} has {hidden.dtype}; "
                "convert one of them, so that no precision is lost unseen"
            )
        if tensor.device != hidden.device:
            raise ValueError(
                f"{name} is on {tensor.device} but hidden{suffix} is on {hidden.device}; "
                "move them to one device"
            )
    if hidden.dim() != 2:
        raise ValueError(
            f"hidden{suffix} has shape {tuple(hidden.shape)}; expected [T, D], "
            "flatten the batch and the positions into T"
        )
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight{suffix} has shape {tuple(weight.shape)}; expected [V, D] with "
            f"D = {hidden.shape[1]}, the last size of hidden{suffix}"
        )
    if weight.shape[0] < 1 or weight.shape[1] < 1:
        raise ValueError(
            f"weight{suffix} has shape {tuple(weight.shape)}; V and D must be at least 1"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(
            f"bias{suffix} has shape {tuple(bias.shape)}; expected [V] = [{weight.shape[0]}]"
        )


def checked_number(name: str, value: Any) -> float:
    """``value`` as a float.

    Raises:
        TypeError: not a real number; a tensor, even of one element, is none.
        ValueError: a number that no float holds.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        hint = "; use .item()" if isinstance(value, Tensor) and value.numel() == 1 else ""
        raise TypeError(f"{name} must be a number, got {_shown(value)}{hint}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large for a float; use a smaller one") from None


def check_logit_options(temperature: Any, softcap: Any, dtype: torch.dtype) -> None:
    """Raise unless ``temperature`` and ``softcap`` are positive, and they and what they scale by normal in ``dtype``.

    Raises:
        TypeError: not a number (or None, for the cap).
        ValueError: not positive, or so small or large that scaled logits would overflow or vanish.
    """
    lowest = torch.finfo(dtype).tiny
    given = {"temperature": checked_number("temperature", temperature)}
    if softcap is not None:
        given["softcap"] = checked_number("softcap", softcap)
    for name, value in given.items():
        if not lowest <= value <= 1 / lowest:
            none = ", or None for no cap" if name == "softcap" else ""
            raise ValueError(
                f"{name} is {value}; it must be positive and finite{none}, "
                f"in [{lowest:.2g}, {1 / lowest:.2g}] for logits in {dtype}"
            )
    if softcap is not None and not lowest <= given["softcap"] / given["temperature"] <= 1 / lowest:
        raise ValueError(
            f"softcap / temperature is {given['softcap']} / {given['temperature']}, "
            f"outside [{lowest:.2g}, {1 / lowest:.2g}]; no logit in {dtype} could be that size"
        )


def checked_law_options(tempered: Any, nucleus: Any) -> tuple[list[float], float | None]:
    """``tempered`` as positive finite floats and ``nucleus`` as one in (0, 1), or None.

    Raises:
        TypeError: not a sequence of numbers, or not a number.
        ValueError: out of range.
    """
    if isinstance(tempered, (str, Tensor)) or not isinstance(tempered, Sequence):
        raise TypeError(f"tempered must be a sequence of temperatures, got {_shown(tempered)}")
    values = []
    for place, given in enumerate(tempered):
        value = checked_number(f"tempered[{place}]", given)
        if not sys.float_info.min <= value <= 1 / sys.float_info.min:
            raise ValueError(f"tempered[{place}] is {value}; it must be positive and finite")
        values.append(value)
    if nucleus is None:
        return values, None
    level = checked_number("nucleus", nucleus)
    if not 0 < level < 1:
        raise ValueError(f"nucleus is {level}; it must lie between 0 and 1, as 0.95 does")
    return values, level


def check_ignore_index(ignore_index: Any) -> None:
    """Raise ``TypeError`` unless ``ignore_index`` is an integer."""
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
        raise TypeError(f"ignore_index must be an int, got {_shown(ignore_index)}")
    if not -(2**63) <= ignore_index < 2**63:
        raise ValueError(f"ignore_index is {ignore_index}; it must fit into 64 bits")


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


def check_token_shapes(hidden: Tensor, targets: Tensor, exclude: Tensor | None) -> None:
    """Raise unless ``targets`` is an integer [T] and ``exclude`` an integer [T, k].

    Raises:
        TypeError: not a dense tensor, or the dtype is not an integer one.
        ValueError: a shape or a device does not fit.
    """
    rows = hidden.shape[0]
    named = {"targets": (targets, 1)}
    if exclude is not None:
        named["exclude"] = (exclude, 2)
    for name, (tokens, dimensions) in named.items():
        check_tensor(name, tokens)
        if tokens.dtype not in INTEGER_DTYPES:
            raise TypeError(
                f"{name} must be an integer tensor of token ids "
                f"(int64, int32, int16, int8 or uint8), got {tokens.dtype}"
            )
        if tokens.device != hidden.device:
            raise ValueError(
                f"{name} is on {tokens.device} but hidden is on {hidden.device}; "
                "move them to one device"
            )
        if tokens.dim() != dimensions or tokens.shape[0] != rows:
            expected = "[T]" if dimensions == 1 else "[T, k]"
            raise ValueError(
                f"{name} has shape {tuple(tokens.shape)}; expected {expected} with T = {rows}"
            )


@torch.library.custom_op("nondecoupling::checked_tokens", mutates_args=())
def checked_tokens(tokens: Tensor, vocabulary: int, ignored: int, name: str) -> Tensor:
    """A copy of ``tokens`` as contiguous int64, each in [0, vocabulary) or equal to ``ignored``.

    Raises:
        IndexError: a token id lies outside; the message names the first one and where it stands.
    """
    tokens = tokens.to(torch.int64, copy=True).contiguous()
    outside = ((tokens < 0) | (tokens >= vocabulary)) & (tokens != ignored)
    if bool(outside.any()):
        index = tuple(outside.nonzero()[0].tolist())
        raise IndexError(
            f"{name}{list(index)} is {int(tokens[index])}, outside [0, {vocabulary}) and not the "
            f"ignored value {ignored}; check the tokenizer's vocabulary against the head's rows"
        )
    return tokens


@checked_tokens.register_fake
def _(tokens: Tensor, vocabulary: int, ignored: int, name: str) -> Tensor:
    return torch.empty_like(tokens, dtype=torch.int64, memory_format=torch.contiguous_format)
