"""Time-uniform intervals: they may be looked at after every sample, and others may not."""

from __future__ import annotations

import numpy as np
import pytest
from known_worlds import DELTA, LEVEL, bounded_worlds, p_value
from scipy import stats

from nondecoupling.estimate import Outcome, binomial_interval, decide, mean_interval, mean_sequence

LENGTH = 120
BUDGETS = [250, pytest.param(3000, marks=pytest.mark.slow)]


def coins(rng, worlds, length=LENGTH):
    """The hardest worlds for a gambler's interval: fair and biased coins."""
    chance = rng.choice([0.5, 0.1, 0.9], size=worlds)
    return (rng.random((worlds, length)) < chance[:, None]).astype(float), chance


WORLDS = {"skewed": lambda rng, worlds: bounded_worlds(rng, worlds, LENGTH), "coins": coins}


def exact_at_every_size(samples):
    """Clopper and Pearson's interval, recomputed with each new sample: exact at any one of them only."""
    found = binomial_interval(np.cumsum(samples, -1), np.arange(1, LENGTH + 1), DELTA)
    return found.low, found.high


def normal_at_every_size(samples):
    count = np.arange(1, LENGTH + 1)
    mean = np.cumsum(samples, -1) / count
    spread = np.sqrt(np.maximum(np.cumsum(samples**2, -1) / count - mean**2, 1e-12))
    half = stats.norm.ppf(1 - DELTA / 2) * spread / np.sqrt(count)
    return np.where(count < 20, 0, mean - half), np.where(count < 20, 1, mean + half)


# One kind and one seed in the normal suite: simulations.
@pytest.mark.parametrize("kind", ["coins", pytest.param("skewed", marks=pytest.mark.slow)])
@pytest.mark.parametrize("worlds", BUDGETS)
def test_ends_are_never_wrong_more_often_than_half_of_delta(kind, worlds):
    """At the worst stopping time there is: the first at which the end has missed the mean."""
    samples, truth = WORLDS[kind](np.random.default_rng(7), worlds)
    found = mean_sequence(samples, (0, 1), DELTA)
    ever_above = (found.low > truth[:, None]).any(-1)
    ever_below = (found.high < truth[:, None]).any(-1)
    assert p_value(ever_above, DELTA / 2) >= LEVEL
    assert p_value(ever_below, DELTA / 2) >= LEVEL
    assert p_value(ever_above | ever_below) >= LEVEL


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_verdicts_at_random_stopping_times_hold(seed):
    """Stop when the data please: at the first verdict, or when the mean looks extreme, or by a clock."""
    rng = np.random.default_rng(seed)
    samples, truth = coins(rng, 250)
    running = np.cumsum(samples, -1) / np.arange(1, LENGTH + 1)
    sequence = mean_sequence(samples, (0, 1), DELTA)
    claims = {"true": truth, "false": truth + 1e-9}
    for statement, threshold in claims.items():
        wrong_side = Outcome.VIOLATED if statement == "true" else Outcome.CONFIRMED
        outcomes = decide(sequence - threshold[:, None])
        stops = {
            "first verdict": np.argmax(outcomes == wrong_side, axis=-1),
            "extreme mean": np.argmax(np.abs(running - truth[:, None])[:, 20:], axis=-1) + 20,
            "clock": np.minimum(rng.geometric(0.02, size=len(truth)), LENGTH) - 1,
        }
        for stop in stops.values():
            at_stop = np.take_along_axis(outcomes, stop[:, None], axis=-1)[:, 0]
            assert p_value(at_stop == wrong_side, DELTA / 2) >= LEVEL


@pytest.mark.parametrize("invalid", [exact_at_every_size, normal_at_every_size])
def test_an_interval_that_may_not_be_looked_at_again_fails_the_same_test(invalid):
    samples, truth = coins(np.random.default_rng(7), 250)
    low, high = invalid(samples)
    ever = ((low > truth[:, None]) | (high < truth[:, None])).any(-1)
    assert p_value(ever) < LEVEL


def test_every_prefix_has_the_interval_that_it_would_have_had():
    samples = np.random.default_rng(0).beta(0.5, 1.0, size=(2, 3, 40))
    found = mean_sequence(2 * samples - 1, (-1, 1), 0.2)
    assert np.shape(found.low) == samples.shape
    for t in (1, 2, 17, 40):
        alone = mean_interval(2 * samples[..., :t] - 1, (-1, 1), 0.2, method="time-uniform")
        np.testing.assert_allclose(found.low[..., t - 1], alone.low, atol=1e-9)
        np.testing.assert_allclose(found.high[..., t - 1], alone.high, atol=1e-9)
        np.testing.assert_allclose(found.estimate[..., t - 1], alone.estimate)


@pytest.mark.slow  # a simulation
def test_ends_only_move_inwards_and_the_price_of_looking_is_bounded():
    samples = np.random.default_rng(0).beta(2.0, 2.0, size=(20, 300))
    found = mean_sequence(samples, (0, 1), 0.05)
    assert (np.diff(found.low) >= 0).all() and (np.diff(found.high) <= 0).all()
    fixed = mean_interval(samples, (0, 1), 0.05)
    ratios = found.width[:, -1] / fixed.width
    assert 1.0 < ratios.mean() < 1.4
