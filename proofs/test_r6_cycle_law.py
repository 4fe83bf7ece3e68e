"""R6, the cycle law."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r6_cycle_law import CycleLaw
from proofs.checks import (
    assert_attained,
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("R6")
GAP = "at least beta times the coupling gap"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(CycleLaw, "Jeffreys form", responses))

    def divergence(xp, w):
        tilt = gibbs_tilt(xp, w.log_d, w.reward, w.beta)
        return w.beta * kl_divergence(xp, tilt, w.log_d)

    evidence(assert_margin(CycleLaw, GAP, responses, divergence, "beta KL(tilt||d)"))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(CycleLaw))
def test_drawn_worlds(world):
    assert_holds(CycleLaw, world)


@pytest.mark.certified
def test_equality_iff_the_reward_is_constant_on_the_support():
    assert_attained(CycleLaw, GAP, exact_world(log_d="1/4 3/4", reward="2 2", beta="1"))
    other = exact_world(log_d="1/4 3/4", reward="2 2001/1000", beta="1")
    assert all(v.margin > 0 for v in assert_holds(CycleLaw, other) if v.claim == GAP)


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(CycleLaw, GAP)
    evidence(tightness_line(result))


def test_beyond_the_best_ratio_is_refuted(evidence):
    """The two sides meet only where both vanish or in the limit; the attack measures how nearly."""
    (pairs,), (triples,) = (assert_survives(CycleLaw, GAP, responses=n) for n in (2, 3))
    best = max(pairs.tightness, triples.tightness)
    assert_tightened_fails(CycleLaw, GAP, 1.01 / best)
    evidence(f"refuted 1 % past the best ratio {best:.4f}")


def test_needs_ref_equal_to_the_data_law(evidence):
    witness = assert_needs(CycleLaw, "log_ref = log_d", GAP)
    evidence(f"without ref = d it fails at {witness}")
