"""The bootstrap: BCa as published, offered only where the committed table says that it covers."""

from __future__ import annotations

import re
import warnings

import bootstrap_coverage as coverage
import numpy as np
import pytest
from known_worlds import LEVEL
from scipy import special, stats

from nondecoupling.estimate import (
    LEAST_UNITS,
    Interval,
    Outcome,
    bootstrap,
    bootstrap_interval,
    bootstrap_intervals,
    decide,
)

NOTHING = (-np.inf, np.inf)


def ends(interval: Interval) -> tuple[float, float]:
    return float(interval.low), float(interval.high)


# --- the method ------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.3, 0.05])
@pytest.mark.parametrize("law", ["normal", "gamma, shape 4"])
def test_it_is_scipys_bca_at_student_quantiles(law, delta):
    """Both resample on their own: ends agree up to the error of 9,999 resamples."""
    n, draws = 200, coverage.TAILS[law].draw(np.random.default_rng(0), (3, 200))
    tail = special.ndtr(np.sqrt(n / (n - 1)) * stats.t.ppf(delta / 2, n - 1))
    for sample in draws:
        found = bootstrap_interval(sample, delta, resamples=9999)
        theirs = stats.bootstrap(
            (sample,),
            np.mean,
            n_resamples=9999,
            confidence_level=1 - 2 * tail,
            method="BCa",
            rng=np.random.default_rng(1),
        ).confidence_interval
        error = 0.06 * sample.std() / np.sqrt(n)
        assert ends(found) == pytest.approx((theirs.low, theirs.high), abs=error)


def test_for_a_normal_sample_it_is_students_interval():
    """64 units are so few that the normal's quantiles would be too narrow by four percent at this level."""
    n, delta = 64, 0.01
    sample = special.ndtri((np.arange(n) + 0.5) / n)
    low, high = ends(bootstrap_interval(sample, delta, resamples=99_999))
    half = stats.t.ppf(1 - delta / 2, n - 1) * sample.std(ddof=1) / np.sqrt(n)
    assert (low, high) == pytest.approx((-half, half), rel=0.02)


def test_a_skewed_sample_moves_both_ends_towards_its_tail():
    """What bias and acceleration are for: the percentiles alone would be nearer on that side."""
    sample = np.random.default_rng(0).gamma(1.0, size=400)
    found, mirrored = bootstrap_interval(sample, 0.05), bootstrap_interval(-sample, 0.05)
    mean, half = sample.mean(), 1.96 * sample.std() / 20
    assert found.high - mean > half > mean - found.low
    assert ends(mirrored) == pytest.approx((-found.high, -found.low), abs=0.05 * half)


def test_a_skewed_sample_moves_the_middle_as_far_as_edgeworths_series_says():
    """By a (2 z^2 + 1) standard errors, a = skewness/(6 sqrt n) (Hall 1988); without BCa's a by a (z^2 + 1)."""
    n, delta = 400, 0.01
    sample = np.random.default_rng(0).gamma(1.0, size=n)
    found = bootstrap_interval(sample, delta, resamples=99_999)
    z, a = special.ndtri(1 - delta / 2), stats.skew(sample) / (6 * np.sqrt(n))
    moved = (sum(ends(found)) / 2 - sample.mean()) / (sample.std() / np.sqrt(n))
    assert moved == pytest.approx(a * (2 * z**2 + 1), rel=0.2)


def test_ties_of_a_fair_coin_move_neither_end():
    """A tenth of the resamples have the mean itself: counted on one side, they would shift both ends by 1/64."""
    sample = np.repeat([0.0, 1.0], 32)
    centres = [sum(ends(bootstrap_interval(sample, 0.05, seed=seed))) - 1 for seed in range(5)]
    assert np.mean(centres) == pytest.approx(0.0, abs=0.5 / 64)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_it_does_not_depend_on_the_unit(scale):
    sample = np.random.default_rng(0).normal(size=100)
    plain, scaled = bootstrap_interval(sample, 0.05), bootstrap_interval(scale * sample, 0.05)
    assert ends(scaled * (1 / scale)) == pytest.approx(ends(plain))


