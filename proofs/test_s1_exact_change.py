"""S1, exact change of the SFT loss: derivation, drawn worlds, and both signs occur."""

import pytest
from hypothesis import given

from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s1_exact_change import ExactChange
from proofs.checks import assert_refuted, exact_world
from proofs.symbolic import assert_identity

pytestmark = pytest.mark.statement("S1")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(ExactChange, "at the tilt", responses))
    evidence(assert_identity(ExactChange, "at any policy", responses))


@pytest.mark.sampled
@given(worlds(ExactChange))
def test_drawn_worlds(world):
    assert_holds(ExactChange, world)


@pytest.mark.certified
@pytest.mark.parametrize(("data", "sign"), [("1/10 9/10", -1), ("9/10 1/10", 1)])
def test_rl_can_lower_or_raise_the_sft_loss(data, sign, evidence):
    """Away from SFT optimality both signs occur: S1 claims no sign."""
    world = exact_world(log_d=data, log_ref="1/2 1/2", log_p="1/3 2/3", reward="0 1", beta="1")
    (at_tilt, _) = certify(ExactChange, world)
    assert at_tilt.status is Status.HOLDS
    assert at_tilt.lhs * sign > 0
    evidence(f"d = ({data}): DeltaL(tilt) = {at_tilt.lhs:.4f}")


def test_a_missing_term_is_noticed():
    """DeltaL(p) is not KL(ref||p) alone unless d = ref."""
    from nondecoupling.formulas.laws import cross_entropy, kl_divergence
    from nondecoupling.numbers.arb import arb
    from nondecoupling.theory.statement import Claim

    xp = arb()
    d, ref, p = (xp.log(xp.array(v)) for v in ([0.25, 0.75], [0.5, 0.5], [0.125, 0.875]))
    change = cross_entropy(xp, d, p) - cross_entropy(xp, d, ref)
    wrong = Claim("without the mean difference", change, "==", kl_divergence(xp, ref, p))
    assert_refuted("S1", wrong)
