"""Soft values and gaps to the optimum: their bias, their ends, and what no upper end can do."""

from __future__ import annotations

import numpy as np
import pytest
from known_worlds import DELTA, LEVEL, p_value
from scipy import stats

from nondecoupling import bounds
from nondecoupling.estimate import (
    Interval,
    binary_soft_value,
    binomial_interval,
    bootstrap_interval,
    guarded_reward,
    mean_interval,
    mean_soft_value,
    optimality_gap,
    soft_value,
)
from nondecoupling.estimate.values import _bias_bound, _quadratic_coefficient

# --- bias ------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("beta", "limit"), [(1e-300, 1.0), (1e-20, 1.0), (1e15, 1 / 3), (1e300, 1 / 3)]
)
def test_soft_values_run_from_the_highest_reward_to_the_mean(beta, limit):
    """Also where e^{r/beta} over- or underflows, or is 1 up to rounding."""
    rewards = np.tile([0.0, 0.0, 1.0], 30)
    for interval in (
        soft_value(rewards, beta, (0, 1), 0.05).value,
        soft_value(rewards, beta, (-3, 8), 0.05).value,  # bounds that are not reached
        mean_soft_value(np.tile(rewards, (20, 1)), beta, (0, 1), 0.05).value,
        binary_soft_value(30, 90, beta, 0.05),
    ):
        assert interval.estimate == pytest.approx(limit)
        assert interval.low - 1e-9 <= limit <= interval.high + 1e-9


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


# --- either end, from the theorem ------------------------------------------------------------------


def f(chance, beta):
    """beta log Z of rewards 0 and 1."""
    return beta * np.log1p(chance * np.expm1(1 / beta))


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("method", ["betting", "bernstein", "time-uniform"])
def test_ends_of_a_soft_value_are_those_of_the_chance_of_success(beta, method):
    """Weights of rewards 0 and 1 are a linear function of them, and so is either end of their mean's interval."""
    rewards = (np.random.default_rng(0).random(80) < 0.3).astype(float)
    found = soft_value(rewards, beta, (0, 1), DELTA, method=method).value
    chance = mean_interval(rewards, (0, 1), DELTA, method=method)
    assert found.low == pytest.approx(f(chance.low, beta), abs=1e-9)
    assert found.high == pytest.approx(f(chance.high, beta), abs=1e-9)


@pytest.mark.parametrize("responses", [1, 2, 8])
def test_the_soft_value_of_prompts_leaves_room_for_the_largest_bias_of_binary_rewards(responses):
    beta, rng = 0.5, np.random.default_rng(0)
    rewards = (rng.random((300, responses)) < 0.3).astype(float)
    found = mean_soft_value(rewards, beta, (0, 1), DELTA).value
    plain = mean_interval(f(rewards.mean(-1), beta), (0, 1), DELTA)
    worst = max(
        beta * exact_bias(np.exp(-1 / beta), chance, responses)[0]
        for chance in np.linspace(0.001, 0.999, 200)
    )
    assert found.low == pytest.approx(plain.low, abs=1e-9)
    assert found.high >= min(plain.high + worst, 1.0) - 1e-9


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
def test_averaged_binary_soft_values_reach_both_extremes(beta):
    """Prompts that always or never succeed have J* = E P; prompts that are alike have J* = f(E P)."""
    found = binary_soft_value(30, 80, beta, DELTA, averaged=True)
    chance = binomial_interval(30, 80, DELTA)
    assert found.low == pytest.approx(chance.low)
    assert found.high == pytest.approx(f(chance.high, beta))
    one_prompt = binary_soft_value(30, 80, beta, DELTA)
    assert one_prompt.low == pytest.approx(f(chance.low, beta)) and one_prompt.high == found.high


def test_ends_of_a_gap_take_the_worst_of_both_intervals():
    reached = Interval(0.2, 0.3, 0.25, 0.04, 80, "made up")
    gap, best = optimality_gap(60, 80, reached, 0.5, DELTA), binary_soft_value(60, 80, 0.5, DELTA)
    assert gap.high == pytest.approx(best.high - 0.2) and gap.low == pytest.approx(best.low - 0.3)
    assert gap.estimate == pytest.approx(best.estimate - 0.25)
    assert gap.delta == pytest.approx(DELTA + 0.04)
    nothing = optimality_gap(1, 80, reached - 0.1, 0.5, DELTA)
    assert nothing.low == nothing.estimate == 0 and nothing.high > 0


def test_a_bias_bound_is_at_most_the_range_of_the_reward():
    for beta in (1e-300, 1e-3, 1.0, 1e9):
        found = mean_soft_value(np.zeros((4, 2)), beta, (0, 1), DELTA)
        assert 0 <= found.bias_bound <= 1 and 0 <= found.value.low <= found.value.high <= 1


# --- the gap of the guarded policy -----------------------------------------------------------------


def laws(rng, worlds, responses=5):
    """p and ref, with responses of any rarity, and rewards in [0, 1]."""
    weights = np.exp(rng.normal(size=(2, worlds, responses)) * rng.choice([1, 5, 20], (worlds, 1)))
    p, ref = weights / weights.sum(-1, keepdims=True)
    return p, ref, rng.random((worlds, responses))


def guarded(p, ref, cap):
    kept = np.log(p / ref) <= cap
    return np.where(kept, p, 0.0) + np.where(kept, 0.0, p).sum(-1, keepdims=True) * ref


def regularized_reward(p, ref, reward, beta):
    return (p * reward).sum(-1) - beta * (p * np.log(p / ref)).sum(-1)


