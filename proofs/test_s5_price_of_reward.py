"""S5, price of reward."""

import pytest
from hypothesis import given

from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theorems.s5_price_of_reward import PriceOfReward
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import logarithm_below_tangent
from proofs.symbolic import assert_identity

pytestmark = pytest.mark.statement("S5")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    evidence(assert_identity(PriceOfReward, "the frontier is attained", responses))
    evidence(f"weak duality by {logarithm_below_tangent()} under E_d")


@pytest.mark.sampled
@given(worlds(PriceOfReward))
def test_drawn_worlds(world):
    assert_holds(PriceOfReward, world)


DUAL, BERNOULLI, PINSKER = "weak duality", "Bernoulli bound", "Pinsker bound"


@pytest.mark.certified
def test_weak_duality_is_attained_on_the_frontier():
    """d = (1/2, 1/2), r = (0, 1), p = (1/4, 3/4): c = 3/4 and l = 1/3 by hand."""
    world = exact_world(log_d="1/2 1/2", log_p="1/4 3/4", reward="0 1", slack="2/3")
    assert_attained(PriceOfReward, DUAL, world)


@pytest.mark.certified
def test_bernoulli_bound_is_attained_by_two_reward_levels():
    world = exact_world(log_d="1/2 1/4 1/4", log_p="1/4 1/4 1/2", reward="0 0 1", slack="1/3")
    assert_attained(PriceOfReward, BERNOULLI, world)


@pytest.mark.attacked
@pytest.mark.parametrize("claim", [DUAL, BERNOULLI, PINSKER])
def test_attack(claim, evidence):
    result = assert_survives(PriceOfReward, claim)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [DUAL, BERNOULLI, PINSKER])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(PriceOfReward, claim, 1.01)


def test_the_tilt_is_on_the_frontier_for_two_levels_and_above_it_for_three(evidence):
    """Binary rewards: RL is Pareto optimal. Three levels: it pays more, and we say how much."""
    import numpy as np

    from nondecoupling import bounds

    data = np.log([0.5, 0.3, 0.2])
    distance = {}
    for name, reward in (("two levels", [0.0, 0.0, 1.0]), ("three levels", [0.0, 1.0, 3.0])):
        tilt = bounds.gibbs_tilt(data, reward, 0.5)
        paid = bounds.kl_divergence(data, tilt)
        least = bounds.price_of_reward(data, reward, bounds.expected_reward(tilt, reward))
        distance[name] = float(paid - least)
    assert abs(distance["two levels"]) < 1e-14
    assert distance["three levels"] > 0.01
    evidence(f"distance of the tilt from the frontier: {distance['three levels']:.4f} nats")