def test_a_batch_and_blocks_of_resamples_change_nothing(monkeypatch):
    samples = np.random.default_rng(0).normal(size=(2, 3, 80))
    together = bootstrap_interval(samples, 0.05, resamples=500)
    monkeypatch.setattr(bootstrap, "RESAMPLED_NUMBERS", 80 * 7)
    alone = bootstrap_interval(samples[1, 2], 0.05, resamples=500)
    assert ends(alone) == pytest.approx((together.low[1, 2], together.high[1, 2]))


# --- where it is refused ---------------------------------------------------------------------------


def test_it_is_refused_below_the_least_number_of_units():
    sample = np.random.default_rng(0).normal(size=LEAST_UNITS)
    assert np.isfinite(bootstrap_interval(sample, 0.05).width)
    for few in (1, 2, LEAST_UNITS - 1):
        with pytest.raises(ValueError, match=f"samples has {few} .* from {LEAST_UNITS} "):
            bootstrap_interval(sample[:few], 0.05)


def test_it_says_nothing_of_skewed_samples_and_rare_events():
    rng = np.random.default_rng(0)
    rare = (np.arange(1000) < 3).astype(float)
    heavy = rng.lognormal(0, 2, size=1000)
    fair = (np.arange(1000) < 400).astype(float)
    found = bootstrap_interval(np.stack([rare, heavy, fair, 1 - rare]), 0.05)
    assert np.isfinite(found.low).tolist() == [False, False, True, False]
    assert (decide(found - 5.0) != Outcome.INCONCLUSIVE).tolist() == [False, False, True, False]


def test_the_rule_for_skewed_samples_is_that_of_the_docstring():
    """|sum d^3|/(6 (sum d^2)^1.5) above 0.02, that is n < 69 skewness^2."""
    for seed in range(40):
        sample = np.random.default_rng(seed).exponential(size=250)
        offered = np.isfinite(bootstrap_interval(sample, 0.5, resamples=100).width)
        assert offered == (len(sample) > stats.skew(sample) ** 2 / (36 * 0.02**2))


def test_too_few_resamples_about_a_tail_say_nothing():
    """Instead of the smallest and largest resample, whatever the level."""
    at = bootstrap_intervals(np.random.default_rng(0).normal(size=80), resamples=1000)
    assert np.isfinite(at(0.01).width)
    assert ends(at(0.009)) == NOTHING


# --- equal samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(0.3, np.float64), (1.0, np.float64), (-7e-9, np.float64), (1e250, np.float64)]
    + [(0.3, np.float32), (-7e-9, np.float32)],
)
def test_samples_that_are_equal_up_to_rounding_say_nothing(value, dtype):
    sample = np.full(80, value, dtype=dtype)
    sample[5] = np.nextafter(sample[5], dtype(0))
    assert sample[5] != sample[4]
    found = bootstrap_interval(sample, 0.05)
    assert ends(found) == NOTHING
    assert decide(found - float(value), "==") == Outcome.INCONCLUSIVE


def test_a_constant_world_of_a_batch_says_nothing_and_leaves_the_others_alone():
    sample = np.random.default_rng(0).normal(size=80)
    found = bootstrap_interval(np.stack([np.ones(80), sample]), 0.05)
    assert (found.low[0], found.high[0]) == NOTHING
    assert (found.low[1], found.high[1]) == pytest.approx(ends(bootstrap_interval(sample, 0.05)))


def test_the_rounding_of_differences_is_told_by_the_caller():
    """79 differences are 0, one is an ulp of the terms; from the differences alone nobody can know."""
    sample = np.zeros(80)
    sample[::2] = 2.0**-54
    assert decide(bootstrap_interval(sample, 0.05), "==") == Outcome.VIOLATED
    told = bootstrap_interval(sample, 0.05, rounding=2.0**-53)
    assert ends(told) == NOTHING


