"""Gradients of a head from chunks of the gradients of its logits, for the Triton backwards.

A kernel fills a [T, chunk] buffer with d loss / d (h w + b), in bfloat16 for bfloat16 inputs, as eager's is, and in
float32 otherwise: float16 could underflow. Products with it are cuBLAS's, with sums in float32; float16 has a kernel of
its own. Every element has one owner, which sums in a fixed order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from nondecoupling.kernels import triton_products
from nondecoupling.kernels.head import Head
from nondecoupling.kernels.triton_configurations import PRECISIONS, Configuration, configuration

__all__ = ["GradientBuffer", "buffer_chunks", "full_precision"]

GROUP = 8


def blocks_of(size: int, block: int) -> int:
    return -(-size // block)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within it, sums of cuBLAS's bfloat16 products stay in float32 throughout, whatever the process allows elsewhere.

    Products of float32 follow ``torch.backends.cuda.matmul.fp32_precision``, as eager's do.
    """
    matmul = torch.backends.cuda.matmul
    before = (
        matmul.allow_bf16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction_split_k,
    )
    matmul.allow_bf16_reduced_precision_reduction = (False, before[1])
    try:
        yield
    finally:
        matmul.allow_bf16_reduced_precision_reduction = before


def buffer_chunks(
    head: Head, tile: Configuration, buffers: int, limit: int
) -> list[tuple[int, int]]:
    """Stretches of the vocabulary of which so many buffers fit in ``limit`` bytes; whole tiles but for the last."""
    size = PRECISIONS[head.hidden.dtype].buffer.itemsize * max(head.tokens, 1) * buffers
    columns = max(limit // size // tile.columns, 1) * tile.columns
    starts = range(0, head.vocabulary, columns)
    return [(first, min(first + columns, head.vocabulary)) for first in starts]


class GradientBuffer:
    """The buffer of one head and the gradients made of it; those not asked for stay empty.

    ``needs`` says whether those of hidden states, weight and bias are; the widest chunk is the first of ``chunks``.
    """

    def __init__(
        self,
        head: Head,
        needs: tuple[bool, bool, bool],
        chunks: list[tuple[int, int]],
        tile: Configuration,
    ) -> None:
        self.head, self.needs = head, needs
        hidden, weight = head.hidden, head.weight
        # Rows of whole tiles are aligned.
        columns = blocks_of(chunks[0][1], tile.columns) * tile.columns
        precision = PRECISIONS[hidden.dtype]
        self.buffer = hidden.new_empty(head.tokens, columns, dtype=precision.buffer)
        # Without tokens no chunk is ever added.
        make = torch.empty if head.tokens else torch.zeros
        self.hidden = make(
            hidden.shape if needs[0] else 0, dtype=torch.float32, device=hidden.device
        )
        self.weight = make(
            weight.shape if needs[1] else 0, dtype=weight.dtype, device=weight.device
        )
        self.bias = make(
            head.vocabulary if needs[2] else 0, dtype=torch.float32, device=hidden.device
        )
        self._sum: Tensor | None = None

    def add(self, first: int, last: int) -> None:
        """Propagate the buffer, which holds columns ``first`` to ``last``; chunks come in order."""
        gradient = self.buffer[:, : last - first]
        if self.needs[0]:
            self._product(gradient, self.head.weight[first:last], self.hidden, add=first > 0)
        if self.needs[1]:
            self._product(gradient.T, self.head.hidden, self.weight[first:last], add=False)
        if self.needs[2]:
            torch.sum(gradient, dim=0, dtype=torch.float32, out=self.bias[first:last])

    def _product(self, a: Tensor, b: Tensor, out: Tensor, *, add: bool) -> None:
        """out (+)= a @ b, summed in float32."""
        if b.dtype == torch.float16:
            self._by_kernel(a, b, out, add=add)
        elif a.device.type != "cuda":
            # The interpreter's CPU has no bfloat16 products with float32 sums.
            product = a.float() @ b.float()
            out.add_(product) if add else out.copy_(product)
        elif b.dtype == torch.float32:
            out.addmm_(a, b) if add else torch.mm(a, b, out=out)
        elif out.dtype == b.dtype:
            torch.mm(a, b, out=out)
        elif add:
            if self._sum is None:
                self._sum = torch.empty_like(out)
            torch.mm(a, b, out_dtype=torch.float32, out=self._sum)
            out.add_(self._sum)
        else:
            torch.mm(a, b, out_dtype=torch.float32, out=out)

    def _by_kernel(self, a: Tensor, b: Tensor, out: Tensor, *, add: bool) -> None:
        tile, _ = configuration("accumulate", b.dtype, extended=add)
        height, width = out.shape
        triton_products.accumulate[
            (blocks_of(height, tile.rows) * blocks_of(width, tile.columns),)
        ](
            a=a,
            b=b,
            out=out,
            height=height,
            width=width,
            depth=a.shape[1],
            a_row_stride=a.stride(0),
            a_depth_stride=a.stride(1),
            b_depth_stride=b.stride(0),
            out_stride=out.stride(0),
            ADD=add,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_K=tile.depth,
            GROUP=GROUP,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )

    def results(self, active: Tensor | None, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of hidden states (0 at those of the ``tokens`` that are not ``active``), weight and bias."""
        hidden = self.hidden
        if self.needs[0] and active is not None:
            hidden = hidden.new_zeros(tokens, hidden.shape[1]).index_copy_(0, active, hidden)
        dtype = self.head.hidden.dtype
        return hidden.to(dtype), self.weight, self.bias.to(dtype)
