"""R3, the raw reward inside the KL ball."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r3_kl_ball import KlBall
from proofs.checks import (
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.symbolic import assert_zero, claim, condition

pytestmark = pytest.mark.statement("R3")
DROP = "the drop inside the ball"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    """margin = beta * (the condition's margin): the inequality is the condition itself, by R2."""
    drop = claim(KlBall, DROP, responses)
    ball = condition(KlBall, "p in the KL ball", responses)
    (beta,) = drop.rhs.flat[0].atoms(sp.Symbol) & {sp.Symbol("beta", positive=True)}
    difference = drop.margin().flat[0] - beta * ball.margin().flat[0]
    assert_zero(difference, claim=DROP)
    evidence(f"margin = beta x the condition's margin, n = {responses}")


@pytest.mark.sampled
@given(worlds(KlBall))
def test_drawn_worlds(world):
    assert_holds(KlBall, world)


def test_outside_the_ball_nothing_is_claimed():
    world = exact_world(log_p="1/10 9/10", log_ref="1/2 1/2", reward="0 1", beta="1")
    (verdict,) = certify(KlBall, world)
    assert verdict.status is Status.OUT_OF_SCOPE
    assert "p in the KL ball" in verdict.reason


@pytest.mark.certified
def test_just_inside_the_surface_it_is_nearly_attained(evidence):
    world = exact_world(log_p="269/1000 731/1000", log_ref="1/2 1/2", reward="0 1", beta="1")
    (verdict,) = certify(KlBall, world)
    assert verdict.status is Status.HOLDS
    assert verdict.margin < 1e-4
    evidence(f"margin {verdict.margin:.2g} at the surface")


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(KlBall, DROP)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


def test_one_percent_more_is_refuted():
    assert_tightened_fails(KlBall, DROP, 1.01, responses=3)


def test_needs_the_ball(evidence):
    evidence(f"without the condition it fails at {assert_needs(KlBall, 'conditions', DROP)}")


def test_the_bound_says_nothing_outside_of_the_ball():
    """There the raw reward may rise, so that every finite bound would be false."""
    ref, reward = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    for p, inside in ((np.log([0.4, 0.6]), True), (np.log([0.1, 0.9]), False)):
        drop = bounds.reward_drop(p, ref, reward, 1.0)
        promised = bounds.reward_drop_in_kl_ball(p, ref, reward, 1.0)
        assert np.isfinite(promised) == inside and promised <= drop
        assert inside or drop < 0
