"""S7, approximate SFT optimum: derivation, drawn worlds, equality case, and the check can fail."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.formulas.laws import (
    cross_entropy,
    expected_reward,
    kl_by_definition,
    kl_divergence,
)
from nondecoupling.formulas.tilt import gibbs_tilt, log_partition
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s7_approximate_sft_optimum import ApproximateSftOptimum
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import (
    best_time_for_hoeffding,
    hoeffding_curvature,
    logarithm_below_tangent,
    tangent_of_exp,
)
from proofs.symbolic import normal_form, symbolic_world

pytestmark = pytest.mark.statement("S7")
PRICE, PINSKER = "price of reward", "Pinsker form"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_the_change_is_the_price_less_eps(responses, evidence):
    xp, w = sympy_numbers(), symbolic_world(ApproximateSftOptimum, responses)
    change = cross_entropy(xp, w.log_d, w.log_p) - cross_entropy(xp, w.log_d, w.log_ref)
    eps, paid = kl_divergence(xp, w.log_d, w.log_ref), kl_by_definition(xp, w.log_d, w.log_p)
    assert normal_form((change + eps - paid).flat[0]) == 0
    evidence(f"DeltaL(p) + KL(d||ref) = KL(d||p), n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_weak_duality(responses, evidence):
    """log u <= u - 1 at u = (p/d) mixed, whose mean under d is one: no dual value exceeds KL(d||p)."""
    p = sp.symbols(f"p1:{responses + 1}", positive=True)
    r = sp.symbols(f"r1:{responses + 1}", real=True)
    top, slack = sp.symbols("M w", positive=True)
    reached = sum(x * y for x, y in zip(p, r, strict=True))
    mixed = [(1 - slack) * (top - x) / (top - reached) + slack for x in r]
    mean = sum(x * m for x, m in zip(p, mixed, strict=True)).subs(p[-1], 1 - sum(p[:-1]))
    assert sp.cancel(sp.together(mean)) == 1
    evidence(f"price of reward by {logarithm_below_tangent()}, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_pinsker_by_the_best_time(responses, evidence):
    """t (E_p r - E_d r) = KL(d||p) + log E_p e^{t (E_p r - r)} - KL(d||p tilted by -t r)."""
    xp, w = sympy_numbers(), symbolic_world(ApproximateSftOptimum, responses)
    beta = sp.Symbol("beta", positive=True)
    reward = xp.array([-beta * r for r in w.reward])
    gain = expected_reward(xp, w.log_p, w.reward) - expected_reward(xp, w.log_d, w.reward)
    tilt = gibbs_tilt(xp, w.log_p, reward, xp.array([beta]))
    log_z = log_partition(xp, w.log_p, reward, xp.array([beta]))
    centred_log_z = log_z - expected_reward(xp, w.log_p, reward) / beta
    room = kl_by_definition(xp, w.log_d, w.log_p) + centred_log_z - gain
    assert normal_form((room - kl_divergence(xp, w.log_d, tilt)).flat[0]) == 0
    evidence(f"nonnegative by {tangent_of_exp()}, n = {responses}")
    evidence(
        f"log E_p e^(t x) <= t^2 R^2/8 by {hoeffding_curvature()}; {best_time_for_hoeffding()}"
    )


@pytest.mark.sampled
@given(worlds(ApproximateSftOptimum))
def test_drawn_worlds(world):
    assert_holds(ApproximateSftOptimum, world)


@pytest.mark.certified
def test_the_price_is_attained_on_the_frontier():
    """d = (1/2, 1/2), p = (1/4, 3/4), l = 1/3 by hand; ref may be anything."""
    world = exact_world(
        log_d="1/2 1/2", log_ref="1/3 2/3", log_p="1/4 3/4", reward="0 1", slack="2/3"
    )
    assert_attained(ApproximateSftOptimum, PRICE, world)


@pytest.mark.attacked
@pytest.mark.parametrize("claim", [PRICE, PINSKER])
def test_attack(claim, evidence):
    result = assert_survives(ApproximateSftOptimum, claim)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [PRICE, PINSKER])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(ApproximateSftOptimum, claim, 1.01)


def test_needs_eps(evidence):
    """Without eps, that is for ref = d only, the price is no bound: RL may repair a bad SFT."""

    class WithoutEps(ApproximateSftOptimum):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in ApproximateSftOptimum.claims(xp, w) if c.name == PRICE]
            eps = kl_divergence(xp, w.log_d, w.log_ref)
            yield type(true)(PRICE, true.lhs - eps, ">=", true.rhs)

    witness = smallest_witness(WithoutEps, PRICE)
    assert witness is not None
    evidence(f"false without eps: {witness}")


def test_the_public_function_is_the_price_less_eps():
    d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    price = bounds.price_of_reward(d, r, 2.0)
    assert bounds.approximate_price_of_reward(d, r, 2.0, 0.0) == price
    assert bounds.approximate_price_of_reward(d, r, 2.0, 0.25) == price - 0.25
    with pytest.raises(ValueError, match="eps"):
        bounds.approximate_price_of_reward(d, r, 2.0, -0.1)
