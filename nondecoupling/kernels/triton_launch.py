"""Host side of the Triton kernels: which configuration, how many programs, and what each is given.

Same functions and signatures as ``chunked``. A forward is two kernels: partial results of blocks of tokens over splits
of the vocabulary, and one that puts a token's splits together in float64. A backward walks the vocabulary in chunks: a
kernel fills a [T, chunk] buffer with d loss / d (h w + b), which ``triton_gradients`` turns into gradients.

Without ``synchronize`` nothing waits for the device, so that calls can be captured in a CUDA graph: tokens without an
upstream gradient are not left out, and divergences that the kernel cannot have right are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from nondecoupling.kernels import triton_kl, triton_stats
from nondecoupling.kernels.chunked import GAP, LARGE, refine, take_again
from nondecoupling.kernels.coefficients import kl_coefficients, stats_coefficients
from nondecoupling.kernels.far_logits import any_divergence
from nondecoupling.kernels.head import Head
from nondecoupling.kernels.pair import HeadPair, same_memory
from nondecoupling.kernels.triton_configurations import (
    INTERPRETED,
    PRECISIONS,
    Configuration,
    capability,
    configuration,
    fits_descriptors,
    splits_of,
)
from nondecoupling.kernels.triton_gradients import (
    GradientBuffer,
    blocks_of,
    buffer_chunks,
    full_precision,
)

__all__ = [
    "LOG2E",
    "SUMS_TOGETHER",
    "StatsPartials",
    "token_kl_backward",
    "token_kl_forward",
    "token_stats_backward",
    "token_stats_forward",
]

# The [T, chunk] buffers of a backward, together. Larger ones pay until the products fill the GPU; set it to less where
# memory is short.
BUFFER_BYTES = 1 << 28
# Blocks of tokens that run together, see ``tile_of``.
GROUP_T = 16
# Whether sums over one tile are taken in one walk, see ``triton_stats``.
SUMS_TOGETHER = not INTERPRETED
# Of the kernels that put splits together.
FINALISE = {"BLOCK_T": 128, "num_warps": 4}
LOG2E = 1.4426950408889634


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


def _contiguous(head: Head) -> Head:
    """``head`` with contiguous rows, and a contiguous bias."""
    hidden, weight = (
        tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in head[:2]
    )
    bias = None if head.bias is None else head.bias.contiguous()
    return head._replace(hidden=hidden, weight=weight, bias=bias)


def _is_extended(*heads: Head) -> bool:
    return any(head.bias is not None or head.softcap is not None for head in heads)


def _chosen(kernel: str, *heads: Head, extended: bool) -> tuple[Configuration, bool]:
    """(configuration of ``kernel``, whether by descriptors)."""
    fit = all(fits_descriptors(tensor) for head in heads for tensor in head[:2])
    return configuration(
        kernel,
        heads[0].hidden.dtype,
        extended=extended,
        aligned=fit,
        descriptors=capability(heads[0].hidden.device)[0] if fit else 0,
    )


def _splits(head: Head, tile: Configuration) -> tuple[int, int]:
    """(number of splits of the vocabulary, columns of each)."""
    tiles = blocks_of(head.vocabulary, tile.columns)
    blocks = blocks_of(max(head.tokens, 1), tile.rows)
    processors = capability(head.hidden.device)[1]
    columns = blocks_of(tiles, splits_of(blocks, tiles, processors)) * tile.columns
    return blocks_of(head.vocabulary, columns), columns


def _matrix(matrix: Tensor, rows: int, depth: int, *, descriptors: bool) -> Any:
    if not descriptors:
        return matrix
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor.from_tensor(matrix, [rows, depth])


def _arguments(
    head: Head, tile: Configuration, descriptors: bool, suffix: str = ""
) -> dict[str, Any]:
    """What a kernel is given of one model, by the names of its parameters."""
    hidden, weight, bias = head[:3]
    return {
        f"hidden{suffix}": _matrix(hidden, tile.rows, tile.depth, descriptors=descriptors),
        f"weight{suffix}": _matrix(weight, tile.columns, tile.depth, descriptors=descriptors),
        # Never read without HAS_BIAS, but a pointer it must be.
        f"bias{suffix}": hidden if bias is None else bias,
        f"width{suffix}": head.width,
        f"hidden{suffix}_stride": hidden.stride(0),
        f"weight{suffix}_stride": weight.stride(0),
        f"HAS_BIAS{suffix.upper()}": bias is not None,
    }


def _options(head: Head, tile: Configuration, descriptors: bool) -> dict[str, Any]:
    """What every kernel that makes logits is given of the options and its configuration."""
    return {
        "inner_scale": head.scales[0],
        "HAS_SOFTCAP": head.softcap is not None,
        "PRECISION": PRECISIONS[head.hidden.dtype].logits,
        "TMA": descriptors,
        "BLOCK_T": tile.rows,
        "BLOCK_V": tile.columns,
        "BLOCK_D": tile.depth,
        "GROUP_T": GROUP_T,
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def _one_head(p: Head, q: Head) -> bool:
    """Whether both models' products are made in one walk over one head, for which GPUs before Hopper lack registers."""
    return same_memory(p.weight, q.weight) and capability(p.hidden.device)[0] >= 9


