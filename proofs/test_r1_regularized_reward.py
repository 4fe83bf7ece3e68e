"""R1, the regularised reward falls by beta KL."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt, regularized_reward
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r1_regularized_reward import RegularizedReward
from proofs.checks import assert_attained, assert_refuted, assert_survives, exact_world
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("R1")
LOWERS = "SFT lowers the regularised reward"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(RegularizedReward, "closed form", responses))

    def divergence(xp, w):
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        return w.beta * kl_divergence(xp, w.log_p, tilt)

    evidence(assert_margin(RegularizedReward, LOWERS, responses, divergence, "beta KL(p||tilt)"))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(RegularizedReward))
def test_drawn_worlds(world):
    assert_holds(RegularizedReward, world)


@pytest.mark.certified
def test_equality_at_the_tilt_only():
    same = exact_world(log_p="1/4 3/4", log_ref="1/4 3/4", reward="1 1", beta="1")
    assert_attained(RegularizedReward, LOWERS, same)
    other = exact_world(log_p="1/4 3/4", log_ref="1/4 3/4", reward="1 1001/1000", beta="1")
    assert all(v.margin > 0 for v in assert_holds(RegularizedReward, other) if v.claim == LOWERS)


@pytest.mark.attacked
def test_no_rise_is_found():
    assert_survives(RegularizedReward, LOWERS)


def test_the_drop_from_a_policy_that_is_not_the_tilt_can_be_negative():
    """The same quantity measured from ref instead of the tilt goes negative: the check can fail."""
    from nondecoupling.numbers.arb import arb
    from nondecoupling.theory.statement import Claim

    xp = arb()
    ref, p = xp.log(xp.array([0.5, 0.5])), xp.log(xp.array([0.25, 0.75]))
    laws = ref, xp.array([0, 1]), xp.array([1])
    drop = regularized_reward(xp, ref, *laws) - regularized_reward(xp, p, *laws)
    assert_refuted("R1", Claim("falls from ref", drop, ">=", xp.full_like(drop, 0.0)))
