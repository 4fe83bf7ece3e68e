"""Two models over one vocabulary: tiles of z_p and of the gap z_q - z_p, as precise as a divergence needs them."""

from __future__ import annotations

import torch
from torch import Tensor

from nondecoupling.kernels.head import Head
from nondecoupling.kernels.tiles import tile_logits

__all__ = ["HeadPair", "same_memory"]


class HeadPair:
    """Two heads over one vocabulary, as tiles of z_p and of the gap z_q - z_p.

    The gap of two rounded logits carries their rounding errors, which swamp a tiny divergence. ``differences``
    takes it from (h_q - h_p) w_p + h_q (w_q - w_p) instead, at one matrix product more, or none when the two
    share the head: relative to the gap itself, it is then as precise as a logit is to a logit.
    """

    def __init__(self, p: Head, q: Head, *, differences: bool = False) -> None:
        self.p, self.q = p, q
        self.shared = same_memory(p.weight, q.weight) and (
            p.bias is q.bias
            or (p.bias is not None and q.bias is not None and same_memory(p.bias, q.bias))
        )
        self.differences = differences or self.shared

    def only(self, index: Tensor | slice | None) -> HeadPair:
        """The pair with the hidden states of these tokens; all of them for None."""
        return HeadPair(self.p.only(index), self.q.only(index), differences=self.differences)

    def rows_of_weight(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Rows of both heads in the dtype of the logits."""
        rows_p = self.p.weight[start:stop].to(self.p.dtype)
        return rows_p, rows_p if self.shared else self.q.weight[start:stop].to(self.q.dtype)

    def logits_and_gap(
        self, weights: tuple[Tensor, Tensor], start: int, logits: Tensor, gap: Tensor
    ) -> None:
        """z_p into ``logits`` and z_q - z_p into ``gap``, [T, rows of weights], which are those from ``start`` on."""
        tile_logits(self.p, weights[0], start, logits)
        if not self.differences:
            tile_logits(self.q, weights[1], start, gap).sub_(logits)
            return
        inner, outer = self.p.scales
        hidden_q = self.q.hidden.to(gap.dtype)
        torch.mm(hidden_q - self.p.hidden.to(gap.dtype), weights[0].T, out=gap)
        if not self.shared:
            gap.addmm_(hidden_q, (weights[1] - weights[0]).T)
            if self.p.bias is not None or self.q.bias is not None:
                gap.add_(self._bias_step(start, start + gap.shape[1]))
        gap.mul_(inner)
        if self.p.softcap is None:
            return
        # tanh(x + d) - tanh(x) = tanh d (1 - tanh^2 x) / (1 + tanh x tanh d), which never cancels.
        capped = logits / outer
        step = gap.tanh()
        near = (1 - capped.square()).mul_(step).div_(1 + capped * step)
        far = tile_logits(self.q, weights[1], start, torch.empty_like(gap)).sub_(logits)
        torch.where(step.abs() < 0.1, near.mul_(outer), far, out=gap)

    def _bias_step(self, start: int, stop: int) -> Tensor:
        """b_q - b_p, taken before it meets anything larger."""
        dtype = self.p.dtype
        zero = torch.zeros((), dtype=dtype, device=self.p.hidden.device)
        after, before = (
            zero if head.bias is None else head.bias[start:stop].to(dtype)
            for head in (self.q, self.p)
        )
        return after - before


def same_memory(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are one view of one memory."""
    return (
        first.data_ptr() == second.data_ptr()
        and first.shape == second.shape
        and first.stride() == second.stride()
    )
