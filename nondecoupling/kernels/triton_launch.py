"""Host side of the Triton kernels: configurations, launches, and the float64 merge of their partial results.

Same functions and signatures as ``chunked``. The backwards walk the vocabulary in chunks: a kernel fills a
[T, chunk] buffer with d loss / d (h w + b), and ``accumulate`` turns it into gradients. The buffer is in bfloat16
for bfloat16 inputs, as eager's is, and in float32 otherwise: float16 could underflow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nondecoupling.kernels import triton_kernels as kernels
from nondecoupling.kernels.chunked import refine, take_again, too_far
from nondecoupling.kernels.coefficients import kl_coefficients, stats_coefficients
from nondecoupling.kernels.far_logits import any_divergence
from nondecoupling.kernels.head import Head, statistics_dtype
from nondecoupling.kernels.pair import HeadPair
from nondecoupling.kernels.partials import Divergence, Mass

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


# Shipped configurations by kernel and dtype; "extended" is with a bias, a cap or excluded tokens, for accumulate with
# adding to what is there. They are the largest tiles tried that spill no register on sm_80, sm_90 and sm_100
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
        "float32, extended": Configuration(64, 32, 16, 8, 2),
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


def _is_extended(head: Head) -> bool:
    return head.bias is not None or head.softcap is not None


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
    wanted = _blocks(2 * processors, _blocks(max(tokens, 1), tile.rows))
    tiles = _blocks(vocabulary, tile.columns)
    columns = _blocks(tiles, min(wanted, tiles)) * tile.columns
    return _blocks(vocabulary, columns), columns


def _contiguous(head: Head) -> Head:
    """``head`` with contiguous rows, and a contiguous bias."""
    hidden, weight = (
        tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in head[:2]
    )
    bias = None if head.bias is None else head.bias.contiguous()
    return head._replace(hidden=hidden, weight=weight, bias=bias)


def _arguments(head: Head, suffix: str = "") -> dict[str, Any]:
    """What a kernel is given of one model, by the names of its parameters."""
    hidden, weight, bias = head[:3]
    return {
        f"hidden{suffix}": hidden,
        f"weight{suffix}": weight,
        # Never read without HAS_BIAS, but a pointer it must be.
        f"bias{suffix}": hidden if bias is None else bias,
        f"width{suffix}": head.width,
        f"hidden{suffix}_stride": hidden.stride(0),
        f"weight{suffix}_stride": weight.stride(0),
        f"HAS_BIAS{suffix.upper()}": bias is not None,
    }


def _options(head: Head, tile: Configuration) -> dict[str, Any]:
    """What every kernel is given of the options and its configuration."""
    inner, outer = head.scales
    return {
        "inner_scale": inner,
        "outer_scale": outer,
        "HAS_SOFTCAP": head.softcap is not None,
        "PRECISION": PRECISIONS[head.hidden.dtype].logits,
        "BLOCK_T": tile.rows,
        "BLOCK_V": tile.columns,
        "BLOCK_D": tile.depth,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def _excluding(targets: Tensor, exclude: Tensor | None) -> dict[str, Any]:
    return {
        "exclude": targets if exclude is None else exclude,
        "listed": 0 if exclude is None else exclude.shape[1],
        "HAS_EXCLUDE": exclude is not None,
    }


def token_stats_forward(
    head: Head, targets: Tensor, exclude: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest, origins) in float64, as in ``chunked``."""
    device = _on_device(head.hidden)
    head = _contiguous(head)
    tokens = head.tokens
    statistics = statistics_dtype(head.hidden.device)
    extended = _is_extended(head) or exclude is not None
    tile = configuration("stats_forward", head.hidden.dtype, extended=extended)
    splits, columns = _splits(tokens, head.vocabulary, tile, head.hidden.device)
    maximum, ties, mass, spread, rest_maximum, rest_mass = head.hidden.new_empty(
        6, splits, tokens, dtype=torch.float32
    )
    # An ignored token has no target, and its logit is not written.
    target = head.hidden.new_zeros(tokens, dtype=torch.float32)
    with device:
        # Without tokens there is nothing to launch.
        grid = (_blocks(tokens, tile.rows), splits)
        tokens and kernels.stats_forward[grid](
            targets=targets,
            maximum_out=maximum,
            ties_out=ties,
            mass_out=mass,
            spread_out=spread,
            target_out=target,
            rest_maximum_out=rest_maximum,
            rest_mass_out=rest_mass,
            tokens=tokens,
            vocabulary=head.vocabulary,
            split_width=columns,
            **_excluding(targets, exclude),
            **_arguments(head),
            **_options(head, tile),
        )
    total = Mass(tokens, statistics, head.hidden.device)
    rest = Mass(tokens, statistics, head.hidden.device)
    for split in range(splits):
        own = (mass[split].to(statistics) + ties[split], spread[split].to(statistics))
        total.add(slice(None), maximum[split].to(statistics), *own)
        if exclude is not None:
            own = (rest_mass[split].to(statistics), torch.zeros_like(rest.spread))
            rest.add(slice(None), rest_maximum[split].to(statistics), *own)
    logprob = (target.to(statistics) - total.maximum) - total.mass.log()
    logprob = torch.where(targets == ignore_index, 0.0, logprob)
    origins = total.origin()
    outside = logprob.new_empty(0)
    if exclude is not None:
        outside = rest.origin().sum(dim=0)
        origins = torch.cat([origins, rest.origin()])
    return logprob, total.origin().sum(dim=0), total.entropy(), outside, origins


