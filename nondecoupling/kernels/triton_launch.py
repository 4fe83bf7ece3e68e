"""Host side of the Triton kernels: configurations, launches, and the float64 merge of their partial results.

Same functions and signatures as ``chunked``. The backwards walk the vocabulary in chunks: a kernel fills a
[T, chunk] buffer with d loss / d (h w + b), and ``accumulate`` turns it into gradients. The buffer is in bfloat16
for bfloat16 inputs, as eager's is, and in float32 otherwise: float16 could underflow.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels import triton_kernels as kernels
from nondecoupling.kernels.chunked import Divergence, Head, Mass, Pair, refine
from nondecoupling.kernels.coefficients import (
    kl_coefficients,
    statistics_dtype,
    stats_coefficients,
    take,
)

__all__ = [
    "CONFIGURATIONS",
    "Configuration",
    "token_kl_backward",
    "token_kl_forward",
    "token_stats_backward",
    "token_stats_forward",
]


class Configuration(NamedTuple):
    """Tile sizes of a kernel and the resources Triton gives each program.

    ``rows`` and ``columns`` are those of the tile that a program accumulates, ``depth`` the step of its sum.
    """

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int


# Shipped configurations by kernel and dtype; "extended" is with a cap or excluded tokens, for accumulate with adding
# to what is there. They are the largest tiles tried that spill no register on sm_80, sm_90 and sm_100
# (tests/kernels/compile_kernels.py). None has been tuned on a GPU.
_SINGLE = Configuration(64, 64, 16, 8, 2)
CONFIGURATIONS: dict[str, dict[str, Configuration]] = {
    "stats_forward": {
        "bfloat16": Configuration(128, 128, 32, 8, 3),
        "bfloat16, extended": Configuration(64, 128, 32, 8, 3),
        "float16": Configuration(128, 128, 32, 8, 3),
        "float16, extended": Configuration(64, 128, 32, 8, 3),
        "float32": _SINGLE,
    },
    "stats_backward": {
        "bfloat16": Configuration(128, 256, 64, 8, 3),
        "bfloat16, extended": Configuration(64, 128, 64, 8, 3),
        "float16": Configuration(128, 128, 64, 8, 3),
        "float16, extended": Configuration(64, 128, 64, 8, 3),
        "float32": _SINGLE,
    },
    "kl_forward": {
        "bfloat16": Configuration(64, 128, 32, 8, 3),
        "float16": Configuration(64, 128, 32, 8, 3),
        "float32": _SINGLE,
    },
    "kl_backward": {
        "bfloat16": Configuration(64, 128, 64, 8, 3),
        "bfloat16, extended": Configuration(64, 64, 64, 8, 3),
        "float16": Configuration(64, 64, 64, 8, 3),
        "float32": _SINGLE,
    },
    "accumulate": {
        "bfloat16": Configuration(128, 256, 64, 8, 3),
        "bfloat16, extended": Configuration(128, 128, 64, 8, 3),
        "float16": Configuration(128, 128, 32, 8, 3),
        "float32": Configuration(64, 64, 16, 8, 3),
    },
}


def configuration(kernel: str, dtype: torch.dtype, *, extended: bool = False) -> Configuration:
    """The shipped configuration of ``kernel`` for inputs of ``dtype``.

    >>> configuration("stats_forward", torch.bfloat16, extended=True).rows
    64
    """
    cases = CONFIGURATIONS[kernel]
    name = str(dtype).removeprefix("torch.")
    return cases.get(f"{name}, extended", cases[name]) if extended else cases[name]


GROUP = 8
# The [T, chunk] buffer of the backward.
BUFFER_BYTES = 1 << 26


class Precision(NamedTuple):
    """How a dtype enters the tensor cores: products of ``logits``, and of ``gradients`` in ``buffer``.

    bfloat16 and float16 are exact in the products of logits. The gradients of logits are rounded to bfloat16, or
    for float16 inputs to the 11 bits and wide range of tf32, which holds float16 exactly.
    """

    logits: str
    gradients: str
    buffer: torch.dtype


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BFLOAT16_DOT = "upcast" if INTERPRETED else "ieee"
PRECISIONS = {
    torch.bfloat16: Precision(BFLOAT16_DOT, BFLOAT16_DOT, torch.bfloat16),
    torch.float16: Precision("ieee", "tf32", torch.float32),
    torch.float32: Precision("ieee", "ieee", torch.float32),
}


def _on_device(tensor: Tensor) -> AbstractContextManager[Any]:
    """The device of ``tensor`` as the current one.

    Raises:
        ValueError: a tensor off the GPU, outside Triton's interpreter.
    """
    if tensor.device.type == "cuda":
        return torch.cuda.device(tensor.device)
    if INTERPRETED:
        return nullcontext()
    raise ValueError(
        f"impl='triton' needs tensors on a GPU, got {tensor.device}; use impl='chunked' there"
    )


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def _splits(
    tokens: int, vocabulary: int, tile: Configuration, device: torch.device
) -> tuple[int, int]:
    """(number of splits of the vocabulary, columns of each): two waves of programs, if there is that much."""
    processors = 4
    if device.type == "cuda":
        processors = torch.cuda.get_device_properties(device).multi_processor_count
    wanted = _blocks(2 * processors, _blocks(tokens, tile.rows))
    tiles = _blocks(vocabulary, tile.columns)
    columns = _blocks(tiles, min(wanted, tiles)) * tile.columns
    return _blocks(vocabulary, columns), columns


def _rows(tensor: Tensor) -> Tensor:
    """``tensor`` with its last dimension contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _scales(temperature: float, softcap: float | None) -> tuple[float, float]:
    """inner and outer of outer * tanh(inner * x), or inner * x without a cap."""
    if softcap is None:
        return 1 / temperature, 1.0
    return 1 / softcap, softcap / temperature


