"""Before steps 2 and 3: what they launch, compiled by many processes at once, so that they find it in Triton's cache.

Each kernel is run at a small size as it will be at the full one: on whole and on shifted inputs, as shipped, and with
every configuration of the sweep. What does not build is a row that says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from benchmarks.gpu_session import shapes, sweep
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.problem import TINY, HeadProblem, Sizes

from nondecoupling.kernels.triton_configurations import Configuration

__all__ = ["cases", "jobs"]

BUILDERS = 12
SECONDS = 60.0


def small(sizes: Sizes) -> Sizes:
    """Sizes with the divisors of the full ones, as far as Triton looks at them."""
    return Sizes(256, 4096, sizes.widths[:1], sizes.square)


def unaligned(sizes: Sizes) -> None:
    list(shapes.unaligned(sizes))


def swept(kernel: str, tile: Configuration | None, sizes: Sizes) -> None:
    """``kernel`` with ``tile``, or as shipped."""
    problem = HeadProblem(sizes.tokens, sizes.vocabulary, sizes.widths[0], sweep.DTYPE)
    sweep.run_once(kernel, tile, problem)


def jobs(sizes: Sizes) -> dict[str, Callable[[], None]]:
    """By name; what takes longest, and what the others run too, comes first."""
    results: dict[str, Callable[[], None]] = {"unaligned": partial(unaligned, sizes)}
    for kernel in ("stats_forward", "kl_forward"):
        # With its backward.
        results[f"{kernel}, shipped"] = partial(swept, kernel, None, sizes)
    for kernel, tiles in sweep.CANDIDATES.items():
        for tile in tiles:
            results[f"{kernel}, {sweep.name_of(tile)}"] = partial(swept, kernel, tile, sizes)
    return results


def outcome(job: Callable[[], None]) -> str:
    """Why ``job`` does not run; empty if it does."""
    try:
        job()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def build_all(sizes: Sizes) -> Iterator[dict[str, Any]]:
    builders = min(BUILDERS, os.cpu_count() or 1)
    with ProcessPoolExecutor(builders, mp_context=get_context("spawn")) as pool:
        given = {pool.submit(outcome, job): name for name, job in jobs(small(sizes)).items()}
        for done in as_completed(given):
            yield {"what": given[done], "builds": not done.result(), "why": done.result()}


def cases(sizes: Sizes) -> list[Case]:
    # Where kernels are interpreted there is nothing to build.
    return [] if sizes == TINY else [Case("build", lambda: build_all(sizes), SECONDS)]
