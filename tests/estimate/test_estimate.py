"""Intervals and verdicts from samples: wrong no more often than delta, and the test of that can fail.

The coverage test draws at least 2,000 small worlds whose truth is known, and counts wrong verdicts on
the two hardest claims about each: "the quantity is at least its true value", which holds, and "... at
least a hair more", which does not. An estimator passes if an exact binomial test at level 1e-3 does not
reject a rate of wrong verdicts of at most delta.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nondecoupling import bounds
from nondecoupling.estimate import (
    Interval,
    Outcome,
    binary_soft_value,
    binomial_interval,
    bootstrap_interval,
    bootstrap_intervals,
    cluster_means,
    coupling_samples,
    decide,
    detectable_effect,
    holm,
    kl_estimate,
    mean_interval,
    mean_lower_bound,
    mean_soft_value,
    optimality_gap,
    paired_differences,
    required_samples,
    sequence_totals,
    soft_value,
)
from nondecoupling.estimate.values import _bias_bound, _quadratic_coefficient

WORLDS = 2000
DELTA = 0.1
LEVEL = 1e-3
# Enough for the coverage of 2,000 worlds; a report takes the default.
RESAMPLES = 400


# --- worlds whose truth is known --------------------------------------------------------------


def bounded_worlds(rng, n):
    """Samples in [0, 1], most of them skewed, and their means: rare successes, beta laws, two levels."""
    chance = np.exp(rng.uniform(np.log(0.01), np.log(0.5), size=(WORLDS, 1)))
    shape = np.exp(rng.uniform(-2.5, 1.0, size=(2, WORLDS, 1)))
    low = rng.uniform(0.0, 0.3, size=(WORLDS, 1))
    hit = rng.random((WORLDS, n)) < chance
    kinds = [
        (hit.astype(float), chance),
        (rng.beta(*shape, size=(WORLDS, n)), shape[0] / shape.sum(0)),
        (np.where(hit, 1.0, low), low + chance * (1 - low)),
    ]
    kind = np.arange(WORLDS) % 3
    samples = np.choose(kind[:, None], [drawn for drawn, _ in kinds])
    return samples, np.choose(kind, [mean[:, 0] for _, mean in kinds])


def few_laws(rng, responses=4):
    """(ref, reward) with rewards 0 and 1 at the ends: [WORLDS, responses]."""
    ref = rng.dirichlet(np.full(responses, 0.5), size=WORLDS)
    reward = rng.random((WORLDS, responses))
    reward[:, 0], reward[:, -1] = 0.0, 1.0
    return ref, reward


def draw(rng, law, n):
    """n responses per world from ``law`` [WORLDS, k], as indices [WORLDS, n]."""
    u = rng.random((len(law), n, 1))
    return np.minimum((u > np.cumsum(law, axis=-1)[:, None, :]).sum(-1), law.shape[-1] - 1)


def grouped(rng, prompts=40, responses=12):
    """Rewards before and after of prompts that differ in difficulty and in what training did."""
    difficulty = rng.beta(0.3, 0.3, size=(WORLDS, prompts, 1))
    helped = rng.beta(0.6, 0.3, size=(WORLDS, prompts, 1))
    before, after = (
        (rng.random((WORLDS, prompts, responses)) < chance).astype(float).reshape(WORLDS, -1)
        for chance in (difficulty, helped)
    )
    return before, after, np.repeat(np.arange(prompts), responses), 2 / 3 - 1 / 2


def token_worlds(rng, n=100, steps=3, tokens=3, temperature=1.0):
    """Markov token laws p and q, responses from p (at a temperature), KL by the chain rule."""
    p, q = rng.dirichlet(np.full(tokens, 3.0), size=(2, WORLDS, tokens))
    sampler = p ** (1 / temperature)
    sampler /= sampler.sum(-1, keepdims=True)
    kl_of_state, log_ratio = (p * np.log(p / q)).sum(-1), np.log(p / q)
    world, state = np.arange(WORLDS)[:, None], np.zeros((WORLDS, n), dtype=int)
    marginal, truth = np.eye(tokens)[np.zeros(WORLDS, dtype=int)], np.zeros(WORLDS)
    token_kl, ratios = np.empty((2, WORLDS, n, steps))
    for step in range(steps):
        truth += (marginal * kl_of_state).sum(-1)
        marginal = (marginal[:, :, None] * p).sum(1)
        u = rng.random((WORLDS, n, 1))
        chosen = (u > np.cumsum(sampler[world, state], axis=-1)).sum(-1).clip(max=tokens - 1)
        token_kl[..., step] = kl_of_state[world, state]
        ratios[..., step] = log_ratio[world, state, chosen]
        state = chosen
    return token_kl, ratios, truth


# --- estimators under test: rng -> (interval, truth) at level 1 - DELTA --------------------------


def betting(rng):
    samples, truth = bounded_worlds(rng, 40)
    return mean_interval(samples, (0, 1), DELTA), truth


def bernstein(rng):
    samples, truth = bounded_worlds(rng, 100)
    return mean_interval(samples, (0, 1), DELTA, method="bernstein"), truth


def clopper_pearson(rng):
    chance = rng.random(WORLDS) ** 2
    trials = rng.integers(5, 200, size=WORLDS)
    return binomial_interval(rng.binomial(trials, chance), trials, DELTA), chance


def capped(rng):
    shape = rng.uniform(0.3, 3.0, size=(WORLDS, 1))
    return mean_lower_bound(rng.gamma(shape, size=(WORLDS, 60)), 0.0, 9.0, DELTA), shape[:, 0]


def clusters(rng):
    before, _, prompts, _ = grouped(rng)
    return mean_interval(cluster_means(before, prompts), (0, 1), DELTA), 1 / 2


def pairs(rng):
    before, after, prompts, truth = grouped(rng)
    return mean_interval(paired_differences(before, after, prompts), (-1, 1), DELTA), truth


def bootstrap(rng):
    shape = rng.uniform(3.0, 6.0, size=(WORLDS, 1))
    samples = rng.gamma(shape, size=(WORLDS, 120))
    return bootstrap_interval(samples, DELTA, resamples=RESAMPLES), shape[:, 0]


def soft(rng):
    (ref, reward), beta = few_laws(rng), 0.5
    rewards = np.take_along_axis(reward, draw(rng, ref, 60), axis=1)
    truth = beta * np.log((ref * np.exp(reward / beta)).sum(-1))
    return soft_value(rewards, beta, (0, 1), DELTA).value, truth


def soft_of_prompts(rng, prompts=50, k=4, beta=0.5):
    """Prompts are of three kinds with known soft values; q gives each kind its weight."""
    kinds, weights = np.array([0.05, 0.3, 0.8]), np.array([0.5, 0.3, 0.2])
    truth = weights @ (beta * np.log1p(kinds * np.expm1(1 / beta)))
    chance = rng.choice(kinds, p=weights, size=(WORLDS, prompts, 1))
    rewards = (rng.random((WORLDS, prompts, k)) < chance).astype(float)
    return mean_soft_value(rewards, beta, (0, 1), DELTA), truth


def binary(rng):
    chance, beta = rng.random(WORLDS) ** 2, 0.3
    truth = beta * np.log1p(chance * np.expm1(1 / beta))
    return binary_soft_value(rng.binomial(80, chance), 80, beta, DELTA), truth


def binary_average(rng):
    kinds, weights, beta = np.array([0.02, 0.5]), np.array([0.6, 0.4]), 0.3
    truth = weights @ (beta * np.log1p(kinds * np.expm1(1 / beta)))
    successes = rng.binomial(80, weights @ kinds, size=WORLDS)
    return binary_soft_value(successes, 80, beta, DELTA, averaged=True), truth


def gap(rng):
    """A policy on two answers: rewards by exact binomials, KL from its bounded log-ratio."""
    beta, n = 0.5, 80
    ref, p = rng.uniform(0.2, 0.8, size=(2, WORLDS))
    ratio_hit, ratio_miss = np.log(p / ref), np.log((1 - p) / (1 - ref))
    kl = p * ratio_hit + (1 - p) * ratio_miss
    truth = beta * np.log1p(ref * np.expm1(1 / beta)) - (p - beta * kl)
    hit = rng.random((WORLDS, n)) < p[:, None]
    score = hit - beta * np.where(hit, ratio_hit[:, None], ratio_miss[:, None])
    reach = 1 + beta * np.log(4)
    regularized = mean_interval(score, (-reach, reach), DELTA / 2)
    return optimality_gap(rng.binomial(n, ref), n, regularized, beta, DELTA / 2), truth


def kl_parts(rng):
    token_kl, ratios, truth = token_worlds(rng)
    return kl_estimate(token_kl, ratios, delta=DELTA, resamples=RESAMPLES), truth


ESTIMATORS = {
    "betting": betting,
    "empirical Bernstein": bernstein,
    "Clopper-Pearson": clopper_pearson,
    "capped lower bound": capped,
    "cluster means": clusters,
    "paired differences": pairs,
    "bootstrap": bootstrap,
    "soft value": soft,
    "mean soft value": lambda rng: (lambda s, t: (s.value, t))(*soft_of_prompts(rng)),
    "binary soft value": binary,
    "averaged binary soft value": binary_average,
    "optimality gap": gap,
    "KL, Rao-Blackwellised": lambda rng: (lambda e, t: (e.rao_blackwellised, t))(*kl_parts(rng)),
    "KL, log-ratio": lambda rng: (lambda e, t: (e.log_ratio, t))(*kl_parts(rng)),
    "KL, sampler against scorer": lambda rng: (kl_parts(rng)[0].difference, 0.0),
}

# A limit on one side has no more than half of delta to spend.
ALLOWED = {"capped lower bound": DELTA / 2, "a limit too high": DELTA / 2}


# --- intervals that are too short ------------------------------------------------------------------


def normal(rng):
    """Mean +- z standard errors, at 20 skewed samples."""
    samples, truth = bounded_worlds(rng, 20)
    mean = samples.mean(-1)
    half = stats.norm.ppf(1 - DELTA / 2) * samples.std(-1, ddof=1) / np.sqrt(20)
    return Interval(mean - half, mean + half, mean, DELTA, 20, "normal"), truth


def half_width(rng):
    interval, truth = betting(rng)
    quarter = interval.width / 4
    return replace(interval, low=interval.low + quarter, high=interval.high - quarter), truth


def lenient_level(rng):
    """The exact intervals for delta = 0.3, sold as those for 0.1."""
    chance = rng.random(WORLDS)
    successes = rng.binomial(100, chance)
    return replace(binomial_interval(successes, 100, 3 * DELTA), delta=DELTA), chance


def responses_as_units(rng):
    """The difference per response, as if responses to one prompt were independent."""
    before, after, _, truth = grouped(rng)
    return mean_interval(after - before, (-1, 1), DELTA), truth


def no_bias_bound(rng):
    """The soft value of prompts without room for Jensen's bias, at two responses each."""
    estimate, truth = soft_of_prompts(rng, prompts=200, k=2, beta=0.2)
    raised = np.minimum(estimate.value.high - estimate.bias_bound, 1.0)
    return replace(estimate.value, high=np.maximum(raised, estimate.value.low)), truth


