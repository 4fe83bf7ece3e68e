"""Tiles of logits that stay in cache: the CPU path, which also runs on any other device.

The vocabulary is walked in tiles of rows of the head. A tile of logits is made by one matrix product into a
buffer that is allocated once, reduced to a few numbers per token, and overwritten. The backward makes the tiles
again. No [T, V] array exists; the extra memory is a handful of tile buffers, whatever T and V. On request the
forward keeps its logits in one that it is given, ``stored``, and the backward reads them there.

Implementation notes
    * A tile is reduced relative to its own maximum, in float32. What is kept per token (maximum, mass, ...) is
      float64, and is merged across tiles by formulas whose terms all have one sign, so nothing cancels.
    * The entropy is log(s) + a / s with s = sum e^(z - m) >= 1 and a = sum e^(z - m) (m - z) >= 0.
    * Excluded tokens are masked out of the tile and added back at the end: the mass outside the list is summed,
      never subtracted.
    * In the backward, tokens whose upstream gradients are all zero are left out: they cost nothing, and a NaN in
      their hidden state reaches nobody.
    * This path looks at values throughout: without ``synchronize`` it waits for the device all the same.
    * Each element of a gradient is summed in a fixed order: the backward is deterministic.
    * Logits of -inf, and differences beyond float32, show as a NaN or infinity in a row's sums. Such rows are taken
      again with 0 log 0 = 0, for the divergence by ``far_logits``; all others pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nondecoupling.kernels.coefficients import kl_coefficients, stats_coefficients
from nondecoupling.kernels.far_logits import any_divergence, any_gradients
from nondecoupling.kernels.head import Head, statistics_dtype
from nondecoupling.kernels.pair import HeadPair
from nondecoupling.kernels.partials import NOTHING, Divergence, Mass
from nondecoupling.kernels.reference import finite_base
from nondecoupling.kernels.tiles import (
    HeadGradients,
    Tiles,
    cap_slope,
    shaped,
    stored_tile,
    tile_logits,
)

__all__ = [
    "refine",
    "take_again",
    "token_kl_backward",
    "token_kl_forward",
    "token_stats_backward",
    "token_stats_forward",
    "too_far",
]

Places = tuple[Tensor, ...]


def _inside(tokens: Tensor, start: int, stop: int) -> Places:
    """Where ``tokens`` lie in [start, stop)."""
    return ((tokens >= start) & (tokens < stop)).nonzero(as_tuple=True)


def _distinct(exclude: Tensor) -> Tensor:
    """``exclude`` with every repetition within a row turned into a pad, rows sorted."""
    ordered = exclude.sort(dim=1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(repeated, -1)


def _reduce(
    logits: Tensor, scratch: Tensor, dtype: torch.dtype, left_out: Places | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(max, sum e^(z - max), sum e^(z - max) (max - z)) of each row; overwrites the first two arguments.

    Logits at ``left_out`` are -inf; so may others be, at a price.
    """
    maximum = logits.amax(dim=1, keepdim=True)
    below = logits.sub_(finite_base(maximum))
    if left_out is not None:
        below[left_out] = NOTHING
    torch.exp(below, out=scratch)
    mass = scratch.sum(dim=1).to(dtype)
    # Where one token dominates, log(mass) is the small rest: float32 would round it away against the 1.
    (confident,) = (mass < 2).nonzero(as_tuple=True)
    if confident.numel():
        mass[confident] = scratch[confident].sum(dim=1, dtype=dtype)
    spread = scratch.mul_(below).sum(dim=1).neg_()
    # 0 * -inf; a row that holds a NaN has it in its maximum.
    (masked,) = (spread.isnan() & (maximum[:, 0] < torch.inf)).nonzero(as_tuple=True)
    if masked.numel():
        bounded = below[masked].clamp_(min=NOTHING)
        spread[masked] = bounded.exp().mul_(bounded).sum(dim=1).neg_()
    return maximum[:, 0].to(dtype), mass, spread.to(dtype)


