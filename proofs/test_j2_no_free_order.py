"""J2, no free order: derivation, drawn worlds, equality case, the exchange rate is sharp."""

import numpy as np
import pytest
from hypothesis import given

from nondecoupling.bounds.joint import joint_optimum
from nondecoupling.bounds.laws import cross_entropy, gibbs_tilt, regularized_reward
from nondecoupling.formulas.joint import joint_gap
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.j2_no_free_order import NoFreeOrder
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import logarithm_below_tangent, tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("J2")
PAID = "reward is paid for in SFT loss"


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_exact_gap(n, evidence):
    evidence(assert_identity(NoFreeOrder, "exact gap", n))

    def gap(xp, w):
        return joint_gap(xp, w.log_p, w.log_joint, w.log_d, w.beta, w.weight)

    what = "beta KL(p||p_joint) + lambda E_d[z - 1 - log z]"
    evidence(assert_margin(NoFreeOrder, PAID, n, gap, what))
    evidence(f"nonnegative by {tangent_of_exp()} and {logarithm_below_tangent()}")


@pytest.mark.sampled
@given(worlds(NoFreeOrder))
def test_drawn_worlds(world):
    assert_holds(NoFreeOrder, world)


@pytest.mark.certified
def test_equality_at_the_joint_optimum():
    same = "1/5 3/10 1/2"
    world = exact_world(
        log_joint=same, log_p=same, log_d="1/2 1/2 0", log_ref="1/3 1/3 1/3", beta="1/2", weight="2"
    )
    assert_attained(NoFreeOrder, PAID, world)


@pytest.mark.attacked
@pytest.mark.parametrize("responses", [2, 3])
def test_no_violation_is_found(responses, evidence):
    (result,) = assert_survives(NoFreeOrder, PAID, responses=responses)
    evidence(tightness_line(result))


def test_one_percent_tighter_is_refuted():
    """To first order around the joint optimum the exchange rate is exactly lambda."""
    assert_tightened_fails(NoFreeOrder, PAID, 1.01)


@pytest.mark.sampled
def test_both_orders_lie_below_the_frontier(evidence):
    """SFT then RL ends at the tilt of d, RL then SFT at d: neither beats the joint optimum."""
    rng = np.random.default_rng(0)
    d, r = np.log(rng.dirichlet(np.ones(4), 2000)), rng.standard_normal((2000, 4))
    beta, weight = 10.0 ** rng.uniform(-1, 1, (2, 2000))
    joint = joint_optimum(d, d, r, beta, weight)
    below = []
    for p in (gibbs_tilt(d, r, beta), d):
        gain = regularized_reward(p, d, r, beta) - regularized_reward(joint, d, r, beta)
        paid = weight * (cross_entropy(d, p) - cross_entropy(d, joint))
        below.append(gain < paid + 1e-12 * (1 + np.abs(paid)))
    assert_in_all(below, PAID)
    evidence("tilt and d below the frontier in 2000 worlds")