def _excluding(targets: Tensor, exclude: Tensor | None) -> dict[str, Any]:
    return {
        "exclude": targets if exclude is None else exclude,
        "listed": 0 if exclude is None else exclude.shape[1],
        "HAS_EXCLUDE": exclude is not None,
    }


class StatsPartials:
    """What ``stats_forward`` writes of each split of the vocabulary, and the statistics made of it."""

    def __init__(self, head: Head, exclude: Tensor | None, splits: int) -> None:
        self.head, self.splits, self.has_exclude = head, splits, exclude is not None
        # The logit of a raw unit.
        self.unit = head.scales[0 if head.softcap is None else 1]
        tokens, rests = head.tokens, head.tokens if self.has_exclude else 0
        new = head.hidden.new_empty
        names = ("maximum", "ties", "mass", "spread")
        partials = new(4, splits, tokens, dtype=torch.float32)
        self._values = dict(zip(names, partials, strict=True))
        rest_partials = new(2, splits, rests, dtype=torch.float32)
        self._values |= dict(zip(("rest_maximum", "rest_mass"), rest_partials, strict=True))
        # Written where the target is a token, and read there only.
        self._values["target"] = new(tokens, dtype=torch.float32)

    def written(self) -> dict[str, Tensor]:
        """By the names of the parameters of the kernel that writes them."""
        return {f"{name}_out": values for name, values in self._values.items()}

    def together(
        self, targets: Tensor, ignore_index: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(logprob, logsumexp, entropy, logsumexp_rest, origins) in float64, as in ``chunked``."""
        tokens = self.head.tokens
        new = self.head.hidden.new_empty
        logprob, logsumexp, entropy = (new(tokens, dtype=torch.float64) for _ in range(3))
        rest = logprob.new_empty(tokens if self.has_exclude else 0)
        origins = logprob.new_empty(4 if self.has_exclude else 2, tokens)
        high = torch.tensor(self.unit, dtype=torch.float32, device="cpu").item()
        if tokens:
            triton_stats.stats_finalise[(blocks_of(tokens, FINALISE["BLOCK_T"]),)](
                **{f"{name}_in": values for name, values in self._values.items()},
                targets=targets,
                logprob_out=logprob,
                logsumexp_out=logsumexp,
                entropy_out=entropy,
                rest_out=rest,
                origins_out=origins,
                tokens=tokens,
                vocabulary=self.head.vocabulary,
                splits=self.splits,
                ignore_index=ignore_index,
                unit_high=high,
                unit_low=self.unit - high,
                HAS_EXCLUDE=self.has_exclude,
                **FINALISE,
            )
        return logprob, logsumexp, entropy, rest, origins


def token_stats_forward(
    head: Head, targets: Tensor, exclude: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(logprob, logsumexp, entropy, logsumexp_rest, origins) in float64, as in ``chunked``."""
    device = _on_device(head.hidden)
    head = _contiguous(head)
    extended = _is_extended(head) or exclude is not None
    tile, descriptors = _chosen("stats_forward", head, extended=extended)
    splits, columns = _splits(head, tile)
    partials = StatsPartials(head, exclude, splits)
    with device:
        if head.tokens:
            triton_stats.stats_forward[(blocks_of(head.tokens, tile.rows) * splits,)](
                **partials.written(),
                targets=targets,
                tokens=head.tokens,
                vocabulary=head.vocabulary,
                split_width=columns,
                splits=splits,
                unit2=partials.unit * LOG2E,
                SLICES=tile.slices,
                TOGETHER=SUMS_TOGETHER,
                **_excluding(targets, exclude),
                **_arguments(head, tile, descriptors),
                **_options(head, tile, descriptors),
            )
        return partials.together(targets, ignore_index)


def token_stats_backward(
    upstream: Sequence[Tensor],
    head: Head,
    targets: Tensor,
    exclude: Tensor | None,
    ignore_index: int,
    saved: Sequence[Tensor],
    needs: tuple[bool, bool, bool],
    synchronize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias; empty where not needed.

    ``upstream`` are the gradients of the loss with respect to the first four results of the forward, ``saved``.
    """
    device = _on_device(head.hidden)
    every = head.tokens
    c = stats_coefficients(
        upstream,
        head.temperature,
        targets,
        exclude,
        ignore_index,
        saved,
        torch.float32,
        choose=synchronize,
    )
    head = _contiguous(head.only(c.active))
    extended = _is_extended(head) or c.exclude is not None
    tile, descriptors = _chosen("stats_backward", head, extended=extended)
    chunks = buffer_chunks(head, tile, 1, BUFFER_BYTES)
    gradients = GradientBuffer(head, needs, chunks, tile)
    with device, full_precision():
        for first, last in chunks if head.tokens else ():
            grid = (blocks_of(head.tokens, tile.rows) * blocks_of(last - first, tile.columns),)
            triton_stats.stats_backward[grid](
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
                outer_scale=head.scales[1],
                ROUND=head.hidden.dtype == torch.float16,
                **_excluding(c.targets, c.exclude),
                **_arguments(head, tile, descriptors),
                **_options(head, tile, descriptors),
            )
            gradients.add(first, last)
    return gradients.results(c.active, every)


def token_kl_forward(p: Head, q: Head, synchronize: bool) -> tuple[Tensor, Tensor]:
    """(kl [T], origins [4, T]) in float64; ``chunked`` takes what the kernel cannot again."""
    device = _on_device(p.hidden)
    pair = HeadPair(p, q)
    p, q = _contiguous(p), _contiguous(q)
    tokens = p.tokens
    kl = p.hidden.new_empty(tokens, dtype=torch.float64)
    origins = kl.new_empty(4, tokens)
    if tokens == 0:
        return kl, origins
    tile, descriptors = _chosen("kl_forward", p, q, extended=_is_extended(p, q))
    splits, columns = _splits(p, tile)
    partials = p.hidden.new_empty(7, splits, tokens, dtype=torch.float32)
    names = ("maximum", "mass", "offset", "centre", "excess", "maximum_q", "mass_q")
    lost = p.hidden.new_empty(tokens, dtype=torch.int8)
    with device:
        triton_kl.kl_forward[(blocks_of(tokens, tile.rows) * splits,)](
            **{f"{name}_out": values for name, values in zip(names, partials, strict=True)},
            tokens=tokens,
            vocabulary=p.vocabulary,
            split_width=columns,
            splits=splits,
            outer_scale=p.scales[1],
            ONE_HEAD=_one_head(p, q),
            **_arguments(p, tile, descriptors, "_p"),
            **_arguments(q, tile, descriptors, "_q"),
            **_options(p, tile, descriptors),
        )
        triton_kl.kl_finalise[(blocks_of(tokens, FINALISE["BLOCK_T"]),)](
            **{f"{name}_in": values for name, values in zip(names, partials, strict=True)},
            kl_out=kl,
            origins_out=origins,
            lost_out=lost,
            tokens=tokens,
            splits=splits,
            GAP=GAP,
            LARGE=LARGE,
            **FINALISE,
        )
    if not synchronize:
        return torch.where(lost != 0, torch.nan, kl), origins
    take_again(any_divergence, pair, lost != 0, kl, origins)
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
    synchronize: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients with respect to hidden, weight and bias of p, then of q; empty where not needed.

    ``upstream`` is the gradient of the loss with respect to ``kl``, which the forward returned with ``origins``.
    """
    device = _on_device(p.hidden)
    every = p.tokens
    c = kl_coefficients(upstream, p.temperature, kl, origins, torch.float32, choose=synchronize)
    p, q = _contiguous(p.only(c.active)), _contiguous(q.only(c.active))
    tile, descriptors = _chosen("kl_backward", p, q, extended=_is_extended(p, q))
    chunks = buffer_chunks(p, tile, 2, BUFFER_BYTES)
    gradients_p, gradients_q = (
        GradientBuffer(head, needs, chunks, tile) for head, needs in ((p, needs_p), (q, needs_q))
    )
    with device, full_precision():
        for first, last in chunks if p.tokens else ():
            grid = (blocks_of(p.tokens, tile.rows) * blocks_of(last - first, tile.columns),)
            triton_kl.kl_backward[grid](
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
                outer_scale=p.scales[1],
                ROUND=p.hidden.dtype == torch.float16,
                ONE_HEAD=_one_head(p, q),
                **_arguments(p, tile, descriptors, "_p"),
                **_arguments(q, tile, descriptors, "_q"),
                **_options(p, tile, descriptors),
            )
            gradients_p.add(first, last)
            gradients_q.add(first, last)
    return (*gradients_p.results(c.active, every), *gradients_q.results(c.active, every))
