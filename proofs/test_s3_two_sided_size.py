"""S3, two-sided size of the coupling gap."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import centred, expectation
from nondecoupling.formulas.sft_then_rl import coupling_gap, two_point_gap
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s3_two_sided_size import TwoSidedSize
from proofs.checks import (
    assert_attained,
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import bennett_interpolation, hoeffding_curvature
from proofs.symbolic import normal_form, symbolic_world

pytestmark = pytest.mark.statement("S3")


@pytest.mark.symbolic
@pytest.mark.parametrize("atom", [0, 1])
def test_two_atoms_attain_bennett(atom, evidence):
    """For n = 2 the two-point value at either end of the range is the coupling gap itself."""
    xp, w = sympy_numbers(), symbolic_world(TwoSidedSize, 2)
    x = centred(xp, w.log_d, w.reward) / w.beta
    end = two_point_gap(xp, expectation(xp, w.log_d, x * x), x[atom : atom + 1])
    gap = coupling_gap(xp, w.log_d, w.reward, w.beta)
    assert normal_form(end.flat[0] - gap.flat[0]) == 0
    evidence("Bennett's values are equalities for n = 2")


@pytest.mark.symbolic
def test_inequalities_reduce_to_elementary_ones(evidence):
    evidence(f"Bennett by {bennett_interpolation()}")
    evidence(f"Hoeffding by {hoeffding_curvature()}")


@pytest.mark.sampled
@given(worlds(TwoSidedSize))
def test_drawn_worlds(world):
    assert_holds(TwoSidedSize, world)


LOWER, UPPER, HOEFFDING = "Bennett lower bound", "Bennett upper bound", "Hoeffding upper bound"


@pytest.mark.certified
@pytest.mark.parametrize("claim", [LOWER, UPPER])
def test_bennett_is_attained_by_two_atoms(claim):
    assert_attained(TwoSidedSize, claim, exact_world(log_d="1/5 4/5", reward="0 3", beta="2"))


@pytest.mark.certified
def test_hoeffding_is_attained_in_the_limit(evidence):
    world = exact_world(log_d="1/2 1/2", reward="0 1/1000", beta="1")
    (verdict,) = [v for v in assert_holds(TwoSidedSize, world) if v.claim == HOEFFDING]
    assert 0 < verdict.margin < 1e-6 * verdict.rhs
    evidence(f"Hoeffding ratio {verdict.lhs / verdict.rhs:.8f} at R/beta = 1e-3")


@pytest.mark.attacked
@pytest.mark.parametrize("claim", [LOWER, UPPER, HOEFFDING])
def test_attack(claim, evidence):
    result = assert_survives(TwoSidedSize, claim)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [LOWER, UPPER, HOEFFDING])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(TwoSidedSize, claim, 1.01)


@pytest.mark.parametrize("claim", [LOWER, HOEFFDING])
def test_needs_ref_equal_to_the_data_law(claim, evidence):
    witness = assert_needs(TwoSidedSize, "log_ref = log_d", claim)
    evidence(f"{claim} without ref = d fails at {witness}")
