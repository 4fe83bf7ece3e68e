"""Small worlds whose truth is known, estimators on them, and intervals that are too short.

An estimator is a function of (rng, worlds) that returns an interval for each of so many worlds, and the
truth. The verdicts judged are those on the two hardest claims about each: "the quantity is at least
its true value", which holds, and "... at least a hair more", which does not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from nondecoupling.estimate import (
    Interval,
    Outcome,
    binary_soft_value,
    binomial_interval,
    bootstrap_interval,
    cluster_means,
    decide,
    guarded_reward,
    kl_estimate,
    mean_interval,
    mean_lower_bound,
    mean_soft_value,
    optimality_gap,
    paired_differences,
    soft_value,
)

DELTA = 0.1
LEVEL = 1e-3
# Enough for the coverage of a few thousand worlds; a report takes the default.
RESAMPLES = 400


# --- worlds whose truth is known --------------------------------------------------------------


def bounded_worlds(rng, worlds, n):
    """Samples in [0, 1], most of them skewed, and their means: rare successes, beta laws, two levels."""
    chance = np.exp(rng.uniform(np.log(0.01), np.log(0.5), size=(worlds, 1)))
    shape = np.exp(rng.uniform(-2.5, 1.0, size=(2, worlds, 1)))
    low = rng.uniform(0.0, 0.3, size=(worlds, 1))
    hit = rng.random((worlds, n)) < chance
    kinds = [
        (hit.astype(float), chance),
        (rng.beta(*shape, size=(worlds, n)), shape[0] / shape.sum(0)),
        (np.where(hit, 1.0, low), low + chance * (1 - low)),
    ]
    kind = np.arange(worlds) % 3
    samples = np.choose(kind[:, None], [drawn for drawn, _ in kinds])
    return samples, np.choose(kind, [mean[:, 0] for _, mean in kinds])


def few_laws(rng, worlds, responses=4):
    """(ref, reward) with rewards 0 and 1 at the ends: [worlds, responses]."""
    ref = rng.dirichlet(np.full(responses, 0.5), size=worlds)
    reward = rng.random((worlds, responses))
    reward[:, 0], reward[:, -1] = 0.0, 1.0
    return ref, reward


def draw(rng, law, n):
    """n responses per world from ``law`` [worlds, k], as indices [worlds, n]."""
    u = rng.random((len(law), n, 1))
    return np.minimum((u > np.cumsum(law, axis=-1)[:, None, :]).sum(-1), law.shape[-1] - 1)


def grouped(rng, worlds, prompts=40, responses=12):
    """Rewards before and after of prompts that differ in difficulty and in what training did."""
    difficulty = rng.beta(0.3, 0.3, size=(worlds, prompts, 1))
    helped = rng.beta(0.6, 0.3, size=(worlds, prompts, 1))
    before, after = (
        (rng.random((worlds, prompts, responses)) < chance).astype(float).reshape(worlds, -1)
        for chance in (difficulty, helped)
    )
    return before, after, np.repeat(np.arange(prompts), responses), 2 / 3 - 1 / 2


def token_worlds(rng, worlds, n=100, steps=3, tokens=3, temperature=1.0):
    """Markov token laws p and q, responses from p (at a temperature), KL by the chain rule."""
    p, q = rng.dirichlet(np.full(tokens, 3.0), size=(2, worlds, tokens))
    sampler = p ** (1 / temperature)
    sampler /= sampler.sum(-1, keepdims=True)
    kl_of_state, log_ratio = (p * np.log(p / q)).sum(-1), np.log(p / q)
    world, state = np.arange(worlds)[:, None], np.zeros((worlds, n), dtype=int)
    marginal, truth = np.eye(tokens)[np.zeros(worlds, dtype=int)], np.zeros(worlds)
    token_kl, ratios = np.empty((2, worlds, n, steps))
    for step in range(steps):
        truth += (marginal * kl_of_state).sum(-1)
        marginal = (marginal[:, :, None] * p).sum(1)
        u = rng.random((worlds, n, 1))
        chosen = (u > np.cumsum(sampler[world, state], axis=-1)).sum(-1).clip(max=tokens - 1)
        token_kl[..., step] = kl_of_state[world, state]
        ratios[..., step] = log_ratio[world, state, chosen]
        state = chosen
    return token_kl, ratios, truth


# --- estimators under test: rng -> (interval, truth) at level 1 - DELTA --------------------------


def betting(rng, worlds):
    samples, truth = bounded_worlds(rng, worlds, 40)
    return mean_interval(samples, (0, 1), DELTA), truth


def bernstein(rng, worlds):
    samples, truth = bounded_worlds(rng, worlds, 100)
    return mean_interval(samples, (0, 1), DELTA, method="bernstein"), truth


def clopper_pearson(rng, worlds):
    chance = rng.random(worlds) ** 2
    trials = rng.integers(5, 200, size=worlds)
    return binomial_interval(rng.binomial(trials, chance), trials, DELTA), chance


def capped(rng, worlds):
    shape = rng.uniform(0.3, 3.0, size=(worlds, 1))
    return mean_lower_bound(rng.gamma(shape, size=(worlds, 60)), 0.0, 9.0, DELTA), shape[:, 0]


def clusters(rng, worlds):
    before, _, prompts, _ = grouped(rng, worlds)
    return mean_interval(cluster_means(before, prompts), (0, 1), DELTA), 1 / 2


def pairs(rng, worlds):
    before, after, prompts, truth = grouped(rng, worlds)
    return mean_interval(paired_differences(before, after, prompts), (-1, 1), DELTA), truth


def bootstrap(rng, worlds):
    shape = rng.uniform(3.0, 6.0, size=(worlds, 1))
    samples = rng.gamma(shape, size=(worlds, 120))
    return bootstrap_interval(samples, DELTA, resamples=RESAMPLES), shape[:, 0]


def soft(rng, worlds):
    (ref, reward), beta = few_laws(rng, worlds), 0.5
    rewards = np.take_along_axis(reward, draw(rng, ref, 60), axis=1)
    truth = beta * np.log((ref * np.exp(reward / beta)).sum(-1))
    return soft_value(rewards, beta, (0, 1), DELTA).value, truth


def soft_of_prompts(rng, worlds, prompts=50, k=4, beta=0.5):
    """Prompts are of three kinds with known soft values; q gives each kind its weight."""
    kinds, weights = np.array([0.05, 0.3, 0.8]), np.array([0.5, 0.3, 0.2])
    truth = weights @ (beta * np.log1p(kinds * np.expm1(1 / beta)))
    chance = rng.choice(kinds, p=weights, size=(worlds, prompts, 1))
    rewards = (rng.random((worlds, prompts, k)) < chance).astype(float)
    return mean_soft_value(rewards, beta, (0, 1), DELTA), truth


def binary(rng, worlds):
    chance, beta = rng.random(worlds) ** 2, 0.3
    truth = beta * np.log1p(chance * np.expm1(1 / beta))
    return binary_soft_value(rng.binomial(80, chance), 80, beta, DELTA), truth


def binary_average(rng, worlds):
    kinds, weights, beta = np.array([0.02, 0.5]), np.array([0.6, 0.4]), 0.3
    truth = weights @ (beta * np.log1p(kinds * np.expm1(1 / beta)))
    successes = rng.binomial(80, weights @ kinds, size=worlds)
    return binary_soft_value(successes, 80, beta, DELTA, averaged=True), truth


def gap(rng, worlds):
    """A policy on two answers: rewards by exact binomials, KL from its bounded log-ratio."""
    beta, n = 0.5, 80
    ref, p = rng.uniform(0.2, 0.8, size=(2, worlds))
    ratio_hit, ratio_miss = np.log(p / ref), np.log((1 - p) / (1 - ref))
    kl = p * ratio_hit + (1 - p) * ratio_miss
    truth = beta * np.log1p(ref * np.expm1(1 / beta)) - (p - beta * kl)
    hit = rng.random((worlds, n)) < p[:, None]
    score = hit - beta * np.where(hit, ratio_hit[:, None], ratio_miss[:, None])
    reach = 1 + beta * np.log(4)
    regularized = mean_interval(score, (-reach, reach), DELTA / 2)
    return optimality_gap(rng.binomial(n, ref), n, regularized, beta, DELTA / 2), truth


def guarded_gap(rng, worlds, n=120, beta=0.5, cap=2.0):
    """The gap of the guarded policy; a fifth of p's responses are ones that ref hardly makes."""
    ref, p = rng.dirichlet(np.ones(4), size=(2, worlds))
    ref[:, 0] = np.exp(-rng.uniform(5, 60, size=worlds))
    ref /= ref.sum(-1, keepdims=True)
    p = 0.8 * p + 0.2 * np.eye(4)[0]
    ratio, reward = np.log(p / ref), np.array([1.0, 1.0, 0.0, 0.0])
    guarded = np.where(ratio <= cap, p, 0.0)
    guarded += (1 - guarded.sum(-1, keepdims=True)) * ref
    kl = (guarded * np.log(guarded / ref)).sum(-1)
    best = beta * np.log((ref * np.exp(reward / beta)).sum(-1))
    truth = best - (guarded @ reward - beta * kl)
    chosen = draw(rng, p, n)
    ratios = np.take_along_axis(ratio, chosen, axis=1)
    reached = guarded_reward(reward[chosen], ratios, beta, (0, 1), cap, DELTA / 2)
    return optimality_gap(rng.binomial(n, ref @ reward), n, reached, beta, DELTA / 2), truth