def limit_too_high(rng):
    """Half way from the lower limit to the sample mean."""
    interval, truth = capped(rng)
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


def p_value(wrong, delta=DELTA):
    """Of the exact binomial test of "the rate of wrong verdicts is at most delta"."""
    return stats.binomtest(int(wrong.sum()), wrong.size, delta, alternative="greater").pvalue


@pytest.mark.parametrize("name", ESTIMATORS)
def test_verdicts_are_wrong_no_more_often_than_delta(name):
    interval, truth = ESTIMATORS[name](np.random.default_rng(20))
    wrong = wrong_verdicts(interval, truth)
    assert wrong.size >= 2000 and interval.delta == pytest.approx(DELTA)
    allowed = ALLOWED.get(name, DELTA)
    assert p_value(wrong, allowed) >= LEVEL, f"{name}: {wrong.mean():.3f} wrong, allowed {allowed}"


@pytest.mark.parametrize("name", TOO_SHORT)
def test_an_interval_that_is_too_short_fails_the_same_test(name):
    interval, truth = TOO_SHORT[name](np.random.default_rng(20))
    assert p_value(wrong_verdicts(interval, truth), ALLOWED.get(name, DELTA)) < LEVEL


# --- several statements ----------------------------------------------------------------------------


def family(rng):
    """Eight statements per world about rates: some barely true, some barely false, some clear."""
    thresholds = np.full(8, 0.4)
    rates = np.array([0.4, 0.4, 0.4, 0.399, 0.399, 0.399, 0.6, 0.2])
    successes = rng.binomial(100, rates, size=(WORLDS, 8))
    margins = [
        lambda delta, j=j: binomial_interval(successes[:, j], 100, delta) - thresholds[j]
        for j in range(8)
    ]
    truth = np.where(rates >= thresholds, Outcome.VIOLATED, Outcome.CONFIRMED)
    return margins, truth


