"""How often the bootstrap's interval misses, by number of units and by tail: the table of docs/api/estimate.md.

    python tests/estimate/bootstrap_coverage.py           print the table
    python tests/estimate/bootstrap_coverage.py --write   put it in the page (about five minutes)

Each cell draws WORLDS samples from a law whose mean is known. "Without rules": either end of plain BCa.
"Offered": by the two rules of ``nondecoupling.estimate.bootstrap``; the misses beside it are shares of
all samples, so that they are the probability of a wrong verdict. Promised: half of delta at each end.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nondecoupling.estimate import bootstrap

PAGE = Path(__file__).parents[2] / "docs/api/estimate.md"
BEGIN, END = "<!-- bootstrap coverage: begin -->\n", "<!-- bootstrap coverage: end -->\n"
HEAD = (
    "| tail | n | delta | without rules: misses below, above | offered | misses below, above |\n"
    "|---|---|---|---|---|---|\n"
)
SIZES = (16, 32, 64, 128, 256, 1024)
DELTAS = (0.05, 0.01)
WORLDS, RESAMPLES = 4000, 9999
# Worlds of one block share their resamples.
BLOCK = 250

Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


@dataclass(frozen=True)
class Tail:
    """A law and its mean. ``hidden``: what moves the mean is missing from most samples of every size listed."""

    draw: Draw
    mean: float
    hidden: bool = False


def rare(chance: float) -> Tail:
    return Tail(lambda rng, shape: (rng.random(shape) < chance).astype(float), chance)


TAILS = {
    "uniform": Tail(lambda rng, shape: rng.random(shape), 0.5),
    "normal": Tail(lambda rng, shape: rng.normal(size=shape), 0.0),
    "Laplace": Tail(lambda rng, shape: rng.laplace(size=shape), 0.0),
    "Student t, 3 degrees": Tail(lambda rng, shape: rng.standard_t(3, size=shape), 0.0),
    "gamma, shape 4": Tail(lambda rng, shape: rng.gamma(4.0, size=shape), 4.0),
    "exponential": Tail(lambda rng, shape: rng.exponential(size=shape), 1.0),
    "log-normal, sigma 1": Tail(lambda rng, shape: rng.lognormal(size=shape), np.exp(0.5)),
    "Pareto, index 2.5": Tail(lambda rng, shape: rng.pareto(2.5, size=shape), 1 / 1.5),
    "event of chance 0.1": rare(0.1),
    "event of chance 0.001": rare(0.001),
    "normal + 20 with chance 0.002": Tail(
        lambda rng, shape: rng.normal(size=shape) + 20 * (rng.random(shape) < 0.002), 0.04, True
    ),
}


@dataclass(frozen=True)
class Cell:
    """Shares of all samples; (below, above): the truth lies below the lower end, above the upper end."""

    delta: float
    plain: tuple[float, float]
    offered: float
    ruled: tuple[float, float]


@contextmanager
def without_rules() -> Iterator[None]:
    kept = bootstrap.LEAST_UNITS, bootstrap.LARGEST_ACCELERATION
    bootstrap.LEAST_UNITS, bootstrap.LARGEST_ACCELERATION = 2, np.inf
    try:
        yield
    finally:
        bootstrap.LEAST_UNITS, bootstrap.LARGEST_ACCELERATION = kept


def simulate(
    tail: Tail, units: int, worlds: int = WORLDS, resamples: int = RESAMPLES, seed: int = 0
) -> list[Cell]:
    """One cell per delta."""
    rng = np.random.default_rng([seed, units])
    misses: dict[float, list[np.ndarray]] = {delta: [] for delta in DELTAS}
    offered = []
    for block in range(0, worlds, BLOCK):
        samples = tail.draw(rng, (min(BLOCK, worlds - block), units))
        with without_rules():
            at = bootstrap.bootstrap_intervals(samples, resamples=resamples, seed=seed + block)
            for delta in DELTAS:
                found = at(delta)
                misses[delta].append(np.stack([tail.mean < found.low, found.high < tail.mean]))
        enough = units >= bootstrap.LEAST_UNITS
        if enough:
            ruled = bootstrap.bootstrap_intervals(samples, resamples=100, seed=seed)(0.5)
            offered.append(np.isfinite(ruled.width))
        else:
            offered.append(np.zeros(len(samples), dtype=bool))
    kept = np.concatenate(offered)
    cells = []
    for delta in DELTAS:
        both = np.concatenate(misses[delta], axis=-1)
        plain, ruled = both.mean(axis=-1), (both & kept).mean(axis=-1)
        cells.append(Cell(delta, tuple(plain), float(kept.mean()), tuple(ruled)))
    return cells


def row(name: str, units: int, cell: Cell) -> str:
    plain, ruled = (f"{low:.4f}, {high:.4f}" for low, high in (cell.plain, cell.ruled))
    if not cell.offered:
        ruled = "refused"
    return f"| {name} | {units} | {cell.delta:g} | {plain} | {cell.offered:.2f} | {ruled} |\n"


def read_table(page: str) -> dict[tuple[str, int, float], Cell]:
    """The committed cells, from the text of the page."""
    cells = {}
    body = page.split(BEGIN)[1].split(END)[0].removeprefix(HEAD)
    for line in body.splitlines():
        name, units, delta, plain, offered, ruled = (part.strip() for part in line.split("|")[1:-1])
        pair = (0.0, 0.0) if ruled == "refused" else tuple(map(float, ruled.split(",")))
        unruled = tuple(map(float, plain.split(",")))
        cells[name, int(units), float(delta)] = Cell(float(delta), unruled, float(offered), pair)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table in the page")
    write = parser.parse_args().write
    lines = []
    for name, tail in TAILS.items():
        for units in SIZES:
            for cell in simulate(tail, units):
                lines.append(row(name, units, cell))
                print(lines[-1], end="", flush=True)
    if write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + HEAD + "".join(lines) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
