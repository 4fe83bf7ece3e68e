"""Step 3: time and error of other configurations of each kernel than the shipped one.

All candidates have been built before. One that does not build, launch or agree with float64 is a row that says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import measured
from benchmarks.gpu_session.problem import HeadProblem, Sizes, stats_error
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats
from nondecoupling.kernels.triton_configurations import (
    TMA_CONFIGURATIONS,
    Configuration,
    configuration,
)

__all__ = ["CANDIDATES", "DTYPE", "cases", "name_of", "run_once", "using"]

DTYPE = torch.bfloat16

# By kernel, for descriptors of Hopper; what is shipped is measured first, as the launcher takes it.
CANDIDATES: dict[str, tuple[Configuration, ...]] = {
    "stats_forward": (
        Configuration(128, 256, 64, 8, 4, slices=4),
        Configuration(128, 256, 64, 8, 3, slices=2),
        Configuration(128, 128, 64, 8, 4, slices=4),
        Configuration(128, 128, 64, 8, 4, slices=2),
        Configuration(256, 128, 64, 8, 3, slices=2),
        Configuration(128, 256, 128, 8, 2, slices=4),
    ),
    "stats_backward": (
        Configuration(128, 256, 64, 8, 4),
        Configuration(128, 128, 64, 8, 4),
        Configuration(128, 128, 64, 4, 4),
    ),
    "kl_forward": (
        Configuration(64, 128, 64, 8, 3),
        Configuration(128, 64, 64, 8, 3),
        Configuration(64, 128, 64, 4, 3),
    ),
    "kl_backward": (
        Configuration(64, 128, 64, 8, 4),
        Configuration(128, 128, 64, 8, 3),
        Configuration(64, 128, 64, 4, 3),
    ),
}


def _table(kernel: str) -> dict[str, Configuration]:
    """Where the launcher looks for ``kernel`` on Hopper, for aligned inputs."""
    return TMA_CONFIGURATIONS[9].setdefault(kernel, {})


@contextlib.contextmanager
def using(kernel: str, tile: Configuration | None) -> Iterator[None]:
    """Within it, ``kernel`` runs with ``tile``, by descriptors, for plain bfloat16 inputs; with None as shipped."""
    if tile is None:
        yield
        return
    tiles, name = _table(kernel), str(DTYPE).removeprefix("torch.")
    before = tiles.get(name)
    tiles[name] = tile
    try:
        yield
    finally:
        del tiles[name]
        if before is not None:
            tiles[name] = before


def _operator(kernel: str, p: HeadProblem) -> Callable[[], Tensor]:
    if kernel.startswith("stats"):
        return lambda: token_stats(p.hidden, p.weight, p.targets, impl="triton").logprob
    return lambda: token_kl(p.hidden, p.weight, p.hidden_q, p.weight_q, impl="triton")


def _leaves(kernel: str, p: HeadProblem) -> list[Tensor]:
    leaves = [p.hidden, p.weight]
    return leaves if kernel.startswith("stats") else [*leaves, p.hidden_q, p.weight_q]


def run_once(
    kernel: str, tile: Configuration | None, p: HeadProblem
) -> tuple[Tensor, list[Tensor]]:
    """(value, gradients)."""
    with using(kernel, tile):
        value = _operator(kernel, p)()
        return value.detach(), list(
            torch.autograd.grad((value * p.upstream[0]).sum(), _leaves(kernel, p))
        )


def timed(kernel: str, tile: Configuration | None, p: HeadProblem) -> Iterator[dict[str, Any]]:
    """Time of the pass that the kernel is part of, with the error of its results beside it."""
    operator, leaves = _operator(kernel, p), _leaves(kernel, p)
    exact = p.exact()[0 if kernel.startswith("stats") else 2]
    relative = kernel.startswith("kl")
    value, gradients = run_once(kernel, tile, p)
    shipped, by_descriptors = configuration(kernel, DTYPE, descriptors=9)
    fields: dict[str, Any] = {
        "kernel": kernel,
        "tile": list(shipped if tile is None else tile),
        "shipped": tile is None,
        "descriptors": tile is not None or by_descriptors,
        "error": stats_error(value, exact, relative=relative),
        # Against the shipped configuration's: the gradients of all tokens have no float64 to compare with here.
        "gradient_change": max(
            float((a.float() - b.float()).norm() / b.float().norm())
            for a, b in zip(gradients, run_once(kernel, None, p)[1], strict=True)
        ),
    }
    with using(kernel, tile):
        if kernel.endswith("forward"):

            def forward() -> Tensor:
                with torch.no_grad():
                    return operator()

            fields |= measured(forward, seconds=0.5)
        else:
            loss = (operator() * p.upstream[0]).sum()
            fields |= measured(
                lambda: torch.autograd.grad(loss, leaves, retain_graph=True), seconds=0.7
            )
    yield fields


def name_of(tile: Configuration | None) -> str:
    if tile is None:
        return "shipped"
    return "x".join(map(str, tile[:3])) + f" {tile.num_warps}w{tile.num_stages}s/{tile.slices}"


def cases(sizes: Sizes) -> list[Case]:
    @cache
    def problem(width: int) -> HeadProblem:
        problem.cache_clear()
        return HeadProblem(sizes.tokens, sizes.vocabulary, width, DTYPE)

    results = []
    for width in sizes.widths:
        for kernel, tiles in CANDIDATES.items():
            for tile in (None, *tiles):

                def run(
                    kernel: str = kernel, tile: Configuration | None = tile, width: int = width
                ) -> Iterator[dict[str, Any]]:
                    for fields in timed(kernel, tile, problem(width)):
                        yield {"width": width} | fields

                results.append(Case(f"D = {width}, {kernel} {name_of(tile)}", run, 15.0))
    return results