def test_holm_keeps_all_verdicts_right_together():
    margins, wrong_side = family(np.random.default_rng(3))
    outcomes = holm(margins, DELTA)
    assert p_value((outcomes == wrong_side).any(-1)) >= LEVEL
    one_by_one = np.stack([decide(margin(DELTA)) for margin in margins], axis=-1)
    assert p_value((one_by_one == wrong_side).any(-1)) < LEVEL  # the correction is needed


def test_holm_decides_more_than_bonferroni_and_less_than_none():
    successes = np.random.default_rng(3).binomial(
        100, [0.65, 0.65, 0.65, 0.15, 0.15, 0.55, 0.54, 0.53], size=(WORLDS, 8)
    )
    margins = [
        lambda delta, j=j: binomial_interval(successes[:, j], 100, delta) - 0.4 for j in range(8)
    ]
    decided = (holm(margins, DELTA) != Outcome.INCONCLUSIVE).sum()
    bonferroni = sum((decide(m(DELTA / 8)) != Outcome.INCONCLUSIVE).sum() for m in margins)
    alone = sum((decide(m(DELTA)) != Outcome.INCONCLUSIVE).sum() for m in margins)
    assert bonferroni < decided < alone


def test_holm_on_equalities_pays_for_both_ends():
    def margin(delta):
        return Interval(0.02 - delta / 2, 1.0, 0.5, delta, 10, "made up")

    assert decide(margin(0.04), "==") == Outcome.INCONCLUSIVE
    assert holm([margin], 0.06)[0] == Outcome.INCONCLUSIVE
    assert holm([margin], 0.06, "==")[0] == Outcome.VIOLATED  # its interval at 0.03 excludes 0


