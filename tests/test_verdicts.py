"""Where verdicts turn: how much room, how small an error, how narrow a ball each of them needs."""

from __future__ import annotations

import re
from fractions import Fraction

import flint
import numpy as np
import pytest

from nondecoupling.deciding.certify import certify, decide, is_equality_case, sides_agree
from nondecoupling.deciding.duration import certify_duration
from nondecoupling.deciding.sampling import BatchResult, check_arguments, check_random_worlds
from nondecoupling.deciding.verdict import Status
from nondecoupling.numbers.roundoff import Bounded
from nondecoupling.testing import assert_holds
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement, dropping
from nondecoupling.theory.worlds import World


def batch(margin, error, relation=">=", *, size=1.0):
    margin, error = (np.atleast_1d(np.asarray(x, dtype=float)) for x in (margin, error))
    scope = np.full(margin.shape, True)
    return BatchResult("claim", False, margin, error, size * np.ones(margin.shape), scope, relation)


HALF = (Fraction(1, 2), Fraction(1, 2))


def status(result):
    return result.verdict(Statement).status


@pytest.fixture(autouse=True)
def named(monkeypatch):
    """``Statement`` itself stands for any statement: a verdict asks for its id only."""
    monkeypatch.setattr(Statement, "id", "A1", raising=False)


# --- drawn worlds ------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", [">=", "=="])
def test_a_world_is_violated_just_beyond_its_error(relation):
    error = 1e-15
    assert status(batch(-1.01 * error, error, relation)) is Status.REFUTED
    assert status(batch(-0.99 * error, error, relation)) is Status.HOLDS


def test_an_identity_is_violated_on_either_side():
    assert status(batch(2e-15, 1e-15, "==")) is Status.REFUTED
    assert status(batch(2e-15, 1e-15)) is Status.HOLDS


@pytest.mark.parametrize("relation", [">=", "=="])
def test_a_margin_within_a_coarse_error_decides_nothing(relation):
    """Coarse against the sides: 1e-3 is, next to sides of 10, and is not next to sides of 10,000."""
    assert status(batch(-5e-4, 1e-3, relation, size=10.0)) is Status.UNDECIDED
    assert status(batch(-5e-4, 1e-3, relation, size=1e4)) is Status.HOLDS
    assert status(batch(-2e-3, 1e-3, relation, size=10.0)) is Status.REFUTED
    assert status(batch(2e-3, 1e-3, size=10.0)) is Status.HOLDS


def test_a_strict_inequality_needs_a_margin_beyond_its_error():
    assert status(batch(2e-15, 1e-15, ">")) is Status.HOLDS
    assert status(batch(5e-16, 1e-15, ">")) is Status.UNDECIDED
    assert status(batch(0.0, 1e-15, ">")) is Status.UNDECIDED
    assert status(batch(0.0, 0.0, ">")) is Status.REFUTED
    assert status(batch(0.0, 0.0)) is Status.HOLDS


@pytest.mark.parametrize(("margin", "error"), [(1.0, np.inf), (np.nan, 0.0)])
def test_one_undecided_world_keeps_a_batch_from_holding(margin, error):
    assert status(batch([1.0, margin], [0.0, error])) is Status.UNDECIDED
    assert status(batch([1.0, -1.0, margin], [0.0, 0.0, error])) is Status.REFUTED


def test_an_infinite_margin_of_infinite_error_decides_nothing():
    assert status(batch(np.inf, np.inf, size=np.inf)) is Status.UNDECIDED
    assert status(batch(np.inf, 0.0, size=np.inf)) is Status.HOLDS


def test_the_worst_world_counts_with_its_error():
    verdict = batch([3.0, 1.0, 2.0], [0.0, 0.0, 0.0]).verdict(Statement)
    assert (verdict.margin, verdict.tolerance) == (1.0, 0.0)


class HalfOfBeta(Statement):
    """For tests: one claim, under a condition."""

    id, title, depends = "A1", "Half of beta", ()
    world = dict(beta=Positive())

    @staticmethod
    def claims(xp, w):
        yield Claim("beta is positive", w.beta, ">=", 0 * w.beta)

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


def stating(made, **fields):
    """A statement of one claim, for tests."""

    class Stated(Statement):
        id, title, depends = "A1", "Stated", ()
        world = fields or dict(beta=Positive())
        claims = staticmethod(lambda xp, w: iter([made(xp, w)]))

    return Stated


BETA = {"beta": (Fraction(1, 4),)}


@pytest.mark.parametrize("relation", ["==", ">="])
def test_sides_that_swallow_their_difference_are_not_checked(relation):
    """(10^20 + beta) - 10^20 is beta, and no more than beta; in float64 it is 0, with an error of 10^4."""
    false = stating(lambda xp, w: Claim("one more", (w.beta + 1e20) - 1e20, relation, w.beta + 1))
    (found,) = check_random_worlds(false, worlds=50)
    assert found.undecided.all() and found.verdict(false).status is Status.UNDECIDED
    assert certify(false, World(BETA))[0].status is Status.REFUTED


def test_two_sides_that_overflow_are_not_equal():
    huge = stating(lambda xp, w: Claim("huge", xp.exp(w.beta + 800), "==", xp.exp(w.beta + 900)))
    assert check_random_worlds(huge, worlds=5)[0].undecided.all()
    infinite = stating(
        lambda xp, w: Claim("inf", -xp.log(0 * w.beta), "==", -2 * xp.log(0 * w.beta))
    )
    assert not check_random_worlds(infinite, worlds=5)[0].undecided.any()


