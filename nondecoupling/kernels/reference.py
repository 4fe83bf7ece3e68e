"""Plain torch, all logits at once: the definition that the other implementations are tested against.

Every formula is the textbook one and autograd does the gradients. Called on float64 inputs it is the truth of
the accuracy tests. It stores [T, V] several times over; use it for small sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["logits_of", "phi", "token_kl", "token_stats"]


def logits_of(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """softcap * tanh((hidden @ weight.T + bias) / softcap) / temperature, [T, V].

    Low-precision inputs are converted to float32 first, so no logit is ever rounded to their dtype.

    >>> hidden, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> logits_of(hidden, weight, temperature=2.0)
    tensor([[1.5000, 4.0000]])
    """
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    logits = hidden.to(dtype) @ weight.to(dtype).T
    if bias is not None:
        logits = logits + bias.to(dtype)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits / temperature


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
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest), each [T]; the last is empty without ``exclude``."""
    logits = logits_of(hidden, weight, bias, temperature, softcap)
    log_p = torch.log_softmax(logits, dim=1)
    ignored = targets == ignore_index
    picked = log_p.gather(1, targets.masked_fill(ignored, 0)[:, None])[:, 0]
    logprob = torch.where(ignored, 0.0, picked)
    logsumexp = torch.logsumexp(logits, dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1)
    rest = logits.new_empty(0)
    if exclude is not None:
        # One spare column takes the pads, so that they need no branch.
        columns = torch.where(exclude < 0, logits.shape[1], exclude)
        excluded = logits.new_zeros(logits.shape[0], logits.shape[1] + 1, dtype=torch.bool)
        excluded = excluded.scatter(1, columns, True)[:, :-1]
        some = ~excluded.all(dim=1)
        # logsumexp of a row of -inf has a gradient of NaN: such rows take a constant instead.
        kept = torch.where(excluded & some[:, None], -torch.inf, logits)
        rest = torch.where(some, torch.logsumexp(kept, dim=1), -torch.inf)
    return logprob, logsumexp, entropy, rest


def token_kl(
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    temperature: float,
    softcap: float | None,
) -> Tensor:
    """sum_v p_v phi(log q_v - log p_v), [T]: sum p log(p / q) without a term of either sign."""
    log_p = torch.log_softmax(logits_of(hidden_p, weight_p, bias_p, temperature, softcap), dim=1)
    log_q = torch.log_softmax(logits_of(hidden_q, weight_q, bias_q, temperature, softcap), dim=1)
    u = log_q - log_p
    # p exp(u) overflows where p underflows; there q - p - p u is the same and accurate.
    near = torch.where(u.abs() <= 1, u, 0)
    p = log_p.exp()
    terms = torch.where(u.abs() <= 1, p * phi(near), log_q.exp() - p - p * u)
    return terms.sum(dim=1)
