"""Limits at every look hold for policies that change, and variants that promise too much are seen to fail."""

import numpy as np
import pytest
from scipy.stats import binomtest

from nondecoupling.estimate import mean_interval
from nondecoupling.monitor import average_interval, rise_lower_limit, share_of

DELTA = 0.2
RUNS = 600


def too_often(misses, runs, allowed):
    """Whether more misses than allowed cannot be chance."""
    return binomtest(int(misses), int(runs), allowed, alternative="greater").pvalue < 1e-4


def drifting(rng, length):
    """Rewards whose mean follows the rewards before: a policy that learns from what it drew."""
    means, drawn, mean = [], [], 0.3
    for _ in range(length):
        means.append(mean)
        drawn.append(float(rng.random() < mean))
        mean = min(max(mean + (0.01 if drawn[-1] else -0.004), 0.05), 0.95)
    return np.array(drawn), np.array(means)


@pytest.mark.parametrize("length", [10, 60])
def test_an_interval_covers_the_average_of_changing_means(length):
    rng = np.random.default_rng(0)
    low = high = 0
    for _ in range(RUNS):
        drawn, means = drifting(rng, length)
        found = average_interval(drawn, (0, 1), DELTA)
        low += found.low > means.mean()
        high += found.high < means.mean()
    assert not too_often(low, RUNS, DELTA / 2) and not too_often(high, RUNS, DELTA / 2)


LOOKS = 40


def wrong_at_some_look(rng, interval):
    """Of a run with windows of 20 samples each: whether the interval of any of them misses the mean."""
    drawn = (rng.random((LOOKS, 20)) < 0.3).astype(float)
    ends = [interval(one, number) for number, one in enumerate(drawn, start=1)]
    return any(not low <= 0.3 <= high for low, high in ends)


def with_its_share(one, number):
    found = average_interval(one, (0, 1), share_of(DELTA, number))
    return found.low, found.high


def from_its_standard_error(one, number):
    margin = 1.28 * one.std(ddof=1) / np.sqrt(len(one))  # right at a single look, nearly
    return one.mean() - margin, one.mean() + margin


def test_shares_hold_over_all_looks_and_a_standard_error_does_not():
    rng, runs = np.random.default_rng(1), 60
    held = sum(wrong_at_some_look(rng, with_its_share) for _ in range(runs))
    assert not too_often(held, runs, DELTA)
    usual = sum(wrong_at_some_look(rng, from_its_standard_error) for _ in range(runs))
    assert too_often(usual, runs, DELTA)


def test_an_interval_for_one_mean_is_wrong_about_a_policy_that_moves():
    """Why time-uniform betting does not watch a run: it averages over policies that are gone."""
    rng, runs = np.random.default_rng(2), 60
    drawn = (rng.random((runs, 150)) < np.linspace(0.05, 0.95, 150)).astype(float)
    found = mean_interval(drawn, (0, 1), DELTA, method="time-uniform")
    assert too_often(np.sum(found.high < 0.95), runs, DELTA / 2)


def test_the_interval_is_useful():
    found = average_interval(np.tile([0.0, 1.0], 1000), (0, 1), 0.05)
    assert found.width < 0.15
    small = average_interval(np.tile([0.0, 0.02], 1000), (0, 1), 0.05)
    assert small.width < 0.02  # of low variance


def test_bounds_scale_and_turn_around():
    x = np.random.default_rng(0).random(50) ** 3
    one, other = average_interval(x, (0, 1), 0.1), average_interval(5 - 2 * x, (3, 5), 0.1)
    assert float(other.low) == pytest.approx(5 - 2 * float(one.high))
    assert float(other.high) == pytest.approx(5 - 2 * float(one.low))


LAWS = {
    "near": ([0.5, 0.3, 0.2], [0.4, 0.35, 0.25]),
    "far": ([0.5, 0.3, 0.2], [0.01, 0.09, 0.9]),
    "rare response gained all": ([0.99, 0.01], [0.05, 0.95]),
    "rare response lost all": ([0.99, 0.01], [1 - 1e-12, 1e-12]),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_rise_has_a_lower_limit(name):
    ref, p = map(np.array, LAWS[name])
    log_ratio, truth = np.log(ref / p), float(np.sum(ref * np.log(ref / p)))
    rng, runs = np.random.default_rng(3), 400
    drawn = rng.choice(len(ref), size=(runs, 100), p=ref)
    limits = np.array([rise_lower_limit(log_ratio[row], DELTA) for row in drawn])
    assert not too_often(np.sum(limits > truth), runs, DELTA / 2)
    if name == "far":
        assert np.median(limits) > truth / 2


def test_a_limit_from_log_ratios_cut_on_both_sides_fails():
    """The plain log-ratio has no lower bound; cutting it off raises its mean, so its limit is none."""
    ref, p = map(np.array, LAWS["rare response gained all"])
    log_ratio = np.log(ref / p)
    lighter = np.clip(log_ratio, -1.0, 4.0)
    assert float(np.sum(ref * lighter)) > float(np.sum(ref * log_ratio))
    truth = float(np.sum(ref * log_ratio))
    drawn = np.random.default_rng(4).choice(2, size=(100, 3000), p=ref)
    limits = [average_interval(lighter[row], (-1, 4), DELTA).low for row in drawn]
    assert too_often(np.sum(np.array(limits) > truth), 100, DELTA / 2)


def test_shares_add_up_and_prompts_may_have_several_responses():
    assert sum(share_of(0.05, j) for j in range(1, 1000)) == pytest.approx(0.05, rel=2e-3)
    log_ratio = np.full((100, 3), 1.5)
    assert 0.2 < rise_lower_limit(log_ratio, 0.05) <= np.expm1(-1.5) + 1.5


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: share_of(0.05, 0), "number=0"),
        (lambda: share_of(1.5, 1), "delta=1.5"),
        (lambda: average_interval([0.5, 2.0], (0, 1), 0.05), r"samples\[1\]=2"),
        (lambda: average_interval([], (0, 1), 0.05), "samples"),
        (lambda: rise_lower_limit([np.nan], 0.05), "log_ratio"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
