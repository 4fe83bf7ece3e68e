"""Plain torch, all logits at once: the definition that the other implementations are tested against.

Every formula is the textbook one and autograd does the gradients. Logits are float32 or better and everything
after them is float64, so called on float64 inputs it is the truth of the accuracy tests. It stores [T, V] several
times over; use it for small sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nondecoupling.kernels.head import Head, statistics_dtype

__all__ = ["finite_base", "logits_of", "phi", "token_kl", "token_stats"]


def logits_of(head: Head) -> Tensor:
    """softcap * tanh((hidden @ weight.T + bias) / softcap) / temperature, [T, V].

    Low-precision inputs are converted to float32 first, so no logit is ever rounded to their dtype.

    >>> hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> logits_of(Head(hidden, weight, bias=None, temperature=2.0, softcap=None))
    tensor([[1.5000, 4.0000]])
    """
    logits = head.hidden.to(head.dtype) @ head.weight.to(head.dtype).T
    if head.bias is not None:
        logits = logits + head.bias.to(head.dtype)
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return logits / head.temperature


def _logits_in_double(head: Head) -> Tensor:
    return logits_of(head).to(statistics_dtype(head.hidden.device))


def _logsumexp(logits: Tensor) -> Tensor:
    """log sum_j e^z_j, [T]; torch's has a wrong gradient where the logits are so large that adding log V is lost."""
    base = finite_base(logits.detach().amax(dim=1))
    return base + torch.exp(logits - base[:, None]).sum(dim=1).log()


def finite_base(maximum: Tensor) -> Tensor:
    """``maximum``, or 0 where it is -inf: what logits may be taken relative to."""
    return maximum.masked_fill(maximum == -torch.inf, 0)


def phi(u: Tensor) -> Tensor:
    """exp(u) - 1 - u, at least 0, to a relative error of about 2 eps^(4/5) at every u.

    expm1(u) - u loses 2 eps / |u| to cancellation and the series u^2/2 + ... + u^5/120 leaves out u^4 / 360
    (relative); they are switched where the two errors meet.

    >>> phi(torch.tensor([0.0, 1e-4, 1.0]))
    tensor([0.0000e+00, 5.0002e-09, 7.1828e-01])
    """
    threshold = (720 * torch.finfo(u.dtype).eps) ** 0.2
    near = torch.where(u.abs() <= threshold, u, 0)
    series = near * near * (1 + near / 3 * (1 + near / 4 * (1 + near / 5))) / 2
    return torch.where(u.abs() <= threshold, series, torch.expm1(u) - u)


def token_stats(
    head: Head, targets: Tensor, exclude: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest), each [T]; the last is empty without ``exclude``."""
    logits = _logits_in_double(head)
    log_p = torch.log_softmax(logits, dim=1)
    ignored = targets == ignore_index
    picked = log_p.gather(1, targets.masked_fill(ignored, 0)[:, None])[:, 0]
    logprob = torch.where(ignored, 0.0, picked)
    logsumexp = _logsumexp(logits)
    p = log_p.exp()
    # 0 log 0 = 0, and so is its gradient.
    entropy = -(p * torch.where(p == 0, 0, log_p)).sum(dim=1)
    rest = logits.new_empty(0)
    if exclude is not None:
        # One spare column takes the pads, so that they need no branch.
        columns = torch.where(exclude < 0, logits.shape[1], exclude)
        excluded = logits.new_zeros(logits.shape[0], logits.shape[1] + 1, dtype=torch.bool)
        excluded = excluded.scatter(1, columns, True)[:, :-1]
        kept = torch.where(excluded, -torch.inf, logits)
        # The logsumexp of a row of -inf has a gradient of NaN: such rows take a constant instead.
        none = (kept == -torch.inf).all(dim=1)
        kept = torch.where(none[:, None], 0, kept)
        rest = torch.where(none, -torch.inf, _logsumexp(kept))
    return logprob, logsumexp, entropy, rest


def token_kl(p: Head, q: Head) -> Tensor:
    """sum_v p_v phi(log q_v - log p_v), [T]: sum p log(p / q) without a term of either sign."""
    log_p, log_q = (torch.log_softmax(_logits_in_double(head), dim=1) for head in (p, q))
    mass = log_p.exp()
    # Where p has no mass, its term is that of q alone.
    u = torch.where(mass == 0, 0, log_q - log_p)
    small = (u.abs() <= 1) & (mass != 0)
    near = torch.where(small, u, 0)
    # p exp(u) overflows where p underflows; there q - p - p u is the same and accurate.
    terms = torch.where(small, mass * phi(near), log_q.exp() - mass - mass * u)
    return terms.sum(dim=1)
