"""G1, proxy and gold: derivations, drawn worlds, where gold turns, and the check can fail."""

from fractions import Fraction as F

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from scipy.optimize import brentq

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.deciding.boxes import Box, certify_box
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.proxy import covariance, disagreement
from nondecoupling.formulas.tilt import tilt_at
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim, tightened
from nondecoupling.theory.theorems.g1_proxy_and_gold import ProxyAndGold
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import best_time_for_hoeffding, hoeffding_by_curvature, tangent_of_exp
from proofs.symbolic import assert_identity, assert_zero

pytestmark = pytest.mark.statement("G1")
SLOPE, PINSKER = "the slope of gold", "Pinsker's form"
SHARPER, ORDER = "the sharper form", "the sharper form is sharper"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_the_derivative_of_gold_is_a_covariance(responses, evidence):
    """d/ds sum g ref e^{sr}/Z by sympy's own differentiation, against Cov_{tilt_s}(g, r)."""
    xp, s = sympy_numbers(), sp.Symbol("s", positive=True)
    free = sp.symbols(f"d1:{responses}", positive=True)
    rewards, golds = (sp.symbols(f"{x}0:{responses}", real=True) for x in "rg")
    log_ref, reward = xp.log(xp.array([1 - sum(free), *free])), xp.array(list(rewards))
    tilt = tilt_at(xp, log_ref, reward, xp.array([s]))
    gold = expected_reward(xp, tilt, xp.array(list(golds)))[0]
    exponentials = {
        sp.exp(s * (r - rewards[0])): sp.Symbol(f"e{k}", positive=True)
        for k, r in enumerate(rewards)
        if k > 0
    }
    covaried = covariance(xp, tilt, xp.array(list(golds)), reward)[0]
    difference = (sp.diff(gold, s) - covaried).subs(exponentials)
    assert sp.cancel(sp.together(difference)) == 0
    evidence(f"d/ds E_tilt_s g = Cov(g, r), n = {responses}")
    evidence(assert_identity(ProxyAndGold, SLOPE, responses))


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_data_processing(responses, evidence):
    """A coin of bias f on each response: what its outcome leaves of the KL are two divergences."""
    p, q = (
        [1 - sum(x), *x] for x in (sp.symbols(f"{c}1:{responses}", positive=True) for c in "pq")
    )
    f = sp.symbols(f"f0:{responses}", positive=True)
    kl = sum(a * sp.log(a / b) for a, b in zip(p, q, strict=True))
    room = kl
    for coin in (f, [1 - x for x in f]):
        now, before = (sum(a * x for a, x in zip(law, coin, strict=True)) for law in (p, q))
        room -= now * sp.log(now / before)
        left = sum(
            (a * x / now) * sp.log((a * x / now) / (b * x / before))
            for a, b, x in zip(p, q, coin, strict=True)
        )
        room -= now * left
    assert_zero(room, claim=SHARPER)
    evidence(f"KL - kl(E_p f, E_ref f) = two divergences given the coin, n = {responses}")
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.symbolic
def test_pinsker(evidence):
    """t (E_p - E_ref)(r - g) <= KL + log E_ref e^{t (x - E_ref x)} <= KL + t^2 range^2/8."""
    p, q, growth = sp.symbols("p q growth", positive=True)  # growth = e^{t range}, f = (0, 1)
    z = 1 - q + q * growth
    tilted = q * growth / z
    to_ref, to_tilt = (p * sp.log(p / x) + (1 - p) * sp.log((1 - p) / (1 - x)) for x in (q, tilted))
    cumulant = sp.log(z) - q * sp.log(growth)
    assert_zero((p - q) * sp.log(growth) - cumulant - to_ref + to_tilt, claim=PINSKER)
    evidence(f"{hoeffding_by_curvature()}, and {best_time_for_hoeffding()}")