def time_uniform(rng, worlds):
    samples, truth = bounded_worlds(rng, worlds, 40)
    return mean_interval(samples, (0, 1), DELTA, method="time-uniform"), truth


def kl_parts(rng, worlds):
    token_kl, ratios, truth = token_worlds(rng, worlds)
    return kl_estimate(token_kl, ratios, delta=DELTA, resamples=RESAMPLES), truth


def part_of(make, part):
    """One interval of those that an estimate consists of."""

    def estimator(rng, worlds):
        estimate, truth = make(rng, worlds)
        return getattr(estimate, part), 0.0 if part == "difference" else truth

    return estimator


ESTIMATORS = {
    "betting": betting,
    "time-uniform betting": time_uniform,
    "empirical Bernstein": bernstein,
    "Clopper-Pearson": clopper_pearson,
    "capped lower bound": capped,
    "cluster means": clusters,
    "paired differences": pairs,
    "bootstrap": bootstrap,
    "soft value": soft,
    "mean soft value": part_of(soft_of_prompts, "value"),
    "binary soft value": binary,
    "averaged binary soft value": binary_average,
    "optimality gap": gap,
    "gap of the guarded policy": guarded_gap,
    "KL, Rao-Blackwellised": part_of(kl_parts, "rao_blackwellised"),
    "KL, log-ratio": part_of(kl_parts, "log_ratio"),
    "KL, difference of the two": part_of(kl_parts, "difference"),
}


