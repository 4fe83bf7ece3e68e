"""What a test of a sampler asks of every next-token law: log-sums at other temperatures, and the target's rank.

These need a law in order of its probabilities, or as many sums as temperatures. So whole rows of logits are made, a
block of tokens at a time: memory for a few million numbers, whatever T. Nothing here is differentiable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels.head import Head, statistics_dtype
from nondecoupling.kernels.tiles import Tiles, tile_logits

__all__ = ["Ranks", "ranks_of", "tempered_and_ranks"]

# Logits of whole rows that are held at once; sorting them takes about fifty bytes each.
LOGITS_PER_BLOCK = 1 << 21


class Ranks(NamedTuple):
    """Where the targets stand among the tokens ranked by decreasing probability, ties by index: tensors [T].

    ``mass_before`` is the mass of the tokens ranked before the target: with V uniform on [0, 1] and the target drawn
    from p, mass_before + V p(target) is uniform too. The nucleus is the smallest set of first-ranked tokens with at
    least the mass asked for: ``nucleus_mass`` is its mass and ``in_nucleus`` whether the target is in it. A target
    that is ignored has a ``mass_before`` of NaN and is in no nucleus.
    """

    mass_before: Tensor
    nucleus_mass: Tensor
    in_nucleus: Tensor


def ranks_of(log_p: Tensor, targets: Tensor, ignore_index: int, nucleus: float) -> Ranks:
    """``Ranks`` of laws given in full, [T, V].

    >>> log_p = torch.tensor([[0.2, 0.5, 0.2, 0.1]]).log()
    >>> ranks_of(log_p, torch.tensor([2]), ignore_index=-100, nucleus=0.8)
    Ranks(mass_before=tensor([0.7000]), nucleus_mass=tensor([0.9000]), in_nucleus=tensor([True]))
    """
    ordered, tokens = log_p.sort(dim=1, descending=True, stable=True)
    through = ordered.exp_().cumsum(dim=1)
    before = torch.cat([torch.zeros_like(through[:, :1]), through[:, :-1]], dim=1)
    size = (before < nucleus).sum(dim=1)
    ignored = targets == ignore_index
    place = (tokens == targets[:, None]).int().argmax(dim=1)
    mass_before = before.gather(1, place[:, None])[:, 0].masked_fill(ignored, torch.nan)
    nucleus_mass = through.gather(1, (size - 1).clamp(min=0)[:, None])[:, 0]
    return Ranks(mass_before, nucleus_mass, (place < size) & ~ignored)


def _blocks_of_laws(head: Head) -> Iterator[tuple[slice, Tensor]]:
    """Tokens, and their log p in float64, [tokens, V]."""
    height = max(1, LOGITS_PER_BLOCK // head.vocabulary)
    for first in range(0, head.tokens, height):
        rows = slice(first, min(first + height, head.tokens))
        block = head.only(rows)
        logits = block.hidden.new_empty(block.tokens, head.vocabulary, dtype=head.dtype)
        for start, stop in Tiles(block).columns():
            weight = head.weight[start:stop].to(head.dtype)
            out = torch.empty_like(logits[:, start:stop])
            logits[:, start:stop] = tile_logits(block, weight, start, out)
        logits = logits.to(statistics_dtype(logits.device))
        yield rows, torch.log_softmax(logits, dim=1)


def tempered_and_ranks(
    head: Head,
    targets: Tensor,
    ignore_index: int,
    tempered: Sequence[float],
    nucleus: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(log sum_j p_j^(1/tau) [T, len(tempered)], and the fields of ``Ranks``, empty for a ``nucleus`` of None)."""
    device = head.hidden.device
    statistics = statistics_dtype(device)
    sums = torch.empty(head.tokens, len(tempered), dtype=statistics, device=device)
    tokens = 0 if nucleus is None else head.tokens
    mass_before = torch.empty(tokens, dtype=statistics, device=device)
    ranks = Ranks(
        mass_before,
        torch.empty_like(mass_before),
        torch.empty_like(mass_before, dtype=torch.bool),
    )
    for rows, log_p in _blocks_of_laws(head):
        for column, tau in enumerate(tempered):
            sums[rows, column] = torch.logsumexp(log_p / tau, dim=1)
        if nucleus is not None:
            found = ranks_of(log_p, targets[rows], ignore_index, nucleus)
            for values, part in zip(ranks, found, strict=True):
                values[rows] = part
    return (sums, *ranks)
