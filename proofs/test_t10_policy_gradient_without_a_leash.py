"""T10, no leash: the flow derived, run against the path, its end, and what is false off the path."""

from fractions import Fraction

import flint
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from scipy.integrate import solve_ivp

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.schedules import leashless_law
from nondecoupling.numbers.arb import arb
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t10_policy_gradient_without_a_leash import (
    PolicyGradientWithoutALeash,
)
from proofs.checks import assert_positive
from proofs.symbolic import assert_identity, assert_zero, normal_form

pytestmark = pytest.mark.statement("T10")


def ordered(responses):
    """The statement with the rewards 0, 1, ..., which sympy can order, and the last one leading."""

    class Ordered(PolicyGradientWithoutALeash):
        @staticmethod
        def claims(xp, w):
            values = {**w, "reward": xp.array(list(range(responses)))}
            values["log_ref"] = xp.log(xp.array([Fraction(1, responses)] * responses))
            yield from PolicyGradientWithoutALeash.claims(xp, type(w)(values))

    return Ordered


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_the_path_solves_the_flow(responses, evidence):
    """theta = -log D differentiated in time, with tau' = 1/sum e^theta and sigma' = J tau'."""
    time = sp.Symbol("t", real=True)
    tau, sigma = sp.Function("tau")(time), sp.Function("sigma")(time)
    ref = sp.symbols(f"ref1:{responses + 1}", positive=True)
    r = sp.symbols(f"r1:{responses + 1}", real=True)
    inverse = [1 / x + sigma - tau * y for x, y in zip(ref, r, strict=True)]
    total = sum(1 / x for x in inverse)
    p = [1 / (x * total) for x in inverse]
    mean = sum(x * y for x, y in zip(p, r, strict=True))
    theta = [-sp.log(x) for x in inverse]
    now = {sigma: sp.Symbol("sigma"), tau: sp.Symbol("tau")}
    for x, t, y in zip(p, theta, r, strict=True):
        moved = sp.diff(t, time)
        moved = moved.subs(sp.diff(sigma, time), mean / total).subs(sp.diff(tau, time), 1 / total)
        assert_zero(normal_form((moved - x * (y - mean)).subs(now)))
    assert_zero(normal_form(sum(x * (y - mean) for x, y in zip(p, r, strict=True)).subs(now)))
    # at the start, sigma = tau = 0, D = 1/ref: p is ref and theta is log ref
    start = [x.subs({sigma: 0, tau: 0}) for x in inverse]
    assert [sp.simplify(x * y - 1) for x, y in zip(start, ref, strict=True)] == [0] * responses
    evidence(f"theta' = grad J along the path, for every ref and reward, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize(
    ("claim", "responses"),
    [
        ("the path follows the gradient", 2),  # three responses: above, in the flow itself
        ("the sum of the logits is kept", 3),
        ("from a uniform ref it pays the price", 3),
    ],
)
def test_derivation(claim, responses, evidence):
    evidence(assert_identity(ordered(responses), claim, responses) + ", uniform ref")


@pytest.mark.symbolic
def test_where_the_path_ends(evidence):
    """The factor of a best response is the room plus how much rarer it is than the likeliest one.

    sum log(ref D) = 0 while the factors of worse responses grow without bound, so the room vanishes; what
    is left of a rarer best response is ref-dependent and finite, so its share of 1/D vanishes with it.
    """
    room, rarer, gain, tau = sp.symbols("room k g tau", positive=True)
    leading, other, worse = 1 / room, 1 / (room + rarer), 1 / (room + tau * gain)
    share = leading / (leading + other + worse)
    assert_zero(sp.limit(share.subs(tau, 1 / room), room, 0, "+") - 1)
    # two equally likely best responses keep equal factors, and equal shares
    equal = leading / (2 * leading + worse)
    assert_zero(sp.limit(equal.subs(tau, 1 / room), room, 0, "+") - sp.Rational(1, 2))
    evidence("the share of the likeliest best response tends to one")


@pytest.mark.sampled
@given(worlds(PolicyGradientWithoutALeash))
def test_drawn_worlds(world):
    assert_holds(PolicyGradientWithoutALeash, world)


@pytest.mark.certified
def test_a_rational_point_of_a_path(evidence):
    """ref = (1/2, 1/4, 1/4), r = (1, 1, 0): at tau = 23/3, sigma = 20/3, D = (1, 3, 32/3)."""
    xp = arb()
    ref, r = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)], [1, 1, 0]
    sigma, tau = Fraction(20, 3), Fraction(23, 3)
    inverse = [1 / x + sigma - tau * y for x, y in zip(ref, r, strict=True)]
    assert inverse[0] * inverse[1] * inverse[2] == 1 / (ref[0] * ref[1] * ref[2])  # on the path
    log_ref, reward = xp.log(xp.array(ref)), xp.array(r)
    law = leashless_law(xp, log_ref, reward, xp.array([tau]), xp.array([Fraction(1)]))[0]
    misses = [abs(137 * x - want) for x, want in zip(xp.exp(law), (96, 32, 9), strict=True)]
    assert_positive(
        *(xp.number(1e-10) - miss for miss in misses), claim="a rational point of the path"
    )
    assert np.exp(bounds.leashless_policy(np.log([0.5, 0.25, 0.25]), [1.0, 1.0, 0.0], 23 / 3)) == (
        pytest.approx(np.array([96, 32, 9]) / 137, rel=1e-14)
    )
    paid = kl_by_definition(xp, law, log_ref)
    evidence(f"a rational point: p = (96, 32, 9)/137, KL(p||ref) = {float(paid[0]):.4f}")


