"""Tiles of logits that stay in cache, and the gradients that are gathered from them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nondecoupling.kernels.head import Head

__all__ = ["HeadGradients", "Tiles", "cap_slope", "shaped", "stored_tile", "tile_logits"]

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


class Tiles:
    """The sizes of the tiles of a head, or of several over one vocabulary, and the buffers they share."""

    def __init__(self, *heads: Head) -> None:
        head = heads[0]
        self.tokens, self.vocabulary = head.tokens, head.vocabulary
        self.dtype, self.device = head.dtype, head.hidden.device
        self.height = max(1, min(self.tokens, TOKENS_PER_TILE))
        logits = LOGITS_PER_TILE if self.device.type == "cpu" else LOGITS_PER_TILE_ACCELERATOR
        columns = max(logits // self.height, SMALLEST_WIDTH)
        if head.hidden.dtype != self.dtype:
            columns = min(
                columns, max(WEIGHTS_PER_TILE // max(h.width for h in heads), SMALLEST_WIDTH)
            )
        self.width = min(columns, self.vocabulary)

    def buffer(self) -> Tensor:
        return torch.empty(self.height * self.width, dtype=self.dtype, device=self.device)

    def columns(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.vocabulary, self.width):
            yield start, min(start + self.width, self.vocabulary)

    def rows(self) -> Iterator[slice]:
        for start in range(0, self.tokens, self.height):
            yield slice(start, min(start + self.height, self.tokens))


def shaped(buffer: Tensor, rows: int, columns: int) -> Tensor:
    """The first part of ``buffer`` as [rows, columns]."""
    return buffer[: rows * columns].view(rows, columns)


def tile_logits(head: Head, weight: Tensor, start: int, out: Tensor) -> Tensor:
    """Logits of ``head``'s tokens for ``weight``, its rows from ``start`` on, into ``out`` [T, rows of weight]."""
    inner, outer = head.scales
    torch.addmm(out, head.hidden.to(out.dtype), weight.T, beta=0, alpha=inner, out=out)
    if head.bias is not None:
        bias = head.bias[start : start + out.shape[1]].to(out.dtype)
        out.add_(bias, alpha=inner)
    if head.softcap is not None:
        out.tanh_().mul_(outer)
    return out


def stored_tile(
    stored: Tensor, active: Tensor | None, rows: slice, start: int, out: Tensor
) -> Tensor:
    """Logits of a tile from ``stored`` [every token, V] into ``out``; ``rows`` are among the ``active`` tokens."""
    columns = slice(start, start + out.shape[1])
    return out.copy_(stored[rows, columns] if active is None else stored[active[rows], columns])


def cap_slope(head: Head, logits: Tensor, out: Tensor) -> Tensor:
    """d logits / d (h w + b) times the temperature: 1 - tanh^2, from the capped logits."""
    torch.div(logits, head.scales[1], out=out)
    return out.square_().neg_().add_(1)


class HeadGradients:
    """Gradients of one head, filled tile by tile; those not asked for stay empty.

    ``needs`` says whether those of hidden states, weight and bias are.
    """

    def __init__(self, head: Head, needs: tuple[bool, bool, bool]) -> None:
        self.head, self.needs, dtype = head, needs, head.dtype
        hidden, weight = head.hidden, head.weight
        self.hidden = hidden.new_zeros(hidden.shape if needs[0] else 0, dtype=dtype)
        self.weight = torch.empty(
            weight.shape if needs[1] else 0, dtype=weight.dtype, device=weight.device
        )
        self.bias = hidden.new_zeros(weight.shape[0] if needs[2] else 0, dtype=dtype)
        self.converted = weight.dtype != dtype

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
        """Keep ``tile``, which holds rows ``start`` to ``stop`` of the gradient of the weight."""
        if self.needs[1] and self.head.hidden.shape[0] == 0:
            self.weight[start:stop] = 0
        elif self.needs[1] and self.converted:
            self.weight[start:stop] = tile

    def results(self, active: Tensor | None, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of hidden states (0 at those of the ``tokens`` that are not ``active``), weight and bias."""
        hidden = self.hidden
        if self.needs[0] and active is not None:
            hidden = hidden.new_zeros(tokens, hidden.shape[1]).index_copy_(0, active, hidden)
        dtype = self.head.hidden.dtype
        return hidden.to(dtype), self.weight, self.bias.to(dtype)
