"""How often the intervals of a forecast miss the truth, in simulated runs: the table of docs/api/forecast.md.

    python tests/forecast/forecast_coverage.py           print the table, cell by cell
    python tests/forecast/forecast_coverage.py --write   put it in the page (about ten minutes on one core)
    python tests/forecast/forecast_coverage.py --write --k 1024 --data "binary, light"   that cell alone

Each world has 64 prompts of known laws and k responses to each. A beta that a forecast refuses is not given; misses
are counted among the worlds where it is, which is the harder test. Beside the limits that the library gives stand two
that look right and are not: betting on the plug-in loss change, and the plug-in price taken for a floor.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from known_runs import LEVEL, RUNS, Run, p_value

from nondecoupling.estimate import Interval
from nondecoupling.estimate.betting import at_fixed_size, lower_end
from nondecoupling.forecast import Samples
from nondecoupling.forecast.floors import fixed_rates, limits_of_lines, lines, plug_in_price
from nondecoupling.forecast.support import unsupported
from nondecoupling.forecast.tilts import Tilts

PAGE = Path(__file__).parents[2] / "docs/api/forecast.md"
BEGIN, END = "<!-- coverage: begin -->\n", "<!-- coverage: end -->\n"
DATA = ("binary, heavy", "graded, heavy", "binary, light", "graded, light")
RESPONSES = (8, 64, 1024)
BETAS = (1.0, 0.2, 0.05, 0.02)
TARGET = 0.8
PROMPTS, WORLDS, DELTA = 64, 2000, 0.1
ENOUGH_TO_REFUTE = 200
PLAIN = "plain"
NUMBERS = ("reward", "kl", "own_loss_change", "expert_loss_change", "soft_value")


@dataclass(frozen=True)
class ManyWorlds(Tilts):
    """``Tilts`` of several worlds at once: their prompts follow one another, and each world has its own ends."""

    worlds: int

    def _low_end(self, values, least, most, delta):
        rows = np.broadcast_to(values, (len(self.betas), self.samples.prompts))
        each = rows.reshape(len(self.betas), self.worlds, -1)
        least, most = (
            np.reshape(np.broadcast_to(x, (len(self.betas), 1)), (-1, 1, 1)) for x in (least, most)
        )
        width = most - least
        low = lower_end(np.clip((each - least) / width, 0.0, 1.0), delta, at_fixed_size)
        return (least + width * low[..., None])[..., 0]

    def _enclosed(self, low, high, estimate, delta, limits):
        ends = [np.reshape(np.broadcast_to(x, len(self.betas)), (-1, 1)) for x in limits]
        high = np.clip(high, *ends)
        low = np.minimum(np.clip(low, *ends), high)
        return Interval(
            low,
            high,
            np.reshape(estimate, (-1, 1)),
            delta,
            self.samples.prompts // self.worlds,
            "betting",
        )

    def floors(self, target: float, delta: float) -> np.ndarray:
        """[worlds]"""
        best, found = self.samples.reward_bounds[1], np.zeros(self.worlds)
        rates, shares = fixed_rates(self.samples, best - target)
        each = lines(self.samples.drawn, best, rates)
        for rate, share, line in zip(rates, shares, each, strict=True):
            low = self._low_end(line, *limits_of_lines(self.samples, rate), delta * share)[0]
            found = np.maximum(found, low - rate * (best - target))
        return found

    def intervals(self, delta: float) -> dict[str, Interval]:
        """Of each number, the ends [betas, worlds]."""
        found = {
            "reward": self.rewards(delta),
            "kl": self.kl(delta),
            "own_loss_change": self.own_loss_changes(delta),
            "expert_loss_change": self.expert_loss_changes(delta),
            "soft_value": self.soft_values(delta),
        }
        # What looks right and is not: the betting interval of the plug-in loss change.
        most = self.most_nats[:, None] * (1 + 1e-9)
        plain = -self._low_end(-self._gaps, -most, 0 * most, delta)
        return {**found, PLAIN: Interval(0 * plain, plain, plain, delta, 0, "plain")}


@dataclass
class Misses:
    """Of one kind of data and one k: of each number at each beta, and of the floor."""

    run: Run
    given: Counter[float] = field(default_factory=Counter)
    missed: Counter[tuple[float, str]] = field(default_factory=Counter)
    worlds: int = 0
    floors: int = 0
    judged_plug_ins: int = 0
    plug_in_floors: int = 0

    def add(self, worlds: list[Samples], delta: float) -> None:
        self.worlds += len(worlds)
        rewards, experts = (
            np.concatenate([getattr(world, name) for world in worlds])
            for name in ("ref_rewards", "expert_rewards")
        )
        bounds = worlds[0].reward_bounds
        together = Samples(rewards, reward_bounds=bounds, expert_rewards=experts)
        many = ManyWorlds(together, np.array(BETAS), len(worlds))
        ends = many.intervals(delta)
        for place, beta in enumerate(BETAS):
            given = np.array([unsupported(world, beta) is None for world in worlds])
            self.given[beta] += int(given.sum())
            truths = self.run.truth(beta)
            for name, interval in ends.items():
                truth = truths["own_loss_change" if name == PLAIN else name]
                held = (interval.low[place] <= truth) & (truth <= interval.high[place])
                self.missed[beta, name] += int((given & ~held).sum())
        truth = self.run.price(TARGET)
        self.floors += int((many.floors(TARGET, delta) > truth).sum())
        if self.judged_plug_ins < ENOUGH_TO_REFUTE:
            self.judged_plug_ins += len(worlds)
            self.plug_in_floors += sum(plug_in_price(world, TARGET) > truth for world in worlds)


def simulated(data: str, k: int, worlds: int, delta: float = DELTA) -> Misses:
    found, rng = Misses(RUNS[data]), np.random.default_rng([19, k, DATA.index(data)])
    block = max(1, min(50, 20_000 // k, worlds))
    for start in range(0, worlds, block):
        size = min(block, worlds - start)
        found.add([found.run.draw(rng, PROMPTS, k) for _ in range(size)], delta)
    return found


def refuted(misses: int, of: int, delta: float) -> bool:
    return of > 0 and p_value(misses, of, delta) < LEVEL


def shown(misses: int, of: int, delta: float) -> str:
    """Per cent; with a cross where more than the promised share is certain."""
    return f"{100 * misses / of:.1f}" + (" ✗" if refuted(misses, of, delta) else "")


def rows(data: str, k: int, found: Misses) -> Iterator[str]:
    for beta in BETAS:
        given = found.given[beta]
        cells = ["refused"] + ["" for _ in NUMBERS]
        if given:
            each = [shown(found.missed[beta, name], given, DELTA) for name in NUMBERS]
            cells = [*each, shown(found.missed[beta, PLAIN], given, DELTA / 2)]
        share = f"{100 * given / found.worlds:.0f}"
        yield f"| {data} | {k} | beta {beta:g} | {share} | {' | '.join(cells)} |  |  |"
    counts = (found.floors, found.worlds), (found.plug_in_floors, found.judged_plug_ins)
    floors = (shown(*count, DELTA / 2) for count in counts)
    empty = " | ".join("" for _ in range(6))
    yield f"| {data} | {k} | reward {TARGET:g} | 100 | {empty} | {' | '.join(floors)} |"


HEAD = (
    "| data | k | at | given | reward | KL | own loss | expert loss | soft value | *plain upper end of own loss* "
    "| floor | *plug-in price as floor* |\n" + "|---" * 12 + "|\n"
)


def with_rows(page: str, new: str, table_of: tuple[str, str, str] = (BEGIN, HEAD, END)) -> str:
    """The page with the rows of one kind of data and one k in their place, whatever was there of them."""
    begin, head, end = table_of
    before, rest = page.split(begin)
    table, after = rest.split(end)
    kept = [line for line in table.removeprefix(head).splitlines() if _cell(line) != _cell(new)]
    ordered = sorted([*kept, *new.splitlines()], key=_cell)  # stable: rows of a cell stay together
    return before + begin + head + "".join(f"{line}\n" for line in ordered) + end + after


def _cell(rows_of_it: str) -> tuple[int, int]:
    data, k = (part.strip() for part in rows_of_it.split("|")[1:3])
    return int(k), DATA.index(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--k", type=int, nargs="+", default=RESPONSES, choices=RESPONSES)
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    options = parser.parse_args()
    print(HEAD, end="", flush=True)
    for k in options.k:
        for data in options.data:
            new = "\n".join(rows(data, k, simulated(data, k, options.worlds))) + "\n"
            print(new, end="", flush=True)
            if options.write:  # what is done is kept
                PAGE.write_text(with_rows(PAGE.read_text(), new))


if __name__ == "__main__":
    main()
