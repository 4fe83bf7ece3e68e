"""Plans: how often they come true, and that one unit fewer would not do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nondecoupling import bounds
from nondecoupling.estimate import (
    Outcome,
    coupling_samples,
    decide,
    detectable_effect,
    mean_interval,
    required_samples,
)


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


@pytest.mark.parametrize("bounds", [None, (-2, 3)])
def test_more_power_asks_for_more_samples(bounds):
    powers = [0.101, 0.3, 0.5, 0.95, 0.999]
    counts = [required_samples(1e-3, 0.7, 0.2, power, bounds=bounds) for power in powers]
    assert (np.diff(counts) > 0).all()
    effects = [detectable_effect(200, 0.7, 0.2, power) for power in powers]
    assert effects[0] > 0 and (np.diff(effects) > 0).all()


@pytest.mark.parametrize("delta", [0.2, 0.01])
@pytest.mark.parametrize("sd", [0.05, 0.5])
def test_a_plan_with_bounds_is_the_first_size_at_which_bernstein_confirms(sd, delta):
    """The interval's own half-width at this spread, plus room for the mean to fall short by z_power errors."""
    effect, power, z = 0.1, 0.8, stats.norm.ppf(0.8)
    n = int(required_samples(effect, sd, delta, power, bounds=(-5, 5)))

    def half_width(units):
        deviation = sd * np.sqrt((units - 1) / units)  # so that the sample variance is sd^2
        samples = np.tile([-deviation, deviation], units // 2)
        return mean_interval(samples, (-5, 5), delta, method="bernstein").width / 2

    def needed(units):
        return half_width(units) + z * sd / np.sqrt(units)

    even = n + n % 2
    assert needed(even) <= effect * (1 + 1e-3)
    assert needed(int(0.98 * n) // 2 * 2) > effect