@pytest.mark.sampled
@given(worlds(ProxyAndGold))
def test_drawn_worlds(world):
    assert_holds(ProxyAndGold, world)


@pytest.mark.certified
def test_the_sharper_form_is_attained_if_only_the_levels_move():
    """r - g = (0, 0, 1): p keeps its conditional law on the first two."""
    world = exact_world(
        log_ref="1/3 1/6 1/2", log_p="2/15 1/15 4/5", reward="2 1 1", gold="2 1 0", time="1"
    )
    assert_attained(ProxyAndGold, SHARPER, world)
    moved = exact_world(
        log_ref="1/3 1/6 1/2", log_p="1/15 2/15 4/5", reward="2 1 1", gold="2 1 0", time="1"
    )
    (verdict,) = [v for v in assert_holds(ProxyAndGold, moved) if v.claim == SHARPER]
    assert verdict.margin > 0


def two_policies(a, p):
    """ref = (1 - a, a), p = (1 - p, p), r - g = (0, 1)."""
    return dict(log_ref=[1 - a, a], log_p=[1 - p, p], reward=[0, 2], gold=[0, 1], time=[1])


@pytest.mark.certified
@pytest.mark.parametrize("name", [PINSKER, ORDER])
def test_on_a_box(name, evidence):
    """p has more of the overrated response; p = ref, where both are equalities, is left out."""
    box = Box({"a": (F(1, 20), F(2, 5)), "p": (F(1, 2), F(19, 20))}, two_policies)
    found = certify_box(ProxyAndGold, name, box)
    assert found.status is Status.HOLDS and found.smallest > 0
    evidence(f"ref = (1-a, a), p = (1-p, p), r - g = (0, 1), {box}: {found}")
    tighter = certify_box(tightened(ProxyAndGold, name, 1.1), name, box)
    assert tighter.status is Status.REFUTED


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(ProxyAndGold, PINSKER, SHARPER, ORDER):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("name", [PINSKER, SHARPER, ORDER])
def test_one_percent_tighter_is_refuted(name):
    assert_tightened_fails(ProxyAndGold, name, 1.01)


# --- gold along a run -------------------------------------------------------------------------

REF = np.log([0.6, 0.37, 0.03])
PROXY, GOLD = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, -1.0])  # the third exploits the proxy


def tilt(time):
    return bounds.gibbs_tilt(REF, PROXY, 1 / time)


@pytest.mark.sampled
def test_gold_turns_where_the_covariance_vanishes(evidence):
    """Overoptimisation: gold rises, then falls, while the proxy rises on; one sign change of Cov."""
    times = np.linspace(0.05, 8, 400)
    laws = np.array([tilt(t) for t in times])
    gold, proxy = (bounds.expected_reward(laws, np.tile(r, (400, 1))) for r in (GOLD, PROXY))
    assert (np.diff(proxy) > 0).all()
    turn = int(np.argmax(gold))
    assert 0 < turn < 399 and gold[-1] < gold[0]

    def cov(t):
        return float(covariance(floats_of(REF), tilt(t), GOLD, PROXY)[0])

    zero = brentq(cov, 0.05, 8)
    assert abs(zero - times[turn]) <= times[1] - times[0]
    signs = np.sign([cov(t) for t in times])
    assert_in_all(signs == np.where(times < zero, 1, -1), SLOPE)
    evidence(f"gold turns at s = {zero:.3f}, the one zero of the covariance")


@pytest.mark.sampled
def test_the_slope_by_complex_step():
    rng = np.random.default_rng(0)
    for _ in range(100):
        ref, reward, gold = rng.dirichlet(np.ones(5)), *rng.standard_normal((2, 5))
        s, h = rng.uniform(0.1, 5), 1e-30
        weights = ref * np.exp((s + 1j * h) * reward)
        slope = ((weights @ gold) / weights.sum()).imag / h
        law = bounds.gibbs_tilt(np.log(ref), reward, 1 / s)
        cov = covariance(floats_of(law), law, gold, reward)[0]
        assert_in_all(np.isclose(slope, cov, rtol=1e-9, atol=1e-12), SLOPE)