def lower_bound(p, ref, reward, beta, cap, price_of_falling_back=1.0):
    """E_p of what ``guarded_reward`` averages; min r = 0."""
    ratio = np.log(p / ref)
    kept = reward - beta * np.maximum(ratio, -5.0)
    return (p * np.where(ratio <= cap, kept, -beta * price_of_falling_back)).sum(-1)


@pytest.mark.parametrize("cap", [-5.0, -0.1, 0.0, 1.0, 8.0, 100.0])
@pytest.mark.parametrize("beta", [0.01, 1.0, 30.0])
def test_the_guarded_policy_earns_what_its_lower_bound_says(beta, cap):
    p, ref, reward = laws(np.random.default_rng(0), 3000)
    truth = regularized_reward(guarded(p, ref, cap), ref, reward, beta)
    assert (lower_bound(p, ref, reward, beta, cap) <= truth + 1e-9 * (1 + beta)).all()


def test_falling_back_must_be_paid_for():
    """Half of p is replaced by ref, which leaves no KL: the log-ratio of the other half alone is negative."""
    p, ref = np.array([0.5, 0.5]), np.array([1 - 1e-9, 1e-9])
    reward, beta = np.zeros(2), 1.0
    truth = regularized_reward(guarded(p, ref, 3.0), ref, reward, beta)
    assert lower_bound(p, ref, reward, beta, 3.0) <= truth
    assert lower_bound(p, ref, reward, beta, 3.0, price_of_falling_back=0.0) > truth + 0.3


def test_without_a_response_above_the_cap_the_guarded_policy_is_the_policy():
    p, ref, reward = laws(np.random.default_rng(0), 1)
    ratio, rng = np.log(p / ref)[0], np.random.default_rng(1)
    chosen = rng.choice(5, p=p[0], size=4000)
    found = guarded_reward(reward[0, chosen], ratio[chosen], 0.1, (0, 1), 50.0, 0.05)
    below = -np.minimum(ratio + 5.0, 0)  # what raising log-ratios to -5 costs
    expected = regularized_reward(p, ref, reward, 0.1)[0] - 0.1 * (p[0] * below).sum()
    assert found.low < expected < found.estimate + 0.05 and not found.approximate


def test_guarded_rewards_are_averaged_over_prompts_and_may_be_watched():
    rng = np.random.default_rng(0)
    rewards, ratios = rng.random(120), rng.normal(size=120)
    prompts = np.repeat(np.arange(30), 4)
    by_prompt = guarded_reward(rewards, ratios, 0.3, (0, 1), 1.0, 0.05, prompts=prompts)
    score = np.where(ratios <= 1, rewards - 0.3 * np.maximum(ratios, -5), -0.3).reshape(30, 4)
    expected = mean_interval(score.mean(-1), (-0.3, 2.5), 0.05)
    assert by_prompt.units == 30 and by_prompt.low == pytest.approx(expected.low)
    spent = np.where(ratios <= 1, rewards, 1.0).reshape(30, 4).mean(-1)
    assert by_prompt.high == pytest.approx(mean_interval(spent, (0, 1), 0.05).high)
    watched = guarded_reward(rewards, ratios, 0.3, (0, 1), 1.0, 0.05, method="time-uniform")
    assert watched.low < guarded_reward(rewards, ratios, 0.3, (0, 1), 1.0, 0.05).low


# --- the gap of the policy itself has no upper end -------------------------------------------------


def rare_prefix(rng, worlds, exponent, n=100, rarity=1e-4):
    """What is observed of p and ref that agree but after a prefix of chance ``rarity``, where ref is e^-exponent.

    Returns the log-ratios of n responses of p for each world, and KL(p||ref).
    """
    common = np.array([0.6, 0.4]) * (1 - rarity)
    ratio = np.array([np.log(0.6 / 0.5), np.log(0.4 / 0.5), exponent])
    p = np.r_[common, rarity]
    chosen = rng.choice(3, p=p, size=(worlds, n))
    return ratio[chosen], float(p @ ratio)


def test_what_is_observed_does_not_depend_on_the_divergence():
    """The counterexample: worlds whose KL differ a thousandfold show the same samples, all but n rarity of the time."""
    near, small = rare_prefix(np.random.default_rng(0), 2000, exponent=1.0)
    far, large = rare_prefix(np.random.default_rng(0), 2000, exponent=1e6)
    assert small < 0.1 and large > 99
    different = (near != far).any(-1)
    assert p_value(different, 100 * 1e-4) >= LEVEL


def test_every_finite_upper_end_misses_where_the_guarded_policy_has_one():
    """Any function of the samples gives in both worlds the same number; only inf would cover."""
    ratios, kl = rare_prefix(np.random.default_rng(0), 300, exponent=1e6)
    by_bootstrap = bootstrap_interval(ratios, DELTA, resamples=400)
    offered = np.isfinite(by_bootstrap.high)
    assert offered.mean() > 0.9 and (by_bootstrap.high[offered] < kl).all()
    reached = guarded_reward(np.ones_like(ratios), ratios, 1.0, (0, 1), 3.0, DELTA)
    p, ref = np.array([0.6, 0.4]) * (1 - 1e-4), np.array([0.5, 0.5])
    kept = p + 1e-4 * ref
    truth = 1 - (kept * np.log(kept / ref)).sum()
    assert p_value(reached.low > truth, DELTA / 2) >= LEVEL
    assert (reached.low > 0.5 * truth).all()
