"""Tiles of logits that stay in cache: the CPU path, which also runs on any other device.

The vocabulary is walked in tiles of rows of the head. A tile of logits is made by one matrix product into a
buffer that is allocated once, reduced to a few numbers per token, and overwritten. The backward makes the tiles
again. No [T, V] array exists; the extra memory is a handful of tile buffers, whatever T and V.

Implementation notes
    * A tile is reduced relative to its own maximum, in float32. What is kept per token (maximum, mass, ...) is
      float64, and is merged across tiles by formulas whose terms all have one sign, so nothing cancels.
    * The entropy is log(s) + a / s with s = sum e^(z - m) >= 1 and a = sum e^(z - m) (m - z) >= 0.
    * Excluded tokens are masked out of the tile and added back at the end: the mass outside the list is summed,
      never subtracted.
    * In the backward, tokens whose upstream gradients are all zero are left out: they cost nothing, and a NaN in
      their hidden state reaches nobody.
    * Each element of a gradient is summed in a fixed order: the backward is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels.coefficients import (
    kl_coefficients,
    statistics_dtype,
    stats_coefficients,
    take,
)
from nondecoupling.kernels.reference import phi

__all__ = [
    "Divergence",
    "Head",
    "Mass",
    "Pair",
    "refine",
    "token_kl_backward",
    "token_kl_forward",
    "token_stats_backward",
    "token_stats_forward",
]

TOKENS_PER_TILE = 1024
# 4 MiB of float32 logits: a few such buffers stay in the last-level cache of current CPUs, and the matrix
# product is as fast as with any larger tile.
LOGITS_PER_TILE = 1 << 20
# An accelerator is limited by launches instead, so it gets larger tiles.
LOGITS_PER_TILE_ACCELERATOR = 1 << 24
# A head of low precision is converted tile by tile; this bounds the converted rows.
WEIGHTS_PER_TILE = 1 << 23
# Products of narrower tiles are slow.
SMALLEST_WIDTH = 256


class _Tiles:
    """The sizes of the tiles, and the buffers they share."""

    def __init__(self, hidden: Tensor, vocabulary: int, width: int) -> None:
        self.tokens = hidden.shape[0]
        self.vocabulary = vocabulary
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self.device = hidden.device
        self.height = max(1, min(self.tokens, TOKENS_PER_TILE))
        logits = LOGITS_PER_TILE if hidden.device.type == "cpu" else LOGITS_PER_TILE_ACCELERATOR
        columns = max(logits // self.height, SMALLEST_WIDTH)
        if hidden.dtype != self.dtype:
            columns = min(columns, max(WEIGHTS_PER_TILE // width, SMALLEST_WIDTH))
        self.width = min(columns, vocabulary)

    def buffer(self) -> Tensor:
        return torch.empty(self.height * self.width, dtype=self.dtype, device=self.device)

    def columns(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.vocabulary, self.width):
            yield start, min(start + self.width, self.vocabulary)

    def rows(self) -> Iterator[slice]:
        for start in range(0, self.tokens, self.height):
            yield slice(start, min(start + self.height, self.tokens))


def _shaped(buffer: Tensor, rows: int, columns: int) -> Tensor:
    return buffer[: rows * columns].view(rows, columns)


class Head(NamedTuple):
    """A head, its hidden states and the map from their product to logits."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    temperature: float
    softcap: float | None

    def rows_of_weight(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return self.weight[start:stop].to(dtype)

    def logits(self, rows: slice, weight: Tensor, start: int, out: Tensor) -> Tensor:
        """softcap * tanh((h w + b) / softcap) / temperature into ``out``, [rows, columns of the tile]."""
        inner = self.softcap if self.softcap is not None else self.temperature
        hidden = self.hidden[rows].to(out.dtype)
        torch.addmm(out, hidden, weight.T, beta=0, alpha=1 / inner, out=out)
        if self.bias is not None:
            bias = self.bias[start : start + out.shape[1]].to(out.dtype)
            out.add_(bias, alpha=1 / inner)
        if self.softcap is not None:
            out.tanh_().mul_(self.softcap / self.temperature)
        return out

    def slope_of_cap(self, logits: Tensor, out: Tensor) -> Tensor:
        """d logits / d (h w + b) times the temperature: 1 - tanh^2, from the capped logits."""
        assert self.softcap is not None
        torch.mul(logits, self.temperature / self.softcap, out=out)
        return out.square_().neg_().add_(1)


class Mass:
    """Per token: maximum m, s = sum e^(z - m), a = sum e^(z - m) (m - z) over the logits seen so far."""

    def __init__(self, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.maximum = torch.full((tokens,), -torch.inf, dtype=dtype, device=device)
        self.mass = torch.zeros(tokens, dtype=dtype, device=device)
        self.spread = torch.zeros(tokens, dtype=dtype, device=device)

    def add(self, rows: slice, maximum: Tensor, mass: Tensor, spread: Tensor) -> None:
        """Merge other logits of ``rows``; a maximum of -inf with mass 0 adds nothing."""
        new = torch.maximum(self.maximum[rows], maximum)
        total = torch.zeros_like(new)
        total_spread = torch.zeros_like(new)
        for m, s, a in (
            (self.maximum[rows], self.mass[rows], self.spread[rows]),
            (maximum, mass, spread),
        ):
            fall = torch.where(m == -torch.inf, 0.0, new - m)
            scale = torch.exp(-fall)
            total += scale * s
            total_spread += scale * (a + fall * s)
        self.maximum[rows], self.mass[rows], self.spread[rows] = new, total, total_spread

    def logsumexp(self) -> Tensor:
        return self.maximum + self.mass.log()

    def entropy(self) -> Tensor:
        return self.mass.log() + self.spread / self.mass


def _reduce(logits: Tensor, scratch: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(max, sum e^(z - max), sum e^(z - max) (max - z)) of each row; overwrites both arguments."""
    maximum = logits.amax(dim=1, keepdim=True)
    logits.sub_(maximum)
    torch.exp(logits, out=scratch)
    mass = scratch.sum(dim=1).to(dtype)
    # Where one token dominates, log(mass) is the small rest: float32 would round it away against the 1.
    (confident,) = (mass < 2).nonzero(as_tuple=True)
    if confident.numel():
        mass[confident] = scratch[confident].sum(dim=1, dtype=dtype)
    spread = scratch.mul_(logits).sum(dim=1).neg_()
    return maximum[:, 0].to(dtype), mass, spread.to(dtype)


def _distinct(exclude: Tensor) -> Tensor:
    """``exclude`` with every repetition within a row turned into a pad, rows sorted."""
    ordered = exclude.sort(dim=1).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(repeated, -1)


def _inside(tokens: Tensor, start: int, stop: int) -> tuple[Tensor, ...]:
    """Where ``tokens`` lie in [start, stop)."""
    return ((tokens >= start) & (tokens < stop)).nonzero(as_tuple=True)


def token_stats_forward(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    temperature: float,
    softcap: float | None,
    ignore_index: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest), each [T] float64; the last is empty without ``exclude``."""
    statistics = statistics_dtype(hidden.device)
    head = Head(hidden, weight, bias, temperature, softcap)
    tiles = _Tiles(hidden, *weight.shape)
    tokens = tiles.tokens
    buffer, scratch = tiles.buffer(), tiles.buffer()
    kept = Mass(tokens, statistics, hidden.device)
    target_logits = torch.zeros(tokens, dtype=statistics, device=hidden.device)
    if exclude is not None:
        exclude = _distinct(exclude)
        excluded_logits = torch.full(
            exclude.shape, -torch.inf, dtype=statistics, device=hidden.device
        )
    # Finite, so that exp(z - m) (m - z) is 0 and not NaN.
    masked = torch.finfo(tiles.dtype).min / 4

    for start, stop in tiles.columns():
        rows_of_weight = head.rows_of_weight(start, stop, tiles.dtype)
        for rows in tiles.rows():
            out = _shaped(buffer, rows.stop - rows.start, stop - start)
            logits = head.logits(rows, rows_of_weight, start, out)
            (hit,) = _inside(targets[rows], start, stop)
            target_logits[rows][hit] = logits[hit, targets[rows][hit] - start].to(statistics)
            if exclude is not None:
                at = _inside(exclude[rows], start, stop)
                columns = exclude[rows][at] - start
                excluded_logits[rows][at] = logits[at[0], columns].to(statistics)
                logits[at[0], columns] = masked
            maximum, mass, spread = _reduce(logits, _shaped(scratch, *logits.shape), statistics)
            if exclude is not None:
                empty = maximum == masked
                maximum.masked_fill_(empty, -torch.inf)
                mass.masked_fill_(empty, 0)
                spread.masked_fill_(empty, 0)
            kept.add(rows, maximum, mass, spread)

    rest = kept.maximum.new_empty(0)
    if exclude is not None:
        rest = kept.logsumexp()
        for logit in excluded_logits.unbind(dim=1):
            kept.add(
                slice(None), logit, (logit != -torch.inf).to(statistics), torch.zeros_like(logit)
            )
    # (z - m) - log s rounds at the size of its terms; z - logsumexp would round at the size of m.
    logprob = (target_logits - kept.maximum) - kept.mass.log()
    logprob = torch.where(targets == ignore_index, 0.0, logprob)
    return logprob, kept.logsumexp(), kept.entropy(), rest


class _Gradients:
    """Gradients of one head, filled tile by tile; those not asked for stay empty."""

    def __init__(self, head: Head, tiles: _Tiles, needs: tuple[bool, bool, bool]) -> None:
        self.head = head
        self.needs = needs
        hidden, weight = head.hidden, head.weight
        self.hidden = hidden.new_zeros(hidden.shape if needs[0] else 0, dtype=tiles.dtype)
        self.weight = torch.empty(
            weight.shape if needs[1] else 0, dtype=weight.dtype, device=weight.device
        )
        self.bias = hidden.new_zeros(weight.shape[0] if needs[2] else 0, dtype=tiles.dtype)
        self.converted = weight.dtype != tiles.dtype

    def tile(self, weight: Tensor, start: int) -> Tensor:
        """Where the gradient of this tile of the head accumulates, in float32 or better."""
        if not self.needs[1]:
            return self.weight
        place = self.weight[start : start + weight.shape[0]]
        return torch.empty_like(weight) if self.converted else place

    def add(self, rows: slice, gradient: Tensor, weight: Tensor, start: int, tile: Tensor) -> None:
        """Propagate d loss / d (h w + b), ``gradient`` [rows, columns of the tile]."""
        if self.needs[0]:
            self.hidden[rows].addmm_(gradient, weight)
        if self.needs[1]:
            hidden = self.head.hidden[rows].to(gradient.dtype)
            torch.addmm(tile, gradient.T, hidden, beta=int(rows.start > 0), out=tile)
        if self.needs[2]:
            self.bias[start : start + gradient.shape[1]] += gradient.sum(dim=0)

    def store(self, tile: Tensor, start: int, stop: int) -> None:
        if self.needs[1] and self.head.hidden.shape[0] == 0:
            self.weight[start:stop] = 0
        elif self.needs[1] and self.converted:
            self.weight[start:stop] = tile

    def results(self, active: Tensor | None, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.hidden
        if self.needs[0] and active is not None:
            hidden = hidden.new_zeros(tokens, hidden.shape[1]).index_copy_(0, active, hidden)
        dtype = self.head.hidden.dtype
        return hidden.to(dtype), self.weight, self.bias.to(dtype)


def token_stats_backward(
    upstream: tuple[Tensor, Tensor, Tensor, Tensor],
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    exclude: Tensor | None,
    saved: tuple[Tensor, Tensor, Tensor, Tensor],
    temperature: float,
    softcap: float | None,
    ignore_index: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias; empty where not needed."""
    tokens, (vocabulary, width) = hidden.shape[0], weight.shape
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    c = stats_coefficients(upstream, targets, exclude, saved, temperature, ignore_index, dtype)
    head = Head(take(hidden, c.active), weight, bias, temperature, softcap)
    tiles = _Tiles(head.hidden, vocabulary, width)
    results = _Gradients(head, tiles, needs)
    buffer, scratch = tiles.buffer(), tiles.buffer()
    slope = tiles.buffer() if softcap is not None else buffer
    rest_scratch = tiles.buffer() if exclude is not None else buffer

    for start, stop in tiles.columns():
        rows_of_weight = head.rows_of_weight(start, stop, tiles.dtype)
        weight_tile = results.tile(rows_of_weight, start)
        for rows in tiles.rows():
            shape = (rows.stop - rows.start, stop - start)
            logits = head.logits(rows, rows_of_weight, start, _shaped(buffer, *shape))
            if softcap is not None:
                cap_slope = head.slope_of_cap(logits, _shaped(slope, *shape))
            if c.exclude is not None:
                outside = _shaped(rest_scratch, *shape)
                torch.sub(logits, c.rest_high[rows, None], out=outside).exp_()
                at = _inside(c.exclude[rows], start, stop)
                outside[at[0], c.exclude[rows][at] - start] = 0
                outside.mul_(c.rest_factor[rows, None])
            log_p = logits.sub_(c.high[rows, None])
            p = torch.exp(log_p, out=_shaped(scratch, *shape))
            if c.entropy_used:
                gradient = log_p.mul_(c.linear[rows, None]).add_(c.constant[rows, None]).mul_(p)
            else:
                gradient = p.mul_(c.constant[rows, None])
            (hit,) = _inside(c.targets[rows], start, stop)
            gradient[hit, c.targets[rows][hit] - start] = c.at_target[rows][hit]
            if c.exclude is not None:
                gradient.add_(outside)
            if softcap is not None:
                gradient.mul_(cap_slope)
            results.add(rows, gradient, rows_of_weight, start, weight_tile)
        results.store(weight_tile, start, stop)
    return results.results(c.active, tokens)


class Divergence:
    """Per token, for g = z_q - z_p under p: maximum of z_p, mass S, centre c, A = sum e_p phi(g - c), L_q.

    c is the p-mean of g, so KL = log(1 + A / S) exactly, and A of a union is a sum of positive terms:
    moving a part to the common centre turns its A into e^d A + S phi(d), d being the old centre minus the new.
    """

    def __init__(self, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        self.maximum = torch.full((tokens,), -torch.inf, dtype=dtype, device=device)
        self.mass = torch.zeros(tokens, dtype=dtype, device=device)
        self.centre = torch.zeros(tokens, dtype=dtype, device=device)
        self.excess = torch.zeros(tokens, dtype=dtype, device=device)
        self.logsumexp_q = torch.full((tokens,), -torch.inf, dtype=dtype, device=device)

    def add(
        self,
        rows: slice,
        maximum: Tensor,
        mass: Tensor,
        centre: Tensor,
        excess: Tensor,
        logsumexp_q: Tensor,
    ) -> None:
        new = torch.maximum(self.maximum[rows], maximum)
        old_scale = torch.exp(self.maximum[rows] - new)
        scale = torch.exp(maximum - new)
        old_mass = old_scale * self.mass[rows]
        part_mass = scale * mass
        total = old_mass + part_mass
        step = centre - self.centre[rows]
        new_centre = self.centre[rows] + step * (part_mass / total)
        excess_total = torch.zeros_like(new)
        for weight, part, part_excess, part_q, d in (
            (
                old_scale,
                old_mass,
                self.excess[rows],
                self.logsumexp_q[rows],
                -step * (part_mass / total),
            ),
            (scale, part_mass, excess, logsumexp_q, step * (old_mass / total)),
        ):
            grown = weight * part_excess * torch.exp(d) + part * phi(d)
            # Where p underflows in a part but q does not: the sum of e_q - e_p (1 + g - c) itself.
            direct = torch.exp(part_q - new - new_centre) - part - part * d
            excess_total += torch.where((part == 0) | ~torch.isfinite(grown), direct, grown)
        self.logsumexp_q[rows] = torch.logaddexp(self.logsumexp_q[rows], logsumexp_q)
        self.maximum[rows], self.mass[rows] = new, total
        self.centre[rows], self.excess[rows] = new_centre, excess_total

    def result(self) -> tuple[Tensor, Tensor, Tensor]:
        """(kl, logsumexp_p, logsumexp_q)."""
        logsumexp_p = self.maximum + self.mass.log()
        small = torch.log1p(self.excess / self.mass)
        gap = self.logsumexp_q - logsumexp_p - self.centre
        # The gap form cancels when small; the other may overflow when large. Both are good around 1/4.
        return torch.where(small < 0.25, small, gap), logsumexp_p, self.logsumexp_q


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


class Pair:
    """Two heads over one vocabulary, as tiles of z_p and of the gap z_q - z_p.

    The gap of two rounded logits carries their rounding errors, which swamp a tiny divergence. ``differences``
    takes it from (h_q - h_p) w_p + h_q (w_q - w_p) instead, at one matrix product more, or none when the two
    share the head: relative to the gap itself, it is then as precise as a logit is to a logit.
    """

    def __init__(self, p: Head, q: Head, dtype: torch.dtype, differences: bool) -> None:
        self.p, self.q, self.dtype = p, q, dtype
        self.shared = _same(p.weight, q.weight) and (
            p.bias is q.bias
            or (p.bias is not None and q.bias is not None and _same(p.bias, q.bias))
        )
        self.differences = differences or self.shared

    @property
    def comparable(self) -> bool:
        return self.p.weight.shape == self.q.weight.shape

    def rows_of_weight(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        rows_p = self.p.rows_of_weight(start, stop, self.dtype)
        if self.shared:
            return rows_p, rows_p
        return rows_p, self.q.rows_of_weight(start, stop, self.dtype)

    def _bias_step(self, start: int, stop: int) -> Tensor:
        """b_q - b_p, taken before it meets anything larger."""
        zero = torch.zeros((), dtype=self.dtype, device=self.p.hidden.device)
        after, before = (
            zero if head.bias is None else head.bias[start:stop].to(self.dtype)
            for head in (self.q, self.p)
        )
        return after - before

    def logits_and_gap(
        self, rows: slice, weights: tuple[Tensor, Tensor], start: int, logits: Tensor, gap: Tensor
    ) -> None:
        """z_p into ``logits`` and z_q - z_p into ``gap``."""
        self.p.logits(rows, weights[0], start, logits)
        if not self.differences:
            self.q.logits(rows, weights[1], start, gap).sub_(logits)
            return
        p, q, softcap = self.p, self.q, self.p.softcap
        hidden_q = q.hidden[rows].to(self.dtype)
        step = hidden_q - p.hidden[rows].to(self.dtype)
        torch.mm(step, weights[0].T, out=gap)
        if not self.shared:
            gap.addmm_(hidden_q, (weights[1] - weights[0]).T)
            if p.bias is not None or q.bias is not None:
                gap.add_(self._bias_step(start, start + gap.shape[1]))
        if softcap is None:
            gap.div_(p.temperature)
            return
        # tanh(x + d) - tanh(x) = tanh d (1 - tanh^2 x) / (1 + tanh x tanh d), which never cancels.
        gap.div_(softcap)
        capped = logits * (p.temperature / softcap)
        step = gap.tanh()
        near = (1 - capped.square()).mul_(step).div_(1 + capped * step)
        far = self.q.logits(rows, weights[1], start, torch.empty_like(gap)).sub_(logits)
        torch.where(step.abs() < 0.1, near.mul_(softcap / p.temperature), far, out=gap)


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are one view of one memory."""
    return (
        first.data_ptr() == second.data_ptr()
        and first.shape == second.shape
        and first.stride() == second.stride()
    )


# A float32 logit is off by about delta = 1e-6 to 1e-5, and a divergence K taken from two of them by
# 2 delta / sqrt(2 K) relative: 1e-3 at K = 1e-4 for the larger delta. Smaller ones are taken again.
REFINE_BELOW = 1e-4


def _divergence(pair: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """(kl, logsumexp_p, logsumexp_q), each [T]."""
    head = pair.p
    statistics = statistics_dtype(head.hidden.device)
    width = max(head.weight.shape[1], pair.q.weight.shape[1])
    tiles = _Tiles(head.hidden, head.weight.shape[0], width)
    buffers = [tiles.buffer() for _ in range(6)]
    state = Divergence(tiles.tokens, statistics, head.hidden.device)
    for start, stop in tiles.columns():
        weights = pair.rows_of_weight(start, stop)
        for rows in tiles.rows():
            shape = (rows.stop - rows.start, stop - start)
            logits, gap, p, *scratch = (_shaped(buffer, *shape) for buffer in buffers)
            pair.logits_and_gap(rows, weights, start, logits, gap)
            maximum = logits.amax(dim=1, keepdim=True)
            torch.exp(logits.sub_(maximum), out=p)
            mass = p.sum(dim=1)
            # Centred twice: any entry removes a common offset, so that the mean then removed is precise.
            offset = gap[:, :1].clone()
            gap.sub_(offset)
            mean = torch.mul(p, gap, out=scratch[0]).sum(dim=1).div_(mass)
            gap.sub_(mean[:, None])
            excess = _sum_of_phi(p, gap, *scratch)

            (wide,) = (~torch.isfinite(excess)).nonzero(as_tuple=True)
            maximum_, mass_, offset_, mean_, excess_ = (
                value.to(statistics) for value in (maximum[:, 0], mass, offset[:, 0], mean, excess)
            )
            centre = offset_ + mean_
            logsumexp_q = maximum_ + centre + torch.log(mass_ + excess_)
            if wide.numel():
                # q has tokens that are e^88 times likelier than under p: take its logsumexp directly.
                direct = torch.logsumexp((logits[wide] + gap[wide]).to(statistics), dim=1)
                excess_[wide] = torch.exp(direct) - mass_[wide]
                logsumexp_q[wide] = maximum_[wide] + centre[wide] + direct
            state.add(rows, maximum_, mass_, centre, excess_, logsumexp_q)
    return state.result()


def token_kl_forward(
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    temperature: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(kl, logsumexp_p, logsumexp_q), each [T] float64."""
    dtype = torch.promote_types(hidden_p.dtype, torch.float32)
    pair = Pair(
        Head(hidden_p, weight_p, bias_p, temperature, softcap),
        Head(hidden_q, weight_q, bias_q, temperature, softcap),
        dtype,
        differences=False,
    )
    results = _divergence(pair)
    return results if pair.differences or dtype == torch.float64 else refine(pair, results)


def refine(pair: Pair, results: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Take divergences below ``REFINE_BELOW`` again from differences; models of two widths stay as they are."""
    (small,) = (results[0] < REFINE_BELOW).nonzero(as_tuple=True)
    if not pair.comparable or small.numel() == 0:
        return results
    p = pair.p._replace(hidden=pair.p.hidden[small])
    q = pair.q._replace(hidden=pair.q.hidden[small])
    again = _divergence(Pair(p, q, pair.dtype, differences=True))
    for result, better in zip(results, again, strict=True):
        result[small] = better
    return results


def token_kl_backward(
    upstream: Tensor,
    hidden_p: Tensor,
    weight_p: Tensor,
    hidden_q: Tensor,
    weight_q: Tensor,
    bias_p: Tensor | None,
    bias_q: Tensor | None,
    saved: tuple[Tensor, Tensor, Tensor],
    temperature: float,
    softcap: float | None,
    needs_p: tuple[bool, bool, bool],
    needs_q: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias of p, then of q; empty where not needed."""
    tokens, vocabulary = hidden_p.shape[0], weight_p.shape[0]
    dtype = torch.promote_types(hidden_p.dtype, torch.float32)
    c = kl_coefficients(upstream, saved, temperature, dtype)
    head_p = Head(take(hidden_p, c.active), weight_p, bias_p, temperature, softcap)
    head_q = Head(take(hidden_q, c.active), weight_q, bias_q, temperature, softcap)
    pair = Pair(head_p, head_q, dtype, differences=False)
    tiles = _Tiles(head_p.hidden, vocabulary, max(weight_p.shape[1], weight_q.shape[1]))
    results_p = _Gradients(head_p, tiles, needs_p)
    results_q = _Gradients(head_q, tiles, needs_q)
    buffers = [tiles.buffer() for _ in range(3)]
    slopes = [tiles.buffer() for _ in range(2 if softcap is not None else 0)]
    # p expm1(u) is q - p without its cancellation, until p underflows or e^u overflows.
    limit = 60.0

    for start, stop in tiles.columns():
        weights = pair.rows_of_weight(start, stop)
        rows_p, rows_q = weights
        tile_p, tile_q = results_p.tile(rows_p, start), results_q.tile(rows_q, start)
        for rows in tiles.rows():
            shape = (rows.stop - rows.start, stop - start)
            p, u, scratch = (_shaped(buffer, *shape) for buffer in buffers)
            pair.logits_and_gap(rows, weights, start, p, u)
            if softcap is not None:
                slope_p = head_p.slope_of_cap(p, _shaped(slopes[0], *shape))
                slope_q = head_q.slope_of_cap(p + u, _shaped(slopes[1], *shape))
            p.sub_(c.high[rows, None])
            u.sub_(c.gap_high[rows, None]).sub_(c.gap_low[rows, None])
            (far,) = (u.amax(dim=1) > limit).nonzero(as_tuple=True)
            if far.numel():
                far_u = u[far]
                far_q = (p[far] + far_u).exp_().mul_(c.factor[rows][far, None])
            p.exp_().mul_(c.factor[rows, None])
            gradient_p = torch.add(u, c.kl[rows, None], out=scratch).mul_(p).neg_()
            gradient_q = u.expm1_().mul_(p)
            if far.numel():
                gradient_q[far] = torch.where(far_u > limit, far_q - p[far], gradient_q[far])
            if softcap is not None:
                gradient_p.mul_(slope_p)
                gradient_q.mul_(slope_q)
            results_p.add(rows, gradient_p, rows_p, start, tile_p)
            results_q.add(rows, gradient_q, rows_q, start, tile_q)
        results_p.store(tile_p, start, stop)
        results_q.store(tile_q, start, stop)
    return (*results_p.results(c.active, tokens), *results_q.results(c.active, tokens))
