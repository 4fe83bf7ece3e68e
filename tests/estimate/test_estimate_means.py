"""Intervals for means: either end lies where its theorem puts it, and what the intervals are worth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from known_worlds import DELTA, bounded_worlds
from scipy import stats

from nondecoupling.estimate import (
    Interval,
    binomial_interval,
    cluster_means,
    mean_interval,
    mean_lower_bound,
    mean_sequence,
    paired_differences,
)

# --- either end, from the theorem ------------------------------------------------------------------


def means_not_refuted(x, delta, growth):
    """The definition on a grid of means, without bisection: nobody against m has 2/delta.

    ``growth(i, n)`` multiplies the variance in the stakes: n, or i log(1 + i).
    """
    grid = np.linspace(0, 1, 4001)[1:-1]
    mean, squares = 0.5, 0.25
    up, down, richest = (np.ones(grid.shape) for _ in range(3))
    for seen, value in enumerate(x, start=1):
        stake = np.sqrt(2 * np.log(2 / delta) / (growth(seen, len(x)) * squares / seen))
        up *= 1 + np.minimum(stake, 0.5 / grid) * (value - grid)
        down *= 1 - np.minimum(stake, 0.5 / (1 - grid)) * (value - grid)
        richest = np.maximum(richest, np.maximum(up, down))
        mean = (0.5 + x[:seen].sum()) / (seen + 1)
        squares += (value - mean) ** 2
    return grid[richest < 2 / delta]


@pytest.mark.parametrize(
    ("method", "growth"),
    [("betting", lambda i, n: n), ("time-uniform", lambda i, n: i * np.log(1 + i))],
)
@pytest.mark.parametrize("delta", [0.02, 0.4])
@pytest.mark.parametrize("law", [(0.5, 2.0), (3.0, 0.4)])
def test_betting_agrees_with_a_grid_of_gamblers(method, growth, delta, law):
    x = np.random.default_rng(5).beta(*law, size=60)
    kept = means_not_refuted(x, delta, growth)
    interval = mean_interval(x, (0, 1), delta, method=method)
    assert interval.low == pytest.approx(kept[0], abs=1 / 4000)
    assert interval.high == pytest.approx(kept[-1], abs=1 / 4000)


@pytest.mark.parametrize("delta", [0.3, 0.05, 1e-4])
@pytest.mark.parametrize("n", [2, 9, 1000])
def test_bernstein_ends_are_two_one_sided_limits_at_half_of_delta(n, delta):
    """Maurer and Pontil, theorem 4: E x <= mean + sqrt(2 V log(2/a)/n) + 7 R log(2/a)/(3 (n-1)), for one side at a."""
    x = np.random.default_rng(n).normal(size=n).clip(-3, 3)
    a, spread = delta / 2, 1000.0
    half = np.sqrt(2 * x.var(ddof=1) * np.log(2 / a) / n) + 7 * spread * np.log(2 / a) / (
        3 * (n - 1)
    )
    interval = mean_interval(x, (-spread / 2, spread / 2), delta, method="bernstein")
    assert interval.low == pytest.approx(max(x.mean() - half, -spread / 2))
    assert interval.high == pytest.approx(min(x.mean() + half, spread / 2))


@pytest.mark.parametrize("delta", [0.3, 0.05, 1e-6])
@pytest.mark.parametrize(("k", "n"), [(1, 2), (3, 17), (16, 17), (500, 2000)])
def test_clopper_pearson_leaves_half_of_delta_at_either_end(k, n, delta):
    found = binomial_interval(k, n, delta)
    assert stats.binom.sf(k - 1, n, found.low) == pytest.approx(delta / 2, rel=1e-6)
    assert stats.binom.cdf(k, n, found.high) == pytest.approx(delta / 2, rel=1e-6)


@pytest.mark.parametrize("n", [1, 5, 300])
def test_nothing_or_everything_leaves_the_power_of_one_chance(n):
    """No success in n trials: (1 - high)^n = delta/2."""
    nothing, everything = binomial_interval(0, n, 0.05), binomial_interval(n, n, 0.05)
    assert nothing.low == 0 and (1 - nothing.high) ** n == pytest.approx(0.025)
    assert everything.high == 1 and everything.low**n == pytest.approx(0.025)


def test_clopper_pearson_is_scipys():
    for k, n in [(0, 5), (5, 5), (3, 17), (1, 1)]:
        expected = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        found = binomial_interval(k, n, 0.05)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("method", ["betting", "time-uniform", "bernstein"])
def test_mean_intervals_scale_and_mirror(method):
    x = np.random.default_rng(0).random((3, 50))
    plain = mean_interval(x, (0, 1), 0.05, method=method)
    moved = mean_interval(7 - 2 * x, (5, 7), 0.05, method=method)
    np.testing.assert_allclose(moved.low, 7 - 2 * plain.high, atol=1e-9)
    np.testing.assert_allclose(moved.high, 7 - 2 * plain.low, atol=1e-9)
    one = mean_interval(x[1], (0, 1), 0.05, method=method)
    assert (one.low, one.high) == (plain.low[1], plain.high[1])


@pytest.mark.parametrize("method", ["betting", "time-uniform", "bernstein"])
@pytest.mark.parametrize("scale", [1e-200, 1e-308, 1e150, 1e299])
def test_mean_intervals_do_not_depend_on_the_unit(method, scale):
    x = np.random.default_rng(0).random(50)
    plain = mean_interval(x, (-1, 1), 0.05, method=method)
    scaled = mean_interval(scale * x, (-scale, scale), 0.05, method=method)
    assert scaled.low / scale == pytest.approx(plain.low, rel=1e-6)
    assert scaled.high / scale == pytest.approx(plain.high, rel=1e-6)


def test_a_limit_from_below_is_that_of_the_capped_mean_at_half_of_delta():
    x = np.random.default_rng(0).gamma(1.0, size=200)
    limit = mean_lower_bound(x, 0.0, 3.0, 0.1)
    assert limit.low == mean_interval(x.clip(max=3.0), (0, 3), 0.1).low
    assert limit.high == np.inf and limit.estimate == pytest.approx(x.mean())
    later = mean_lower_bound(x, 0.0, 3.0, 0.1, method="time-uniform")
    assert later.low == pytest.approx(mean_sequence(x.clip(max=3.0), (0, 3), 0.1).low[-1])


def test_a_single_sample_gives_the_bounds():
    for method in ("betting", "time-uniform", "bernstein"):
        single = mean_interval([0.5], (0, 1), 0.05, method=method)
        assert (single.low, single.high) == (0, 1)


# --- what the intervals are worth ------------------------------------------------------------------


def test_betting_is_narrower_than_empirical_bernstein():
    samples, _ = bounded_worlds(np.random.default_rng(0), 400, 100)
    widths = [
        mean_interval(samples, (0, 1), DELTA, method=m).width for m in ("betting", "bernstein")
    ]
    assert np.mean(widths[0]) < 0.7 * np.mean(widths[1])
    assert (widths[0] < widths[1]).mean() > 0.95


def test_pairing_shortens_the_interval():
    rng = np.random.default_rng(0)
    before = rng.random(300)
    after = np.clip(before + 0.05 * rng.random(300), 0, 1)
    paired = mean_interval(paired_differences(before, after, np.arange(300)), (-1, 1), 0.05)
    apart = mean_interval(after, (0, 1), 0.025) - mean_interval(before, (0, 1), 0.025)
    assert paired.width < 0.6 * apart.width and apart.delta == pytest.approx(0.05)


# --- prompts ---------------------------------------------------------------------------------------


def test_cluster_means_survive_rounding_and_unequal_groups():
    values = np.array([0.1, 0.1, 0.1, 0.7])
    assert cluster_means(values, ["x", "x", "x", "y"]).tolist() == [0.1, 0.7]
    assert np.mean([0.1, 0.1, 0.1]) > 0.1  # what rounding alone would have done to the bounds


def test_every_prompt_weighs_the_same_however_many_responses_it_has():
    values, prompts = np.array([0.0, 1.0, 1.0, 0.25, 0.0, 0.5]), ["x", "y", "x", "z", "x", "z"]
    assert cluster_means(values, prompts).tolist() == pytest.approx([1 / 3, 1.0, 0.375])


def test_prompts_are_told_apart():
    """Labels that floats, or NumPy's strings, would have merged."""
    large = 10**16
    assert cluster_means([1.0, 2.0, 3.0], [large, large + 1, large]).tolist() == [2.0, 2.0]
    assert cluster_means([1.0, 3.0], [10**400, 10**400 + 1]).tolist() == [1.0, 3.0]
    assert cluster_means([1.0, 3.0], ["a", "a "]).tolist() == [1.0, 3.0]
    assert cluster_means([1.0, 3.0], np.array([7, 7], dtype=np.uint8)).tolist() == [2.0]


