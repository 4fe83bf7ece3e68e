"""Per-token statistics of a language-model head, straight from the hidden states.

    logits = softcap * tanh((hidden @ weight.T + bias) / softcap) / temperature        [T, V], never stored

``token_stats`` gives log-probability, logsumexp and entropy per token, ``token_kl`` the exact Kullback-Leibler
divergence of two models over the whole vocabulary, ``sequence_logprob`` log-probabilities of sequences. All are
in nats, in float32 or better whatever the input dtype, differentiable once with respect to hidden states, weights
and biases with any upstream gradient per token, and work under ``torch.compile(fullgraph=True)``.

``impl`` picks the implementation:

    ``"reference"``  plain torch with all logits, differentiated by autograd; any dtype, any device.
    ``"chunked"``    cache-sized tiles of logits, bounded memory; any dtype, any device.
    ``"triton"``     GPU kernels; bfloat16, float16 and float32. Triton is imported only then.
    ``"auto"``       triton on a CUDA device where it is installed and takes the dtype, chunked elsewhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels import chunked, reference
from nondecoupling.kernels.arguments import (
    check_head,
    check_logit_options,
    check_token_shapes,
    checked_tokens,
)
from nondecoupling.kernels.coefficients import statistics_dtype

__all__ = ["IMPLEMENTATIONS", "TokenStats", "sequence_logprob", "token_kl", "token_stats"]

IMPLEMENTATIONS = ("auto", "reference", "chunked", "triton")
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
TRITON_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


class TokenStats(NamedTuple):
    """What ``token_stats`` returns: one tensor [T] per field, in nats."""

    logprob: Tensor
    logsumexp: Tensor
    entropy: Tensor
    logsumexp_rest: Tensor | None = None


def _resolve(impl: str, hidden: Tensor) -> str:
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; choose one of {', '.join(map(repr, IMPLEMENTATIONS))}")
    supported = hidden.dtype in TRITON_DTYPES
    if impl == "auto":
        use_triton = hidden.device.type == "cuda" and TRITON_INSTALLED and supported
        return "triton" if use_triton else "chunked"
    if impl == "triton":
        if not supported:
            raise TypeError(
                f"impl='triton' takes bfloat16, float16 and float32, got {hidden.dtype}; "
                "use impl='chunked' or 'reference'"
            )
        if not TRITON_INSTALLED:
            raise ModuleNotFoundError(
                "impl='triton' needs the triton package, which is not installed; "
                "install it or use impl='chunked'"
            )
    return impl


def _implementation(impl: str) -> ModuleType:
    if impl == "triton":
        from nondecoupling.kernels import triton_launch

        return triton_launch
    return chunked


def token_stats(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    exclude: Tensor | None = None,
    impl: str = "auto",
) -> TokenStats:
    """Log-probability of the target, logsumexp and entropy of every token's next-token law.

    With z_j the logits of the module's header and p = softmax(z), per token:
        logprob = z_target - logsumexp,   logsumexp = log sum_j e^z_j,   entropy = -sum_j p_j log p_j,
        logsumexp_rest = log sum_{j not in exclude} e^z_j,
    so log p(outside the excluded tokens) = logsumexp_rest - logsumexp, without a subtraction of probabilities.

    Args:
        hidden: [T, D], the hidden states that enter the head.
        weight: [V, D], the head, of the dtype and device of ``hidden``; ``bias``: [V], likewise, or None.
        targets: [T] token ids in [0, V), or ``ignore_index``. An ignored token has logprob 0 and no gradient
            through it; its other statistics do not depend on the target and are computed as usual.
        temperature: positive; divides the logits after the cap.
        softcap: positive, or None for no cap.
        exclude: [T, k] token ids to leave out of ``logsumexp_rest``, a set per row; -1 pads a shorter row.
        impl: see the module's header.

    Returns:
        ``TokenStats`` of tensors [T]: float64 for float64 inputs, float32 otherwise; ``logsumexp_rest`` is None
        without ``exclude``, and -inf where a row leaves out the whole vocabulary. A NaN in a hidden state makes
        that token's statistics NaN and no other's.

    Raises:
        TypeError: an unsupported or mismatched dtype.
        ValueError: a wrong shape, device, temperature, softcap or impl.
        IndexError: a target or an excluded token outside the vocabulary.

    Example:
        >>> hidden, weight = torch.zeros(1, 2), torch.zeros(4, 2)
        >>> stats = token_stats(hidden, weight, torch.tensor([3]), exclude=torch.tensor([[0, 1, 2]]))
        >>> [round(value.item(), 4) for value in stats]
        [-1.3863, 1.3863, 1.3863, 0.0]
    """
    check_head(hidden, weight, bias)
    check_logit_options(temperature, softcap)
    check_token_shapes(hidden, targets, exclude)
    impl = _resolve(impl, hidden)
    vocabulary = weight.shape[0]
    targets = checked_tokens(targets, vocabulary, ignore_index, "targets")
    if exclude is not None:
        exclude = checked_tokens(exclude, vocabulary, -1, "exclude")
    options = (float(temperature), None if softcap is None else float(softcap), ignore_index)
    if impl == "reference":
        results = reference.token_stats(hidden, weight, targets, bias, exclude, *options)
    else:
        results = _token_stats(hidden, weight, targets, bias, exclude, *options, impl)
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logprob, logsumexp, entropy, rest = (value.to(dtype) for value in results)
    return TokenStats(logprob, logsumexp, entropy, None if exclude is None else rest)


def token_kl(
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    *,
    bias_p: Tensor | None = None,
    bias_q: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """KL(p || q) = sum_j p_j log(p_j / q_j) per token, over the whole vocabulary.

    Computed as log(1 + sum_j p_j phi(g_j - c)) with g = z_q - z_p, c its p-mean and phi(u) = e^u - 1 - u >= 0:
    never negative, and accurate for divergences far below the rounding error of a log-probability.

    Args:
        hidden_p, hidden_q: [T, D_p] and [T, D_q]; the two widths may differ.
        weight_p, weight_q: [V, D_p] and [V, D_q], one vocabulary; ``bias_p``, ``bias_q``: [V] or None.
        temperature, softcap: of the logits of both models.
        impl: see the module's header.

    Returns:
        [T], float64 for float64 inputs and float32 otherwise. The reverse divergence is the call with p and q
        swapped. Differentiable with respect to both models.

    Raises:
        TypeError: an unsupported or mismatched dtype.
        ValueError: a wrong shape, device, temperature, softcap or impl.

    Example:
        >>> weight_p, weight_q = torch.zeros(2, 1), torch.tensor([[0.0], [2.0]])
        >>> token_kl(torch.ones(1, 1), weight_p, torch.ones(1, 1), weight_q)
        tensor([0.4338])
    """
    check_head(hidden_p, weight_p, bias_p, "_p")
    check_head(hidden_q, weight_q, bias_q, "_q")
    check_logit_options(temperature, softcap)
    if hidden_q.dtype != hidden_p.dtype:
        raise TypeError(
            f"hidden_q has dtype {hidden_q.dtype} but hidden_p has {hidden_p.dtype}; convert one"
        )
    if hidden_q.device != hidden_p.device:
        raise ValueError(
            f"hidden_q is on {hidden_q.device} but hidden_p is on {hidden_p.device}; "
            "move them to one device"
        )
    if hidden_q.shape[0] != hidden_p.shape[0]:
        raise ValueError(
            f"hidden_q has {hidden_q.shape[0]} tokens but hidden_p has {hidden_p.shape[0]}; "
            "both models must be run on the same tokens"
        )
    if weight_q.shape[0] != weight_p.shape[0]:
        raise ValueError(
            f"weight_q has {weight_q.shape[0]} rows but weight_p has {weight_p.shape[0]}; "
            "both models must share the vocabulary (drop padding rows)"
        )
    impl = _resolve(impl, hidden_p)
    options = (float(temperature), None if softcap is None else float(softcap))
    heads = (hidden_p, weight_p, hidden_q, weight_q, bias_p, bias_q)
    if impl == "reference":
        kl = reference.token_kl(*heads, *options)
    else:
        kl = _token_kl(*heads, *options, impl)[0]
    return kl.to(torch.promote_types(hidden_p.dtype, torch.float32))


def sequence_logprob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    ignore_index: int = -100,
    impl: str = "auto",
) -> Tensor:
    """log p(sequence) = sum of the log-probabilities of its targets where ``mask`` is true.

    Args:
        hidden: [..., S, D]; ``targets``: [..., S], already aligned (position s predicts ``targets[..., s]``).
        mask: [..., S] bool, or None for all positions. A position that is masked out, or whose target is
            ``ignore_index``, adds 0 and gets no gradient, whatever its target or hidden state holds.
        The rest as in ``token_stats``.

    Returns:
        [...], the leading shape, in float32 or better.

    Raises:
        TypeError, ValueError, IndexError: as ``token_stats``, and for a mask of another shape or dtype.

    Example:
        >>> hidden, weight = torch.zeros(1, 3, 2), torch.zeros(4, 2)
        >>> mask = torch.tensor([[True, True, False]])
        >>> sequence_logprob(hidden, weight, torch.tensor([[1, 2, 3]]), mask)
        tensor([-2.7726])
    """
    if hidden.dim() < 2 or targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)} and hidden {tuple(hidden.shape)}; "
            "expected [..., S] and [..., S, D]"
        )
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask has dtype {mask.dtype}; use a bool tensor (mask != 0)")
        if mask.shape != targets.shape:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}; expected that of targets, {tuple(targets.shape)}"
            )
        targets = torch.where(mask, targets, ignore_index)
    logprob = token_stats(
        hidden.reshape(-1, hidden.shape[-1]),
        weight,
        targets.reshape(-1),
        bias=bias,
        temperature=temperature,
        softcap=softcap,
        ignore_index=ignore_index,
        impl=impl,
    ).logprob
    return logprob.reshape(targets.shape).sum(dim=-1)


def _statistics(hidden: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=statistics_dtype(hidden.device), device=hidden.device)


def _like(tensor: Tensor | None, needed: bool, other: Tensor) -> Tensor:
    """The shape of a gradient: that of ``tensor``, or empty where it is not needed."""
    if needed and tensor is not None:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
    return other.new_empty(0)


def _dense(gradients: Sequence[Tensor | None], saved: Sequence[Tensor]) -> list[Tensor]:
    """Upstream gradients with zeros for the outputs that the loss does not use."""
    return [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients, saved, strict=True)
    ]


@torch.library.custom_op("nondecoupling::token_stats", mutates_args=())
def _token_stats(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _implementation(impl).token_stats_forward(
        hidden, weight, targets, bias, exclude, temperature, softcap, ignore_index
    )


@_token_stats.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tokens = hidden.shape[0]
    logprob, logsumexp, entropy = (_statistics(hidden, tokens) for _ in range(3))
    return logprob, logsumexp, entropy, _statistics(hidden, 0 if exclude is None else tokens)


@torch.library.custom_op("nondecoupling::token_stats_backward", mutates_args=())
def _token_stats_backward(
    upstream: Sequence[Tensor],
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    saved: Sequence[Tensor],
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    needs: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return _implementation(impl).token_stats_backward(
        tuple(upstream),
        hidden,
        weight,
        targets,
        bias,
        exclude,
        tuple(saved),
        temperature,
        softcap,
        ignore_index,
        tuple(needs),
    )


@_token_stats_backward.register_fake
def _(
    upstream: Sequence[Tensor],
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    saved: Sequence[Tensor],
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    needs: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _like(hidden, needs[0], hidden),
        _like(weight, needs[1], hidden),
        _like(bias, needs[2], hidden),
    )


def _save_token_stats(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    hidden, weight, targets, bias, exclude, *ctx.options = inputs
    ctx.save_for_backward(hidden, weight, targets, bias, exclude, *output)


def _differentiate_token_stats(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    hidden, weight, targets, bias, exclude, *saved = ctx.saved_tensors
    needed = ctx.needs_input_grad
    needs = (needed[0], needed[1], bias is not None and needed[3])
    *options, impl = ctx.options
    d_hidden, d_weight, d_bias = _token_stats_backward(
        _dense(upstream, saved),
        hidden,
        weight,
        targets,
        bias,
        exclude,
        saved,
        *options,
        needs,
        impl,
    )
    return (
        d_hidden if needs[0] else None,
        d_weight if needs[1] else None,
        None,
        d_bias if needs[2] else None,
        *[None] * 5,
    )


_token_stats.register_autograd(_differentiate_token_stats, setup_context=_save_token_stats)


@torch.library.custom_op("nondecoupling::token_kl", mutates_args=())
def _token_kl(
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    temperature: float,
    softcap: float | None,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """(kl, logsumexp_p, logsumexp_q); the last two serve the backward and have no gradient."""
    return _implementation(impl).token_kl_forward(
        hidden_p, weight_p, hidden_q, weight_q, bias_p, bias_q, temperature, softcap
    )


@_token_kl.register_fake
def _(
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    temperature: float,
    softcap: float | None,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor]:
    kl, logsumexp_p, logsumexp_q = (_statistics(hidden_p, hidden_p.shape[0]) for _ in range(3))
    return kl, logsumexp_p, logsumexp_q


@torch.library.custom_op("nondecoupling::token_kl_backward", mutates_args=())
def _token_kl_backward(
    upstream: Tensor,
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    saved: Sequence[Tensor],
    temperature: float,
    softcap: float | None,
    needs: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _implementation(impl).token_kl_backward(
        upstream,
        hidden_p,
        weight_p,
        hidden_q,
        weight_q,
        bias_p,
        bias_q,
        tuple(saved),
        temperature,
        softcap,
        tuple(needs[:3]),
        tuple(needs[3:]),
    )


@_token_kl_backward.register_fake
def _(
    upstream: Tensor,
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    saved: Sequence[Tensor],
    temperature: float,
    softcap: float | None,
    needs: Sequence[bool],
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        _like(hidden_p, needs[0], hidden_p),
        _like(weight_p, needs[1], hidden_p),
        _like(bias_p, needs[2], hidden_p),
        _like(hidden_q, needs[3], hidden_p),
        _like(weight_q, needs[4], hidden_p),
        _like(bias_q, needs[5], hidden_p),
    )


def _save_token_kl(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *heads, temperature, softcap, impl = inputs
    ctx.options = (temperature, softcap)
    ctx.impl = impl
    ctx.save_for_backward(*heads, *output)


def _differentiate_token_kl(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
    hidden_p, weight_p, hidden_q, weight_q, bias_p, bias_q, *saved = ctx.saved_tensors
    needed = ctx.needs_input_grad
    needs = [needed[i] for i in (0, 1, 4, 2, 3, 5)]
    gradient = _dense(upstream[:1], saved[:1])[0]
    heads = (hidden_p, weight_p, hidden_q, weight_q, bias_p, bias_q)
    results = _token_kl_backward(gradient, *heads, saved, *ctx.options, needs, ctx.impl)
    kept = [result if need else None for result, need in zip(results, needs, strict=True)]
    d_hidden_p, d_weight_p, d_bias_p, d_hidden_q, d_weight_q, d_bias_q = kept
    return d_hidden_p, d_weight_p, d_hidden_q, d_weight_q, d_bias_p, d_bias_q, None, None, None


_token_kl.register_autograd(_differentiate_token_kl, setup_context=_save_token_kl)
