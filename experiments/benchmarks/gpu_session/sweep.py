"""Step 3: time and error of other configurations of each kernel than the shipped one.

All candidates are first built at a small size, by several processes at once, so that timing finds them in Triton's
cache. A candidate that does not build, launch or agree with float64 is a row that says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import torch
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import measured
from benchmarks.gpu_session.problem import TINY, HeadProblem, Sizes, stats_error
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats
from nondecoupling.kernels.triton_configurations import (
    TMA_CONFIGURATIONS,
    Configuration,
    configuration,
)

__all__ = ["CANDIDATES", "cases", "using"]

DTYPE = torch.bfloat16
BUILDERS = 8
# Sizes with the divisors of the full ones, as far as Triton looks at them.
BUILD_TOKENS, BUILD_VOCABULARY = 256, 4096

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


def build(job: tuple[str, Configuration | None, int]) -> str:
    """Why the candidate, or with None what is shipped, does not run at a small size; empty if it does."""
    kernel, tile, width = job
    try:
        run_once(kernel, tile, HeadProblem(BUILD_TOKENS, BUILD_VOCABULARY, width, DTYPE))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def build_all(width: int) -> Iterator[dict[str, Any]]:
    # What is shipped comes first: every other job runs the other kernels as they are shipped.
    shipped = [(kernel, None, width) for kernel in ("stats_forward", "kl_forward")]
    candidates = [(kernel, tile, width) for kernel, tiles in CANDIDATES.items() for tile in tiles]
    jobs: list[tuple[str, Configuration | None, int]] = [*shipped, *candidates]
    builders = min(BUILDERS, os.cpu_count() or 1)
    with ProcessPoolExecutor(builders, mp_context=get_context("spawn")) as pool:
        for (kernel, tile, _), why in zip(jobs, pool.map(build, jobs), strict=True):
            given = "shipped" if tile is None else list(tile)
            yield {"kernel": kernel, "tile": given, "builds": not why, "why": why}


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


def _name(tile: Configuration | None) -> str:
    if tile is None:
        return "shipped"
    return "x".join(map(str, tile[:3])) + f" {tile.num_warps}w{tile.num_stages}s/{tile.slices}"


def cases(sizes: Sizes) -> list[Case]:
    @cache
    def problem(width: int) -> HeadProblem:
        problem.cache_clear()
        return HeadProblem(sizes.tokens, sizes.vocabulary, width, DTYPE)

    results = []
    if sizes != TINY:
        results.append(Case("build", lambda: build_all(sizes.widths[0]), 60.0))
    for width in sizes.widths:
        for kernel, tiles in CANDIDATES.items():
            for tile in (None, *tiles):

                def run(
                    kernel: str = kernel, tile: Configuration | None = tile, width: int = width
                ) -> Iterator[dict[str, Any]]:
                    for fields in timed(kernel, tile, problem(width)):
                        yield {"width": width} | fields

                results.append(Case(f"D = {width}, {kernel} {_name(tile)}", run, 15.0))
    return results
