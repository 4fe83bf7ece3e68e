"""The least that any algorithm pays for an average reward, with a limit that holds (S5)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, takewhile

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval, mean_interval
from nondecoupling.estimate.arguments import Array, PerWorld
from nondecoupling.forecast.laws import Responses
from nondecoupling.forecast.samples import Samples

FOLDS = 4
# Of two: no line of a rate so low, 1/64 over the range of the reward, gets above 1/64 nats.
LEAST_POWER = -6


def plug_in_price(samples: Samples, target: float) -> float:
    """``bounds.price_of_average_reward`` of the samples, when any response may have the highest reward."""
    best = samples.reward_bounds[1]
    laws = samples.drawn.distinct_with_best(best, 0.0)
    return float(
        bounds.price_of_average_reward(*laws.below(best), target - best, weights=laws.weights)
    )


def price_and_rate(responses: Responses, target: float) -> tuple[float, float] | None:
    """What the target costs, in nats, and a little more of it, in nats per unit, by rewards that responses show.

    Where training ends rests on them: a response of the highest reward that none shows may not exist. None where the
    target is free: the average reward, but for rounding, or less.

    Errors: a target of at least the average of each prompt's highest reward.
    """
    best = responses.highest()
    laws = responses.below(best).distinct_with_best(0.0, 0.0)
    missing = target - float(responses.average(best))
    price = float(bounds.price_of_average_reward(*laws.law, missing, weights=laws.weights))
    if price <= 0:
        return None
    return price, float(bounds.frontier_rate(*laws.law, missing, weights=laws.weights))


def price_floor(samples: Samples, target: PerWorld, delta: float) -> Interval:
    """A lower limit for the price of the average reward ``target``, in nats per response; the upper end is inf.

    At each rate s every policy of average reward c pays at least E_q h(x) - s (best - c), h the line of ``lines``. The
    rates are fixed and share delta, and the limit is the highest of theirs: it rises with the target, and is convex in
    it. For all targets at once, [...] -> [...], the limit fails with probability at most delta/2. Source: S5,
    Waudby-Smith and Ramdas 2024.
    """
    missing = samples.reward_bounds[1] - np.asarray(target, np.float64)
    rates, shares = fixed_rates(samples, float(np.min(missing)))
    low = estimate = np.zeros(missing.shape)
    for rate, share, line in zip(
        rates, shares, lines(samples.drawn, samples.reward_bounds[1], rates), strict=True
    ):
        mean = mean_interval(
            line, limits_of_lines(samples, rate), delta * share, weights=samples.weights
        )
        low = np.maximum(low, mean.low - rate * missing)
        estimate = np.maximum(estimate, mean.estimate - rate * missing)
    return Interval(low, np.full(low.shape, math.inf), estimate, delta, samples.prompts, "betting")


def fixed_rates(samples: Samples, missing: float) -> tuple[Array, Array]:
    """All rates whose lines may be above zero where so much of the highest reward is missing; their shares of delta.

    They are powers of two over the range of the reward, whatever the samples. The shares of all whole powers sum to
    one; those have most that are best a third or so below the highest reward.
    """

    def says_something(power: int) -> bool:
        rate = 2.0**power / samples.spread
        return limits_of_lines(samples, rate)[1] > rate * missing

    powers = np.array(list(takewhile(says_something, count(LEAST_POWER))), dtype=np.float64)
    away = abs(powers - 1)
    shares = 2 / 3 / ((away + 1) * (away + 2))
    return 2.0**powers / samples.spread, shares


def limits_of_lines(samples: Samples, rate: float) -> tuple[float, float]:
    """Between which every line at this rate lies, fitted to whichever responses."""
    # E 1/(t + rate (best - r)) = 1 at every offset t, so t + rate R >= 1 too.
    reach = rate * samples.spread
    least = max(1.0 / samples.responses, 1 - reach)
    # 1 + log(t + rate (best - r)) - t rises with t at r = best, and falls where rate R is added.
    low, high = 1 + math.log(least) - least, 1 + math.log(least + reach) - least
    slack = 1e-9 * (1 + high - low)  # of roots and sums
    return low - slack, high + slack


def lines(responses: Responses, best: float, rates: Array) -> Array:
    """Of each prompt, the h of ``bounds.supporting_line`` at these rates, cross-fitted over folds of its responses.

    Rewards are counted from the best, so that no digits go to an offset that they share. The line is evaluated on one
    fold with the offset of the others, and averaged over folds: its expectation is at most that of the best line. The
    offset is that of the other folds with one response of the highest reward added, so that for m of them it lies in
    [1/(m + 1), 1]. Rates [n] -> [n, prompts].
    """
    total = np.zeros((len(rates), len(responses.rewards)))
    for own, others, size in folds(responses, FOLDS):
        total += lines_fitted_to(others, own, best, rates) * size
    return np.asarray(total / responses.counts)


def folds(responses: Responses, count: int) -> Iterator[tuple[Responses, Responses, Array]]:
    """(a fold of each prompt's responses, the others, how many are in the fold) for each of ``count`` folds.

    A prompt with few responses has fewer folds: then none are in it.
    """
    place = (np.cumsum(responses.mask, axis=1) - 1) % count
    for fold in range(count):
        own = responses.mask & (place == fold)
        here = own.any(axis=1)
        if not here.any():
            break
        yield (
            responses.only((place == fold) | ~here[:, None]),
            responses.only((place != fold) | ~here[:, None]),
            own.sum(axis=1),
        )


def lines_fitted_to(others: Responses, own: Responses, best: float, rates: Array) -> Array:
    """The lines of ``own`` at the offsets of ``others`` with one response of reward ``best`` added, [n, prompts]."""
    laws = others.distinct_with_best(best, 1.0)
    judged, reward = own.law_with_best(best, 0.0)
    each = np.empty((len(rates), len(own.rewards)))
    for of_rate, rate in zip(each, rates, strict=True):
        offset = bounds.frontier_policy(*laws.below(best), rate).offset[laws.place]
        of_rate[:] = bounds.supporting_line(judged, reward - best, rate, offset)
    return each
