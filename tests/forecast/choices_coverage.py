"""How often what a forecast derives from its intervals is wrong, in simulated runs: the second table of
docs/api/forecast.md.

    python tests/forecast/choices_coverage.py            print the table, cell by cell
    python tests/forecast/choices_coverage.py --write    put it in the page (two minutes a cell)

The worlds are those of forecast_coverage.py. What is asked is what exact RL at beta 1/2 truly has: the beta and the
price of its reward, a beta whose loss change keeps to its loss change, one that reaches its reward; then the
threshold, the duration and joint training there. A choice that is a shade too bold is wrong, so nothing is easy. In
italics what promises nothing; the plug-in choice within the budget is seen to exceed it.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from forecast_coverage import DATA, DELTA, PAGE, PROMPTS, RESPONSES, shown, with_rows
from known_runs import RUNS, Run
from scipy.optimize import brentq

from nondecoupling import bounds
from nondecoupling.forecast import AtBeta, Estimate, Samples, forecast
from nondecoupling.forecast.answers import Duration, Joint, Threshold
from nondecoupling.forecast.planning import Plans
from nondecoupling.forecast.trainers import ForecastTrainer
from nondecoupling.formulas import averages

BEGIN, END = "<!-- choices: begin -->\n", "<!-- choices: end -->\n"
BETA, WEIGHT = 0.5, 0.3
WORLDS = 500
WORTH, PLUG_IN = "*worth of a duration*", "*plug-in within the budget*"
# What promises nothing: a choice by the estimates, and an interval at a beta that the samples chose.
ITALIC = (WORTH, PLUG_IN)
# What promises to be wrong in few worlds, whether or not there is an answer in them; an interval is to hold where it is
# given, which asks more.
DECISIONS = ("beyond the budget", "short of the reward", "decided wrongly")
# Column -> what it is the share of: an interval that misses, or a choice or a decision that is wrong.
COLUMNS = (
    "beta of a reward",
    "its price",
    "beyond the budget",
    "short of the reward",
    "threshold's margin",
    "its radius",
    "its weaker radius",
    "decided wrongly",
    WORTH,
    "joint: own loss",
    "joint: saved",
    PLUG_IN,
)


@dataclass(frozen=True)
class Truth:
    """What exact RL from the laws of a run has."""

    run: Run

    def at(self, beta: float) -> dict[str, float]:
        return self.run.truth(beta)

    def radii(self, beta: float) -> tuple[float, float]:
        """Average KL(tilt_t||ref) where J(tilt_t) is the soft value at beta; Pinsker's radius. Nats per response."""
        found = self.at(beta)

        def too_much(log_t: float) -> float:
            return self.at(math.exp(-log_t))["reward"] - found["soft_value"]

        t = math.exp(brentq(too_much, -math.log(beta) - 20, -math.log(beta)))
        gap, high = found["own_loss_change"], self.run.high
        return self.at(1 / t)["kl"], float(averages.pinsker_radius(gap, high, beta))

    def joint_loss(self, beta: float, weight: float) -> float:
        law, reward = self.run.log_ref, self.run.reward
        optimum = bounds.joint_optimum(law, law, reward, beta, weight)
        return float(np.mean(bounds.kl_divergence(law, optimum)))


@dataclass
class Wrong:
    """Of one kind of data and one k: of each column, how often it was given and how often wrong."""

    run: Run
    given: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    worlds: int = 0

    def __post_init__(self) -> None:
        truth = Truth(self.run)
        self.there, self.radii = truth.at(BETA), truth.radii(BETA)
        self.joint_loss = truth.joint_loss(BETA, WEIGHT)

    def add(self, samples: Samples) -> None:
        self.worlds += 1
        plan = forecast(samples, delta=DELTA)
        self._reward(samples)
        self._choices(plan.recommend(loss_budget=self.there["own_loss_change"]), "budget")
        self._choices(plan.recommend(reward_target=self.there["reward"]), "reward")
        threshold, duration = plan.threshold(BETA), plan.duration(WEIGHT)
        if isinstance(threshold, Threshold):
            self._threshold(threshold)
        if isinstance(duration, Duration):
            there = self.run.truth(duration.beta)
            worth = there["reward"] - WEIGHT * there["own_loss_change"]
            self._interval(WORTH, duration.worth, worth)
        (joint,) = plan.joint([WEIGHT], BETA)
        if isinstance(joint, Joint):
            loss = self.joint_loss
            self._interval("joint: own loss", joint.own_loss_change, loss)
            self._interval("joint: saved", joint.saved, self.there["own_loss_change"] - loss)

    def _reward(self, samples: Samples) -> None:
        """As ``at_reward`` has it, without the floor, which takes longest and has a table of its own."""
        plans = Plans(ForecastTrainer(samples.in_random_order(), None), DELTA)
        beta = plans.beta_reaching(self.there["reward"])
        if isinstance(beta, Estimate):
            price = plans.trained_price(self.there["reward"], beta.value)
            self._interval("beta of a reward", beta, BETA)
            self._interval("its price", price, self.there["own_loss_change"])

    def _choices(self, found, what: str) -> None:
        if isinstance(found.guaranteed, AtBeta):
            # Bolder than beta spends more, milder reaches less.
            beta = found.guaranteed.beta
            column = "beyond the budget" if what == "budget" else "short of the reward"
            self._count(column, beta < BETA if what == "budget" else beta > BETA)
        if what == "budget" and isinstance(found.plug_in, AtBeta):
            self._count(PLUG_IN, found.plug_in.beta < BETA)

    def _threshold(self, found: Threshold) -> None:
        margin = -BETA * self.there["expert_loss_change"]
        assert found.expert_reward_margin is not None
        self._interval("threshold's margin", found.expert_reward_margin, margin)
        exact, weaker = self.radii
        self._interval("its radius", found.radius, exact)
        self._interval("its weaker radius", found.pinsker_radius, weaker)
        if found.lowers is not None:
            self._count("decided wrongly", found.lowers != (margin > 0))

    def _interval(self, column: str, found: Estimate, truth: float) -> None:
        self._count(column, not found.low <= truth <= found.high)

    def _count(self, column: str, wrong: bool) -> None:
        self.given[column] += 1
        self.wrong[column] += bool(wrong)


def simulated(data: str, k: int, worlds: int) -> Wrong:
    found, rng = Wrong(RUNS[data]), np.random.default_rng([23, k, DATA.index(data)])
    for _ in range(worlds):
        found.add(found.run.draw(rng, PROMPTS, k))
    return found


def row(data: str, k: int, found: Wrong) -> str:
    cells = []
    for column in COLUMNS:
        given = found.given[column]
        among = found.worlds if column in DECISIONS else given
        text = shown(found.wrong[column], among, DELTA) if given else "refused"
        if 0 < given < found.worlds:
            text += f" ({100 * given / found.worlds:.0f})"
        cells.append(text)
    return f"| {data} | {k} | {' | '.join(cells)} |"


HEAD = f"| data | k | {' | '.join(COLUMNS)} |\n{'|---' * (len(COLUMNS) + 2)}|\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--worlds", type=int, default=WORLDS)
    parser.add_argument("--k", type=int, nargs="+", default=RESPONSES[:2], choices=RESPONSES)
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    options = parser.parse_args()
    print(HEAD, end="", flush=True)
    for k in options.k:
        for data in options.data:
            new = row(data, k, simulated(data, k, options.worlds)) + "\n"
            print(new, end="", flush=True)
            if options.write:  # what is done is kept
                PAGE.write_text(with_rows(PAGE.read_text(), new, (BEGIN, HEAD, END)))


if __name__ == "__main__":
    main()