# --- arithmetic of intervals -----------------------------------------------------------------------


def test_sums_and_multiples_of_intervals_hold_every_combination():
    """The ends are the smallest and the largest value that members can give, and deltas add."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        lows, widths, (factor, shift) = rng.normal(size=2), rng.random(2), rng.normal(size=2)
        first, second = (
            Interval(low, low + width, low + width / 3, 0.01, 9, "made up")
            for low, width in zip(lows, widths, strict=True)
        )
        ends = [np.array(pair) for pair in product(*((i.low, i.high) for i in (first, second)))]
        for found, weights in (
            (first + second, (1, 1)),
            (first - second, (1, -1)),
            (factor * first + shift, (factor, 0)),
            (shift - second * factor, (0, -factor)),
            (-first, (-1, 0)),
        ):
            constant = shift if 0 in weights and -1 not in weights else 0.0
            values = [weights @ pair + constant for pair in ends]
            assert (found.low, found.high) == pytest.approx((min(values), max(values)))
            middle = weights @ (lows + widths / 3) + constant
            assert found.estimate == pytest.approx(middle)
    assert (first - second).delta == pytest.approx(0.02) and (3 * first).delta == 0.01


def test_nothing_times_an_unknown_quantity_is_nothing():
    unknown = Interval(-np.inf, np.inf, 2.0, 0.05, 9, "made up")
    assert (0.0 * unknown).low == (0.0 * unknown).high == 0.0
    assert (-1.0 * unknown).low == -np.inf and (-1.0 * unknown).high == np.inf
