"""Per-token numbers behind the gradients, in float64: what the chunked and the triton backward share.

The gradient of a loss with respect to a logit is a simple function of that logit and of these numbers, which are
computed once per token, where they are cheap, with the cancellations resolved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels.head import take
from nondecoupling.kernels.partials import NOTHING

__all__ = ["KlCoefficients", "StatsCoefficients", "kl_coefficients", "stats_coefficients"]


def _active(*upstream: Tensor, choose: bool) -> Tensor | None:
    """Indices of the tokens with a nonzero (or NaN) upstream gradient, or None when that is all of them.

    Finding them waits for the device; without ``choose`` all are taken.
    """
    if not choose:
        return None
    alive = torch.stack([gradient != 0 for gradient in upstream]).any(dim=0)
    return None if bool(alive.all()) else alive.nonzero()[:, 0]


def _split(origin: Tensor, log_mass: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``origin`` + ``log_mass`` as high + low, the high part that of ``origin`` in ``dtype``."""
    high = origin.to(dtype)
    return high, (origin - high).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) + log_mass


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
    at_target: Tensor
    rest_high: Tensor
    rest_factor: Tensor


def stats_coefficients(
    upstream: Sequence[Tensor],
    temperature: float,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    saved: Sequence[Tensor],
    dtype: torch.dtype,
    *,
    choose: bool = True,
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
    active = _active(*gradients, choose=choose)
    g_logprob, g_logsumexp, g_entropy, g_rest = (take(g, active) / temperature for g in gradients)
    logprob, entropy = take(saved[0], active), take(saved[2], active)
    origins = saved[4] if active is None else saved[4][:, active]

    # log p_j = (z_j - high) - low: the first difference is nearly exact, the second becomes a factor.
    high, low = _split(origins[0], origins[1], dtype)
    factor = torch.exp(-low)
    # 1 - p at the target, without the cancellation that p near 1 would bring.
    at_target = -g_logprob * torch.expm1(logprob)
    # p log p is 0 at p = 0.
    at_target += logprob.exp() * (g_logsumexp - g_entropy * (logprob.clamp(min=NOTHING) + entropy))
    rest, rest_mass = origins[-2:]
    # Where nothing is left outside the list, +inf makes every e^(z - rest_high) zero.
    nothing = rest == -torch.inf
    rest_high, rest_low = _split(
        rest.masked_fill(nothing, torch.inf), rest_mass.masked_fill(nothing, 0), dtype
    )
    return StatsCoefficients(
        active=active,
        targets=take(targets.masked_fill(ignored, -1), active),
        exclude=None if exclude is None else take(exclude, active),
        high=high,
        constant=(factor * (g_logsumexp - g_logprob - g_entropy * (entropy - low))).to(dtype),
        linear=(-factor * g_entropy).to(dtype),
        at_target=at_target.to(dtype),
        rest_high=rest_high,
        rest_factor=(g_rest * torch.exp(-rest_low)).to(dtype),
    )


class KlCoefficients(NamedTuple):
    """For the active tokens, with p and q those of the models times the upstream gradient:

    p = factor_p e^(z_p - high_p), q = factor_q e^(z_q - high_q),
    u = log q - log p = z_q - z_p - gap_high - gap_low = (z_q - high_q) - (z_p - high_p) - step,
    d loss / d z_p = -p (u + kl) and d loss / d z_q = q - p = p expm1(u).

    The first form of u is the more precise, the second survives any logits. ``exact`` holds (upstream gradient over
    temperature, kl, origins) in float64. The gradient of an infinite divergence is NaN.
    """

    active: Tensor | None
    high_p: Tensor
    factor_p: Tensor
    high_q: Tensor
    factor_q: Tensor
    gap_high: Tensor
    gap_low: Tensor
    step: Tensor
    kl: Tensor
    exact: tuple[Tensor, Tensor, Tensor]


def kl_coefficients(
    upstream: Tensor,
    temperature: float,
    kl: Tensor,
    origins: Tensor,
    dtype: torch.dtype,
    *,
    choose: bool = True,
) -> KlCoefficients:
    """Coefficients from the upstream gradient of each token's divergence and what the forward returned."""
    upstream = upstream.to(kl.dtype)
    active = _active(upstream, choose=choose)
    kl = take(kl, active)
    if active is not None:
        origins = origins[:, active]
    scale = (take(upstream, active) / temperature).masked_fill(kl == torch.inf, torch.nan)
    from_p, log_mass_p, from_q, log_mass_q = origins
    high_p, low_p = _split(from_p, log_mass_p, dtype)
    high_q, low_q = _split(from_q, log_mass_q, dtype)
    gap_high, gap_low = _split(from_q - from_p, log_mass_q - log_mass_p, dtype)
    return KlCoefficients(
        active=active,
        high_p=high_p,
        factor_p=(scale * torch.exp(-low_p)).to(dtype),
        high_q=high_q,
        factor_q=(scale * torch.exp(-low_q)).to(dtype),
        gap_high=gap_high,
        gap_low=gap_low.to(dtype),
        step=(low_q - low_p).to(dtype),
        kl=kl.to(dtype),
        exact=(scale, kl, origins),
    )
