"""R2, the three-point identity for the raw reward."""

import pytest
from hypothesis import given

from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r2_three_points import ThreePoints
from proofs.checks import assert_refuted, exact_world
from proofs.symbolic import assert_identity

pytestmark = pytest.mark.statement("R2")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(ThreePoints, "three points", responses))


@pytest.mark.sampled
@given(worlds(ThreePoints))
def test_drawn_worlds(world):
    assert_holds(ThreePoints, world)


@pytest.mark.certified
@pytest.mark.parametrize(("policy", "sign"), [("1/2 1/2", 1), ("1/10 9/10", -1)])
def test_both_signs_occur(policy, sign, evidence):
    world = exact_world(log_p=policy, log_ref="1/2 1/2", reward="0 1", beta="1")
    (verdict,) = certify(ThreePoints, world)
    assert verdict.status is Status.HOLDS
    assert verdict.lhs * sign > 0
    evidence(f"p = ({policy}): drop {verdict.lhs:.4f}")


def test_dropping_a_term_is_noticed():
    """Without KL(tilt||ref) the identity fails, and the same check says so."""
    from nondecoupling.formulas.laws import expected_reward, kl_divergence
    from nondecoupling.formulas.tilt import gibbs_tilt
    from nondecoupling.numbers.arb import arb
    from nondecoupling.theory.statement import Claim

    xp = arb()
    world = exact_world(log_p="1/4 3/4", log_ref="1/2 1/2", reward="0 1", beta="1")
    a = world.exact(ThreePoints.world, xp)
    tilt = gibbs_tilt(xp, a["log_ref"], a["reward"], a["beta"])
    drop = expected_reward(xp, tilt, a["reward"]) - expected_reward(xp, a["log_p"], a["reward"])
    two = kl_divergence(xp, a["log_p"], tilt) - kl_divergence(xp, a["log_p"], a["log_ref"])
    claim = Claim("two points", drop, "==", a["beta"] * two)
    assert_refuted("R2", claim)
