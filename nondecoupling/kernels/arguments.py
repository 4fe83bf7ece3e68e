"""Checks shared by every implementation: shapes, dtypes, devices and token ids.

Shape checks read metadata only, so they survive ``torch.compile(fullgraph=True)``. Token ids are data: they are
checked inside the custom operator :func:`checked_tokens`, which a compiler treats as opaque.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["check_head", "check_logit_options", "check_token_shapes", "checked_tokens"]

FLOAT_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8)


def check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, suffix: str = "") -> None:
    """Raise unless ``hidden`` [T, D], ``weight`` [V, D] and ``bias`` [V] belong together.

    Raises:
        TypeError: an argument is not a tensor, or its dtype is not a supported one or differs.
        ValueError: a shape or a device does not fit.
    """
    named = {f"hidden{suffix}": hidden, f"weight{suffix}": weight}
    if bias is not None:
        named[f"bias{suffix}"] = bias
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
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


def check_logit_options(temperature: float, softcap: float | None) -> None:
    """Raise ``ValueError`` unless ``temperature`` and ``softcap`` are positive and finite."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(
            f"softcap is {softcap}; it must be positive and finite, or None for no cap"
        )


def check_token_shapes(hidden: Tensor, targets: Tensor, exclude: Tensor | None) -> None:
    """Raise unless ``targets`` is an integer [T] and ``exclude`` an integer [T, k].

    Raises:
        TypeError: the dtype is not an integer one.
        ValueError: a shape or a device does not fit.
    """
    rows = hidden.shape[0]
    named = {"targets": (targets, 1)}
    if exclude is not None:
        named["exclude"] = (exclude, 2)
    for name, (tokens, dimensions) in named.items():
        if not isinstance(tokens, Tensor) or tokens.dtype not in INTEGER_DTYPES:
            found = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
            raise TypeError(f"{name} must be an integer tensor of token ids, got {found}")
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