# --- what the intervals are worth ---------------------------------------------------------------


def test_betting_is_narrower_than_empirical_bernstein():
    samples, _ = bounded_worlds(np.random.default_rng(0), 100)
    widths = [
        mean_interval(samples, (0, 1), DELTA, method=m).width for m in ("betting", "bernstein")
    ]
    assert np.mean(widths[0]) < 0.7 * np.mean(widths[1])
    assert (widths[0] < widths[1]).mean() > 0.95


def test_betting_agrees_with_a_grid_of_gamblers():
    """The definition, evaluated on a grid of means without bisection."""
    x, delta, grid = np.random.default_rng(5).beta(0.5, 2.0, size=30), 0.1, np.linspace(0, 1, 4001)
    kept = []
    for m in grid[1:-1]:
        mean, squares, up, down, richest = 0.5, 0.25, 1.0, 1.0, 1.0
        for seen, value in enumerate(x, start=1):
            stake = np.sqrt(2 * np.log(2 / delta) / (len(x) * squares / seen))
            up *= 1 + min(stake, 0.5 / m) * (value - m)
            down *= 1 - min(stake, 0.5 / (1 - m)) * (value - m)
            richest = max(richest, up, down)
            mean = (0.5 + x[:seen].sum()) / (seen + 1)
            squares += (value - mean) ** 2
        if richest < 2 / delta:
            kept.append(m)
    interval = mean_interval(x, (0, 1), delta)
    step = grid[1] - grid[0]
    assert interval.low == pytest.approx(kept[0], abs=step)
    assert interval.high == pytest.approx(kept[-1], abs=step)