@pytest.mark.sampled
def test_the_bound_holds_for_any_policy_and_is_attained(evidence):
    """Random policies and tilts; and policies that move mass from the lower level of r - g to the upper."""
    rng, tightest = np.random.default_rng(1), np.inf
    ref = np.log(rng.dirichlet(np.ones(4), size=300))
    reward, gold = rng.standard_normal((2, 300, 4))
    beta = rng.uniform(0.05, 5, size=300)
    for p in (
        np.log(rng.dirichlet(np.ones(4), size=300)),
        bounds.gibbs_tilt(ref, reward, beta),
        bounds.gibbs_tilt(ref, reward - gold, beta),
    ):
        actual, proxy = (
            bounds.expected_reward(p, r) - bounds.expected_reward(ref, r) for r in (gold, reward)
        )
        promised = bounds.gold_gain_bound(p, ref, reward, gold)
        kl = bounds.kl_divergence(p, ref)
        pinsker = proxy - np.ptp(reward - gold, axis=-1) * np.sqrt(kl / 2)
        assert_in_all(pinsker - 1e-12 <= promised, ORDER)
        assert_in_all(promised <= actual + 1e-12, SHARPER)
        tightest = min(tightest, float((actual - promised).min()))
    evidence(f"bounds.gold_gain_bound on 900 policies: within {tightest:.1e} of the gold gain")
    two_levels = PROXY - np.array([0.0, 0.0, 1.0])
    p = bounds.gibbs_tilt(REF, np.array([0.0, 0.0, 1.0]), 0.7)
    actual = bounds.expected_reward(p, two_levels) - bounds.expected_reward(REF, two_levels)
    promised = bounds.gold_gain_bound(p, REF, PROXY, two_levels)
    assert promised == pytest.approx(actual, rel=1e-9)


# --- the checks can fail ----------------------------------------------------------------------


class SmallerConstant(ProxyAndGold):
    """Pinsker's form with KL/2.01 in place of KL/2."""

    @staticmethod
    def claims(xp, w):
        (true,) = [c for c in ProxyAndGold.claims(xp, w) if c.name == PINSKER]
        kl = kl_by_definition(xp, w.log_p, w.log_ref)
        spread = disagreement(xp, w.log_ref, w.reward, w.gold)
        yield Claim(PINSKER, true.lhs, "<=", spread * xp.sqrt(100 * kl / 201))


def test_a_smaller_constant_is_refuted(evidence):
    """KL/2.01: ref = (1/2, 1/2), p = (9/20, 11/20), r - g = (0, 1)."""
    world = exact_world(log_ref="1/2 1/2", log_p="9/20 11/20", reward="0 2", gold="0 1", time="1")
    (verdict,) = certify(SmallerConstant, world)
    assert verdict.status is Status.REFUTED
    assert attack(SmallerConstant, PINSKER, responses=2, first_violation=True).violation
    evidence(f"false with KL/2.01: {world}")


def test_the_kl_of_the_other_order_does_not_bound_it():
    """kl(E_p f, E_ref f) <= KL(ref||p) is false."""

    class Swapped(ProxyAndGold):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in ProxyAndGold.claims(xp, w) if c.name == SHARPER]
            yield Claim(SHARPER, true.lhs, "<=", kl_by_definition(xp, w.log_ref, w.log_p))

    assert smallest_witness(Swapped, SHARPER) is not None


def test_proxy_gain_alone_guarantees_nothing():
    class NothingTakenOff(ProxyAndGold):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in ProxyAndGold.claims(xp, w) if c.name == PINSKER]
            yield Claim("gold gains as much", true.lhs, "<=", 0 * true.rhs)

    assert smallest_witness(NothingTakenOff, "gold gains as much") is not None
