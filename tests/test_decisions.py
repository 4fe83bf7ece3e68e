"""Decisions are reported as they are made: those about a statement, and not those about spoilt variants."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

from nondecoupling.deciding.attack import attack
from nondecoupling.deciding.boxes import Box, certify_box, certify_convex
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.decisions import (
    Decision,
    Refutation,
    recording,
    recording_refutations,
    report,
)
from nondecoupling.deciding.sampling import check_random_worlds
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory import catalog
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import Claim, dropping, only, tightened
from nondecoupling.theory.worlds import World
from proofs import checks, symbolic

F1, P4, R1, R3, S3, R5 = (catalog.statement(id_) for id_ in ("F1", "P4", "R1", "R3", "S3", "R5"))
HALF = (Fraction(1, 2), Fraction(1, 2))
THIRD = (Fraction(1, 3), Fraction(2, 3))
BEYOND = World(
    dict(log_p=(Fraction(1, 10), Fraction(9, 10)), log_ref=HALF, reward=(0, 1), beta=(1,))
)  # of R3's ball
HOEFFDING = "Hoeffding upper bound"


def named(made: list[Decision]) -> set[tuple[str, str, str]]:
    return {(d.rung.value, d.statement, d.claim) for d in made}


def test_recordings_nest_and_close() -> None:
    with recording() as outer:
        report(Decision(Assurance.SAMPLED, claim="one"))
        with recording() as inner:
            report(Decision(Assurance.SAMPLED, claim="two"))
    report(Decision(Assurance.SAMPLED, claim="after"))
    assert [d.claim for d in outer] == ["one", "two"]
    assert [d.claim for d in inner] == ["two"]


def test_a_recording_closes_when_its_work_fails() -> None:
    with pytest.raises(ZeroDivisionError), recording() as made:
        raise ZeroDivisionError
    report(Decision(Assurance.SAMPLED))
    assert made == []


def test_certificates_of_a_statement_and_of_one_of_its_claims() -> None:
    with recording() as made:
        certify(F1, World(dict(log_p=HALF, log_q=THIRD)))
    claims = {("certified", "F1", name) for name in ("stable form", "KL is nonnegative")}
    assert named(made) == claims
    with recording() as made:
        certify(only(F1, "stable form"), World(dict(log_p=HALF, log_q=THIRD)))
    assert named(made) == {("certified", "F1", "stable form")}


def test_out_of_scope_decides_nothing() -> None:
    with recording() as made:
        certify(R3, BEYOND)
    assert made == []


def test_refuting_a_spoilt_variant_is_no_decision_about_the_statement() -> None:
    """A refuted claim of the catalogue is one: R5 says that it is false."""
    world = World(dict(log_d=HALF, reward=(Fraction(0), Fraction(1, 1000)), beta=(Fraction(1),)))
    spoilt = tightened(S3, HOEFFDING, 1.01)
    with recording() as made, recording_refutations() as refuted:
        assert [v.status.value for v in certify(spoilt, world)] == ["refuted"]
        assert attack(spoilt, HOEFFDING, responses=2, restarts=8, steps=20).violation
    assert made == [] and refuted == [Refutation("S3", HOEFFDING)] * 2
    with recording() as made, recording_refutations() as refuted:
        attack(R5, "SFT never raises the raw reward", responses=2, restarts=8, steps=20)
    assert named(made) == {("attacked", "R5", "SFT never raises the raw reward")}
    assert refuted == [Refutation("R5", "SFT never raises the raw reward")]


def test_what_holds_or_is_undecided_is_no_refutation() -> None:
    equal = World(dict(log_d=HALF, reward=(Fraction(1), Fraction(1)), beta=(Fraction(1),)))
    with recording_refutations() as refuted:
        certify(S3, equal)
        assert {v.status.value for v in certify(R3, BEYOND)} == {"out of scope"}
        certify(F1, World(dict(log_p=HALF, log_q=THIRD)))
    assert refuted == []


def test_a_claim_beside_the_catalogue_must_be_false_to_count_as_refuted() -> None:
    import flint

    with recording_refutations() as refuted:
        checks.assert_refuted("F1", Claim("false", flint.arb(0), ">=", flint.arb(1)))
        for right in (flint.arb(0), flint.arb(0, 1)):
            with pytest.raises(AssertionError, match="F1 not false"):
                checks.assert_refuted("F1", Claim("not false", flint.arb(0), ">=", right))
    assert refuted == [Refutation("F1", "false")]


def test_no_variant_decides_anything_about_a_statement() -> None:
    """Not even where it holds: its worlds need be none of the statement's, its claim need not be stronger."""

    class Mine(F1):
        @staticmethod
        def claims(xp, w):
            one = 1 + 0 * w.log_p[..., :1]
            yield Claim("KL is nonnegative", one, ">=", 0 * one)

    sure = (Fraction(1), Fraction(0))
    wide = World(dict(log_d=HALF, reward=(Fraction(0), Fraction(5)), beta=(Fraction(1),)))
    variants = (
        (Mine, World(dict(log_p=HALF, log_q=THIRD))),
        (only(Mine, "KL is nonnegative"), World(dict(log_p=HALF, log_q=THIRD))),
        (
            dropping(R1, "log_ref has full support"),
            World(dict(log_p=sure, log_ref=sure, reward=(0, 1), beta=(1,))),
        ),
        (tightened(S3, HOEFFDING, 1.01), wide),
    )
    for variant, world in variants:
        with recording() as made:
            assert {v.status.value for v in certify(variant, world)} == {"holds"}, variant
        assert made == [], variant


