"""Where verdicts turn: how much room, how small an error, how narrow a ball each of them needs."""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import pytest

from nondecoupling.deciding.certify import certify, decide, is_equality_case
from nondecoupling.deciding.sampling import BatchResult, check_arguments
from nondecoupling.deciding.verdict import Status
from nondecoupling.numbers.roundoff import Bounded
from nondecoupling.theory.fields import Positive
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import World


def batch(margin, error, *, is_identity=False):
    margin, error = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (margin, error))
    scope = np.full(margin.shape, True)
    return BatchResult("claim", False, margin, error, scope, is_identity)


def status(result):
    return result.verdict(Statement).status


@pytest.fixture(autouse=True)
def named(monkeypatch):
    """``Statement`` itself stands for any statement: a verdict asks for its id only."""
    monkeypatch.setattr(Statement, "id", "A1", raising=False)


# --- drawn worlds ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_identity", [False, True])
def test_a_world_is_violated_just_beyond_its_error(is_identity):
    error = 1e-15
    assert status(batch(-1.01 * error, error, is_identity=is_identity)) is Status.REFUTED
    assert status(batch(-0.99 * error, error, is_identity=is_identity)) is Status.HOLDS


def test_an_identity_is_violated_on_either_side():
    assert status(batch(2e-15, 1e-15, is_identity=True)) is Status.REFUTED
    assert status(batch(2e-15, 1e-15)) is Status.HOLDS


@pytest.mark.parametrize(("margin", "error"), [(1.0, np.inf), (np.nan, 0.0)])
def test_one_undecided_world_keeps_a_batch_from_holding(margin, error):
    assert status(batch([1.0, margin], [0.0, error])) is Status.UNDECIDED
    assert status(batch([1.0, -1.0, margin], [0.0, 0.0, error])) is Status.REFUTED


def test_the_worst_world_counts_with_its_error():
    verdict = batch([3.0, 1.0, 2.0], [0.0, 0.0, 0.0]).verdict(Statement)
    assert (verdict.margin, verdict.tolerance) == (1.0, 0.0)


class HalfOfBeta(Statement):
    """For tests: one claim, under a condition."""

    id, title, depends = "A1", "Half of beta", ()
    world = dict(beta=Positive())

    @staticmethod
    def claims(xp, w):
        yield Claim("beta is positive", w.beta, ">", 0 * w.beta)

    @staticmethod
    def conditions(xp, w):
        yield Claim("beta exceeds one", w.beta, ">", xp.full_like(w.beta, 1.0))


@pytest.mark.parametrize(("beta", "applies"), [(1.01, True), (1.0, False), (0.99, False)])
def test_a_condition_must_hold_beyond_its_error(beta, applies):
    (sharp,) = check_arguments(HalfOfBeta, {"beta": Bounded(np.array([[beta]]), 1e-3)})
    assert sharp.applies.tolist() == [applies]
    (blurred,) = check_arguments(HalfOfBeta, {"beta": Bounded(np.array([[beta]]), 0.1)})
    assert blurred.applies.tolist() == [False]
    (verdict,) = certify(HalfOfBeta, World({"beta": (Fraction(beta).limit_denominator(100),)}))
    assert (verdict.status is Status.HOLDS) == applies


# --- balls -------------------------------------------------------------------------------------


def ball(middle, radius=0.0):
    return np.array([flint.arb(middle, radius)], dtype=object)


def of(relation, lhs, rhs):
    return decide("A1", Claim("claim", lhs, relation, rhs))


def test_an_identity_needs_narrow_balls_that_overlap():
    assert of("==", ball(1, 1e-30), ball(1)).status is Status.HOLDS
    assert of("==", ball(1, 1e-20), ball(1)).status is Status.UNDECIDED
    assert of("==", ball(1, 1e-30), ball(1.001)).status is Status.REFUTED


def test_a_strict_inequality_does_not_hold_by_equality():
    assert of(">=", ball(1), ball(1)).status is Status.HOLDS
    assert of(">", ball(1), ball(1)).status is Status.REFUTED
    assert of(">", ball(1, 1e-3), ball(1)).status is Status.UNDECIDED
    assert of("<=", ball(1), ball(2)).status is Status.HOLDS
    assert of("<=", ball(2), ball(1)).status is Status.REFUTED


def test_an_equality_case_agrees_to_25_digits():
    assert is_equality_case(of(">=", ball(1, 1e-27), ball(1)))
    assert not is_equality_case(of(">=", ball(1, 1e-20), ball(1)))
    assert not is_equality_case(of(">=", ball(2), ball(1)))
