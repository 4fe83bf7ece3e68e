"""T6, alternation: phases derived, cycles run to their end, short cycles by Richardson in balls."""

from itertools import pairwise

import flint
import numpy as np
import pytest
import sympy as sp
from flint import arb
from hypothesis import given
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import mixture
from nondecoupling.formulas.schedules import alternated
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t6_alternation import Alternation, spread
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.symbolic import assert_identity, assert_zero

pytestmark = pytest.mark.statement("T6")
SHRINK, BELOW_ONE = "errors shrink by the rate", "the rate is below one"


class Ordered(Alternation):
    """Rewards 0 and 1, which sympy can order, e^{rl_time} - 1 and d free; rate 3/4, share of logits 1/3."""

    @staticmethod
    def claims(xp, w):
        time = xp.log(xp.array([1 + sp.Symbol("e", positive=True)]))
        values = {
            "reward": xp.array([0, 1]),
            "rl_time": time,
            "slack": xp.array([sp.Rational(1, 4)]),
            "share": xp.array([sp.Rational(1, 3)]),
        }
        yield from Alternation.claims(xp, type(w)({**w, **values}))


@pytest.mark.symbolic
@pytest.mark.parametrize(
    "claim",
    [
        "a cycle returns to its limit",
        "the limit after RL",
        "the frontier of the reward e^{sr}",
        "the limit of logits",
    ],
)
def test_derivation(claim, evidence):
    evidence(assert_identity(Ordered, claim, 2))


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_the_phases_are_natural_gradient_flows(responses, evidence):
    """Logits that move at r, at d/p - 1 and at log(d/p): the Fisher matrix returns the gradients."""
    p = sp.symbols(f"p1:{responses + 1}", positive=True)
    d = sp.symbols(f"d1:{responses + 1}", positive=True)
    r = sp.symbols(f"r1:{responses + 1}", real=True)
    fisher = sp.diag(*p) - sp.Matrix(p) * sp.Matrix(p).T
    normal = {p[0]: 1 - sum(p[1:]), d[0]: 1 - sum(d[1:])}
    surprise = [sp.log(x) - sp.log(y) for x, y in zip(p, d, strict=True)]
    divergence = sum(x * y for x, y in zip(p, surprise, strict=True))
    mean = sum(x * y for x, y in zip(p, r, strict=True))
    phases = {
        "J": (r, [x * (y - mean) for x, y in zip(p, r, strict=True)]),
        "-CE": ([y / x - 1 for x, y in zip(p, d, strict=True)], [y - x for x, y in zip(p, d, strict=True)]),
        "-KL(p||d)": (
            [-y for y in surprise], [-x * (y - divergence) for x, y in zip(p, surprise, strict=True)],
        ),
    }  # fmt: skip
    for velocity, gradient in phases.values():
        for x, y in zip(fisher * sp.Matrix(velocity), gradient, strict=True):
            assert_zero(sp.simplify((x - y).subs(normal)))
    # p' = p (theta' - E_p theta'): for the SFT loss p' = d - p, so the way to d shrinks by e^{-t}
    for x, y, z in zip(p, d, phases["-CE"][0], strict=True):
        average = sum(a * b for a, b in zip(p, phases["-CE"][0], strict=True))
        assert_zero(sp.simplify((x * (z - average) - (y - x)).subs(normal)))
    evidence(
        f"natural gradients: RL adds s r, SFT mixes d in, KL(p||d) blends logits, n = {responses}"
    )


