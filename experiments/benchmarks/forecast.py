"""Speed of `nondecoupling.forecast`: an answer at a reward, on graded rewards that all differ.

    python experiments/benchmarks/forecast.py --write

1000 prompts and k = 16 responses, no two prompts with the same law, so that each has a root of its own. The ratio is
to the same answer with plain bisection in the place of `newton_bisection`; both must give the same price and floor.
Seconds are those of the processor, so that other processes do not count.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from nondecoupling.forecast import AtReward, Samples, forecast
from nondecoupling.formulas import price
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

RESULT = Path(__file__).parent.parent / "results" / "forecast_benchmark.md"
PROMPTS, RESPONSES, TARGET = 1000, 16, 0.6
HALVINGS, REPEATS = 60, 3
MOST_SECONDS, AGREEMENT = 1.0, 1e-9


def bisection(
    xp: Floats, value_and_slope: Callable[[Array], tuple[Array, Array]], low: Array, high: Array
) -> Array:
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        above = value_and_slope(middle)[0] > 0
        low, high = xp.where(above, low, middle), xp.where(above, middle, high)
    return 0.5 * (low + high)


def graded() -> Samples:
    rng = np.random.default_rng(0)
    rewards = rng.beta(rng.uniform(0.5, 2, (PROMPTS, 1)), 2, size=(PROMPTS, RESPONSES))
    return Samples(rewards, reward_bounds=(0, 1))


def answered(samples: Samples) -> tuple[AtReward, float]:
    """The first answer of a new forecast, and its seconds."""
    plan, start = forecast(samples), time.process_time()
    return plan.at_reward(TARGET), time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    options = parser.parse_args()
    samples = graded()
    answered(samples)
    runs = [answered(samples) for _ in range(REPEATS)]
    answer, seconds = runs[0][0], min(seconds for _, seconds in runs)
    with mock.patch.object(price, "newton_bisection", bisection):
        other, bisecting = answered(samples)
    for name in ("value", "low"):
        here, there = getattr(answer.price, name), getattr(other.price, name)
        if abs(here - there) > AGREEMENT * abs(there):
            raise SystemExit(f"the price's {name} is {here}, by bisection {there}")
    text = (
        "# Speed of a forecast at a reward\n\n"
        f"`python experiments/benchmarks/forecast.py --write`; {platform.machine()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}.\n\n"
        f"{PROMPTS} prompts, k = {RESPONSES}, rewards that all differ, processor seconds of `at_reward({TARGET})`:\n\n"
        "| roots by | seconds |\n|---|---|\n"
        f"| `newton_bisection` (least of {REPEATS}) | {seconds:.2f} |\n"
        f"| plain bisection | {bisecting:.2f} |\n\n"
        f"Ratio {bisecting / seconds:.1f}; price {answer.price.value:.6f} and floor {answer.price.low:.6f} by both.\n"
    )
    print(text)
    if options.write:
        RESULT.write_text(text)
    if seconds > MOST_SECONDS:
        raise SystemExit(f"{seconds:.2f} s, more than {MOST_SECONDS} s")


if __name__ == "__main__":
    main()
