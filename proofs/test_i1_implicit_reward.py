"""I1, implicit reward: derivation, drawn worlds, equality case, and the check can fail."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import expectation
from nondecoupling.formulas.tilt import implicit_reward
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.i1_implicit_reward import ImplicitReward
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import distance_from_midrange
from proofs.symbolic import assert_identity, assert_zero, symbolic_world

pytestmark = pytest.mark.statement("I1")
SIZE = "size of the mismatch"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(ImplicitReward, "p is a tilt", responses))
    evidence(assert_identity(ImplicitReward, "cycle law with mismatch", responses))


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_the_mismatch_may_be_centred(responses, evidence):
    """E_p f - E_d f = sum (p - d)(f - c) for every c; c in the middle of the range is the best."""
    xp, w = sympy_numbers(), symbolic_world(ImplicitReward, responses)
    left = w.reward - implicit_reward(xp, w.log_p, w.log_ref, w.beta)
    mismatch = expectation(xp, w.log_p, left) - expectation(xp, w.log_ref, left)
    middle = (left[0] + left[1]) / 2
    by_difference = xp.sum((xp.exp(w.log_p) - xp.exp(w.log_ref)) * (left - middle))
    assert_zero((mismatch - by_difference).flat[0], claim=SIZE)
    evidence(f"size of the mismatch by {distance_from_midrange()}, n = {responses}")


@pytest.mark.sampled
@given(worlds(ImplicitReward))
def test_drawn_worlds(world):
    assert_holds(ImplicitReward, world)


@pytest.mark.certified
def test_size_is_attained_by_two_responses_and_not_by_three():
    two = exact_world(log_law="1 0", log_p="1/4 3/4", log_ref="2/3 1/3", reward="0 1", beta="2")
    assert_attained(ImplicitReward, SIZE, two)
    three = exact_world(
        log_law="1 0 0", log_p="1/4 1/2 1/4", log_ref="1/3 1/3 1/3", reward="0 1 3", beta="2"
    )
    (verdict,) = [v for v in assert_holds(ImplicitReward, three) if v.claim == SIZE]
    assert verdict.margin > 0


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(ImplicitReward, SIZE)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


def test_one_percent_tighter_is_refuted():
    assert_tightened_fails(ImplicitReward, SIZE, 1.01)