@pytest.mark.symbolic
def test_a_cycle_averages(evidence):
    """V -> w V + (1-w) m for v = p/limit, so what lies above and below m shrinks by w <= k."""
    v, m, k, low, high = sp.symbols("v m k a b", positive=True)
    limit, d, eta, lam, grown = sp.symbols("limit d eta lambda g", positive=True)
    # after a cycle, with lam the sum of limit e^{sr} and m that of limit v e^{sr}/lam
    cycled = (1 - eta) * limit * v * grown / (lam * m) + eta * d
    same = cycled.subs({v: 1, m: 1})  # the limit itself: (1-eta) g/lam is w, eta d is (1-w) limit
    weight = (1 - eta) * grown / lam
    rest = sp.solve(sp.Eq(same, limit), d)[0]
    ratio = sp.simplify(cycled.subs(d, rest) / limit - (weight * v / m + 1 - weight))
    assert ratio == 0
    # With a = min v/m <= 1 <= b = max v/m: the new max is at most 1 + k (b-1), the new min at least
    # 1 - k (1-a), and their ratio minus one is at most k (b - a)/a:
    most, least = 1 + k * (high - 1), 1 - k * (1 - low)
    room = k * (high / low - 1) - (most / least - 1)
    spelled = k * (high - low) * (1 - k) * (1 - low) / (low * least)
    assert_zero(sp.simplify(room - spelled))  # nonnegative, since k < 1 and a <= 1
    evidence("max v/min v - 1 shrinks by k: room k (b-a)(1-k)(1-a)/(a (1 - k (1-a)))")


@pytest.mark.symbolic
def test_the_bound_on_the_rate(evidence):
    """eta sum d/(1 - k e^x) = 1 and every term off the top is at least d: solved for k."""
    eta, top, k = sp.symbols("eta t k", positive=True)
    least = eta * (1 - top) + eta * top / (1 - k) - 1  # at most zero, and it rises in k
    (bound,) = sp.solve(least, k)
    assert_zero(sp.simplify(bound - (1 - eta) / (1 - eta + eta * top)))
    assert_zero(sp.simplify(sp.diff(least, k) - eta * top / (1 - k) ** 2))
    evidence("k <= (1-eta)/(1-eta + eta d(argmax r))")


@pytest.mark.sampled
@given(worlds(Alternation, max_responses=3))
def test_drawn_worlds(world):
    assert_holds(Alternation, world)


FLAT = dict(log_law="1/2 1/2", log_d="1/3 2/3", rl_time="1", slack="1/4", share="1/3")


@pytest.mark.certified
def test_equality_cases():
    constant = exact_world(**FLAT, log_p="1/5 4/5", reward="2 2")
    assert_attained(Alternation, BELOW_ONE, constant)
    there = exact_world(**FLAT, log_p="1/3 2/3", reward="2 2")
    assert_attained(Alternation, SHRINK, there)


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(Alternation, SHRINK, BELOW_ONE):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [SHRINK, BELOW_ONE])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(Alternation, claim, 1.01, responses=3)


class Wrong(Alternation):
    """The rate without d(argmax r), and errors measured otherwise."""

    @staticmethod
    def claims(xp, w):
        limit, log_total = alternated(xp, w.log_d, w.reward, w.rl_time, xp.log(w.slack), 0)
        share, rate = xp.exp(-log_total), 1 - w.slack
        yield Claim("one minus eta", rate, "<=", 1 - share)
        moved = mixture(xp, gibbs_tilt(xp, w.log_p, w.reward, 1 / w.rl_time), w.log_d, share)
        before, now = (p - limit for p in (w.log_p, moved))
        yield Claim("log ratios", spread(xp, now), "<=", rate * spread(xp, before))
        before, now = xp.exp(before), xp.exp(now)
        yield Claim("differences of v", spread(xp, now), "<=", rate * spread(xp, before))


@pytest.mark.parametrize("claim", ["one minus eta", "log ratios", "differences of v"])
def test_other_rates_are_refuted(claim):
    assert attack(Wrong, claim).violation


def test_differences_of_v_need_not_shrink_by_the_rate(evidence):
    """max v - min v of v = p/limit, as it stands: three responses, where normalising v enlarges it."""
    world = exact_world(
        log_law="1 0 0", log_d="4/13 7/13 2/13", log_p="1/9 4/9 4/9", reward="2 0 1",
        rl_time="1", slack="1/100", share="1/2",
    )  # fmt: skip
    (verdict,) = [v for v in certify(Wrong, world) if v.claim == "differences of v"]
    assert verdict.status is Status.REFUTED
    evidence(f"max v - min v shrinks by less than the rate: {world}")