def _meta(tile: Configuration) -> dict[str, int]:
    return {
        "BLOCK_T": tile.rows,
        "BLOCK_V": tile.columns,
        "BLOCK_D": tile.depth,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


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
    device = _on_device(hidden)
    hidden, weight = _rows(hidden), _rows(weight)
    bias = None if bias is None else bias.contiguous()
    tokens, (vocabulary, width) = hidden.shape[0], weight.shape
    statistics = statistics_dtype(hidden.device)
    if tokens == 0:
        empty = hidden.new_empty(0, dtype=statistics)
        return empty, empty.clone(), empty.clone(), empty.clone()
    extended = softcap is not None or exclude is not None
    tile = configuration("stats_forward", hidden.dtype, extended=extended)
    splits, columns = _splits(tokens, vocabulary, tile, hidden.device)
    maximum, ties, mass, spread, rest_maximum, rest_mass = hidden.new_empty(
        6, splits, tokens, dtype=torch.float32
    )
    # An ignored token has no target, and its logit is not written.
    target = hidden.new_zeros(tokens, dtype=torch.float32)
    inner, outer = _scales(temperature, softcap)
    with device:
        kernels.stats_forward[(_blocks(tokens, tile.rows), splits)](
            hidden,
            weight,
            hidden if bias is None else bias,
            targets,
            targets if exclude is None else exclude,
            maximum,
            ties,
            mass,
            spread,
            target,
            rest_maximum,
            rest_mass,
            tokens,
            vocabulary,
            width,
            0 if exclude is None else exclude.shape[1],
            columns,
            hidden.stride(0),
            weight.stride(0),
            inner,
            outer,
            HAS_BIAS=bias is not None,
            HAS_SOFTCAP=softcap is not None,
            HAS_EXCLUDE=exclude is not None,
            PRECISION=PRECISIONS[hidden.dtype].logits,
            **_meta(tile),
        )
    total = Mass(tokens, statistics, hidden.device)
    rest = Mass(tokens, statistics, hidden.device)
    for split in range(splits):
        own = (mass[split].to(statistics) + ties[split], spread[split].to(statistics))
        total.add(slice(None), maximum[split].to(statistics), *own)
        if exclude is not None:
            own = (rest_mass[split].to(statistics), torch.zeros_like(rest.spread))
            rest.add(slice(None), rest_maximum[split].to(statistics), *own)
    logprob = (target.to(statistics) - total.maximum) - total.mass.log()
    logprob = torch.where(targets == ignore_index, 0.0, logprob)
    outside = rest.logsumexp() if exclude is not None else rest.maximum.new_empty(0)
    return logprob, total.logsumexp(), total.entropy(), outside


class _Gradients:
    """Gradients of one head from chunks of d loss / d (h w + b); those not asked for stay empty."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, needs: tuple[bool, bool, bool], vocabulary_chunk: int
    ) -> None:
        self.hidden_in, self.weight_in, self.needs = hidden, weight, needs
        self.precision = PRECISIONS[hidden.dtype]
        self.buffer = hidden.new_empty(
            hidden.shape[0], vocabulary_chunk, dtype=self.precision.buffer
        )
        self.hidden = hidden.new_zeros(hidden.shape if needs[0] else 0, dtype=torch.float32)
        self.weight = torch.zeros(
            weight.shape if needs[1] else 0, dtype=weight.dtype, device=weight.device
        )
        self.bias = hidden.new_zeros(weight.shape[0] if needs[2] else 0, dtype=torch.float32)

    def add(self, first: int, last: int) -> None:
        """Propagate the buffer, which holds columns ``first`` to ``last``."""
        gradient = self.buffer[:, : last - first]
        if self.needs[0]:
            self._accumulate(gradient, self.weight_in[first:last], self.hidden, add=True)
        if self.needs[1]:
            self._accumulate(gradient.T, self.hidden_in, self.weight[first:last], add=False)
        if self.needs[2]:
            self.bias[first:last] = gradient.sum(dim=0, dtype=torch.float32)

    def _accumulate(self, a: Tensor, b: Tensor, out: Tensor, *, add: bool) -> None:
        c = configuration("accumulate", self.hidden_in.dtype, extended=add)
        height, width = out.shape
        kernels.accumulate[(_blocks(height, c.rows) * _blocks(width, c.columns),)](
            a,
            b,
            out,
            height,
            width,
            a.shape[1],
            a.stride(0),
            a.stride(1),
            b.stride(0),
            out.stride(0),
            ADD=add,
            PRECISION=self.precision.gradients,
            BLOCK_M=c.rows,
            BLOCK_N=c.columns,
            BLOCK_K=c.depth,
            GROUP=GROUP,
            num_warps=c.num_warps,
            num_stages=c.num_stages,
        )

    def results(self, active: Tensor | None, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.hidden
        if self.needs[0] and active is not None:
            hidden = hidden.new_zeros(tokens, hidden.shape[1]).index_copy_(0, active, hidden)
        return hidden.to(self.hidden_in.dtype), self.weight, self.bias.to(self.hidden_in.dtype)


def _chunk(hidden: Tensor, vocabulary: int, tile: Configuration, buffers: int) -> int:
    """Columns of the vocabulary per chunk, a multiple of the tile's."""
    size = PRECISIONS[hidden.dtype].buffer.itemsize * max(hidden.shape[0], 1) * buffers
    columns = max(BUFFER_BYTES // size // tile.columns, 1) * tile.columns
    return min(columns, _blocks(vocabulary, tile.columns) * tile.columns)


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
    device = _on_device(hidden)
    every, vocabulary = hidden.shape[0], weight.shape[0]
    c = stats_coefficients(
        upstream, targets, exclude, saved, temperature, ignore_index, torch.float32
    )
    hidden, weight = _rows(take(hidden, c.active)), _rows(weight)
    bias = None if bias is None else bias.contiguous()
    tokens = hidden.shape[0]
    extended = softcap is not None or c.exclude is not None
    tile = configuration("stats_backward", hidden.dtype, extended=extended)
    chunk = _chunk(hidden, vocabulary, tile, 1)
    gradients = _Gradients(hidden, weight, needs, chunk)
    inner, outer = _scales(temperature, softcap)
    if tokens == 0:
        return gradients.results(c.active, every)
    with device:
        for first in range(0, vocabulary, chunk):
            last = min(first + chunk, vocabulary)
            grid = (
                _blocks(tokens, tile.rows),
                _blocks(last - first, tile.columns),
            )
            kernels.stats_backward[grid](
                hidden,
                weight,
                hidden if bias is None else bias,
                c.targets,
                c.targets if c.exclude is None else c.exclude,
                c.high,
                c.constant,
                c.linear,
                c.at_target,
                c.rest_high,
                c.rest_factor,
                gradients.buffer,
                tokens,
                hidden.shape[1],
                0 if c.exclude is None else c.exclude.shape[1],
                first,
                last,
                hidden.stride(0),
                weight.stride(0),
                chunk,
                inner,
                outer,
                HAS_BIAS=bias is not None,
                HAS_SOFTCAP=softcap is not None,
                HAS_EXCLUDE=c.exclude is not None,
                PRECISION=PRECISIONS[hidden.dtype].logits,
                **_meta(tile),
            )
            gradients.add(first, last)
    return gradients.results(c.active, every)


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
    """(kl, logsumexp_p, logsumexp_q), each [T] float64; tiny divergences are taken again by ``refine``."""
    device = _on_device(hidden_p)
    statistics = statistics_dtype(hidden_p.device)
    pair = Pair(
        Head(hidden_p, weight_p, bias_p, temperature, softcap),
        Head(hidden_q, weight_q, bias_q, temperature, softcap),
        torch.float32,
        differences=False,
    )
    hidden_p, weight_p, hidden_q, weight_q = map(_rows, (hidden_p, weight_p, hidden_q, weight_q))
    tokens, vocabulary = hidden_p.shape[0], weight_p.shape[0]
    state = Divergence(tokens, statistics, hidden_p.device)
    if tokens == 0:
        return state.result()
    tile = configuration("kl_forward", hidden_p.dtype)
    splits, columns = _splits(tokens, vocabulary, tile, hidden_p.device)
    partials = hidden_p.new_empty(7, splits, tokens, dtype=torch.float32)
    inner, outer = _scales(temperature, softcap)
    with device:
        kernels.kl_forward[(_blocks(tokens, tile.rows), splits)](
            hidden_p,
            weight_p,
            hidden_p if bias_p is None else bias_p.contiguous(),
            hidden_q,
            weight_q,
            hidden_q if bias_q is None else bias_q.contiguous(),
            *partials,
            tokens,
            vocabulary,
            hidden_p.shape[1],
            hidden_q.shape[1],
            columns,
            hidden_p.stride(0),
            weight_p.stride(0),
            hidden_q.stride(0),
            weight_q.stride(0),
            inner,
            outer,
            HAS_BIAS_P=bias_p is not None,
            HAS_BIAS_Q=bias_q is not None,
            HAS_SOFTCAP=softcap is not None,
            PRECISION=PRECISIONS[hidden_p.dtype].logits,
            **_meta(tile),
        )
    for maximum, mass, offset, centre, excess, maximum_q, mass_q in partials.to(statistics).unbind(
        1
    ):
        logsumexp_q = maximum_q + offset + mass_q.log()
        state.add(slice(None), maximum, mass, offset + centre, excess, logsumexp_q)
    return refine(pair, state.result())


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
    device = _on_device(hidden_p)
    every, vocabulary = hidden_p.shape[0], weight_p.shape[0]
    c = kl_coefficients(upstream, saved, temperature, torch.float32)
    hidden_p, hidden_q = (_rows(take(hidden, c.active)) for hidden in (hidden_p, hidden_q))
    weight_p, weight_q = _rows(weight_p), _rows(weight_q)
    tokens = hidden_p.shape[0]
    tile = configuration("kl_backward", hidden_p.dtype, extended=softcap is not None)
    chunk = _chunk(hidden_p, vocabulary, tile, 2)
    gradients_p = _Gradients(hidden_p, weight_p, needs_p, chunk)
    gradients_q = _Gradients(hidden_q, weight_q, needs_q, chunk)
    bias_p, bias_q = (None if bias is None else bias.contiguous() for bias in (bias_p, bias_q))
    inner, outer = _scales(temperature, softcap)
    if tokens == 0:
        return (*gradients_p.results(c.active, every), *gradients_q.results(c.active, every))
    with device:
        for first in range(0, vocabulary, chunk):
            last = min(first + chunk, vocabulary)
            grid = (
                _blocks(tokens, tile.rows),
                _blocks(last - first, tile.columns),
            )
            kernels.kl_backward[grid](
                hidden_p,
                weight_p,
                hidden_p if bias_p is None else bias_p,
                hidden_q,
                weight_q,
                hidden_q if bias_q is None else bias_q,
                c.high,
                c.gap_high,
                c.gap_low,
                c.kl,
                c.factor,
                gradients_p.buffer,
                gradients_q.buffer,
                tokens,
                hidden_p.shape[1],
                hidden_q.shape[1],
                first,
                last,
                hidden_p.stride(0),
                weight_p.stride(0),
                hidden_q.stride(0),
                weight_q.stride(0),
                chunk,
                inner,
                outer,
                HAS_BIAS_P=bias_p is not None,
                HAS_BIAS_Q=bias_q is not None,
                HAS_SOFTCAP=softcap is not None,
                PRECISION=PRECISIONS[hidden_p.dtype].logits,
                **_meta(tile),
            )
            gradients_p.add(first, last)
            gradients_q.add(first, last)
    return (*gradients_p.results(c.active, every), *gradients_q.results(c.active, every))
