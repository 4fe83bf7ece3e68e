"""Per-token numbers behind the gradients, in float64: what the chunked and the triton backward share.

The gradient of a loss with respect to a logit is a simple function of that logit and of these numbers, which are
computed once per token, where they are cheap, with the cancellations resolved.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels.head import take
from nondecoupling.kernels.partials import NOTHING

__all__ = ["KlCoefficients", "StatsCoefficients", "kl_coefficients", "stats_coefficients"]


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
    temperature: float,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    saved: tuple[Tensor, Tensor, Tensor, Tensor],
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
    # p log p is 0 at p = 0.
    at_target += logprob.exp() * (g_logsumexp - g_entropy * (logprob.clamp(min=NOTHING) + entropy))
    # Where nothing is left outside the list, +inf makes every e^(z - rest_high) zero.
    rest = take(saved[3], active) if exclude is not None else high
    rest_high, rest_low = _split(rest.masked_fill(rest == -torch.inf, torch.inf), dtype)
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
    """For the active tokens, with g_j = z_q,j - z_p,j and its p-mean c = centre_high + centre_low:

    p = factor_p e^(z_p - high_p), q = factor_q e^(z_q - high_q), u_j = log q_j - log p_j = g_j - c - kl,
    d loss / d z_p,j = -p_j (g_j - c) and d loss / d z_q,j = q_j - p_j = p_j expm1(u_j),

    p and q being those of the models times the upstream gradient. The gradient of an infinite divergence is NaN.
    ``exact`` holds (upstream gradient over temperature, kl, logsumexp of p, of q) in float64.
    """

    active: Tensor | None
    high_p: Tensor
    factor_p: Tensor
    high_q: Tensor
    factor_q: Tensor
    centre_high: Tensor
    centre_low: Tensor
    kl: Tensor
    exact: tuple[Tensor, Tensor, Tensor, Tensor]


def kl_coefficients(
    upstream: Tensor, temperature: float, saved: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype
) -> KlCoefficients:
    """Coefficients from the upstream gradient of each token's divergence and ``saved``, what the forward returned."""
    upstream = upstream.to(saved[0].dtype)
    active = _active(upstream)
    kl, logsumexp_p, logsumexp_q = (take(values, active) for values in saved)
    scale = take(upstream, active) / temperature
    # Infinite as returned: in ``dtype``.
    scale = scale.masked_fill(kl.to(dtype) == torch.inf, torch.nan)
    high_p, low_p = _split(logsumexp_p, dtype)
    high_q, low_q = _split(logsumexp_q, dtype)
    centre_high, centre_low = _split(logsumexp_q - logsumexp_p - kl, dtype)
    return KlCoefficients(
        active=active,
        high_p=high_p,
        factor_p=(scale * torch.exp(-low_p)).to(dtype),
        high_q=high_q,
        factor_q=(scale * torch.exp(-low_q)).to(dtype),
        centre_high=centre_high,
        centre_low=centre_low.to(dtype),
        kl=kl.to(dtype),
        exact=(scale, kl, logsumexp_p, logsumexp_q),
    )