def test_only_reduces_what_was_reduced() -> None:
    twice = only(only(F1, "stable form", "KL is nonnegative"), "stable form")
    with recording() as made:
        certify(twice, World(dict(log_p=HALF, log_q=THIRD)))
    assert named(made) == {("certified", "F1", "stable form")}


@pytest.mark.parametrize("factor", [1.0, 1e-3, -2.0, float("nan"), float("inf")])
def test_a_claim_is_tightened_by_a_factor_above_one(factor: float) -> None:
    with pytest.raises(ValueError, match="factor="):
        tightened(S3, HOEFFDING, factor)


def test_an_identity_is_not_tightened() -> None:
    with pytest.raises(ValueError, match="claim='stable form': an identity"):
        certify(tightened(F1, "stable form", 2.0), World(dict(log_p=HALF, log_q=THIRD)))


def test_an_open_condition_decides_nothing_until_the_precision_tells() -> None:
    """P4's step points to the data, by 1e-40: at 128 bits the condition's sides agree."""
    tiny = Fraction(1, 10**40)
    half = Fraction(1, 2)
    world = World(dict(log_d=(half + tiny, half - tiny), theta=(0, 0), direction=(1, 0), step=(1,)))
    with recording() as made:
        found = certify(P4, world, precisions=(128,))
    assert made == [] and all(v.status.value == "undecided" and v.on_boundary for v in found)
    with recording() as made:
        found = certify(P4, world)
    assert {v.status.value for v in found} == {"holds"} and len(made) == len(found) > 0


def test_a_box_says_what_it_covers() -> None:
    parameters = {"t": (Fraction(1, 4), Fraction(3, 4)), "g": (Fraction(1), Fraction(2))}
    box = Box(parameters, lambda t, g: dict(log_d=[t, 1 - t], reward=[0, g], beta=[1]))
    with recording() as made:
        certify_box(S3, HOEFFDING, box)
    assert made == [Decision(Assurance.CERTIFIED, "S3", HOEFFDING, "t in [1/4, 3/4], g in [1, 2]")]
    with recording() as made:
        certify_box(S3, HOEFFDING, box, inside=0.25)
        certify_convex(S3, HOEFFDING, box, "g", 1)  # convex, and not tangent there
        certify_box(S3, "Bennett upper bound", box, max_boxes=5)  # an equality: stays undecided
    where = "t in [1/4, 3/4], g in [1, 2] where every condition has room >= 0.25"
    assert made == [Decision(Assurance.CERTIFIED, "S3", HOEFFDING, where)]


def test_drawn_worlds_count_where_they_are_in_scope() -> None:
    @settings(max_examples=30, derandomize=True, deadline=None, database=None)
    @given(worlds(F1))
    def run(world):
        assert_holds(F1, world)

    with recording() as made:
        run()
    assert ("sampled", "F1", "stable form") in named(made)
    with recording() as made:
        assert_holds(F1, World(dict(log_p=HALF, log_q=THIRD)))  # not drawn
    assert "sampled" not in {d.rung.value for d in made}
    with recording() as made:
        check_random_worlds(F1, worlds=8)
    # Among eight worlds one may be undecided, which leaves the claim undecided.
    assert ("sampled", "F1", "stable form") in named(made)


def test_the_checks_of_the_proofs_report_what_they_decide() -> None:
    import flint

    x = sp.Symbol("x", positive=True)
    with recording() as made:
        checks.assert_in_all(np.array([True, True]), "drawn")
        checks.assert_positive(flint.arb(1), claim="enclosed")
        symbolic.assert_zero((x + 1) ** 2 - x**2 - 2 * x - 1, claim="derived")
        symbolic.assert_identity(F1, "stable form", 2)
    assert named(made) == {
        ("sampled", "", "drawn"),
        ("certified", "", "enclosed"),
        ("symbolic", "", "derived"),
        ("symbolic", "F1", "stable form"),
    }


def test_the_checks_of_the_proofs_can_fail() -> None:
    import flint

    x = sp.Symbol("x", positive=True)
    with recording() as made:
        for values in (np.array([True, False]), np.ones(0, dtype=bool), np.ones(3)):
            with pytest.raises(AssertionError):
                checks.assert_in_all(values, "drawn")
        for balls in ((flint.arb(0),), (flint.arb(0, 1),), (1.0,), ()):
            with pytest.raises(AssertionError):
                checks.assert_positive(*balls, claim="enclosed")
        for expressions in ((x,), (0, x - 1), ()):
            with pytest.raises(AssertionError):
                symbolic.assert_zero(*expressions)
        with pytest.raises(AssertionError, match="margin differs"):
            symbolic.assert_margin(F1, "KL is nonnegative", 2, lambda xp, w: xp.sum(w.log_p), "no")
    assert made == []
