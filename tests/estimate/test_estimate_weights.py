"""Weighted means: of the law in which a sample counts as often as its weight says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nondecoupling.estimate import mean_interval

X = np.random.default_rng(0).beta(2, 5, size=80)
WEIGHTS = np.random.default_rng(1).choice([0.5, 1.0, 4.0], size=80)


@pytest.mark.parametrize("method", ["betting", "time-uniform"])
def test_equal_weights_change_nothing(method):
    plain = mean_interval(X, (0, 1), 0.1, method=method)
    equal = mean_interval(X, (0, 1), 0.1, method=method, weights=np.full(80, 7.0))
    np.testing.assert_allclose(
        [equal.low, equal.high, equal.estimate], [plain.low, plain.high, plain.estimate], rtol=1e-9
    )


@pytest.mark.parametrize(
    ("weights", "largest"), [([1e-200, 3e-200], 1e200), ([5e-324, 15e-324], 1.0)]
)
def test_against_a_weight_that_hides_all_of_them_nothing_is_known_but_their_mean(weights, largest):
    found = mean_interval([0.2, 0.6], (0, 1), 0.1, weights=weights, largest_weight=largest)
    assert (found.low, found.high) == (0, 1) and found.estimate == pytest.approx(0.5)


def test_their_unit_does_not_matter_and_weight_zero_says_nothing():
    here = mean_interval(X, (0, 1), 0.1, weights=WEIGHTS)
    there = mean_interval(X, (0, 1), 0.1, weights=1e3 * WEIGHTS)
    assert (here.low, here.high) == pytest.approx((there.low, there.high), rel=1e-9)
    dropped = np.where(np.arange(80) < 40, 0.0, WEIGHTS)
    one, other = (
        mean_interval(np.where(dropped > 0, X, value), (0, 1), 0.1, weights=dropped)
        for value in (0.0, 1.0)
    )
    assert (one.low, one.high) == (other.low, other.high)


def test_no_gambler_refutes_what_is_kept():
    """The definition: against each m the wealth of l v (x - m), v <= 1, written as a loop."""
    interval = mean_interval(X, (0, 1), 0.1, weights=WEIGHTS)
    share = WEIGHTS / WEIGHTS.max()

    def most_wealth(m):
        wealth = most = 1.0
        counted, summed, spread = 1.0, 0.5, 0.25
        for i, (x, v) in enumerate(zip(X, share, strict=True)):
            stake = min(np.sqrt(2 * np.log(20) / (len(X) * spread / (i + 1))), 0.5 / m)
            wealth *= 1 + stake * v * (x - m)
            most = max(most, wealth)
            counted, summed = counted + v, summed + v * x
            spread += (v * (x - summed / counted)) ** 2
        return most

    assert most_wealth(interval.low - 1e-6) >= 20 > most_wealth(interval.low + 1e-6)


@pytest.mark.slow  # a simulation
def test_the_mean_of_the_weighted_law_is_covered():
    """Weights tied to the samples: the unweighted interval misses, the weighted one does not."""
    rng, delta, worlds = np.random.default_rng(2), 0.2, 150
    rates, weights = np.array([0.2, 0.8]), np.array([3.0, 1.0])
    truth = float(np.average(rates, weights=weights))
    missed = np.zeros(2)
    for _ in range(worlds):
        kind = rng.integers(2, size=100)
        x = (rng.random(100) < rates[kind]).astype(float)
        for place, w in enumerate((weights[kind], None)):
            found = mean_interval(x, (0, 1), delta, weights=w)
            missed[place] += not found.low <= truth <= found.high
    assert stats.binomtest(int(missed[0]), worlds, delta, alternative="greater").pvalue > 1e-3
    assert stats.binomtest(int(missed[1]), worlds, delta, alternative="greater").pvalue < 1e-9


@pytest.mark.slow  # a simulation
def test_a_part_of_the_samples_needs_the_largest_weight_of_all():
    """A rare sample of weight 50 whose x is 0: a part without it must not take its own largest for that of all."""
    rng, delta, worlds, chance, heavy = np.random.default_rng(3), 0.2, 200, 0.02, 50.0
    truth = (1 - chance) / (1 - chance + chance * heavy)
    missed = np.zeros(2)
    for _ in range(worlds):
        rare = rng.random(32) < chance
        x, weights = 1.0 - rare, np.where(rare, heavy, 1.0)
        for place, largest in enumerate((heavy, None)):
            found = mean_interval(x, (0, 1), delta, weights=weights, largest_weight=largest)
            missed[place] += found.low > truth
    assert stats.binomtest(int(missed[0]), worlds, delta / 2, alternative="greater").pvalue > 1e-3
    assert stats.binomtest(int(missed[1]), worlds, delta / 2, alternative="greater").pvalue < 1e-9


def test_the_largest_weight_of_all_is_what_is_taken_without_another():
    equal = mean_interval(X, (0, 1), 0.1, weights=WEIGHTS, largest_weight=WEIGHTS.max())
    assert equal == mean_interval(X, (0, 1), 0.1, weights=WEIGHTS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": WEIGHTS, "largest_weight": 3}, "largest_weight=3: below 4, which is among"),
        ({"weights": WEIGHTS, "largest_weight": 0}, "largest_weight=0: must be"),
        ({"largest_weight": 3}, "largest_weight: give weights too"),
    ],
)
def test_another_largest_weight_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(X, (0, 1), 0.1, **given)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 79, r"weights has shape \(79,\): give one weight for each of the 80"),
        ([1.0] * 79 + [-1], r"weights\[79\]=-1.0: must not be negative"),
        ([0.0] * 80, "all are 0; one at least must be positive"),
        ([np.nan] * 80, r"weights\[0\]=nan: must be finite"),
    ],
)
def test_other_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(X, (0, 1), 0.1, weights=weights)


def test_bernstein_takes_none():
    with pytest.raises(ValueError, match="not with method='bernstein'"):
        mean_interval(X, (0, 1), 0.1, method="bernstein", weights=WEIGHTS)