@pytest.mark.certified
def test_the_root_changes_sign():
    """sum log(ref D) in balls on both sides of the policy that bounds returns."""
    saved, flint.ctx.prec = flint.ctx.prec, 200
    try:
        rng, xp = np.random.default_rng(0), arb()
        for tau in (1e-3, 1.0, 30.0, 1e4):
            ref, r = rng.dirichlet(np.ones(4)), np.round(rng.normal(size=4), 2)
            policy = np.exp(bounds.leashless_policy(np.log(ref), r, tau))
            # 1/D = C p, and D of any two responses differ by 1/ref - tau r: C from the two likeliest
            inverse = 1 / ref - tau * r
            first, last = np.argmax(policy), np.argmin(policy)
            c = (1 / policy[last] - 1 / policy[first]) / (inverse[last] - inverse[first])
            room = xp.number(float(1 / (c * policy[first])))
            pole = [
                tau * xp.number(float(y)) - 1 / xp.number(float(x))
                for x, y in zip(ref, r, strict=True)
            ]
            top = max(pole, key=float)
            for sign in (-1, 1):
                moved = room * (1 + sign * flint.arb(10) ** -8)
                total = sum(
                    ((top - y + moved) * xp.number(float(x))).log()
                    for x, y in zip(ref, pole, strict=True)
                )
                assert_positive(sign * total, claim="the root of the path is bracketed")
    finally:
        flint.ctx.prec = saved


def flow(ref, reward, until):
    """(policy, tau) after gradient ascent on J in the logits, without a leash."""

    def step(_, state):
        weights = np.exp(state[:-1])
        p = weights / weights.sum()
        return np.append(p * (reward - p @ reward), 1 / weights.sum())

    run = solve_ivp(
        step, (0, until), np.append(np.log(ref), 0.0), method="LSODA", rtol=1e-11, atol=1e-12
    )
    theta, tau = run.y[:-1, -1], run.y[-1, -1]
    return np.exp(theta - np.logaddexp.reduce(theta)), tau


@pytest.mark.parametrize("until", [1.0, 30.0, 1000.0])
def test_the_flow_runs_along_the_path(until, evidence):
    rng, worst = np.random.default_rng(1), 0.0
    for trial in range(8):
        ref, reward = rng.dirichlet(np.ones(2 + trial % 4)), rng.normal(size=2 + trial % 4)
        if trial % 2:
            reward = np.round(reward)
        policy, tau = flow(ref, reward, until)
        path = np.exp(bounds.leashless_policy(np.log(ref), reward, tau))
        worst = max(worst, float(np.abs(policy - path).max()))
    assert worst < 1e-9
    evidence(f"eight flows up to t = {until:g}: within {worst:.0e} of the path")


def test_the_end_is_the_likeliest_best_response(evidence):
    """KL(p||ref) tends to -log max ref over argmax r, not to the least KL -log ref(argmax r)."""
    ref, reward = np.log([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 1.0, 1.0, 0.5])
    end = bounds.leashless_policy(ref, reward, 1e12)
    assert np.exp(end) == pytest.approx([0, 1, 0, 0], abs=1e-11)
    reached = float(bounds.kl_divergence(end, ref))
    assert reached == pytest.approx(-np.log(0.3), rel=1e-9)
    assert reached > -np.log(0.45) + 0.4
    shared = np.log([0.4, 0.2, 0.2, 0.2])  # equally likely best responses share the end
    assert np.exp(bounds.leashless_policy(shared, reward, 1e12))[1:3] == pytest.approx(
        0.5, abs=1e-6
    )
    evidence(f"KL at the end {reached:.4f}, the least for the same success {-np.log(0.45):.4f}")


def test_from_a_uniform_ref_the_path_is_the_frontier(evidence):
    even, reward = np.log([0.25] * 4), np.array([0.0, 1.0, 1.5, 3.0])
    for tau in (0.1, 3.0, 100.0):
        policy = bounds.leashless_policy(even, reward, tau)
        price = bounds.price_of_reward(even, reward, bounds.expected_reward(policy, reward))
        assert bounds.kl_divergence(even, policy) == pytest.approx(price, rel=1e-9)
    uneven = np.log([0.4, 0.3, 0.2, 0.1])
    policy = bounds.leashless_policy(uneven, reward, 3.0)
    price = bounds.price_of_reward(uneven, reward, bounds.expected_reward(policy, reward))
    paid = bounds.kl_divergence(uneven, policy)
    assert paid > 1.001 * price
    evidence(f"ref = (.4, .3, .2, .1), tau = 3: paid over price {float(paid / price):.4f}")


def test_the_checks_can_fail():
    """That the path pays the price from any ref, and that it is the tilt's velocity, are refuted."""

    class Wrong(PolicyGradientWithoutALeash):
        @staticmethod
        def claims(xp, w):
            log_p, log_inverse = leashless_law(xp, w.log_ref, w.reward, w.tau, w.room)
            scale = xp.sum(xp.exp(-log_inverse)) / w.log_ref.shape[-1]
            rate = w.tau * scale
            line = supporting_line(xp, w.log_ref, w.reward, rate, w.room * scale)
            price = rate * expected_reward(xp, log_p, w.reward) + line
            paid = kl_by_definition(xp, w.log_ref, log_p)
            yield Claim("the price from any ref", paid, "==", price)
            centred = w.reward - expected_reward(xp, log_p, w.reward)
            yield Claim("natural", xp.sum(centred), "==", xp.full_like(paid, 0.0))

    for claim in ("the price from any ref", "natural"):
        assert smallest_witness(Wrong, claim, max_denominator=3) is not None
