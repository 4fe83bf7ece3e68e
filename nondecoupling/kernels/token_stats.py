"""Per-token statistics of a language-model head, straight from the hidden states.

    logits = softcap * tanh((hidden @ weight.T + bias) / softcap) / temperature        [T, V], never stored unasked

``token_stats`` gives log-probability, logsumexp and entropy per token, ``token_kl`` the exact Kullback-Leibler
divergence of two models over the whole vocabulary, ``sequence_logprob`` log-probabilities of sequences. All are
in nats, in float32 or better whatever the input dtype, differentiable once with respect to hidden states, weights
and biases with any upstream gradient per token, and work under ``torch.compile(fullgraph=True)``.

``impl`` picks the implementation:

    ``"reference"``  plain torch with all logits, differentiated by autograd; any dtype, any device.
    ``"chunked"``    cache-sized tiles of logits, bounded memory; any dtype, any device.
    ``"triton"``     GPU kernels; bfloat16, float16 and float32. Triton is imported only then.
    ``"auto"``       triton on a CUDA device where it is installed and takes the dtype, chunked elsewhere, and where
                     logits are kept.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels import operators, reference
from nondecoupling.kernels.arguments import (
    check_head,
    check_ignore_index,
    check_logit_options,
    check_tensor,
    check_token_shapes,
    checked_law_options,
    checked_tokens,
)
from nondecoupling.kernels.head import Head, statistics_dtype
from nondecoupling.kernels.ranks import Ranks

__all__ = ["IMPLEMENTATIONS", "TokenStats", "sequence_logprob", "token_kl", "token_stats"]

IMPLEMENTATIONS = ("auto", "reference", "chunked", "triton")
TRITON_INSTALLED = importlib.util.find_spec("triton") is not None
TRITON_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


class TokenStats(NamedTuple):
    """What ``token_stats`` returns, in nats: tensors [T], but for ``tempered`` [T, n] and ``ranks``, three of them."""

    logprob: Tensor
    logsumexp: Tensor
    entropy: Tensor
    logsumexp_rest: Tensor | None = None
    tempered: Tensor | None = None
    ranks: Ranks | None = None


def _differentiated(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _resolve(impl: str, hidden: Tensor, keep_logits: bool) -> str:
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl is {impl!r}; choose one of {', '.join(map(repr, IMPLEMENTATIONS))}")
    if not isinstance(keep_logits, bool):
        raise TypeError(f"keep_logits is {keep_logits!r}; use True or False")
    if keep_logits and impl not in ("auto", "chunked"):
        raise ValueError(
            f"keep_logits is True and impl is {impl!r}; only 'chunked' keeps logits on request"
        )
    supported = hidden.dtype in TRITON_DTYPES
    if impl == "auto":
        use_triton = (
            hidden.device.type == "cuda" and TRITON_INSTALLED and supported and not keep_logits
        )
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


def _head(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    temperature: float,
    softcap: float | None,
    suffix: str = "",
) -> Head:
    """The arguments as one value, checked."""
    check_head(hidden, weight, bias, suffix)
    check_logit_options(temperature, softcap, torch.promote_types(hidden.dtype, torch.float32))
    return Head(
        hidden, weight, bias, float(temperature), None if softcap is None else float(softcap)
    )


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
    tempered: Sequence[float] = (),
    nucleus: float | None = None,
    impl: str = "auto",
    synchronize: bool = True,
    keep_logits: bool = False,
    double: bool = False,
) -> TokenStats:
    """Log-probability of the target, logsumexp and entropy of every token's next-token law.

    With z_j the logits of the module's header and p = softmax(z), per token:
        logprob = z_target - logsumexp,   logsumexp = log sum_j e^z_j,   entropy = -sum_j p_j log p_j,
        logsumexp_rest = log sum_{j not in exclude} e^z_j,
    so log p(outside the excluded tokens) = logsumexp_rest - logsumexp, without a subtraction of probabilities. For
    tests of a sampler against p, without gradients:
        tempered = log sum_j p_j^(1/tau) for each tau, and the ``Ranks`` of the targets.

    Args:
        hidden: [T, D], the hidden states that enter the head.
        weight: [V, D], the head, of the dtype and device of ``hidden``; ``bias``: [V], likewise, or None.
        targets: [T] token ids in [0, V), or ``ignore_index``. An ignored token has logprob 0 and no gradient
            through it; its other statistics do not depend on the target and are computed as usual.
        temperature: positive; divides the logits after the cap.
        softcap: positive, or None for no cap.
        exclude: [T, k] token ids to leave out of ``logsumexp_rest``, a set per row; -1 pads a shorter row.
        tempered: positive temperatures tau, of the law that ``temperature`` has already made.
        nucleus: in (0, 1), the least mass of the nucleus; asks for ``ranks``. Under
            ``torch.compile(fullgraph=True)`` this and ``tempered`` need a torch after 2.11.
        impl: see the module's header. ``"triton"`` has neither ``tempered`` nor ``ranks``; ``"auto"`` takes them
            from ``"chunked"``.
        synchronize: False lets ``"triton"`` run without waiting for the GPU, as a CUDA graph needs: a target outside
            the vocabulary gives a log-probability of NaN instead of an error, an excluded one is as if it were not
            there, and a NaN in a hidden state makes the gradient of the head NaN even if its token has no upstream
            gradient.
        keep_logits: True keeps the [T, V] logits of the forward until the backward, in float32 or better: three
            matrix products in all instead of four, for 4 T V bytes, or 8 T V in float64. Of ``"chunked"``, which
            ``"auto"`` then takes on any device.
        double: True returns float64 whatever the inputs. Statistics are put together in it; a logsumexp L loses
            |L| eps32 / 2 to float32, which shows in its difference from another one. (On a device without float64,
            float32 all the same.)

    Returns:
        ``TokenStats``: float32, or float64 for float64 inputs and with ``double``; ``logsumexp_rest`` is None without
        ``exclude``, and -inf where a row leaves out the whole vocabulary; ``tempered`` and ``ranks`` are None unless
        asked for. A NaN in a hidden state makes that token's statistics NaN and no other's. Logits may be -inf (a
        masked token, with 0 log 0 = 0); a row of nothing else, or with +inf, is no law and gives NaN.

    Raises:
        TypeError: an unsupported or mismatched dtype, a sparse tensor, or an option that is no number.
        ValueError: a wrong shape, device, temperature, softcap, nucleus or impl.
        IndexError: a target or an excluded token outside the vocabulary.
        NotImplementedError: a derivative in forward mode (``torch.func.jvp``), which only the reference has.

    Example:
        >>> hidden, weight = torch.zeros(1, 2), torch.zeros(4, 2)
        >>> stats = token_stats(hidden, weight, torch.tensor([3]), exclude=torch.tensor([[0, 1, 2]]))
        >>> [round(value.item(), 4) for value in stats[:4]]
        [-1.3863, 1.3863, 1.3863, 0.0]
        >>> token_stats(hidden, weight, torch.tensor([2]), nucleus=0.6).ranks
        Ranks(mass_before=tensor([0.5000]), nucleus_mass=tensor([0.7500]), in_nucleus=tensor([True]))
    """
    head = _head(hidden, weight, bias, temperature, softcap)
    check_token_shapes(hidden, targets, exclude)
    check_ignore_index(ignore_index)
    tempered, nucleus = checked_law_options(tempered, nucleus)
    extra = bool(tempered) or nucleus is not None
    if extra and impl == "triton":
        raise ValueError("impl='triton' offers neither tempered nor nucleus; use impl='chunked'")
    impl = _resolve(impl, hidden, keep_logits)
    if synchronize or impl != "triton":
        targets = checked_tokens(targets, head.vocabulary, ignore_index, "targets")
        if exclude is not None:
            exclude = checked_tokens(exclude, head.vocabulary, -1, "exclude")
    else:
        targets = targets.to(torch.int64).contiguous()
        exclude = None if exclude is None else exclude.to(torch.int64).contiguous()
    if impl == "reference":
        results = reference.token_stats(head, targets, exclude, ignore_index)
    else:
        operators.refuse_forward_mode(*head[:3])
        *results, _, _ = operators.token_stats(
            *head[:3],
            targets,
            exclude,
            head.temperature,
            head.softcap,
            ignore_index,
            impl,
            synchronize,
            keep_logits and _differentiated(*head[:3]),
        )
    dtype = statistics_dtype(hidden.device) if double else head.dtype
    logprob, logsumexp, entropy, rest = (value.to(dtype) for value in results)
    stats = TokenStats(logprob, logsumexp, entropy, None if exclude is None else rest)
    if not extra:
        return stats
    detached = [None if tensor is None else tensor.detach() for tensor in head[:3]]
    sums, mass_before, nucleus_mass, in_nucleus = operators.token_ranks(
        *detached, targets, head.temperature, head.softcap, ignore_index, tempered, nucleus
    )
    ranks = Ranks(mass_before.to(dtype), nucleus_mass.to(dtype), in_nucleus)
    return stats._replace(
        tempered=sums.to(dtype) if tempered else None,
        ranks=None if nucleus is None else ranks,
    )


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
    synchronize: bool = True,
    keep_logits: bool = False,
) -> Tensor:
    """KL(p || q) = sum_j p_j log(p_j / q_j) per token, over the whole vocabulary.

    Computed as log(1 + sum_j p_j phi(g_j - c)) with g = z_q - z_p, c its p-mean and phi(u) = e^u - 1 - u >= 0:
    never negative, and accurate for divergences far below the rounding error of a log-probability.

    Args:
        hidden_p, hidden_q: [T, D_p] and [T, D_q]; the two widths may differ.
        weight_p, weight_q: [V, D_p] and [V, D_q], one vocabulary; ``bias_p``, ``bias_q``: [V] or None.
        temperature, softcap: of the logits of both models.
        impl: see the module's header.
        synchronize: False lets ``"triton"`` run without waiting for the GPU, as a CUDA graph needs: what must be
            taken again (one-sided or far logits) is NaN, and divergences below 1e-4 are only as precise as two
            float32 logits.
        keep_logits: as in ``token_stats``, of both models: six matrix products in all instead of eight.

    Returns:
        [T], float64 for float64 inputs and float32 otherwise. The reverse divergence is the call with p and q
        swapped. Differentiable with respect to both models. Infinite, with a gradient of NaN, where p has mass (in
        float64) on a token whose logit under q is -inf; such a token that p lacks too adds nothing.

    Raises:
        TypeError: an unsupported or mismatched dtype.
        ValueError: a wrong shape, device, temperature, softcap or impl.
        NotImplementedError: a derivative in forward mode (``torch.func.jvp``), which only the reference has.

    Example:
        >>> weight_p, weight_q = torch.zeros(2, 1), torch.tensor([[0.0], [2.0]])
        >>> token_kl(torch.ones(1, 1), weight_p, torch.ones(1, 1), weight_q)
        tensor([0.4338])
    """
    p = _head(hidden_p, weight_p, bias_p, temperature, softcap, "_p")
    q = _head(hidden_q, weight_q, bias_q, temperature, softcap, "_q")
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
    impl = _resolve(impl, hidden_p, keep_logits)
    if impl == "reference":
        kl = reference.token_kl(p, q)
    else:
        operators.refuse_forward_mode(*p[:3], *q[:3])
        keep = keep_logits and _differentiated(*p[:3], *q[:3])
        options = (p.temperature, p.softcap, impl, synchronize, keep)
        kl = operators.token_kl(*p[:3], *q[:3], *options)[0]
    return kl.to(p.dtype)


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
    synchronize: bool = True,
    keep_logits: bool = False,
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
        TypeError, ValueError, IndexError, NotImplementedError: as ``token_stats``, and for a mask of another shape or
            dtype.

    Example:
        >>> hidden, weight = torch.zeros(1, 3, 2), torch.zeros(4, 2)
        >>> mask = torch.tensor([[True, True, False]])
        >>> sequence_logprob(hidden, weight, torch.tensor([[1, 2, 3]]), mask)
        tensor([-2.7726])
    """
    check_tensor("hidden", hidden)
    check_tensor("targets", targets)
    check_ignore_index(ignore_index)
    if hidden.dim() < 2 or targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)} and hidden {tuple(hidden.shape)}; "
            "expected [..., S] and [..., S, D]"
        )
    if mask is not None:
        check_tensor("mask", mask)
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
        synchronize=synchronize,
        keep_logits=keep_logits,
    ).logprob
    return logprob.reshape(targets.shape).sum(dim=-1)
