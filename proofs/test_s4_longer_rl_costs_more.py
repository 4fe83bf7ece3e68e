"""S4, longer RL costs more: derivatives, drawn worlds, tightness, and what each assumption buys."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.formulas.laws import cross_entropy, expected_reward, kl_divergence, variance
from nondecoupling.formulas.rl_then_sft import cycle_loss
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import dropping
from nondecoupling.theory.theorems.s4_longer_rl_costs_more import LongerRlCostsMore
from proofs.checks import (
    assert_attained,
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_margin, assert_zero, normal_form

pytestmark = pytest.mark.statement("S4")
NONDECREASING = "the loss is nondecreasing"
BEFORE, AFTER = "grows at least at the rate before", "grows at most at the rate after"
GAIN = "the gain pays beta times the loss"
CLAIMS = [NONDECREASING, BEFORE, AFTER, GAIN]


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivatives_in_time(responses, evidence):
    """d/ds DeltaL = J(tilt_s) - J(d), and d/ds of that is Var: the integral form follows from 0."""
    xp, s = sympy_numbers(), sp.Symbol("s", positive=True)
    free = sp.symbols(f"d1:{responses}", positive=True)
    rewards = sp.symbols(f"r0:{responses}", real=True)
    log_d, reward = xp.log(xp.array([1 - sum(free), *free])), xp.array(list(rewards))
    tilt = gibbs_tilt(xp, log_d, reward, 1 / xp.array([s]))
    loss = (cross_entropy(xp, log_d, tilt) - cross_entropy(xp, log_d, log_d))[0]
    gain = (expected_reward(xp, tilt, reward) - expected_reward(xp, log_d, reward))[0]
    exponentials = {
        sp.exp(s * (r - rewards[0])): sp.Symbol(f"e{k}", positive=True)
        for k, r in enumerate(rewards)
        if k > 0
    }

    slopes = (sp.diff(loss, s) - gain, sp.diff(gain, s) - variance(xp, tilt, reward)[0])
    assert_zero(*(normal_form(slope.subs(exponentials)) for slope in slopes))
    assert_zero(gain.subs(s, 0), sp.exp(loss).subs(s, 0) - 1)
    evidence(f"first and second derivative in s, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_inequalities_reduce_to_divergences(responses, evidence):
    def tilts(xp, w):
        return (gibbs_tilt(xp, w.log_d, w.reward, 1 / s) for s in (w.time, w.time + w.longer))

    def onwards(xp, w):
        sooner, later = tilts(xp, w)
        return kl_divergence(xp, sooner, later)

    def backwards(xp, w):
        sooner, later = tilts(xp, w)
        return kl_divergence(xp, later, sooner)

    def growth(xp, w):
        return w.longer * cycle_loss(xp, w.log_d, w.reward, 1 / w.time) + onwards(xp, w)

    def unpaid(xp, w):
        sooner, _ = tilts(xp, w)
        return kl_divergence(xp, sooner, w.log_d) / w.time

    for name, room, what in (
        (BEFORE, onwards, "KL(tilt_s||tilt_{s+h})"),
        (AFTER, backwards, "KL(tilt_{s+h}||tilt_s)"),
        (NONDECREASING, growth, "h beta Jeffreys + KL(tilt_s||tilt_{s+h})"),
        (GAIN, unpaid, "KL(tilt_s||d)/s"),
    ):
        if name != AFTER or responses == 2:  # the mirror image of BEFORE, slow for n = 3
            evidence(assert_margin(LongerRlCostsMore, name, responses, room, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(LongerRlCostsMore))
def test_drawn_worlds(world):
    assert_holds(LongerRlCostsMore, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", CLAIMS)
def test_equality_iff_reward_constant_on_the_support(claim):
    flat = exact_world(log_d="1/4 3/4 0", reward="5 5 9", time="2", longer="1")
    assert_attained(LongerRlCostsMore, claim, flat)
    spread = exact_world(log_d="1/4 3/4", reward="0 1/1000000", time="1/1000", longer="1/1000")
    (verdict,) = [v for v in assert_holds(LongerRlCostsMore, spread) if v.claim == claim]
    assert verdict.margin > 0


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(LongerRlCostsMore, *CLAIMS):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(LongerRlCostsMore, claim, 1.01)


@pytest.mark.parametrize("claim", [NONDECREASING, BEFORE, AFTER])
def test_needs_ref_equal_to_the_data_law(claim, evidence):
    """Far from SFT optimality RL lowers the SFT loss at first."""
    witness = assert_needs(LongerRlCostsMore, "log_ref = log_d", claim)
    evidence(f"{claim}: false without ref = d: {witness}")


@pytest.mark.symbolic
def test_the_gain_pays_for_any_data_law(evidence):
    """J(tilt) - J(d) = beta DeltaL(tilt) + beta KL(tilt||ref), whatever ref is."""

    def unpaid(xp, w):
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, 1 / w.time)
        return kl_divergence(xp, tilt, w.log_ref) / w.time

    any_ref = dropping(LongerRlCostsMore, "log_ref = log_d")
    evidence(assert_margin(any_ref, GAIN, 2, unpaid, "KL(tilt_s||ref)/s without ref = d"))
