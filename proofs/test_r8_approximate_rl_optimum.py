"""R8, approximate RL optimum: the identity, and the refuted unconditional form."""

import pytest
from hypothesis import given

from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r8_approximate_rl_optimum import ApproximateRlOptimum
from proofs.checks import assert_refuted, exact_world
from proofs.symbolic import assert_identity

pytestmark = pytest.mark.statement("R8")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    evidence(assert_identity(ApproximateRlOptimum, "the exact drop", responses))


@pytest.mark.sampled
@given(worlds(ApproximateRlOptimum))
def test_drawn_worlds(world):
    assert_holds(ApproximateRlOptimum, world)


FALSE = "SFT lowers J_b after any RL"


@pytest.mark.certified
def test_the_unconditional_form_is_refuted_by_search(evidence):
    witness = smallest_witness(ApproximateRlOptimum, FALSE)
    assert witness is not None
    evidence(f"smallest witness against {FALSE!r}: {witness}")


@pytest.mark.certified
def test_refuted_close_to_the_optimum_too(evidence):
    """The tilt is about (.269, .731): an SFT result nearer to it than the RL result raises J_b."""
    world = exact_world(
        log_rl="2/5 3/5", log_sft="27/100 73/100", log_ref="1/2 1/2", reward="0 1", beta="1"
    )
    verdicts = {v.claim: v for v in certify(ApproximateRlOptimum, world)}
    assert verdicts[FALSE].status is Status.REFUTED
    evidence(f"refuted at {world}, by {-verdicts[FALSE].margin:.4f}")


@pytest.mark.attacked
def test_attack_refutes_it_too():
    assert attack(ApproximateRlOptimum, FALSE, responses=2, first_violation=True).violation


def test_the_identity_check_can_fail():
    """With the roles of the two policies exchanged the identity is refuted."""
    from dataclasses import replace

    from nondecoupling.numbers.arb import arb

    world = exact_world(
        log_rl="2/5 3/5", log_sft="1/10 9/10", log_ref="1/2 1/2", reward="0 1", beta="1"
    )
    w = world.exact(ApproximateRlOptimum.world, arb())
    identity = next(ApproximateRlOptimum.claims(arb(), w))
    assert_refuted("R8", replace(identity, rhs=-identity.rhs))