@pytest.mark.parametrize("share", [0.9, 0.3, 0.02])
def test_cycles_of_flows_end_at_the_limit(share, evidence):
    """RL and SFT as natural-gradient flows in the logits, integrated and alternated from two starts."""
    d, reward, time = np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0]), 1.2 * share
    limits = {a: bounds.alternation_limit(np.log(d), reward, time, share, a) for a in ("sft", "rl")}
    rate = bounds.alternation_rate(np.log(d), reward, time, share)

    def sft(_, theta):
        return d / np.exp(theta - np.logaddexp.reduce(theta)) - 1

    for start in ([1 / 3] * 3, [0.001, 0.009, 0.99]):
        theta, distances = np.log(start), []
        for _ in range(min(400, int(30 / -np.log(rate)))):
            after_rl = theta + time * reward
            until = -np.log1p(-share)
            run = solve_ivp(sft, (0, until), after_rl, method="LSODA", rtol=1e-12, atol=1e-13)
            theta = run.y[:, -1]
            distances.append(np.expm1(np.ptp(theta - limits["sft"])))
        assert theta - np.logaddexp.reduce(theta) == pytest.approx(limits["sft"], abs=1e-7)
        assert after_rl - np.logaddexp.reduce(after_rl) == pytest.approx(limits["rl"], abs=1e-7)
        for before, now in pairwise(distances):
            assert now <= rate * before * (1 + 1e-6) + 1e-9
    evidence(
        f"flows alternated with eta = {share} end at the limit; rate {float(rate):.4f} a cycle"
    )


# --- short cycles, in balls -------------------------------------------------------------------

DATA, REWARD, NU = ["1/2", "3/10", "1/5"], [0, 1, 3], "6/5"


def root(falling_to_zero, low, high, steps=300):
    """Of an increasing function, by bisection on exact middles."""
    low, high = arb(low), arb(high)
    for _ in range(steps):
        middle = arb(((low + high) / 2).mid())
        low, high = (low, middle) if falling_to_zero(middle) > 0 else (middle, high)
    return middle


def number(text):
    return arb(flint.fmpq(*map(int, str(text).split("/"))))


def total(values):
    return sum(values, arb(0))


def normalised(weights):
    return [x / total(weights) for x in weights]


def limit_of_cycles(d, reward, eta, time, phase):
    grown = [(time * (r - reward[-1])).exp() for r in reward]
    log_slack = root(
        lambda u: 1 - total(eta * x / (1 - (1 - u.exp()) * g) for x, g in zip(d, grown, strict=True)),
        -100, 0,
    )  # fmt: skip
    rate = 1 - log_slack.exp()
    return normalised([x * g**phase / (1 - rate * g) for x, g in zip(d, grown, strict=True)])


def overpaid(d, reward, policy):
    """KL(d||p) minus the price of p's reward, by the dual's maximiser."""
    c = total(x * y for x, y in zip(policy, reward, strict=True))
    a = [(r - c) / (reward[-1] - c) for r in reward]

    def slope(log_w):
        w = log_w.exp()
        return -total(x * y / ((1 - w) * (1 - y) + w) for x, y in zip(d, a, strict=True))

    w = root(slope, -100, 0).exp()
    dual = total(x * ((1 - w) * (1 - y) + w).log() for x, y in zip(d, a, strict=True))
    return total(x * (x / y).log() for x, y in zip(d, policy, strict=True)) - dual


def predicted(nu):
    """nu^4/8 min_{a,b} sum (p^2/d)(r^2 - a - b r)^2 at the frontier policy of that rate."""
    d, reward = np.array([0.5, 0.3, 0.2]), np.array(REWARD, dtype=float)
    weight = np.exp(bounds.frontier_policy(np.log(d), reward, nu)[0]) / np.sqrt(d)
    line = np.stack([weight, weight * reward], axis=1)
    fit, *_ = np.linalg.lstsq(line, weight * reward**2, rcond=None)
    return nu**4 / 8 * float(((weight * reward**2 - line @ fit) ** 2).sum())


@pytest.fixture
def digits():
    saved, flint.ctx.prec = flint.ctx.prec, 350
    yield
    flint.ctx.prec = saved


def order(values):
    """The exponent with which values fall when eta is halved, from the last two."""
    return float((values[-2] / values[-1]).log() / arb(2).log())