def token_stats_forward(
    head: Head,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    stored: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest, origins), in float64.

    The first four are [T], the rest empty without ``exclude``; origins [2, T] is ``Mass.origin``, and [4, T] with
    that of the rest where there is one. Logits are written to ``stored`` [T, V].
    """
    device = head.hidden.device
    statistics = statistics_dtype(device)
    tiles = Tiles(head)
    tokens = tiles.tokens
    buffer, scratch = tiles.buffer(), tiles.buffer()
    kept = Mass(tokens, statistics, device)
    target_logits = torch.zeros(tokens, dtype=statistics, device=device)
    if exclude is not None:
        exclude = _distinct(exclude)
        excluded_logits = torch.full(exclude.shape, -torch.inf, dtype=statistics, device=device)

    for start, stop in tiles.columns():
        rows_of_weight = head.weight[start:stop].to(tiles.dtype)
        for rows in tiles.rows():
            out = shaped(buffer, rows.stop - rows.start, stop - start)
            logits = tile_logits(head.only(rows), rows_of_weight, start, out)
            if stored is not None:
                stored[rows, start:stop] = logits
            (hit,) = _inside(targets[rows], start, stop)
            target_logits[rows][hit] = logits[hit, targets[rows][hit] - start].to(statistics)
            left_out = None
            if exclude is not None:
                at = _inside(exclude[rows], start, stop)
                left_out = (at[0], exclude[rows][at] - start)
                excluded_logits[rows][at] = logits[left_out].to(statistics)
                logits[left_out] = -torch.inf
            scratch_tile = shaped(scratch, *logits.shape)
            kept.add(rows, *_reduce(logits, scratch_tile, statistics, left_out))

    origins = kept.origin()
    if exclude is not None:
        for logit in excluded_logits.unbind(dim=1):
            mass = (logit != -torch.inf).to(statistics)
            kept.add(slice(None), logit, mass, torch.zeros_like(logit))
        origins = torch.cat([kept.origin(), origins])
    # (z - m) - log s rounds at the size of its terms; z - logsumexp would round at the size of m.
    logprob = (target_logits - kept.maximum) - kept.mass.log()
    logprob = torch.where(targets == ignore_index, 0.0, logprob)
    rest = origins[2:].sum(dim=0) if exclude is not None else logprob.new_empty(0)
    return logprob, origins[:2].sum(dim=0), kept.entropy(), rest, origins


def token_stats_backward(
    upstream: Sequence[Tensor],
    head: Head,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    saved: Sequence[Tensor],
    needs: tuple[bool, bool, bool],
    synchronize: bool = True,
    stored: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias; empty where not needed.

    ``upstream`` are the gradients of the loss with respect to the first four results of the forward, ``saved``;
    ``stored`` has the forward's logits, if it kept them.
    """
    every = head.tokens
    c = stats_coefficients(
        upstream, head.temperature, targets, exclude, ignore_index, saved, head.dtype
    )
    head = head.only(c.active)
    # A loss without the entropy is spared a pass.
    entropy_used = bool((c.linear != 0).any())
    tiles = Tiles(head)
    results = HeadGradients(head, needs)
    buffer, scratch = tiles.buffer(), tiles.buffer()
    slope = tiles.buffer() if head.softcap is not None else buffer
    rest_scratch = tiles.buffer() if exclude is not None else buffer

    for start, stop in tiles.columns():
        rows_of_weight = head.weight[start:stop].to(tiles.dtype)
        weight_tile = results.tile(rows_of_weight, start)
        for rows in tiles.rows():
            shape = (rows.stop - rows.start, stop - start)
            logits = shaped(buffer, *shape)
            if stored is None:
                tile_logits(head.only(rows), rows_of_weight, start, logits)
            else:
                stored_tile(stored, c.active, rows, start, logits)
            if head.softcap is not None:
                slope_tile = cap_slope(head, logits, shaped(slope, *shape))
            if c.exclude is not None:
                outside = shaped(rest_scratch, *shape)
                torch.sub(logits, c.rest_high[rows, None], out=outside).exp_()
                at = _inside(c.exclude[rows], start, stop)
                outside[at[0], c.exclude[rows][at] - start] = 0
                outside.mul_(c.rest_factor[rows, None])
            log_p = logits.sub_(c.high[rows, None])
            p = torch.exp(log_p, out=shaped(scratch, *shape))
            if entropy_used:
                log_p.clamp_(min=NOTHING)
                linear, constant = c.linear[rows, None], c.constant[rows, None]
                gradient = torch.addcmul(constant, log_p, linear, out=log_p).mul_(p)
            else:
                gradient = p.mul_(c.constant[rows, None])
            (hit,) = _inside(c.targets[rows], start, stop)
            gradient[hit, c.targets[rows][hit] - start] = c.at_target[rows][hit]
            if c.exclude is not None:
                gradient.add_(outside)
            if head.softcap is not None:
                gradient.mul_(slope_tile)
            results.add(rows, gradient, rows_of_weight, start, weight_tile)
        results.store(weight_tile, start, stop)
    return results.results(c.active, every)