# --- intervals that are too short ------------------------------------------------------------------


def normal(rng, worlds):
    """Mean +- z standard errors, at 20 skewed samples."""
    samples, truth = bounded_worlds(rng, worlds, 20)
    mean = samples.mean(-1)
    half = stats.norm.ppf(1 - DELTA / 2) * samples.std(-1, ddof=1) / np.sqrt(20)
    return Interval(mean - half, mean + half, mean, DELTA, 20, "normal"), truth


def half_width(rng, worlds):
    interval, truth = betting(rng, worlds)
    quarter = interval.width / 4
    return replace(interval, low=interval.low + quarter, high=interval.high - quarter), truth


def lenient_level(rng, worlds):
    """The exact intervals for delta = 0.3, sold as those for 0.1."""
    chance = rng.random(worlds)
    successes = rng.binomial(100, chance)
    return replace(binomial_interval(successes, 100, 3 * DELTA), delta=DELTA), chance


def responses_as_units(rng, worlds):
    """The difference per response, as if responses to one prompt were independent."""
    before, after, _, truth = grouped(rng, worlds)
    return mean_interval(after - before, (-1, 1), DELTA), truth


def no_bias_bound(rng, worlds):
    """The soft value of prompts without room for Jensen's bias, at two responses each."""
    estimate, truth = soft_of_prompts(rng, worlds, prompts=200, k=2, beta=0.2)
    raised = np.minimum(estimate.value.high - estimate.bias_bound, 1.0)
    return replace(estimate.value, high=np.maximum(raised, estimate.value.low)), truth


def limit_too_high(rng, worlds):
    """Half way from the lower limit to the sample mean."""
    interval, truth = capped(rng, worlds)
    return replace(interval, low=(interval.low + interval.estimate) / 2), truth


TOO_SHORT = {
    "a limit too high": limit_too_high,
    "normal": normal,
    "half of the width": half_width,
    "a lenient level": lenient_level,
    "responses as units": responses_as_units,
    "no bias bound": no_bias_bound,
}


def wrong_verdicts(interval, truth):
    """Per world, whether a verdict on "at least the truth" or "at least a hair more" is wrong."""
    hair = 1e-9 * (1 + np.abs(truth))
    holds, fails = decide(interval - truth), decide(interval - (truth + hair))
    return (holds == Outcome.VIOLATED) | (fails == Outcome.CONFIRMED)


def missed_ends(interval, truth):
    """Per world, whether the truth lies below the lower end, and above the upper end."""
    return {"lower": truth < interval.low, "upper": interval.high < truth}


def p_value(wrong, delta=DELTA):
    """Of the exact binomial test of "the rate of mistakes is at most delta"."""
    return stats.binomtest(int(wrong.sum()), wrong.size, delta, alternative="greater").pvalue