@pytest.mark.usefixtures("digits")
def test_short_cycles_overpay_by_the_square_and_half_a_phase_by_the_fourth_power(evidence):
    d, reward, nu = [number(x) for x in DATA], [arb(x) for x in REWARD], number(NU)
    half = flint.arb(1) / 2
    found = {}
    for phase in (0, half, 1):
        etas = [arb(2) ** -k for k in (7, 8, 9)]
        found[phase] = [
            overpaid(d, reward, limit_of_cycles(d, reward, eta, nu * eta, phase)) for eta in etas
        ]
        assert all(x > 0 for x in found[phase])
    for phase in (0, 1):
        ratio = [
            float(x / eta**2) / predicted(1.2) for x, eta in zip(found[phase], etas, strict=True)
        ]
        richardson = 2 * ratio[-1] - ratio[-2]
        assert abs(richardson - 1) < 2e-5, ratio
        assert order(found[phase]) == pytest.approx(2, abs=0.02)
    assert order(found[half]) == pytest.approx(4, abs=0.002)
    evidence(
        "overpayment over eta^2 tends to the predicted constant within 2e-5; half a phase: eta^4"
    )


@pytest.mark.usefixtures("digits")
def test_two_levels_pay_the_price_at_every_length_of_cycle(evidence):
    d, reward = [number("3/4"), number("1/4")], [arb(0), arb(1)]
    for eta in ("9/10", "1/2", "1/10"):
        policy = limit_of_cycles(d, reward, number(eta), arb(1), 0)
        assert abs(overpaid(d, reward, policy)) < 1e-80
    evidence("two levels: no overpayment at eta = 9/10, 1/2, 1/10")


@pytest.mark.usefixtures("digits")
def test_only_half_a_phase_gains_the_fourth_power():
    """Half an SFT phase after SFT, or a third of an RL phase, stays at the square."""
    d, reward, nu = [number(x) for x in DATA], [arb(x) for x in REWARD], number(NU)
    more_sft, third = [], []
    for eta in (arb(2) ** -8, arb(2) ** -9):
        after_sft = limit_of_cycles(d, reward, eta, nu * eta, 0)
        kept = (1 - eta).sqrt()
        policy = [kept * x + (1 - kept) * y for x, y in zip(after_sft, d, strict=True)]
        more_sft.append(overpaid(d, reward, policy))
        policy = limit_of_cycles(d, reward, eta, nu * eta, flint.arb(1) / 3)
        third.append(overpaid(d, reward, policy))
    assert order(more_sft) < 2.1 and order(third) < 2.1


def test_fine_alternation_pays_less_than_coarse_and_than_rl_alone(evidence):
    """RL alone is held at the reward that alternation reached: another one for every share of SFT."""
    d, reward = np.log([0.5, 0.3, 0.2]), np.array(REWARD, dtype=float)

    def paid_over_price(policy):
        return float(bounds.kl_divergence(d, policy) / bounds.price_of_policy(d, policy, reward))

    def rl_alone(policy):
        reached = float(bounds.expected_reward(policy, reward))

        def short(time):
            tilt = bounds.gibbs_tilt(d, reward, 1 / time)
            return float(bounds.expected_reward(tilt, reward)) - reached

        return bounds.gibbs_tilt(d, reward, 1 / brentq(short, 0.01, 10))

    shares = (0.9, 0.5, 0.2, 0.05)
    limits = [bounds.alternation_limit(d, reward, 1.2 * s, s) for s in shares]
    ratios = [paid_over_price(policy) for policy in limits]
    alone = [paid_over_price(rl_alone(policy)) for policy in limits]
    assert all(a > b for a, b in pairwise(ratios))
    assert ratios[-1] < 1.001 < alone[-1]
    assert ratios[0] > alone[0]  # coarse alternation can be worse than RL alone
    shown = ", ".join(f"{x:.4f} ({y:.4f})" for x, y in zip(ratios, alone, strict=True))
    evidence(
        f"paid over price at nu = 1.2 (RL alone, same reward): {shown} for eta = .9, .5, .2, .05"
    )