def test_a_claim_is_strict_only_where_the_theory_refutes_it():
    false = stating(lambda xp, w: Claim("more than itself", w.beta, ">", w.beta))
    checks = (
        lambda: check_random_worlds(false, worlds=5),
        lambda: certify(false, World(BETA)),
        lambda: assert_holds(false, World(BETA)),
    )
    for check in checks:
        with pytest.raises(ValueError, match="claim='more than itself': A1 claims a strict"):
            check()
    refuted = stating(lambda xp, w: Claim("more than itself", w.beta, ">", w.beta, refuted=True))
    (found,) = check_random_worlds(refuted, worlds=5)
    assert found.violated.all()
    assert certify(refuted, World(BETA))[0].status is Status.REFUTED


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


def test_infinity_does_not_exceed_itself():
    infinity = ball("inf")
    assert of(">=", infinity, infinity).status is Status.HOLDS
    assert of(">", infinity, infinity).status is Status.REFUTED


def test_a_strict_inequality_has_no_equality_case():
    assert sides_agree(of(">", ball(1, 1e-27), ball(1)))
    assert not is_equality_case(of(">", ball(1, 1e-27), ball(1)))


def on_the_line(width):
    """A world for a condition with both sides 1 up to ``width``, and irrational."""

    class Close(Statement):
        id, title, depends = "A1", "Close to its condition", ()
        world = dict(beta=Positive(), more=Reward())

        @staticmethod
        def claims(xp, w):
            yield Claim("beta", w.beta, ">=", 0 * w.beta)

        @staticmethod
        def conditions(xp, w):
            yield Claim("log", xp.log(xp.exp(w.beta) * (1 + w.more)), ">=", w.beta)

    return Close, World({"beta": (Fraction(1),), "more": (Fraction(width),)})


@pytest.mark.parametrize(("sign", "expected"), [(1, Status.HOLDS), (-1, Status.OUT_OF_SCOPE)])
def test_the_precision_is_raised_until_a_condition_is_decided(sign, expected):
    statement, world = on_the_line(Fraction(sign, 10**50))
    assert certify(statement, world)[0].status is expected
    (coarse,) = certify(statement, world, precisions=(128,))
    assert coarse.status is Status.UNDECIDED and coarse.on_boundary


def test_on_the_boundary_of_a_condition_nothing_is_decided():
    statement, world = on_the_line(0)
    (found,) = certify(statement, world)
    assert found.status is Status.UNDECIDED and found.on_boundary
    assert found.reason == "condition 'log' undecided: its sides agree to 25 digits"
    assert not is_equality_case(found)
    assert assert_holds(statement, world) == [found]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dict(log_p=HALF, reward=(0, 1), beta=(-1,)), "beta=-1: must be positive"),
        (dict(log_p=(1, 0), reward=(0, 1), beta=(1,)), "log_p=1, 0: this law needs a positive"),
        (dict(log_p=HALF, reward=(0, 1), beta=(1, 2)), "beta=1, 2: needs one number, not 2"),
        (dict(log_p=HALF, reward=(0,), beta=(1,)), "every field has as many numbers"),
        (dict(log_p=HALF, reward=(0, 1)), "beta: missing from the world; it has log_p, reward"),
    ],
)
def test_a_world_outside_of_the_fields_is_refused(values, message):
    fields = dict(log_p=Law(full_support=True), reward=Reward(), beta=Positive())
    true = stating(lambda xp, w: Claim("beta", w.beta, ">=", 0 * w.beta), **fields)
    world = World({name: tuple(map(Fraction, value)) for name, value in values.items()})
    with pytest.raises(ValueError, match=re.escape(message)):
        certify(true, world)


def test_a_dropped_assumption_admits_its_worlds():
    fields = dict(log_p=Law(full_support=True))
    true = stating(
        lambda xp, w: Claim("mass", xp.exp(w.log_p)[..., :1], ">=", -1 + 0 * w.log_p[..., :1]),
        **fields,
    )
    world = World({"log_p": (Fraction(1), Fraction(0))})
    with pytest.raises(ValueError, match="positive probability"):
        certify(true, world)
    assert certify(dropping(true, "log_p has full support"), world)


def test_an_equality_case_agrees_to_25_digits():
    assert is_equality_case(of(">=", ball(1, 1e-27), ball(1)))
    assert not is_equality_case(of(">=", ball(1, 1e-20), ball(1)))
    assert not is_equality_case(of(">=", ball(2), ball(1)))


# --- durations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reward", "weight", "message"),
    [
        ((1, 1), (0, 1), 0, "weight=0: must be positive"),
        ((1, 1), (0, 1), -1, "weight=-1: must be positive"),
        ((1, 1), (3, 3), 1, "reward=3 for every response"),
        ((1, 1, 0), (0, 1, 2), 1, "data=1/2, 1/2, 0: this law needs a positive probability"),
        ((1, 1), (0, 1, 2), 1, "reward has 3 numbers for the 2 responses of data"),
        ((1, 1, -1), (0, 1, 2), 1, "data=1, 1, -1: -1 is negative"),
    ],
)
def test_a_duration_is_certified_on_worlds_of_its_fields_only(data, reward, weight, message):
    law = tuple(Fraction(x, sum(data)) for x in data)
    with pytest.raises(ValueError, match=message):
        certify_duration(law, tuple(map(Fraction, reward)), Fraction(weight))
