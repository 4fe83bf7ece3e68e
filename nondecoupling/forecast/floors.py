"""The least that any algorithm pays for an average reward, with a limit that holds (S5)."""

from __future__ import annotations

import math

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval, mean_interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.laws import DistinctRows, sampled_laws, with_best
from nondecoupling.forecast.samples import Samples

FOLDS = 4
# A rate off the best costs the floor little, few prompts cost it more.
PROMPTS_FOR_THE_RATE = 0.25


def plug_in_price(samples: Samples, target: float) -> float:
    """``bounds.price_of_average_reward`` of the samples, when any response may have the highest reward."""
    distinct = DistinctRows.of(samples.ref_rewards)
    laws = with_best(*sampled_laws(distinct.rewards), samples.reward_bounds[1], 0.0)
    return float(bounds.price_of_average_reward(*laws, target, weights=distinct.counts))


def price_floor(samples: Samples, target: float, delta: float) -> Interval:
    """A lower limit for the price of the average reward ``target``, in nats per response; the upper end is inf.

    For each rate and offset t > 0, every policy with that reward pays at least rate * target + E_q h(x), h the line of
    ``bounds.supporting_line``. The rate comes from the first quarter of the prompts. On the others the line of a
    prompt is evaluated on one fold of its responses with the offset of the others, and averaged over folds: a mean of
    independent bounded terms, whose expectation is at most the price. The offset is that of the other folds with one
    response of the highest reward added, so that for m of them it lies in [1/(m + 1), 1]. The limit fails with
    probability at most delta/2. Source: S5, Waudby-Smith and Ramdas 2024.
    """
    rewards, best = samples.ref_rewards, samples.reward_bounds[1]
    pilot = int(samples.prompts * PROMPTS_FOR_THE_RATE)
    rate = _rate(rewards[:pilot], best, target)
    if rate is None:
        return Interval(0.0, math.inf, 0.0, delta, samples.prompts - pilot, "no rate to bet on")
    lines = _lines(rewards[pilot:], best, rate) + rate * target
    # E 1/(t + rate (best - r)) = 1 at every offset, so t + rate R >= 1 too.
    least = max(1.0 / samples.responses, 1 - rate * samples.spread)
    # 1 + log(t + rate (best - r)) - t rises with t at r = best, and falls where rate R is added.
    low = 1 + math.log(least) - least
    high = 1 + math.log(least + rate * samples.spread) - least
    shift = rate * (target - best)
    slack = 1e-9 * (1 + abs(shift) + high - low)  # of roots and sums
    limits = low + shift - slack, high + shift + slack
    found = mean_interval(lines, limits, delta)
    lower, estimate = max(float(found.low), 0.0), max(float(found.estimate), 0.0)
    return Interval(lower, math.inf, estimate, delta, found.units, found.method)


def _rate(rewards: Array, best: float, target: float) -> float | None:
    """What a little more reward costs at the target; None where it is free."""
    if target <= rewards.mean():
        return None
    # With a response of the highest reward of little mass, no prompt's offset is on the edge.
    distinct = DistinctRows.of(rewards)
    laws = with_best(*sampled_laws(distinct.rewards), best, 0.5)
    try:
        return float(bounds.frontier_rate(*laws, target, weights=distinct.counts))
    except ValueError:  # the target is free once that response is added
        return None


def _lines(rewards: Array, best: float, rate: float) -> Array:
    """Of each prompt, the line cross-fitted over folds of its responses."""
    k = rewards.shape[1]
    folds = min(FOLDS, k)
    place = np.arange(k) % folds
    total = np.zeros(len(rewards))
    for fold in range(folds):
        others = DistinctRows.of(rewards[:, place != fold])
        laws = with_best(*sampled_laws(others.rewards), best, 1.0)
        offset = bounds.frontier_policy(*laws, rate).offset[others.place]
        own = with_best(*sampled_laws(rewards[:, place == fold]), best, 0.0)
        total += bounds.supporting_line(*own, rate, offset) * np.count_nonzero(place == fold)
    return total / k
