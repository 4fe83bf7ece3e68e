"""P3, PL of the regularised reward: derivation, drawn worlds, how tight, the check can fail."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.formulas.logits import rl_gradient
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.p3_pl_of_the_regularized_reward import PlOfTheRegularizedReward
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import mean_minimises_squares, variance_below_half_norm
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("P3")
CLAIMS = ("PL inequality", "moved logits lower J_b", "two prompts")


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_gradient_of_the_regularised_reward(n, evidence):
    """Differentiating J_b(softmax theta) in theta_i = log e_i: d/dtheta_i = e_i d/de_i."""
    xp = sympy_numbers()
    e, free = sp.symbols(f"e1:{n + 1}", positive=True), sp.symbols(f"q1:{n}", positive=True)
    r, beta = sp.symbols(f"r1:{n + 1}", real=True), sp.Symbol("beta", positive=True)
    ref = [*free, 1 - sum(free)]
    p = [x / sum(e) for x in e]
    reward = sum(x * y for x, y in zip(p, r, strict=True))
    divergence = sum(x * (sp.log(x) - sp.log(y)) for x, y in zip(p, ref, strict=True))
    derivative = [x * sp.diff(reward - beta * divergence, x) for x in e]
    log_p, log_ref = (xp.log(xp.array(law)) for law in (p, ref))
    formula = rl_gradient(xp, log_p, log_ref, xp.array(list(r)), xp.array([beta]))
    for found, expected in zip(formula, derivative, strict=True):
        assert_zero(found - expected)
    evidence(f"grad J_b = p (a - E_p a), a = r - beta log(p/ref), n = {n}")


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_gradient_dominates_the_drop(n, evidence):
    """a = -beta (u - const), u = log(p/tilt): ||grad||^2 = beta^2 sum p^2 (u - E_p u)^2."""
    least, beta, u = sp.symbols("m beta u", positive=True)
    extra = sp.Symbol("e", nonnegative=True)
    room = sp.expand(beta**2 * (least + extra) ** 2 * u**2 - beta**2 * least**2 * u**2)
    assert_zero(room - beta**2 * u**2 * extra * (2 * least + extra))
    # 1/2 beta^2 m^2 ||u_c||^2 with ||u_c||^2 >= 4 KL is 2 beta m^2 (beta KL): the stated constant
    divergence = sp.Symbol("KL", nonnegative=True)
    chained = beta**2 * least**2 * 4 * divergence / 2
    assert_zero(chained - 2 * beta * least**2 * (beta * divergence), claim="PL inequality")
    evidence(f"{mean_minimises_squares(n)}; P2 with {variance_below_half_norm(n)}; R1")


@pytest.mark.sampled
@given(worlds(PlOfTheRegularizedReward))
def test_drawn_worlds(world):
    assert_holds(PlOfTheRegularizedReward, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", CLAIMS)
def test_equality_at_the_tilt(claim):
    world = exact_world(
        log_p="1/3 2/3", log_ref="1/3 2/3", reward="7 7", beta="1/2",
        log_p_two="1/3 2/3", reward_two="0 0", share="1/3",
    )  # fmt: skip
    assert_attained(PlOfTheRegularizedReward, claim, world)


@pytest.mark.attacked
@pytest.mark.parametrize("responses", [2, 3])
def test_no_violation_is_found(responses, evidence):
    for result in assert_survives(PlOfTheRegularizedReward, *CLAIMS, responses=responses):
        evidence(f"n = {responses}, {tightness_line(result)}")


@pytest.mark.parametrize("claim", CLAIMS[:2])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(PlOfTheRegularizedReward, claim, 1.01)


def test_average_one_percent_tighter_is_refuted():
    """Two equal prompts of equal weight, close to the uniform tilt: the single-prompt limit."""
    from nondecoupling.deciding.certify import certify
    from nondecoupling.deciding.verdict import Status
    from nondecoupling.theory.statement import tightened

    near = "4999/10000 5001/10000"
    world = exact_world(
        log_p=near, log_ref="1/2 1/2", reward="0 0", beta="1",
        log_p_two=near, reward_two="0 0", share="1/2",
    )  # fmt: skip
    (verdict,) = certify(tightened(PlOfTheRegularizedReward, "two prompts", 1.01), world)
    assert verdict.status is Status.REFUTED, verdict


def test_the_public_bound_is_the_theorems():
    """||grad J_b||^2/(4 beta (min p)^2) from the definition of the gradient, and never below the drop."""
    rng = np.random.default_rng(0)
    p, ref = rng.dirichlet(np.ones(4), size=(2, 50)) * 0.96 + 0.01
    reward, beta = rng.normal(size=(50, 4)), 0.7
    advantage = reward - beta * np.log(p / ref)
    gradient = p * (advantage - (p * advantage).sum(axis=1, keepdims=True))
    stated = (gradient**2).sum(axis=1) / (4 * beta * p.min(axis=1) ** 2)
    laws = np.log(p), np.log(ref), reward, beta
    np.testing.assert_allclose(bounds.pl_reward_bound(*laws), stated)
    assert (bounds.regularized_reward_drop(*laws) <= stated).all()
