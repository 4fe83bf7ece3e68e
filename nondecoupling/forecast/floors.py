"""The least that any algorithm pays for an average reward, with a limit that holds (S5)."""

from __future__ import annotations

import math

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval, mean_interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.laws import Responses
from nondecoupling.forecast.samples import Samples

FOLDS = 4
# A rate off the best costs the floor little, few prompts cost it more.
PROMPTS_FOR_THE_RATE = 0.25
# Of a floor under all targets.
LINES = 4


def plug_in_price(samples: Samples, target: float) -> float:
    """``bounds.price_of_average_reward`` of the samples, when any response may have the highest reward."""
    laws = samples.drawn.distinct_with_best(samples.reward_bounds[1], 0.0)
    return float(bounds.price_of_average_reward(*laws.law, target, weights=laws.weights))


def plug_in_rate(responses: Responses, best: float, target: float) -> float | None:
    """What a little more reward costs at the target, nats per unit; None where it is free."""
    if target <= responses.average(responses.mean()):
        return None
    # With a response of the highest reward of little mass, no prompt's offset is on the edge.
    laws = responses.distinct_with_best(best, 0.5)
    try:
        return float(bounds.frontier_rate(*laws.law, target, weights=laws.weights))
    except ValueError:  # the target is free once that response is added
        return None


def price_floor(samples: Samples, target: float, delta: float) -> Interval:
    """A lower limit for the price of the average reward ``target``, in nats per response; the upper end is inf.

    For each rate, every policy with that reward pays at least rate * target + E_q h(x), h the line of ``lines``. The
    rate comes from the first quarter of the prompts, the lines from the others. The limit fails with probability at
    most delta/2. Source: S5, Waudby-Smith and Ramdas 2024.
    """
    pilot = _pilot(samples)
    rate = plug_in_rate(samples.drawn.at(slice(pilot)), samples.reward_bounds[1], target)
    if rate is None:
        return Interval(0.0, math.inf, 0.0, delta, samples.prompts - pilot, "no rate to bet on")
    found = _paid(samples, target, rate, delta)
    lower, estimate = max(float(found.low), 0.0), max(float(found.estimate), 0.0)
    return Interval(lower, math.inf, estimate, delta, found.units, found.method)


def price_floors(samples: Samples, targets: Array, delta: float) -> Array:
    """Lower limits for the prices of all ``targets``, [n] and rising, at once: one fails with probability delta/2.

    They are the highest of a few lines, each with a rate of its own, so rising and convex as the price is. At one
    target ``price_floor`` is the sharper.
    """
    pilot = samples.drawn.at(slice(_pilot(samples)))
    found = np.zeros(len(targets))
    for target in targets[np.linspace(0, len(targets) - 1, LINES).round().astype(int)]:
        rate = plug_in_rate(pilot, samples.reward_bounds[1], float(target))
        if rate is not None:
            paid = _paid(samples, 0.0, rate, delta / LINES)
            found = np.maximum(found, paid.low + rate * targets)
    return found


def _pilot(samples: Samples) -> int:
    """How many prompts say at which rate."""
    return int(samples.prompts * PROMPTS_FOR_THE_RATE)


def _paid(samples: Samples, target: float, rate: float, delta: float) -> Interval:
    """The mean of ``paid_at_least`` over the prompts that have not said at which rate."""
    responses, pilot = samples.drawn, _pilot(samples)
    paid, limits = paid_at_least(samples, responses.at(slice(pilot, None)), target, rate)
    weights = responses.weights
    return mean_interval(paid, limits, delta, weights=weights[pilot:], largest_weight=weights.max())


def paid_at_least(
    samples: Samples, responses: Responses, target: float, rate: float
) -> tuple[Array, tuple[float, float]]:
    """One number for each prompt, whose mean is at most the price of the target, and what they lie between.

    ``rate`` must not depend on these prompts.
    """
    low, high = limits_of_lines(samples, rate)
    shift = rate * target
    slack = 1e-9 * (1 + abs(shift) + high - low)  # of roots and sums
    paid = lines(responses, samples.reward_bounds[1], rate) + shift
    return paid, (low + shift - slack, high + shift + slack)


def limits_of_lines(samples: Samples, rate: float) -> tuple[float, float]:
    """Between which every line at this rate lies, fitted to whichever responses."""
    # E 1/(t + rate (best - r)) = 1 at every offset t, so t + rate R >= 1 too.
    reach, best = rate * samples.spread, samples.reward_bounds[1]
    least = max(1.0 / samples.responses, 1 - reach)
    # 1 + log(t + rate (best - r)) - t rises with t at r = best, and falls where rate R is added.
    low, high = 1 + math.log(least) - least, 1 + math.log(least + reach) - least
    return low - rate * best, high - rate * best


def lines(responses: Responses, best: float, rate: float) -> Array:
    """Of each prompt, the h of ``bounds.supporting_line`` at this rate, cross-fitted over folds of its responses.

    The line is evaluated on one fold with the offset of the others, and averaged over folds: its expectation is at
    most that of the best line. The offset is that of the other folds with one response of the highest reward added,
    so that for m of them it lies in [1/(m + 1), 1].
    """
    place = (np.cumsum(responses.mask, axis=1) - 1) % FOLDS
    total = np.zeros(len(responses.rewards))
    for fold in range(FOLDS):
        own = responses.mask & (place == fold)
        here = own.any(axis=1)  # a prompt with few responses has fewer folds
        if not here.any():
            break
        others = responses.only((place != fold) | ~here[:, None]).distinct_with_best(best, 1.0)
        offset = bounds.frontier_policy(*others.law, rate).offset[others.place]
        judged = responses.only((place == fold) | ~here[:, None]).law_with_best(best, 0.0)
        total += bounds.supporting_line(*judged, rate, offset) * own.sum(axis=1)
    return np.asarray(total / responses.counts)