class _Gradients:
    """Gradients of one head from chunks of d loss / d (h w + b); those not asked for stay empty.

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
        self.precision = PRECISIONS[hidden.dtype]
        # Rows of whole tiles are aligned.
        columns = _blocks(chunks[0][1], tile.columns) * tile.columns
        self.buffer = hidden.new_empty(head.tokens, columns, dtype=self.precision.buffer)
        self.hidden = hidden.new_zeros(hidden.shape if needs[0] else 0, dtype=torch.float32)
        self.weight = torch.zeros(
            weight.shape if needs[1] else 0, dtype=weight.dtype, device=weight.device
        )
        self.bias = hidden.new_zeros(head.vocabulary if needs[2] else 0, dtype=torch.float32)

    def add(self, first: int, last: int) -> None:
        """Propagate the buffer, which holds columns ``first`` to ``last``."""
        gradient = self.buffer[:, : last - first]
        if self.needs[0]:
            self._accumulate(gradient, self.head.weight[first:last], self.hidden, add=True)
        if self.needs[1]:
            self._accumulate(gradient.T, self.head.hidden, self.weight[first:last], add=False)
        if self.needs[2]:
            self.bias[first:last] = gradient.sum(dim=0, dtype=torch.float32)

    def _accumulate(self, a: Tensor, b: Tensor, out: Tensor, *, add: bool) -> None:
        tile = configuration("accumulate", self.head.hidden.dtype, extended=add)
        height, width = out.shape
        kernels.accumulate[(_blocks(height, tile.rows) * _blocks(width, tile.columns),)](
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
            PRECISION=self.precision.gradients,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_K=tile.depth,
            GROUP=GROUP,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )

    def results(self, active: Tensor | None, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.hidden
        if self.needs[0] and active is not None:
            hidden = hidden.new_zeros(tokens, hidden.shape[1]).index_copy_(0, active, hidden)
        dtype = self.head.hidden.dtype
        return hidden.to(dtype), self.weight, self.bias.to(dtype)


def _chunks(head: Head, tile: Configuration, buffers: int) -> list[tuple[int, int]]:
    """Stretches of the vocabulary of which so many buffers fit in ``BUFFER_BYTES``; whole tiles but for the last."""
    size = PRECISIONS[head.hidden.dtype].buffer.itemsize * max(head.tokens, 1) * buffers
    columns = max(BUFFER_BYTES // size // tile.columns, 1) * tile.columns
    starts = range(0, head.vocabulary, columns)
    return [(first, min(first + columns, head.vocabulary)) for first in starts]


def token_stats_backward(
    upstream: Sequence[Tensor],
    head: Head,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    saved: Sequence[Tensor],
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias; empty where not needed.

    ``upstream`` are the gradients of the loss with respect to the first four results of the forward, ``saved``.
    """
    device = _on_device(head.hidden)
    every = head.tokens
    c = stats_coefficients(
        upstream, head.temperature, targets, exclude, ignore_index, saved, torch.float32
    )
    head = _contiguous(head.only(c.active))
    extended = _is_extended(head) or c.exclude is not None
    tile = configuration("stats_backward", head.hidden.dtype, extended=extended)
    chunks = _chunks(head, tile, 1)
    gradients = _Gradients(head, needs, chunks, tile)
    with device:
        for first, last in chunks if head.tokens else ():
            grid = (_blocks(head.tokens, tile.rows), _blocks(last - first, tile.columns))
            kernels.stats_backward[grid](
                targets=c.targets,
                high_in=c.high,
                constant_in=c.constant,
                linear_in=c.linear,
                at_target_in=c.at_target,
                rest_high_in=c.rest_high,
                rest_factor_in=c.rest_factor,
                gradient_out=gradients.buffer,
                tokens=head.tokens,
                first=first,
                last=last,
                gradient_stride=gradients.buffer.stride(0),
                **_excluding(c.targets, c.exclude),
                **_arguments(head),
                **_options(head, tile),
            )
            gradients.add(first, last)
    return gradients.results(c.active, every)


