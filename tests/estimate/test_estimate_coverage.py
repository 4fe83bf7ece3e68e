"""Verdicts are wrong no more often than delta, either end no more often than half of it, and the test can fail.

An estimator passes if an exact binomial test at level 1e-3 does not reject. The normal suite draws 600
worlds for each, the slow one 4,000.
"""

from __future__ import annotations

import numpy as np
import pytest
from known_worlds import (
    DELTA,
    ESTIMATORS,
    LEVEL,
    TOO_SHORT,
    missed_ends,
    p_value,
    wrong_verdicts,
)

from nondecoupling.estimate import Interval, Outcome, binomial_interval, decide, holm

FEW = 600
BUDGETS = [FEW, pytest.param(4000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("worlds", BUDGETS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_interval_misses_no_more_often_than_it_says(name, worlds):
    interval, truth = ESTIMATORS[name](np.random.default_rng(20), worlds)
    assert interval.delta == pytest.approx(DELTA)
    wrong = wrong_verdicts(interval, truth)
    assert wrong.size == worlds
    assert p_value(wrong) >= LEVEL, f"{name}: {wrong.mean():.3f} wrong, allowed {DELTA}"
    for end, missed in missed_ends(interval, truth).items():
        assert p_value(missed, DELTA / 2) >= LEVEL, f"{name}: {end} end, {missed.mean():.3f}"


def refuted(interval, truth):
    parts = [p_value(wrong_verdicts(interval, truth))]
    parts += [p_value(missed, DELTA / 2) for missed in missed_ends(interval, truth).values()]
    return min(parts) < LEVEL


@pytest.mark.parametrize("name", TOO_SHORT)
def test_an_interval_that_is_too_short_fails_the_same_test(name):
    assert refuted(*TOO_SHORT[name](np.random.default_rng(20), FEW))


# --- several statements ----------------------------------------------------------------------------


def family(rng, worlds):
    """Eight statements per world about rates: some barely true, some barely false, some clear."""
    thresholds = np.full(8, 0.4)
    rates = np.array([0.4, 0.4, 0.4, 0.399, 0.399, 0.399, 0.6, 0.2])
    successes = rng.binomial(100, rates, size=(worlds, 8))
    margins = [
        lambda delta, j=j: binomial_interval(successes[:, j], 100, delta) - thresholds[j]
        for j in range(8)
    ]
    truth = np.where(rates >= thresholds, Outcome.VIOLATED, Outcome.CONFIRMED)
    return margins, truth


@pytest.mark.parametrize("worlds", BUDGETS)
def test_holm_keeps_all_verdicts_right_together(worlds):
    margins, wrong_side = family(np.random.default_rng(3), worlds)
    outcomes = holm(margins, DELTA)
    assert p_value((outcomes == wrong_side).any(-1)) >= LEVEL
    one_by_one = np.stack([decide(margin(DELTA)) for margin in margins], axis=-1)
    assert p_value((one_by_one == wrong_side).any(-1)) < LEVEL  # the correction is needed


def test_holm_decides_more_than_bonferroni_and_less_than_none():
    successes = np.random.default_rng(3).binomial(
        100, [0.65, 0.65, 0.65, 0.15, 0.15, 0.55, 0.54, 0.53], size=(FEW, 8)
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


@pytest.mark.parametrize("relation", [">=", "=="])
def test_holm_takes_a_level_up_to_the_one_asked_for(relation):
    """Divided and added up again it may be a rounding above; a thousandth above is another level."""

    def margins(level):
        return [lambda delta: Interval(0.1, 0.2, 0.15, level(delta), 9, "made up")] * 7

    for level in (
        lambda d: d,
        lambda d: d / 3 + d / 3 + d / 3,
        lambda d: np.nextafter(d, 1),
        lambda d: d / 7,
    ):
        assert len(holm(margins(level), 0.05, relation)) == 7
    for level in (lambda d: 1.001 * d, lambda _: 0.05 / 6, lambda _: 0.9):
        with pytest.raises(ValueError, match=r"margins\[0\]\(0.*delta=.*at most"):
            holm(margins(level), 0.05, relation)
