"""J1, joint optimum: derivation, drawn worlds, the solver's root certified, the check can fail."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack
from nondecoupling.formulas.joint import joint_objective, reward_with_joint_optimum
from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.j1_joint_optimum import JointOptimum
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_positive,
    assert_survives,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.roots import mass_at
from proofs.symbolic import assert_zero, symbolic_world

pytestmark = pytest.mark.statement("J1")
BEST, UPPER = "no policy does better", "mu exceeds it by at most lambda"


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_multiplier(n, evidence):
    """mu = beta log Z + lambda - beta KL(p||tilt), at mu = 0, with log Z as a free symbol."""
    xp = sympy_numbers()
    w = symbolic_world(JointOptimum, n)
    reward = reward_with_joint_optimum(xp, w.log_joint, w.log_d, w.log_ref, w.beta, w.weight)
    log_z = sp.Symbol("log_Z", real=True)
    tilt = w.log_ref + reward / w.beta - log_z
    divergence = kl_by_definition(xp, w.log_joint, tilt)
    assert_zero((-log_z - w.weight / w.beta + divergence).flat[0], claim="multiplier")
    evidence(f"multiplier, n = {n}")


@pytest.mark.symbolic
def test_stationarity_and_concavity(evidence):
    p, d, ref, beta, weight, mu = sp.symbols("p d q beta lambda mu", positive=True)
    r = sp.Symbol("r", real=True)
    term = p * r - beta * p * sp.log(p / ref) + weight * d * sp.log(p)  # one response's part of F
    curvature = sp.diff(term, p, 2)
    # negative, so F is strictly concave and a stationary law is its maximiser
    assert_zero(curvature + beta / p + weight * d / p**2, claim=BEST)
    # dF/dp = mu + const, solved for r, is the reward of the parametrisation
    slope = sp.diff(term, p)
    solved = sp.solve(slope - (mu - beta), r)[0]
    expected = mu + beta * sp.log(p / ref) - weight * d / p
    assert_zero(sp.expand_log(solved - expected, force=True))
    # with u = lambda d/(beta p) it reads u + log u = log(lambda d/beta) - (r + beta log ref - mu)/beta
    u = weight * d / (beta * p)
    z = sp.log(weight * d / beta) - (expected + beta * sp.log(ref) - mu) / beta
    assert_zero(u + sp.log(u) - z, claim="closed form")
    evidence("stationarity is u + log u = z; F strictly concave")
    evidence(f"mu <= beta log Z + lambda by F1, mu >= beta log Z as u >= 0; {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(JointOptimum))
def test_drawn_worlds(world):
    assert_holds(JointOptimum, world)


@pytest.mark.certified
def test_equality_at_the_optimum():
    same = "1/5 3/10 1/2"
    world = exact_world(
        log_joint=same, log_p=same, log_d="1/2 1/2 0", log_ref="1/3 1/3 1/3", beta="1/2", weight="2"
    )
    assert_attained(JointOptimum, BEST, world)


@pytest.mark.certified
@pytest.mark.parametrize("weight", [1e-6, 1e-2, 1.0, 1e2, 1e6])
def test_solver_root_changes_sign(weight, evidence):
    """J1's multiplier as the float solver finds it, within 1e-9 of a certified sign change."""
    xp = arb()
    d, ref = np.log([0.6, 0.3, 0.1]), np.log([0.2, 0.3, 0.5])
    reward, beta = np.array([0.0, 1.0, 2.0]), 0.5
    log_tilt = bounds.gibbs_tilt(ref, reward, beta)
    log_p = bounds.joint_optimum(d, ref, reward, beta, weight)
    # the offset from the most probable response: u = lambda d/(beta p), log p = log tilt - offset + u
    top = int(np.argmax(log_p))
    ratio = weight / beta
    offset = log_tilt[top] - log_p[top] + ratio * np.exp(d[top] - log_p[top])
    width = 1e-9 * max(offset, 1e-300)
    balls = (xp.array(list(x)) for x in (d, log_tilt))
    log_d, tilt = balls
    before, after = (
        mass_at(log_d, tilt, xp.array([ratio]), offset + side) for side in (-width, width)
    )
    assert_positive(before, -after, claim="the solver's root")
    evidence(f"lambda = {weight:g}: offset {offset:.6g} by sign change")


@pytest.mark.sampled
def test_frontier_falls_from_the_tilt_to_the_data_law(evidence):
    """Loss and reward both fall along the frontier, and it is concave: no policy lies above it."""
    d, ref = np.log([0.6, 0.3, 0.1]), np.log([0.2, 0.3, 0.5])
    reward = np.array([0.0, 1.0, 2.0])
    loss, best = bounds.pareto_frontier(d, reward, log_ref=ref, beta=0.5, points=65)
    assert_in_all(np.diff([loss, best]) < 0, "the frontier is monotone")
    slopes = np.diff(best) / np.diff(loss)  # lambda at a point in between: rises to the end
    assert_in_all(np.diff(slopes) > 0, "the frontier is concave")
    evidence("frontier of 65 points: monotone and concave")


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(JointOptimum, BEST, UPPER, "mu is at least the soft value"):
        evidence(tightness_line(result))


def test_the_optimum_of_another_weight_is_beaten():
    """With lambda one percent off the same law is no longer the maximiser, and the attack says so."""

    class OffByOnePercent(JointOptimum):
        @staticmethod
        def claims(xp, w):
            reward = reward_with_joint_optimum(
                xp, w.log_joint, w.log_d, w.log_ref, w.beta, w.weight
            )
            best, other = (
                joint_objective(xp, p, w.log_d, w.log_ref, reward, w.beta, w.weight * 0.99)
                for p in (w.log_joint, w.log_p)
            )
            yield Claim(BEST, best, ">=", other)

    assert attack(OffByOnePercent, BEST, responses=2, first_violation=True).violation
