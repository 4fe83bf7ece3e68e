"""Two models whose logits may be anything: -inf on either side, finfo.min, farther apart than any float.

``chunked`` and the Triton launcher come here with the tokens that their float32 sums would lose: in float64, with the
laws of p and q each kept in its own scale. Slower, and right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nondecoupling.kernels.head import statistics_dtype
from nondecoupling.kernels.pair import HeadPair
from nondecoupling.kernels.partials import Mass
from nondecoupling.kernels.reference import finite_base, phi
from nondecoupling.kernels.tiles import Tiles, tile_logits

__all__ = ["any_divergence", "any_gradients"]


def _in_double(
    pair: HeadPair, weights: tuple[Tensor, Tensor], start: int
) -> tuple[Tensor, Tensor, Tensor]:
    """z_p, z_q and z_q - z_p of a tile, in float64."""
    dtype = statistics_dtype(pair.p.hidden.device)
    z_p = pair.p.hidden.new_empty(pair.p.tokens, weights[0].shape[0], dtype=pair.p.dtype)
    z_q, gap = torch.empty_like(z_p), torch.empty_like(z_p)
    pair.logits_and_gap(weights, start, z_p, gap)
    tile_logits(pair.q, weights[1], start, z_q)
    return z_p.to(dtype), z_q.to(dtype), gap.to(dtype)


def any_divergence(pair: HeadPair) -> tuple[Tensor, Tensor]:
    """(kl [T], origins [4, T]), as ``Divergence.result``, by two walks over the vocabulary.

    The first finds both logsumexps; the second sums p phi(log q - log p), or q - p - p (log q - log p), all of them
    positive. A token has mass if p is not 0 in float64.
    """
    device = pair.p.hidden.device
    dtype = statistics_dtype(device)
    tiles = Tiles(pair.p, pair.q)
    masses = [Mass(tiles.tokens, dtype, device) for _ in range(2)]
    kl = torch.zeros(tiles.tokens, dtype=dtype, device=device)
    for start, stop in tiles.columns():
        weights = pair.rows_of_weight(start, stop)
        for rows in tiles.rows():
            for mass, z in zip(
                masses, _in_double(pair.only(rows), weights, start)[:2], strict=True
            ):
                maximum = z.amax(dim=1)
                total = torch.exp(z - finite_base(maximum)[:, None]).sum(dim=1)
                mass.add(rows, maximum, total, torch.zeros_like(total))
    origins = torch.cat([mass.origin() for mass in masses])
    for start, stop in tiles.columns():
        weights = pair.rows_of_weight(start, stop)
        for rows in tiles.rows():
            z_p, z_q, gap = _in_double(pair.only(rows), weights, start)
            from_p, log_mass_p, from_q, log_mass_q = origins[:, rows, None]
            log_p, log_q = z_p - from_p - log_mass_p, z_q - from_q - log_mass_q
            p, q = log_p.exp(), log_q.exp()
            # 0 log 0 = 0.
            u = torch.where(p == 0, 0, log_q - log_p)
            if pair.differences:
                # More precise, unless it is beyond float32 or drowned by something that is almost so.
                precise = gap - (from_q - from_p) - (log_mass_q - log_mass_p)
                u = torch.where((p != 0) & ((precise - u).abs() <= 1e-3), precise, u)
            near = (p != 0) & (u.abs() <= 1)
            terms = torch.where(near, p * phi(torch.where(near, u, 0)), q - p - p * u)
            kl[rows] += terms.sum(dim=1)
    return kl, origins


def any_gradients(
    pair: HeadPair,
    weights: tuple[Tensor, Tensor],
    start: int,
    scale: Tensor,
    kl: Tensor,
    origins: Tensor,
) -> tuple[Tensor, Tensor]:
    """The gradients with respect to z_p and z_q of a tile, whatever its logits; ``scale`` is the upstream one."""
    z_p, z_q, _ = _in_double(pair, weights, start)
    from_p, log_mass_p, from_q, log_mass_q = origins[:, :, None]
    log_p = z_p - from_p - log_mass_p
    log_q = z_q - from_q - log_mass_q
    p, q = log_p.exp(), log_q.exp()
    u = log_q - log_p
    # 0 log 0 = 0; and q - p without its cancellation where there is one.
    gradient_p = torch.where(p == 0, 0, -p * (u + kl[:, None]))
    gradient_q = torch.where((p != 0) & (u.abs() <= 1), p * torch.expm1(u), q - p)
    return gradient_p * scale[:, None], gradient_q * scale[:, None]
