"""The custom operators: what autograd and ``torch.compile`` see of the kernels.

    checked_tokens (in ``arguments``)    token ids, checked where a compiler does not look
    token_stats, token_stats_backward    [T] statistics of one head
    token_kl, token_kl_backward          [T] divergences of two
    token_ranks                          log-sums at other temperatures and ranks, without gradient

An operator takes tensors one by one; it gathers them into a ``Head`` and hands that to the implementation, a module
with the functions ``token_stats_forward``, ``token_stats_backward``, ``token_kl_forward`` and ``token_kl_backward``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from nondecoupling.kernels import chunked
from nondecoupling.kernels.head import Head, statistics_dtype
from nondecoupling.kernels.ranks import tempered_and_ranks

__all__ = ["refuse_forward_mode", "token_kl", "token_ranks", "token_stats"]


def refuse_forward_mode(*tensors: Tensor | None) -> None:
    """
    Raises:
        NotImplementedError: a tensor carries a derivative in forward mode, which an operator would drop: it has none.
    """
    if forward_ad._current_level < 0:
        return
    for tensor in tensors:
        if tensor is not None and (
            # Wrapped: of a transform further out, whose tangent does not show at this level.
            torch._C._functorch.is_functorch_wrapped_tensor(tensor)
            or forward_ad.unpack_dual(tensor).tangent is not None
        ):
            raise NotImplementedError(
                "derivatives in forward mode (torch.func.jvp, jacfwd, linearize, forward_ad) are those of "
                "impl='reference' alone; use it, or differentiate in reverse mode"
            )


def _implementation(impl: str) -> ModuleType:
    if impl == "triton":
        from nondecoupling.kernels import triton_launch

        return triton_launch
    return chunked


def _statistics(hidden: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=statistics_dtype(hidden.device), device=hidden.device)


def _gradient_like(tensor: Tensor | None, needed: bool, hidden: Tensor) -> Tensor:
    """The shape of a gradient: that of ``tensor``, or empty where it is not needed."""
    if needed and tensor is not None:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return hidden.new_empty(0)


def _dense(gradients: Sequence[Tensor | None], saved: Sequence[Tensor]) -> list[Tensor]:
    """Upstream gradients with zeros for the outputs that the loss does not use."""
    return [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, saved, strict=True)
    ]


def _room(head: Head, keep_logits: bool, arrays: int) -> Tensor:
    """Room for [T, V] logits, empty unless they are kept."""
    shape = (arrays, head.tokens, head.vocabulary) if keep_logits else (arrays, 0, 0)
    return head.hidden.new_empty(shape, dtype=head.dtype)


def _wanted(results: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor | None]:
    return [result if need else None for result, need in zip(results, needs, strict=True)]


@torch.library.custom_op("nondecoupling::token_stats", mutates_args=())
def token_stats(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    exclude: Tensor | None,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    impl: str,
    synchronize: bool,
    keep_logits: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest, origins, stored); the last two serve the backward alone."""
    head = Head(hidden, weight, bias, temperature, softcap)
    stored = _room(head, keep_logits, 1)
    forward = _implementation(impl).token_stats_forward
    if keep_logits:
        forward = partial(chunked.token_stats_forward, stored=stored[0])
    return (*forward(head, targets, exclude, ignore_index), stored)


@token_stats.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    exclude: Tensor | None,
    *options: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    tokens, keep_logits = hidden.shape[0], options[-1]
    logprob, logsumexp, entropy = (_statistics(hidden, tokens) for _ in range(3))
    rest = _statistics(hidden, 0 if exclude is None else tokens)
    origins = _statistics(hidden, 2 if exclude is None else 4, tokens)
    stored = _room(Head(hidden, weight, bias, 1.0, None), keep_logits, 1)
    return logprob, logsumexp, entropy, rest, origins, stored


