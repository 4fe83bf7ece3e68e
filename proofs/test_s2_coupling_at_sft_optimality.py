"""S2, coupling at SFT optimality: derivation, drawn worlds, equality case, needed assumption."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s2_coupling_at_sft_optimality import CouplingAtSftOptimality
from proofs.checks import assert_attained, assert_needs, assert_survives, exact_world
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("S2")
RAISES = "RL raises the SFT loss"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_closed_form_is_the_definition(responses, evidence):
    evidence(assert_identity(CouplingAtSftOptimality, "closed form", responses))
    evidence(assert_identity(CouplingAtSftOptimality, "KL form", responses))

    def divergence(xp, w):
        return kl_divergence(xp, w.log_d, gibbs_tilt(xp, w.log_d, w.reward, w.beta))

    what = "KL(d||tilt)"
    evidence(assert_margin(CouplingAtSftOptimality, RAISES, responses, divergence, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(CouplingAtSftOptimality))
def test_drawn_worlds(world):
    assert_holds(CouplingAtSftOptimality, world)


@pytest.mark.certified
@pytest.mark.parametrize(
    "world",
    [
        exact_world(log_d="1/4 3/4", reward="5 5", beta="1/2"),
        exact_world(log_d="1/4 3/4 0", reward="5 5 9", beta="1/2"),
        exact_world(log_d="1 0", reward="0 1", beta="1/2"),
    ],
    ids=["constant reward", "constant on the support", "point mass"],
)
def test_equality_iff_reward_constant_on_the_support(world):
    assert_attained(CouplingAtSftOptimality, RAISES, world)


@pytest.mark.certified
def test_strict_for_the_smallest_spread(evidence):
    world = exact_world(log_d="1/4 3/4", reward="0 1/1000000", beta="1000")
    verdicts = assert_holds(CouplingAtSftOptimality, world)
    assert all(v.margin > 0 for v in verdicts if v.claim == RAISES)
    evidence("strictly positive at r/beta = 1e-9")


@pytest.mark.attacked
def test_no_decrease_is_found():
    assert_survives(CouplingAtSftOptimality, RAISES)


def test_needs_ref_equal_to_the_data_law(evidence):
    witness = assert_needs(CouplingAtSftOptimality, "log_ref = log_d", RAISES)
    evidence(f"false without ref = d: {witness}")
