"""F3, Gibbs variational principle."""

import numpy as np
import pytest
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.f3_gibbs_variational_principle import GibbsVariationalPrinciple
from proofs.checks import assert_attained, assert_refuted, assert_survives, exact_world
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("F3")
BEST = "the tilt is optimal"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(GibbsVariationalPrinciple, "value", responses))
    evidence(assert_identity(GibbsVariationalPrinciple, "gap", responses))

    def divergence(xp, w):
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        return w.beta * kl_divergence(xp, w.log_p, tilt)

    what = "beta KL(p||tilt)"
    evidence(assert_margin(GibbsVariationalPrinciple, BEST, responses, divergence, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(GibbsVariationalPrinciple))
def test_drawn_worlds(world):
    assert_holds(GibbsVariationalPrinciple, world)


@pytest.mark.certified
def test_equality_at_the_tilt():
    """With a constant reward the tilt is rational: it is ref itself."""
    world = exact_world(log_p="1/4 3/4", log_ref="1/4 3/4", reward="2 2", beta="1/3")
    assert_attained(GibbsVariationalPrinciple, BEST, world)


@pytest.mark.attacked
def test_no_policy_beats_the_tilt():
    assert_survives(GibbsVariationalPrinciple, BEST)


def test_a_wrong_temperature_is_noticed():
    """The tilt at beta is not optimal at 2 beta: the same check refutes it."""
    from nondecoupling.formulas.tilt import log_partition, regularized_reward
    from nondecoupling.numbers.arb import arb
    from nondecoupling.theory.statement import Claim

    xp = arb()
    world = exact_world(log_p="1/2 1/2", log_ref="1/2 1/2", reward="0 1", beta="1")
    a = world.exact(GibbsVariationalPrinciple.world, xp)
    tilt = gibbs_tilt(xp, a["log_ref"], a["reward"], 2 * a["beta"])
    reached = regularized_reward(xp, tilt, a["log_ref"], a["reward"], a["beta"])
    best = a["beta"] * log_partition(xp, a["log_ref"], a["reward"], a["beta"])
    assert_refuted("F3", Claim("value", reached, "==", best))


def test_the_public_functions_reach_the_soft_value_at_the_tilt_only():
    rng = np.random.default_rng(0)
    log_ref, log_p = np.log(rng.dirichlet(np.ones(4), size=(2, 50)))
    reward, beta = rng.normal(size=(50, 4)), 0.5
    best = beta * bounds.log_partition(log_ref, reward, beta)
    tilt = bounds.gibbs_tilt(log_ref, reward, beta)
    np.testing.assert_allclose(bounds.regularized_reward(tilt, log_ref, reward, beta), best)
    assert (bounds.regularized_reward(log_p, log_ref, reward, beta) < best).all()