@pytest.mark.parametrize("method", ["betting", "bernstein"])
def test_mean_intervals_scale_and_mirror(method):
    x = np.random.default_rng(0).random((3, 50))
    plain = mean_interval(x, (0, 1), 0.05, method=method)
    moved = mean_interval(7 - 2 * x, (5, 7), 0.05, method=method)
    np.testing.assert_allclose(moved.low, 7 - 2 * plain.high, atol=1e-9)
    np.testing.assert_allclose(moved.high, 7 - 2 * plain.low, atol=1e-9)
    one = mean_interval(x[1], (0, 1), 0.05, method=method)
    assert (one.low, one.high) == (plain.low[1], plain.high[1])


def test_too_few_resamples_about_a_tail_say_nothing():
    """Instead of the smallest and largest resample, whatever the level."""
    samples = np.random.default_rng(0).gamma(4.0, size=60)
    at = bootstrap_intervals(samples, resamples=1000)
    assert np.isfinite(at(0.01).width)
    assert (at(0.009).low, at(0.009).high) == (-np.inf, np.inf)


def test_clopper_pearson_is_scipys():
    for k, n in [(0, 5), (5, 5), (3, 17), (1, 1)]:
        expected = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        found = binomial_interval(k, n, 0.05)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_single_sample_or_a_constant_one_decides_nothing_by_itself():
    single = mean_interval([0.5], (0, 1), 0.05, method="bernstein")
    assert (single.low, single.high) == (0, 1)
    constant = bootstrap_interval(np.ones((2, 9)), 0.05)
    assert np.isneginf(constant.low).all() and np.isposinf(constant.high).all()
    assert (decide(constant) == Outcome.INCONCLUSIVE).all()


def test_cluster_means_survive_rounding_and_unequal_groups():
    values = np.array([0.1, 0.1, 0.1, 0.7])
    assert cluster_means(values, ["x", "x", "x", "y"]).tolist() == [0.1, 0.7]
    assert np.mean([0.1, 0.1, 0.1]) > 0.1  # what rounding alone would have done to the bounds


def test_pairing_shortens_the_interval():
    rng = np.random.default_rng(0)
    before = rng.random(300)
    after = np.clip(before + 0.05 * rng.random(300), 0, 1)
    paired = mean_interval(paired_differences(before, after, np.arange(300)), (-1, 1), 0.05)
    apart = mean_interval(after, (0, 1), 0.025) - mean_interval(before, (0, 1), 0.025)
    assert paired.width < 0.6 * apart.width and apart.delta == pytest.approx(0.05)


