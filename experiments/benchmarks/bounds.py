"""Speed of `nondecoupling.bounds`, against scipy's logsumexp and the package dit.

    python experiments/benchmarks/bounds.py --write

Measures, in one run on 10^6 worlds of 8 responses: the coupling gap in NumPy and torch as a multiple of one
`scipy.special.logsumexp` over the same array, and the price of reward (a root per world) in worlds per second, with
the worst error of the optimal policy's total mass. KL and entropy are compared with dit (`pip install dit`).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
import torch

from nondecoupling import bounds
from nondecoupling.formulas import price
from nondecoupling.numbers.floats import floats_of

RESULT = Path(__file__).parent.parent / "results" / "bounds_benchmark.md"
MOST_LOGSUMEXPS, LEAST_WORLDS_PER_SECOND, LARGEST_MASS_ERROR = 4.0, 1e5, 1e-12
AGREEMENT = 1e-12
DIT_WORLDS = 2000


def timings(repeats: int, *functions: Callable[[], Any]) -> list[list[float]]:
    """Seconds of each repetition, interleaved so that all functions see the same machine."""
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    return seconds


def medians(repeats: int, *functions: Callable[[], Any]) -> list[float]:
    return [statistics.median(s) for s in timings(repeats, *functions)]


def worlds(count: int, responses: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((count, responses))
    log_d = logits - scipy.special.logsumexp(logits, axis=-1, keepdims=True)
    return log_d, rng.standard_normal((count, responses))


def optimal_mass_error(log_d: np.ndarray, reward: np.ndarray, target: np.ndarray) -> float:
    """Largest |sum p - 1| of the policies p = d/(1 - l (r - c)/(M - c)) that pay the price."""
    xp, worst = floats_of(log_d), 0.0
    for rows in np.array_split(np.arange(len(log_d)), max(1, len(log_d) // 4096)):
        d, c = log_d[rows], target[rows, None]
        top = reward[rows].max(axis=-1, keepdims=True)
        a = (reward[rows] - c) / (top - c)
        with np.errstate(all="ignore"):
            log_b = np.log(top - reward[rows]) - np.log(top - c)
            mixed = price._log_mixed(xp, a, log_b, price._log_slack(xp, d, a, log_b))
        worst = max(worst, float(np.abs(np.exp(d - mixed).sum(axis=-1) - 1).max()))
    return worst


def against_dit(log_p: np.ndarray, log_q: np.ndarray, repeats: int) -> list[tuple[str, ...]]:
    """Rows (quantity, dit per world, ours per world, ratio, largest relative difference)."""
    import dit

    names = [str(i) for i in range(log_p.shape[-1])]
    p, q = ([dit.Distribution(names, row) for row in np.exp(x)] for x in (log_p, log_q))
    kl, entropy = dit.divergences.kullback_leibler_divergence, dit.shannon.entropy
    rows = []
    for name, theirs, ours in (
        ("KL", lambda: [kl(a, b) for a, b in zip(p, q, strict=True)],
         lambda: bounds.kl_divergence(log_p, log_q)),
        ("entropy", lambda: [entropy(a) for a in p], lambda: bounds.entropy(log_p)),
    ):  # fmt: skip
        slow, fast = medians(repeats, theirs, ours)
        bits = np.log(2.0)  # dit counts in bits
        difference = float(np.abs(np.array(theirs(), dtype=float) * bits / ours() - 1).max())
        assert difference < AGREEMENT, f"{name} differs from dit by {difference}"
        per_world = [f"{1e6 * seconds / len(log_p):.3g} us" for seconds in (slow, fast)]
        rows.append((name, *per_world, f"{slow / fast:.0f}", f"{difference:.1e}"))
    return rows


def report(count: int, repeats: int) -> str:
    start = os.getloadavg()[0]
    log_d, reward = worlds(count, 8)
    torch_d, torch_reward = torch.from_numpy(log_d), torch.from_numpy(reward)
    # logsumexp and NumPy run on one thread, so torch is compared on one. With more it is timed on
    # its own: idle OpenMP threads spin, and would slow whatever is timed in between.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base, *ours = timings(
        repeats,
        lambda: scipy.special.logsumexp(log_d, axis=-1),
        lambda: bounds.coupling_gap(log_d, reward, 1.0),
        lambda: bounds.coupling_gap(torch_d, torch_reward, 1.0),
    )
    torch.set_num_threads(threads)
    ours += timings(repeats, lambda: bounds.coupling_gap(torch_d, torch_reward, 1.0))
    torch.set_num_threads(1)
    one = statistics.median(base)
    mean, top = bounds.expected_reward(log_d, reward), reward.max(axis=-1)
    share = np.random.default_rng(1).uniform(0.01, 0.99, count)
    target = mean + share * (top - mean)
    (price,) = medians(max(1, repeats // 3), lambda: bounds.price_of_reward(log_d, reward, target))
    mass = optimal_mass_error(log_d, reward, target)
    rate = count / price
    log_q, _ = worlds(2 * DIT_WORLDS, 8)
    compared = against_dit(log_d[:DIT_WORLDS], log_q[DIT_WORLDS:], max(1, repeats // 3))
    names = ("NumPy", "torch, 1 thread", f"torch, {threads} threads (its default)")
    cells = [
        (f"coupling_gap, {name}",
         f"{statistics.median(s) / one:.2f} logsumexp ({min(s):.2f} to {max(s):.2f} s)",
         f"<= {MOST_LOGSUMEXPS:g}", statistics.median(s) <= MOST_LOGSUMEXPS * one)
        for name, s in zip(names, ours, strict=True)
    ] + [
        ("price_of_reward", f"{rate:.3g} worlds/s", f">= {LEAST_WORLDS_PER_SECOND:.0e}",
         rate >= LEAST_WORLDS_PER_SECOND),
        ("its policy: worst abs(sum p - 1)", f"{mass:.1e}", f"<= {LARGEST_MASS_ERROR:.0e}",
         mass <= LARGEST_MASS_ERROR),
    ]  # fmt: skip
    packages = ", ".join(f"{p} {metadata.version(p)}" for p in ("numpy", "scipy", "torch", "dit"))
    lines = [
        "# Speed of the bounds",
        "",
        f"{count:,} worlds of 8 responses, float64, beta = 1. Medians of {repeats} repetitions; "
        f"one logsumexp took {one:.3f} s ({min(base):.2f} to {max(base):.2f}). A shared machine of "
        f"{os.cpu_count()} cores, one-minute load average {start:.1f} at the start and "
        f"{os.getloadavg()[0]:.1f} at the end. Python "
        f"{platform.python_version()}, {packages}.",
        "",
        "| what | measured | target | met |",
        "| --- | ---: | ---: | --- |",
        *(f"| {what} | {got} | {goal} | {'yes' if met else '**no**'} |"
          for what, got, goal, met in cells),
        "",
        f"dit on {len(log_d[:DIT_WORLDS]):,} of these worlds, one call a world, distributions built "
        "beforehand; ours in one call.",
        "",
        "| quantity | dit, per world | ours, per world | ratio | largest relative difference |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(row)} |" for row in compared),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--write", action="store_true", help=f"write results/{RESULT.name}")
    arguments = parser.parse_args()
    text = report(arguments.worlds, arguments.repeats)
    print(text)
    if arguments.write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