def test_rounding_moves_the_ends_out():
    sample = np.random.default_rng(0).normal(size=100)
    plain, told = bootstrap_interval(sample, 0.05), bootstrap_interval(sample, 0.05, rounding=0.01)
    assert plain.low - told.low == pytest.approx(0.01)
    assert told.high - plain.high == pytest.approx(0.01)


def test_no_warning_of_numpy_or_scipy_reaches_the_user():
    rng = np.random.default_rng(0)
    two_values = (np.arange(100) % 2).astype(float)
    one_outlier = np.r_[np.zeros(99), 1.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sample in (np.ones(100), two_values, one_outlier, rng.normal(size=100) * 1e-300):
            bootstrap_interval(sample, 0.05, resamples=200)


# --- the table of coverage -------------------------------------------------------------------------

CELLS = coverage.read_table(coverage.PAGE.read_text())


def rejected(misses: float, delta: float, worlds: int = coverage.WORLDS) -> bool:
    """Whether half of delta is refuted as the chance of missing at one end."""
    count = round(misses * worlds)
    return stats.binomtest(count, worlds, delta / 2, alternative="greater").pvalue < LEVEL


def test_the_table_is_complete():
    assert set(CELLS) == {
        (name, size, delta)
        for name in coverage.TAILS
        for size in coverage.SIZES
        for delta in coverage.DELTAS
    }


@pytest.mark.parametrize("key", CELLS, ids=str)
def test_what_is_offered_covers(key):
    name, units, delta = key
    cell, hidden = CELLS[key], coverage.TAILS[name].hidden
    if units < LEAST_UNITS:
        assert cell.offered == 0
    elif not hidden:
        assert not any(rejected(misses, delta) for misses in cell.ruled)


def test_without_the_rules_it_would_not_cover():
    """At small sizes for tails that are not heavy yet, at large ones for heavy tails: both rules are needed."""
    small = [CELLS[name, 16, 0.05] for name in ("Laplace", "exponential")]
    assert all(any(rejected(misses, 0.05) for misses in cell.plain) for cell in small)
    heavy = [CELLS[name, 256, 0.05] for name in ("log-normal, sigma 1", "Pareto, index 2.5")]
    assert all(any(rejected(misses, 0.05) for misses in cell.plain) for cell in heavy)


def test_the_page_admits_what_no_rule_sees():
    """A value too rare for the sample is hidden from every rule; the table must show that it is missed."""
    hidden = [name for name, tail in coverage.TAILS.items() if tail.hidden]
    assert hidden
    for name in hidden:
        assert any(rejected(CELLS[name, 256, delta].ruled[1], delta) for delta in coverage.DELTAS)


@pytest.mark.parametrize("name", ["normal", "exponential", "event of chance 0.1"])
@pytest.mark.parametrize(
    ("units", "worlds"),
    [(64, 500), pytest.param(256, 2000, marks=pytest.mark.slow)],
)
def test_the_table_is_what_the_command_finds(name, units, worlds):
    """Simulated again with another seed and fewer resamples: each share within four standard errors."""
    for cell in coverage.simulate(coverage.TAILS[name], units, worlds, resamples=1000, seed=5):
        known = CELLS[name, units, cell.delta]
        pairs = [*zip(cell.ruled, known.ruled, strict=True), (cell.offered, known.offered)]
        for found, expected in pairs:
            error = np.sqrt(max(expected * (1 - expected), 1 / worlds) / worlds)
            assert abs(found - expected) <= 4 * error + 0.004


def test_the_docstring_states_the_rules_in_force():
    text = bootstrap_interval.__doc__ or ""
    assert f"offered from {LEAST_UNITS} units on" in re.sub(r"\s+", " ", text)
    assert f"above {bootstrap.LARGEST_ACCELERATION:g} in size" in re.sub(r"\s+", " ", text)