def _sum_of_phi(p: Tensor, u: Tensor, near: Tensor, series: Tensor, scratch: Tensor) -> Tensor:
    """sum_j p_j phi(u_j) of each row, inf or NaN where it overflows; overwrites the last three.

    phi(u) = series(c) - (u - c) + (e^u - e^c) with c = u clamped to where the series holds: the brackets are
    exactly zero inside, and no branch is needed (torch.where costs more than ten passes).
    """
    threshold = (720 * torch.finfo(u.dtype).eps) ** 0.2
    torch.clamp(u, -threshold, threshold, out=near)
    torch.mul(near, 1 / 120, out=series).add_(1 / 24)
    series.mul_(near).add_(1 / 6).mul_(near).add_(1 / 2).mul_(near).mul_(near)
    series.sub_(torch.sub(u, near, out=scratch))
    torch.exp(u, out=scratch).sub_(near.exp_())
    return series.add_(scratch).mul_(p).sum(dim=1)


# e^60 times a float32 that has not underflowed does not overflow.
FAR = 60.0
# Logits from this size on go the way of ``any_divergence``, which loses nothing.
LARGE = 1e5


def divergence(pair: HeadPair, stored: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(kl [T], origins [4, T]), as ``Divergence.result``; logits and gaps are written to ``stored`` [2, T, V]."""
    device = pair.p.hidden.device
    statistics = statistics_dtype(device)
    tiles = Tiles(pair.p, pair.q)
    buffers = [tiles.buffer() for _ in range(6)]
    state = Divergence(tiles.tokens, statistics, device)
    lost = torch.zeros(tiles.tokens, dtype=torch.bool, device=device)
    for start, stop in tiles.columns():
        weights = pair.rows_of_weight(start, stop)
        for rows in tiles.rows():
            shape = (rows.stop - rows.start, stop - start)
            logits, gap, p, *scratch = (shaped(buffer, *shape) for buffer in buffers)
            pair.only(rows).logits_and_gap(weights, start, logits, gap)
            if stored is not None:
                stored[0, rows, start:stop] = logits
                stored[1, rows, start:stop] = gap
            maximum = logits.amax(dim=1, keepdim=True)
            torch.exp(logits.sub_(maximum), out=p)
            mass = p.sum(dim=1)
            # Centred twice: any entry removes a common offset, so that the mean then removed is precise.
            offset = gap[:, :1].clone()
            gap.sub_(offset)
            mean = torch.mul(p, gap, out=scratch[0]).sum(dim=1).div_(mass)
            gap.sub_(mean[:, None])
            excess = _sum_of_phi(p, gap, *scratch)

            maximum_, mass_, offset_, mean_, excess_ = (
                value.to(statistics) for value in (maximum[:, 0], mass, offset[:, 0], mean, excess)
            )
            centre = offset_ + mean_
            lost[rows] |= too_far(maximum_, offset_, centre) | ~torch.isfinite(excess_)
            state.add(rows, maximum_, mass_, centre, excess_, maximum_ + centre, mass_ + excess_)
    kl, origins = state.result()
    take_again(any_divergence, pair, lost, kl, origins)
    return kl, origins


# A gap is a float32 difference: from this size on, its rounding would show in q.
GAP = 100.0


def too_far(maximum: Tensor, offset: Tensor, centre: Tensor) -> Tensor:
    """Whether sums over gaps of float32 logits, taken relative to ``offset`` and ``centre``, may have lost q."""
    return (offset.abs() > GAP) | (centre.abs() > GAP) | (maximum.abs() > LARGE)


def take_again(
    how: Callable[[HeadPair], tuple[Tensor, Tensor]],
    pair: HeadPair,
    which: Tensor,
    kl: Tensor,
    origins: Tensor,
) -> None:
    """Put what ``how`` finds for the tokens ``which`` [T] into ``kl`` and ``origins``."""
    (tokens,) = which.nonzero(as_tuple=True)
    if tokens.numel():
        kl[tokens], origins[:, tokens] = how(pair.only(tokens))


def token_kl_forward(
    p: Head, q: Head, synchronize: bool = True, stored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(kl [T], origins [4, T]) in float64, as ``Divergence.result``; ``stored`` as in ``divergence``."""
    pair = HeadPair(p, q)
    kl, origins = divergence(pair, stored)
    if not pair.differences and p.dtype != torch.float64:
        refine(pair, kl, origins)
    return kl, origins


# A float32 logit is off by about delta = 1e-6 to 1e-5, and a divergence K taken from two of them by
# 2 delta / sqrt(2 K) relative: 1e-3 at K = 1e-4 for the larger delta. Smaller ones are taken again.
REFINE_BELOW = 1e-4


def refine(pair: HeadPair, kl: Tensor, origins: Tensor) -> None:
    """Take divergences below ``REFINE_BELOW`` again from differences; models of two widths stay as they are."""
    if pair.p.width == pair.q.width:
        again = HeadPair(pair.p, pair.q, differences=True)
        take_again(divergence, again, kl < REFINE_BELOW, kl, origins)


def token_kl_backward(
    upstream: Tensor,
    p: Head,
    q: Head,
    kl: Tensor,
    origins: Tensor,
    needs_p: tuple[bool, bool, bool],
    needs_q: tuple[bool, bool, bool],
    synchronize: bool = True,
    stored: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias of p, then of q; empty where not needed.

    ``upstream`` is the gradient of the loss with respect to ``kl``, which the forward returned with ``origins``;
    ``stored`` has the forward's logits and gaps, if it kept them.
    """
    every = p.tokens
    c = kl_coefficients(upstream, p.temperature, kl, origins, p.dtype)
    scale, kl, origins = c.exact
    # Next to a large divergence, too, the sum u + kl would lose u.
    beyond = too_far(origins[0], c.gap_high, kl)
    pair = HeadPair(p, q).only(c.active)
    tiles = Tiles(pair.p, pair.q)
    results_p, results_q = HeadGradients(pair.p, needs_p), HeadGradients(pair.q, needs_q)
    buffers = [tiles.buffer() for _ in range(3)]
    capped = p.softcap is not None
    slopes = [tiles.buffer() for _ in range(2 if capped else 0)]

    for start, stop in tiles.columns():
        weights = pair.rows_of_weight(start, stop)
        tile_p, tile_q = results_p.tile(weights[0], start), results_q.tile(weights[1], start)
        for rows in tiles.rows():
            shape = (rows.stop - rows.start, stop - start)
            logits, gap, scratch = (shaped(buffer, *shape) for buffer in buffers)
            here = pair.only(rows)
            if stored is None:
                here.logits_and_gap(weights, start, logits, gap)
            else:
                stored_tile(stored[0], c.active, rows, start, logits)
                stored_tile(stored[1], c.active, rows, start, gap)
            if capped:
                slope_p = cap_slope(p, logits, shaped(slopes[0], *shape))
                slope_q = cap_slope(q, logits + gap, shaped(slopes[1], *shape))
            mass = logits.sub_(c.high_p[rows, None]).exp_().mul_(c.factor_p[rows, None])
            u = gap.sub_(c.gap_high[rows, None]).sub_(c.gap_low[rows, None])
            lowest, highest = u.aminmax(dim=1)
            near = (highest <= FAR) & lowest.isfinite() & ~beyond[rows]
            (far,) = (~near).nonzero(as_tuple=True)
            gradient_p = torch.add(u, c.kl[rows, None], out=scratch).mul_(mass).neg_()
            # q - p without its cancellation.
            gradient_q = u.expm1_().mul_(mass)
            if far.numel():
                exact = (scale[rows][far], kl[rows][far], origins[:, rows][:, far])
                gradient_p[far], gradient_q[far] = (
                    values.to(tiles.dtype)
                    for values in any_gradients(here.only(far), weights, start, *exact)
                )
            if capped:
                gradient_p.mul_(slope_p)
                gradient_q.mul_(slope_q)
            results_p.add(rows, gradient_p, weights[0], start, tile_p)
            results_q.add(rows, gradient_q, weights[1], start, tile_q)
        results_p.store(tile_p, start, stop)
        results_q.store(tile_q, start, stop)
    return (*results_p.results(c.active, every), *results_q.results(c.active, every))
