"""Per-token numbers behind the gradients, in float64: what the chunked and the triton backward share.

The gradient of a loss with respect to a logit is a simple function of that logit and of these numbers, which are
computed once per token, where they are cheap, with the cancellations resolved.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "KlCoefficients",
    "StatsCoefficients",
    "kl_coefficients",
    "statistics_dtype",
    "stats_coefficients",
    "take",
]


def statistics_dtype(device: torch.device) -> torch.dtype:
    """float64, but for the one backend that has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def take(tensor: Tensor, index: Tensor | None) -> Tensor:
    """``tensor[index]``, or all of it for None."""
    return tensor if index is None else tensor[index]


def _active(*upstream: Tensor) -> Tensor | None:
    """Indices of the tokens with a nonzero (or NaN) upstream gradient, or None when that is all of them."""
    alive = torch.stack([gradient != 0 for gradient in upstream]).any(dim=0)
    return None if bool(alive.all()) else alive.nonzero()[:, 0]


def _split(values: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``values`` as high + low, the high part representable in ``dtype``."""
    high = values.to(dtype)
    return high, (values - high).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


class StatsCoefficients(NamedTuple):
    """For the active tokens, with p = e^(z - high) up to a factor that the coefficients carry:

    d loss / d z_j = p_j (linear (z_j - high) + constant), or ``at_target`` at j = target,
    plus rest_factor e^(z_j - rest_high) where j is not excluded.
    """

    active: Tensor | None
    targets: Tensor
    exclude: Tensor | None
    high: Tensor
    constant: Tensor
    linear: Tensor
    entropy_used: bool
    at_target: Tensor
    rest_high: Tensor
    rest_factor: Tensor


def stats_coefficients(
    upstream: tuple[Tensor, Tensor, Tensor, Tensor],
    targets: Tensor,
    exclude: Tensor | None,
    saved: tuple[Tensor, Tensor, Tensor, Tensor],
    temperature: float,
    ignore_index: int,
    dtype: torch.dtype,
) -> StatsCoefficients:
    """Coefficients from upstream gradients g of (logprob, logsumexp, entropy, rest) = (l, L, H, R).

    Per logit, before the temperature: p_j (g_L - g_l - g_H (z_j - L + H)) + g_l [j = target]
    + g_R e^(z_j - R) [j not excluded]. An ignored target becomes -1, which no column equals.
    """
    ignored = targets == ignore_index
    gradients = [gradient.to(saved[0].dtype) for gradient in upstream]
    gradients[0] = torch.where(ignored, 0.0, gradients[0])
    if exclude is None:
        gradients[3] = torch.zeros_like(gradients[0])
    active = _active(*gradients)
    g_logprob, g_logsumexp, g_entropy, g_rest = (take(g, active) / temperature for g in gradients)
    logprob, logsumexp, entropy = (take(values, active) for values in saved[:3])

    # log p_j = (z_j - high) - low: the first difference is nearly exact, the second becomes a factor.
    high, low = _split(logsumexp, dtype)
    factor = torch.exp(-low)
    # 1 - p at the target, without the cancellation that p near 1 would bring.
    at_target = -g_logprob * torch.expm1(logprob)
    at_target += logprob.exp() * (g_logsumexp - g_entropy * (logprob + entropy))
    rest_high, rest_low = _split(take(saved[3], active) if exclude is not None else high, dtype)
    return StatsCoefficients(
        active=active,
        targets=take(targets.masked_fill(ignored, -1), active),
        exclude=None if exclude is None else take(exclude, active),
        high=high,
        constant=(factor * (g_logsumexp - g_logprob - g_entropy * (entropy - low))).to(dtype),
        linear=(-factor * g_entropy).to(dtype),
        entropy_used=bool((g_entropy != 0).any()),
        at_target=at_target.to(dtype),
        rest_high=rest_high,
        rest_factor=(g_rest * torch.exp(-rest_low)).to(dtype),
    )


class KlCoefficients(NamedTuple):
    """For the active tokens, with u_j = log q_j - log p_j = z_q,j - z_p,j - gap_high - gap_low and
    p = factor e^(z_p - high):

    d loss / d z_p,j = -p_j (u_j + kl) and d loss / d z_q,j = q_j - p_j = p_j expm1(u_j).
    """

    active: Tensor | None
    high: Tensor
    gap_high: Tensor
    gap_low: Tensor
    kl: Tensor
    factor: Tensor


def kl_coefficients(
    upstream: Tensor, saved: tuple[Tensor, Tensor, Tensor], temperature: float, dtype: torch.dtype
) -> KlCoefficients:
    """Coefficients from the upstream gradient of each token's divergence."""
    upstream = upstream.to(saved[0].dtype)
    active = _active(upstream)
    kl, logsumexp_p, logsumexp_q = (take(values, active) for values in saved)
    high, low = _split(logsumexp_p, dtype)
    gap_high, gap_low = _split(logsumexp_q - logsumexp_p, dtype)
    factor = take(upstream, active) / temperature * torch.exp(-low)
    return KlCoefficients(active, high, gap_high, gap_low.to(dtype), kl.to(dtype), factor.to(dtype))
