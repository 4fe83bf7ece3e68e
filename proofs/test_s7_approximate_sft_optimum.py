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
    bretagnolle_huber_by_overlap,
    distance_from_midrange,
    hoeffding_by_curvature,
    logarithm_below_tangent,
    tangent_of_exp,
)
from proofs.symbolic import above_tangent, assert_margin, assert_zero, symbolic_world

pytestmark = pytest.mark.statement("S7")
PRICE, PINSKER = "price of reward", "Pinsker form"
BRETAGNOLLE_HUBER = "Bretagnolle-Huber form"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_the_change_is_the_price_less_eps(responses, evidence):
    xp, w = sympy_numbers(), symbolic_world(ApproximateSftOptimum, responses)
    change = cross_entropy(xp, w.log_d, w.log_p) - cross_entropy(xp, w.log_d, w.log_ref)
    eps, paid = kl_divergence(xp, w.log_d, w.log_ref), kl_by_definition(xp, w.log_d, w.log_p)
    assert_zero((change + eps - paid).flat[0])
    evidence(f"DeltaL(p) + KL(d||ref) = KL(d||p), n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_weak_duality(responses, evidence):
    """No dual value exceeds KL(d||p): the room is E_d[u - 1 - log u] at u = (p/d) b."""

    def room(xp, w):
        top, reached = xp.max(w.reward), expected_reward(xp, w.log_p, w.reward)
        mixed = (1 - w.slack) * (top - w.reward) / (top - reached) + w.slack
        return above_tangent(xp, w.log_d, w.log_p, mixed)

    what = "E_d[u - 1 - log u], u = (p/d)((1 - w)(M - r)/(M - J(p)) + w)"
    evidence(assert_margin(ApproximateSftOptimum, PRICE, responses, room, what))
    evidence(f"nonnegative by {logarithm_below_tangent()}")


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
    assert_zero((room - kl_divergence(xp, w.log_d, tilt)).flat[0])
    evidence(f"nonnegative by {tangent_of_exp()}, n = {responses}")
    t, spread, paid = sp.symbols("t R K", positive=True)
    bound = (paid + t**2 * spread**2 / 8) / t
    best = sp.sqrt(8 * paid) / spread
    assert_zero(bound.subs(t, best) - spread * sp.sqrt(paid / 2), claim=PINSKER)
    evidence(f"{hoeffding_by_curvature()}; {best_time_for_hoeffding()}")


@pytest.mark.symbolic
def test_bretagnolle_huber(evidence):
    """The gain is at most R TV(d, p), and eps + DeltaL(p) = KL(d||p)."""
    tv, spread, total = sp.symbols("TV R S", positive=True)  # S = sum |d - p|
    evidence(bretagnolle_huber_by_overlap())
    evidence(f"the gain is at most R TV: {distance_from_midrange()}")
    assert_zero((spread / 2 * total - spread * tv).subs(total, 2 * tv), claim=BRETAGNOLLE_HUBER)


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
def test_attack(evidence):
    for result in assert_survives(ApproximateSftOptimum, PRICE, PINSKER, BRETAGNOLLE_HUBER):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [PRICE, PINSKER, BRETAGNOLLE_HUBER])
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


def test_the_highest_reward_is_above_what_each_excess_buys():
    """The exact inverse of the price: a policy of that price has no more reward than the closed form says."""
    d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    targets = np.linspace(1.0, 2.999, 50)
    excess = bounds.price_of_reward(d, r, targets)
    most = bounds.highest_reward(d, r, excess)
    assert excess[0] < 0.1 and excess[-1] > 2 and (most >= targets).all() and (most <= 3).all()


@pytest.mark.certified
def test_where_pinskers_root_is_vacuous_the_other_form_is_not(evidence):
    """d = (1, 0), p = (1/16, 15/16): KL(d||p) = log 16, and the gain 15/16 is at most sqrt(15/16) but sqrt(1.38)."""
    world = exact_world(
        log_d="1 0", log_ref="1/2 1/2", log_p="1/16 15/16", reward="0 1", slack="1/2"
    )
    found = {v.claim: v for v in assert_holds(ApproximateSftOptimum, world)}
    assert found[PINSKER].rhs > 1 > found[BRETAGNOLLE_HUBER].rhs
    ratio = found[BRETAGNOLLE_HUBER].lhs / found[BRETAGNOLLE_HUBER].rhs
    evidence(f"at KL(d||p) = log 16: {BRETAGNOLLE_HUBER} with ratio {ratio:.4f} of its sides")


def test_the_public_function_is_the_price_less_eps():
    d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    price = bounds.price_of_reward(d, r, 2.0)
    assert bounds.approximate_price_of_reward(d, r, 2.0, 0.0) == price
    assert bounds.approximate_price_of_reward(d, r, 2.0, 0.25) == price - 0.25
    with pytest.raises(ValueError, match="eps"):
        bounds.approximate_price_of_reward(d, r, 2.0, -0.1)


@pytest.mark.parametrize(
    ("excess", "most"),
    [(0.02, 0.01 + np.sqrt(0.01)), (2.0, 0.01 + np.sqrt(1 - np.exp(-2))), (50.0, 1.0)],
)
def test_the_highest_reward_is_the_least_of_three(excess, most):
    """Pinsker near the data, Bretagnolle-Huber far from them, and the best reward."""
    d, r = np.log([0.99, 0.01]), np.array([0.0, 1.0])
    assert bounds.highest_reward(d, r, excess) == pytest.approx(most)