def test_torch_samples_are_taken():
    torch = pytest.importorskip("torch")
    samples = torch.rand(40, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    interval = mean_interval(samples.requires_grad_(), (0, 1), 0.05)
    assert interval == mean_interval(samples.detach().double().numpy(), (0, 1), 0.05)


# --- soft values ------------------------------------------------------------------------------------


def exact_bias(least, chance, count):
    """log Z - E log mean(w) for weights in {least, 1}, by summing over the binomial law."""
    hits = np.arange(count + 1)
    mean = least + (1 - least) * hits / count
    z = least + (1 - least) * chance
    return np.log(z) - stats.binom.pmf(hits, count, chance) @ np.log(mean), z


@pytest.mark.parametrize("count", [1, 2, 5, 50, 2000])
@pytest.mark.parametrize("least", [1e-6, 0.01, 0.3, 0.9])
@pytest.mark.parametrize("chance", [0.001, 0.1, 0.5, 0.97])
def test_the_bias_of_the_soft_value_is_bounded(count, least, chance):
    bias, z = exact_bias(least, chance, count)
    bound = float(_bias_bound(np.log(least), np.asarray(z), np.asarray(z), count))
    assert 0 <= bias <= bound * (1 + 1e-9)
    wider = _bias_bound(np.log(least), np.asarray(0.9 * z), np.asarray(min(1.1 * z, 1.0)), count)
    assert bound <= wider * (1 + 1e-9)


def test_the_bias_bound_cannot_be_that_of_the_delta_method():
    bias, z = exact_bias(0.01, 0.1, 5)
    assert bias > (z - 0.01) * (1 - z) / (2 * 5 * z * z)  # Var(w)/(2 n Z^2)
    bias, z = exact_bias(0.9, 0.5, 2000)  # and it is near the truth where weights differ little
    bound = _bias_bound(np.log(0.9), np.asarray(z), np.asarray(z), 2000)
    assert bound < 1.1 * bias


def test_the_coefficient_of_the_bias_is_continuous_where_its_series_begins():
    ends = _quadratic_coefficient(np.array([1 - 1.01e-4, 1 - 0.99e-4]))
    assert ends[0] == pytest.approx(ends[1], abs=1e-6) and ends[0] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("beta", [1e-4, 0.01, 0.9, 1.1, 1e6])
def test_soft_values_agree_with_bounds_at_any_beta(beta):
    rewards = np.tile([0.0, 0.0, 1.0], 30)
    exact = beta * float(bounds.log_partition(np.log([2 / 3, 1 / 3]), np.array([0.0, 1.0]), beta))
    for interval in (
        soft_value(rewards, beta, (0, 1), 0.05).value,
        mean_soft_value(np.tile(rewards, (20, 1)), beta, (0, 1), 0.05).value,
        binary_soft_value(30, 90, beta, 0.05),
    ):
        assert interval.estimate == pytest.approx(exact, rel=1e-9)
        assert 0 <= interval.low <= exact <= interval.high <= 1


def test_effective_samples_fall_when_few_responses_carry_the_weight():
    rewards = np.r_[np.zeros(99), 1.0]
    assert soft_value(rewards, 100.0, (0, 1), 0.05).effective_samples == pytest.approx(
        100, rel=1e-3
    )
    assert soft_value(rewards, 0.01, (0, 1), 0.05).effective_samples == pytest.approx(1)


def test_the_gap_is_the_divergence_from_the_tilt():
    ref, p, r, beta = np.log([0.6, 0.4]), np.log([0.3, 0.7]), np.array([0.0, 1.0]), 0.7
    known = Interval(*[float(bounds.regularized_reward(p, ref, r, beta))] * 3, 0.01, 10**6, "exact")
    found = optimality_gap(400_000, 1_000_000, known, beta, 0.04)
    expected = beta * float(bounds.kl_divergence(p, bounds.gibbs_tilt(ref, r, beta)))
    assert found.estimate == pytest.approx(expected) and found.contains(expected)
    assert found.delta == pytest.approx(0.05) and found.width < 0.01


# --- KL ---------------------------------------------------------------------------------------------


def test_per_token_kl_has_the_smaller_variance():
    token_kl, ratios, truth = token_worlds(np.random.default_rng(0))
    spread = sequence_totals(token_kl).std(-1).mean(), sequence_totals(ratios).std(-1).mean()
    assert spread[0] < 0.4 * spread[1]
    assert sequence_totals(token_kl).mean() == pytest.approx(truth.mean(), rel=0.01)


def test_a_sampler_at_another_temperature_is_found():
    token_kl, ratios, _ = token_worlds(np.random.default_rng(0), n=400, temperature=0.6)
    few = slice(0, 200)
    estimate = kl_estimate(token_kl[few], ratios[few], delta=0.05, resamples=RESAMPLES)
    assert (decide(estimate.difference, "==") == Outcome.VIOLATED).mean() > 0.5


def test_padding_is_ignored_and_prompts_are_the_units():
    rng = np.random.default_rng(0)
    token_kl, ratios = rng.random((12, 5)), rng.normal(size=(12, 5))
    mask = np.arange(5) < rng.integers(1, 6, size=(12, 1))
    padded = [np.where(mask, values, np.nan) for values in (token_kl, ratios)]
    prompts = np.repeat(np.arange(4), 3)
    estimate = kl_estimate(*padded, mask, prompts=prompts, delta=0.1, resamples=200)
    assert estimate.rao_blackwellised.units == 4
    assert estimate.rao_blackwellised.estimate == pytest.approx((token_kl * mask).sum(-1).mean())


# --- planning ---------------------------------------------------------------------------------------


def test_planned_samples_confirm_as_often_as_promised():
    rng, effect = np.random.default_rng(1), 0.15
    chance = (1 + effect) / 2
    n = int(required_samples(effect, 1.0, 0.05, power=0.9))
    samples = np.where(rng.random((2000, n)) < chance, 1.0, -1.0)
    z = stats.norm.ppf(0.975)
    lower = samples.mean(-1) - z * samples.std(-1) / np.sqrt(n)
    assert (lower > 0).mean() == pytest.approx(0.9, abs=0.03)
    n = int(required_samples(effect, 1.0, 0.05, power=0.9, bounds=(-1, 1)))
    samples = np.where(rng.random((500, n)) < chance, 1.0, -1.0)
    margin = mean_interval(samples, (-1, 1), 0.05, method="bernstein")
    assert (decide(margin) == Outcome.CONFIRMED).mean() == pytest.approx(0.9, abs=0.06)


def test_plans_agree_with_each_other():
    n = required_samples(np.array([0.1, 0.02]), 0.5, 0.05, 0.8)
    assert (detectable_effect(n, 0.5, 0.05, 0.8) <= [0.1, 0.02]).all()
    assert (detectable_effect(n - 1, 0.5, 0.05, 0.8) > [0.1, 0.02]).all()
    d, r, beta = np.log([0.7, 0.3]), np.array([0.0, 1.0]), 5.0
    change = float(bounds.coupling_gap(d, r, beta))
    direct = required_samples(change, np.sqrt(0.21) / beta, 0.05)
    assert np.ceil(coupling_samples(d, r, beta, 0.05)) == direct


# --- input ------------------------------------------------------------------------------------------

ONES, GOOD = np.ones(4), Interval(0.0, 1.0, 0.5, 0.5, 3, "made up")
BAD_INPUT = {
    "above": (lambda: mean_interval([0.5, 1.5], (0, 1), 0.05), r"samples\[1\]=1.5: outside bounds"),
    "nan": (
        lambda: mean_interval([[0.5, np.nan]], (0, 1), 0.05),
        r"samples\[0, 1\]=nan: must be fi",
    ),
    "empty": (
        lambda: mean_interval([], (0, 1), 0.05),
        r"samples has shape \(0,\): needs at least 1",
    ),
    "text": (lambda: mean_interval(["a"], (0, 1), 0.05), "samples=.*not a real array"),
    "scalar": (lambda: mean_interval(0.5, (0, 1), 0.05), r"samples has shape \(\)"),
    "bounds": (lambda: mean_interval(ONES, (1, 1), 0.05), r"bounds=\(1.0, 1.0\)"),
    "one bound": (lambda: mean_interval(ONES, 3, 0.05), "bounds=3: give two numbers"),
    "method": (lambda: mean_interval(ONES, (0, 1), 0.05, method="t"), "method='t': choose one of"),
    "delta 0": (lambda: mean_interval(ONES, (0, 1), 0.0), r"delta=0.0: must lie strictly"),
    "delta 1": (lambda: binomial_interval(1, 2, 1.0), r"delta=1.0"),
    "delta nan": (lambda: bootstrap_interval(ONES, np.nan), r"delta=nan"),
    "floor": (lambda: mean_lower_bound([-1.0], 0, 1, 0.05), r"samples\[0\]=-1.0: outside"),
    "too many": (lambda: binomial_interval(3, 2, 0.05), "successes=3 of trials=2"),
    "half": (lambda: binomial_interval(0.5, 2, 0.05), "successes=0.5: must be a whole number"),
    "no trials": (lambda: binomial_interval(0, 0, 0.05), "trials=0.0: .* at least 1"),
    "one unit": (lambda: bootstrap_interval([1.0], 0.05), "at least 2 samples"),
    "resamples": (lambda: bootstrap_interval(ONES, 0.05, resamples=5), "resamples=5"),
    "labels": (lambda: cluster_means(ONES, [1, 2]), r"prompts of values has shape \(2,\)"),
    "unpaired": (lambda: paired_differences(ONES, ONES, [1, 1, 2, 2], [1, 1, 1, 1]), "prompts: 2 "),
    "beta": (lambda: soft_value(ONES, 0.0, (0, 1), 0.05), "beta=0.0: must be one positive"),
    "reward": (lambda: soft_value(ONES, 1.0, (0, 0.5), 0.05), "outside reward_bounds"),
    "one axis": (lambda: mean_soft_value(ONES, 1.0, (0, 1), 0.05), "rewards .*at least 2 axes"),
    "gap delta": (
        lambda: optimality_gap(1, 2, GOOD, 1.0, 0.5),
        r"delta \+ regularized_reward.delta",
    ),
    "no tokens": (
        lambda: sequence_totals(np.ones((2, 2)), [[1, 0], [0, 0]]),
        r"mask\[1\] keeps no",
    ),
    "mask shape": (lambda: sequence_totals(np.ones((2, 2)), [1, 0]), "mask has shape"),
    "mask values": (lambda: sequence_totals(np.ones((1, 2)), [[1, 2]]), "mask has other values"),
    "negative": (
        lambda: kl_estimate([[-1.0]], [[0.0]], delta=0.1),
        r"token_kl\[0, 0\]=-1.0: a KL is",
    ),
    "rows": (
        lambda: kl_estimate(np.ones((2, 1)), np.ones((3, 1)), delta=0.1),
        "the same responses",
    ),
    "effect": (lambda: required_samples(0.0, 1.0, 0.05), "effect=0.0: must be positive"),
    "sd": (lambda: detectable_effect(9, -1.0, 0.05), "sd=-1.0"),
    "power": (lambda: detectable_effect(9, 1.0, 0.05, power=1.0), "power=1.0"),
    "relation": (lambda: decide(GOOD, "<="), "relation='<='"),
    "tolerance": (lambda: decide(GOOD, tolerance=-1.0), "tolerance=-1.0"),
    "upside down": (lambda: Interval(1.0, 0.0, 0.5, 0.1, 1, "made up"), "low=1.0, high=0.0"),
    "nan end": (lambda: GOOD + np.nan, "low=nan"),
    "no margins": (lambda: holm([], 0.05), "margins is empty"),
    "relations": (lambda: holm([lambda _: GOOD], 0.05, [">=", ">="]), "relations has 2 entries"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named_with_its_remedy(case):
    call, message = BAD_INPUT[case]
    with pytest.raises(ValueError, match=message):
        call()