def token_kl_forward(p: Head, q: Head) -> tuple[Tensor, Tensor]:
    """(kl [T], origins [4, T]) in float64; ``chunked`` takes what the kernel cannot again."""
    device = _on_device(p.hidden)
    pair = HeadPair(p, q)
    p, q = _contiguous(p), _contiguous(q)
    tokens, statistics = p.tokens, statistics_dtype(p.hidden.device)
    state = Divergence(tokens, statistics, p.hidden.device)
    if tokens == 0:
        return state.result()
    tile = configuration("kl_forward", p.hidden.dtype)
    splits, columns = _splits(tokens, p.vocabulary, tile, p.hidden.device)
    partials = p.hidden.new_empty(7, splits, tokens, dtype=torch.float32)
    names = ("maximum", "mass", "offset", "centre", "excess", "maximum_q", "mass_q")
    with device:
        kernels.kl_forward[(_blocks(tokens, tile.rows), splits)](
            **{f"{name}_out": values for name, values in zip(names, partials, strict=True)},
            tokens=tokens,
            vocabulary=p.vocabulary,
            split_width=columns,
            **_arguments(p, "_p"),
            **_arguments(q, "_q"),
            **_options(p, tile),
        )
    lost = torch.zeros(tokens, dtype=torch.bool, device=p.hidden.device)
    for part in partials.to(statistics).unbind(1):
        maximum, mass, offset, centre, excess, maximum_q, mass_q = part
        lost |= too_far(maximum.masked_fill(mass == 0, 0), offset, offset + centre)
        state.add(slice(None), maximum, mass, offset + centre, excess, maximum_q, mass_q)
    kl, origins = state.result()
    # NaN is a token lacked by one model alone, or a gap beyond float32.
    take_again(any_divergence, pair, lost | ~torch.isfinite(kl), kl, origins)
    refine(pair, kl, origins)
    return kl, origins


def token_kl_backward(
    upstream: Tensor,
    p: Head,
    q: Head,
    kl: Tensor,
    origins: Tensor,
    needs_p: tuple[bool, bool, bool],
    needs_q: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias of p, then of q; empty where not needed.

    ``upstream`` is the gradient of the loss with respect to ``kl``, which the forward returned with ``origins``.
    """
    device = _on_device(p.hidden)
    every = p.tokens
    c = kl_coefficients(upstream, p.temperature, kl, origins, torch.float32)
    p, q = _contiguous(p.only(c.active)), _contiguous(q.only(c.active))
    tile = configuration("kl_backward", p.hidden.dtype, extended=_is_extended(p) or _is_extended(q))
    chunks = _chunks(p, tile, 2)
    gradients_p, gradients_q = (
        _Gradients(head, needs, chunks, tile) for head, needs in ((p, needs_p), (q, needs_q))
    )
    with device:
        for first, last in chunks if p.tokens else ():
            grid = (_blocks(p.tokens, tile.rows), _blocks(last - first, tile.columns))
            kernels.kl_backward[grid](
                high_p_in=c.high_p,
                factor_p_in=c.factor_p,
                high_q_in=c.high_q,
                factor_q_in=c.factor_q,
                step_in=c.step,
                # Half of it is a float32 wherever the gradient is.
                half_kl_in=(c.exact[1] / 2).to(torch.float32),
                gradient_p_out=gradients_p.buffer,
                gradient_q_out=gradients_q.buffer,
                tokens=p.tokens,
                first=first,
                last=last,
                gradient_stride=gradients_p.buffer.stride(0),
                **_arguments(p, "_p"),
                **_arguments(q, "_q"),
                **_options(p, tile),
            )
            gradients_p.add(first, last)
            gradients_q.add(first, last)
    return (*gradients_p.results(c.active, every), *gradients_q.results(c.active, every))
