"""F5, softmax derivatives: sympy derivatives, drawn worlds, equality case, and the check can fail."""

from collections.abc import Iterator

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.formulas.laws import cross_entropy, expectation, expected_reward, log_softmax
from nondecoupling.formulas.logits import bregman_of_log_sum_exp, reward_gradient, sft_loss_gradient
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.f5_softmax_derivatives import SoftmaxDerivatives
from proofs.checks import assert_attained, assert_survives, assert_tightened_fails, exact_world
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin, assert_zero, symbolic_world

pytestmark = pytest.mark.statement("F5")
CONVEX = "the SFT loss is convex in the logits"


def derivative(expression, logit):
    """d/d theta for theta = log x, as x d/dx."""
    x = sp.exp(logit)
    return x * sp.diff(expression, x)


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_gradients_are_the_derivatives(responses, evidence):
    xp, w = sympy_numbers(), symbolic_world(SoftmaxDerivatives, responses)
    log_p = log_softmax(xp, w.logits)
    loss = cross_entropy(xp, w.log_d, log_p).flat[0]
    reward = expected_reward(xp, log_p, w.reward).flat[0]
    of_loss = sft_loss_gradient(xp, log_p, w.log_d)
    of_reward = reward_gradient(xp, log_p, w.reward)
    for k, logit in enumerate(w.logits):
        assert_zero(derivative(loss, logit) - of_loss[k])
        assert_zero(derivative(reward, logit) - of_reward[k])
    evidence(f"gradients of CE and J, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_hessian_of_the_loss(responses, evidence):
    xp, w = sympy_numbers(), symbolic_world(SoftmaxDerivatives, responses)
    log_p = log_softmax(xp, w.logits)
    p = xp.exp(log_p)
    loss = cross_entropy(xp, w.log_d, log_p).flat[0]
    for i, first in enumerate(w.logits):
        for j, second in enumerate(w.logits):
            hessian = (p[i] if i == j else 0) - p[i] * p[j]
            assert_zero(derivative(derivative(loss, first), second) - hessian)
    evidence(f"Hessian diag(p) - p p^T, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_bregman_form(responses, evidence):
    for name in ("Bregman form", "gradient of the SFT loss", "gradient of the reward"):
        evidence(assert_identity(SoftmaxDerivatives, name, responses))

    def divergence(xp, w):
        return bregman_of_log_sum_exp(xp, w.other_logits, w.logits)

    what = "the Bregman divergence, which is a KL"
    evidence(assert_margin(SoftmaxDerivatives, CONVEX, responses, divergence, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(SoftmaxDerivatives))
def test_drawn_worlds(world):
    assert_holds(SoftmaxDerivatives, world)


@pytest.mark.certified
def test_equality_iff_the_logits_differ_by_a_constant():
    values = dict(log_d="1/4 3/4", logits="0 1", reward="0 1")
    assert_attained(SoftmaxDerivatives, CONVEX, exact_world(**values, other_logits="5 6"))
    near = exact_world(**values, other_logits="5 6000001/1000000")
    (verdict,) = [v for v in assert_holds(SoftmaxDerivatives, near) if v.claim == CONVEX]
    assert verdict.margin > 0


@pytest.mark.attacked
def test_attack():
    assert_survives(SoftmaxDerivatives, CONVEX)


def test_a_gradient_one_percent_larger_is_refuted():
    assert_tightened_fails(SoftmaxDerivatives, CONVEX, 1.01)


def test_without_the_baseline_the_reward_gradient_is_wrong(evidence):
    """p r instead of p (r - E_p r): the same identity, refuted by search."""

    class WithoutBaseline(SoftmaxDerivatives):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            (true,) = [c for c in SoftmaxDerivatives.claims(xp, w) if "reward" in c.name]
            log_p = log_softmax(xp, w.logits)
            along = expectation(xp, log_p, w.reward * (w.other_logits - w.logits))
            yield Claim(true.name, true.lhs, "==", along)

    witness = smallest_witness(WithoutBaseline, "gradient of the reward", max_denominator=2)
    assert witness is not None
    evidence(f"false without the baseline: {witness}")