@torch.library.custom_op("nondecoupling::token_stats_backward", mutates_args=())
def _token_stats_backward(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    exclude: Tensor | None,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    impl: str,
    synchronize: bool,
    keep_logits: bool,
    upstream: Sequence[Tensor],
    saved: Sequence[Tensor],
    stored: Tensor,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of hidden, weight and bias, of which ``needs`` says which are wanted."""
    head = Head(hidden, weight, bias, temperature, softcap)
    backward = _implementation(impl).token_stats_backward
    if keep_logits:
        backward = partial(chunked.token_stats_backward, stored=stored[0])
    return backward(
        upstream, head, targets, exclude, ignore_index, saved, tuple(needs), synchronize
    )


@_token_stats_backward.register_fake
def _(hidden: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    needs = rest[-1]
    return tuple(
        _gradient_like(tensor, need, hidden)
        for tensor, need in zip((hidden, weight, bias), needs, strict=True)
    )


def _save_token_stats(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)  # of the stored logits there is none
    hidden, weight, bias, targets, exclude, *ctx.options = inputs
    ctx.save_for_backward(hidden, weight, bias, targets, exclude, *output)


def _differentiate_token_stats(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    hidden, weight, bias, targets, exclude, *saved, stored = ctx.saved_tensors
    needs = ctx.needs_input_grad[:3]
    results = _token_stats_backward(
        *(hidden, weight, bias, targets, exclude, *ctx.options),
        _dense(upstream[:4], saved[:4]),
        saved,
        stored,
        needs,
    )
    return (*_wanted(results, needs), *[None] * 8)


token_stats.register_autograd(_differentiate_token_stats, setup_context=_save_token_stats)


@torch.library.custom_op("nondecoupling::token_kl", mutates_args=())
def token_kl(
    hidden_p: Tensor,
    weight_p: Tensor,
    bias_p: Tensor | None,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_q: Tensor | None,
    temperature: float,
    softcap: float | None,
    impl: str,
    synchronize: bool,
    keep_logits: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(kl, origins, stored); the last two serve the backward and have no gradient."""
    p = Head(hidden_p, weight_p, bias_p, temperature, softcap)
    q = Head(hidden_q, weight_q, bias_q, temperature, softcap)
    stored = _room(p, keep_logits, 2)
    forward = _implementation(impl).token_kl_forward
    if keep_logits:
        forward = partial(chunked.token_kl_forward, stored=stored)
    return (*forward(p, q, synchronize), stored)


@token_kl.register_fake
def _(hidden_p: Tensor, weight_p: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    tokens, keep_logits = hidden_p.shape[0], rest[-1]
    stored = _room(Head(hidden_p, weight_p, None, 1.0, None), keep_logits, 2)
    return _statistics(hidden_p, tokens), _statistics(hidden_p, 4, tokens), stored


@torch.library.custom_op("nondecoupling::token_kl_backward", mutates_args=())
def _token_kl_backward(
    hidden_p: Tensor,
    weight_p: Tensor,
    bias_p: Tensor | None,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_q: Tensor | None,
    temperature: float,
    softcap: float | None,
    impl: str,
    synchronize: bool,
    keep_logits: bool,
    upstream: Tensor,
    kl: Tensor,
    origins: Tensor,
    stored: Tensor,
    needs: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of hidden, weight and bias of p, then of q, of which ``needs`` says which are wanted."""
    backward = _implementation(impl).token_kl_backward
    if keep_logits:
        backward = partial(chunked.token_kl_backward, stored=stored)
    return backward(
        upstream,
        Head(hidden_p, weight_p, bias_p, temperature, softcap),
        Head(hidden_q, weight_q, bias_q, temperature, softcap),
        kl,
        origins,
        tuple(needs[:3]),
        tuple(needs[3:]),
        synchronize,
    )


@_token_kl_backward.register_fake
def _(hidden_p: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    heads, needs = (hidden_p, *rest[:5]), rest[-1]
    return tuple(
        _gradient_like(tensor, need, hidden_p) for tensor, need in zip(heads, needs, strict=True)
    )


def _save_token_kl(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)  # of the stored logits there is none
    heads, ctx.options = inputs[:6], inputs[6:]
    ctx.save_for_backward(*heads, *output)


def _differentiate_token_kl(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    *heads, kl, origins, stored = ctx.saved_tensors
    needs = ctx.needs_input_grad[:6]
    (gradient,) = _dense(upstream[:1], [kl])
    results = _token_kl_backward(*heads, *ctx.options, gradient, kl, origins, stored, needs)
    return (*_wanted(results, needs), *[None] * 5)


token_kl.register_autograd(_differentiate_token_kl, setup_context=_save_token_kl)


@torch.library.custom_op("nondecoupling::token_ranks", mutates_args=())
def token_ranks(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    tempered: Sequence[float],
    nucleus: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``tempered_and_ranks``."""
    head = Head(hidden, weight, bias, temperature, softcap)
    return tempered_and_ranks(head, targets, ignore_index, tempered, nucleus)


@token_ranks.register_fake
def _(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tokens, (tempered, nucleus) = hidden.shape[0], options[-2:]
    ranked = 0 if nucleus is None else tokens
    mass_before, nucleus_mass = (_statistics(hidden, ranked) for _ in range(2))
    in_nucleus = mass_before.new_empty(ranked, dtype=torch.bool)
    return _statistics(hidden, tokens, len(tempered)), mass_before, nucleus_mass, in_nucleus
