"""S9, overpayment: derivations, small moves, drawn worlds, attack, and the check can fail."""

from fractions import Fraction as F

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.deciding.boxes import Box, certify_box
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.price import dual_ratio, overpaid, price_of_reward_dual
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim, tightened
from nondecoupling.theory.theorems.s9_overpayment import Overpayment, off_the_data
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import logarithm_below_tangent
from proofs.symbolic import assert_identity, assert_zero

pytestmark = pytest.mark.statement("S9")
THREE_TERMS, OFF_DATA = "three terms", "mass off the data is paid for"
TWO_PROMPTS, TILT = "one rate for two prompts", "the tilt's excess at a small gain"
SECOND_PROMPT = dict(
    log_d_two="1/2 1/2",
    log_p_two="1/2 1/2",
    reward_two="0 1",
    share="1/2",
    rate="1",
    offset="1",
    offset_two="1",
)


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    evidence(assert_identity(Overpayment, THREE_TERMS, responses))
    evidence(f"nonnegative by {logarithm_below_tangent()} at z")


@pytest.mark.symbolic
def test_derivation_for_two_prompts(evidence):
    evidence(assert_identity(Overpayment, TWO_PROMPTS, 2))


# --- small moves ------------------------------------------------------------------------------

t, variance, third, fourth = sp.symbols("t V k3 k4", positive=True)
MOMENTS = (1, 0, variance, third, fourth)  # of x = r - J(d) under d


def mean_of(polynomial, x):
    """E_d of a polynomial in x, from the moments of x."""
    coefficients = sp.Poly(sp.expand(polynomial), x).all_coeffs()[::-1]
    return sum(c * m for c, m in zip(coefficients, MOMENTS, strict=False))


def up_to(expression, order):
    """Powers of t up to ``order``; the expression is a polynomial in t."""
    poly = sp.Poly(sp.expand(expression), t)
    return sum(c * t**k for (k,), c in poly.terms() if k <= order)


def solved_in_powers_of_t(equation, order):
    """The series y = y1 t + y2 t^2 + ... with equation(y) = O(t^{order + 1})."""
    unknown = sp.symbols(f"y1:{order + 1}")
    series = sum(y * t**k for k, y in enumerate(unknown, start=1))
    residual = sp.Poly(up_to(equation(series), order), t)
    for k, y in enumerate(unknown, start=1):
        (value,) = sp.solve(residual.coeff_monomial(t**k), y)
        series = series.subs(y, value)
        residual = sp.Poly(sp.expand(residual.as_expr().subs(y, value)), t)
    assert residual.is_zero
    return sp.expand(series)


def price_of_a_small_gain():
    """max over m of E_d log(1 - m (x - t)), m = l/(M - c), through t^4."""
    x, m = sp.symbols("x m")

    def series(slope):
        powers = sum(-((slope * (x - t)) ** k) / k for k in range(1, 5))
        return mean_of(powers, x)

    stationary = sp.diff(series(m), m)
    best = solved_in_powers_of_t(lambda y: up_to(stationary.subs(m, y), 3), 3)
    return up_to(series(best), 4)


def paid_by_the_tilt_for_a_small_gain():
    """log E_d e^{sx} = KL(d||tilt_s), at the time s when E_tilt x = t, through t^4."""
    s = sp.Symbol("s")
    u = sum(s**k * m / sp.factorial(k) for k, m in enumerate(MOMENTS) if k > 0)
    logarithm = sp.Poly(sp.expand(sum(-((-u) ** k) / k for k in range(1, 5))), s)
    cumulants = sum(c * s**k for (k,), c in logarithm.terms() if k <= 4)
    time = solved_in_powers_of_t(lambda y: sp.diff(cumulants, s).subs(s, y) - t, 3)
    return up_to(cumulants.subs(s, time), 4)


@pytest.mark.symbolic
def test_price_and_tilt_at_a_small_gain(evidence):
    price, paid = price_of_a_small_gain(), paid_by_the_tilt_for_a_small_gain()
    assert (
        sp.simplify(up_to(price, 3) - t**2 / (2 * variance) + third * t**3 / (3 * variance**3)) == 0
    )
    kurt, skew_squared = fourth / variance**2, third**2 / variance**3
    excess = t**4 / (8 * variance**2) * (kurt - skew_squared - 1)
    assert_zero(paid - price - excess, claim=TILT)
    evidence(
        "price t^2/(2V) - k3 t^3/(3V^3) + O(t^4); the tilt pays t^4/(8V^2)(kurt - skew^2 - 1) more"
    )


@pytest.mark.symbolic
def test_kurtosis_and_skewness_by_a_square(evidence):
    """kurt - skew^2 - 1 = E(x^2 - (k3/V) x - V)^2/V^2: zero iff x takes the two roots only."""
    x = sp.Symbol("x")
    square = mean_of((x**2 - third / variance * x - variance) ** 2, x)
    assert_zero(square - (fourth - third**2 / variance - variance**2), claim=TILT)
    evidence("kurt - skew^2 - 1 is the mean of a square, zero iff r has two levels")


@pytest.mark.symbolic
def test_small_moves_pay_by_the_correlation(evidence):
    """Along p prop. to d e^{eh}: KL(d||p) = e^2 Var h/2 + ..., gain e Cov(h, r) + ...: ratio 1/rho^2."""
    e, h_variance, covariance = sp.symbols("e Vh C", positive=True)
    h, r = sp.symbols("h1:3"), sp.symbols("r1:3")
    d = sp.Symbol("d", positive=True)
    law = (d, 1 - d)
    z = sum(q * sp.exp(e * y) for q, y in zip(law, h, strict=True))
    paid = sp.log(z) - e * sum(q * y for q, y in zip(law, h, strict=True))
    gain = sum(q * sp.exp(e * y) * x for q, y, x in zip(law, h, r, strict=True)) / z
    spread = d * (1 - d) * (h[0] - h[1])
    assert sp.simplify(sp.diff(paid, e).subs(e, 0)) == 0
    assert sp.simplify(sp.diff(paid, e, 2).subs(e, 0) - spread * (h[0] - h[1])) == 0
    assert sp.simplify(sp.diff(gain, e).subs(e, 0) - spread * (r[0] - r[1])) == 0
    ratio = (e**2 * h_variance / 2) / ((e * covariance) ** 2 / (2 * variance))
    assert_zero(ratio - h_variance * variance / covariance**2, claim="small moves")
    evidence("small moves: paid/price = Var h Var r/Cov(h, r)^2 + O(e)")


@pytest.mark.sampled
def test_small_moves_in_numbers(evidence):
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(50):
        n = int(rng.integers(3, 6))
        law = rng.dirichlet(np.ones(n))
        reward, h = rng.standard_normal((2, n))
        x, y = reward - law @ reward, h - law @ h
        rho = law @ (x * y) / np.sqrt(law @ x**2 * (law @ y**2))
        h, rho = np.sign(rho) * h, abs(rho)
        if rho < 0.1:
            continue
        step = 1e-5 / np.sqrt(law @ y**2)
        d = np.log(law)
        p = bounds.gibbs_tilt(d, h, 1 / step)
        paid = bounds.kl_divergence(d, p)
        price = paid - bounds.overpayment(d, p, reward)
        worst = max(worst, abs(float(paid / price) * rho**2 - 1))
        assert_in_all(abs(paid / price * rho**2 - 1) < 0.02, "small moves")
    evidence(f"paid/price against 1/rho^2 at a step of 1e-5: at most {worst:.1e} apart")


# --- worlds -----------------------------------------------------------------------------------


@pytest.mark.sampled
@given(worlds(Overpayment))
def test_drawn_worlds(world):
    assert_holds(Overpayment, world)


@pytest.mark.sampled
def test_the_identity_at_l_equal_to_one():
    """Where d has no mass on argmax r the dual is finite at l = 1, and p may keep mass there for free."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(3, 7))
        reward = np.append(rng.uniform(0, 3, n - 1), 3.0)
        law, p = np.append(rng.dirichlet(np.ones(n - 1)), 0.0), rng.dirichlet(np.ones(n))
        on, c = law > 0, p @ reward
        b = (3.0 - reward) / (3.0 - c)
        z = p[on] * b[on] / law[on]
        paid = law[on] @ np.log(law[on] / p[on])
        over = law[on] @ (z - 1 - np.log(z))
        assert_in_all(abs(paid - law[on] @ np.log(b[on]) - over) < 1e-12, THREE_TERMS)


@pytest.mark.sampled
def test_overpayment_is_paid_minus_price(evidence):
    """The three terms at the solved l against the difference of two independent functions."""
    rng, largest = np.random.default_rng(2), 0.0
    for _ in range(300):
        n = int(rng.integers(2, 7))
        law, p = rng.dirichlet(np.ones(n), size=2)
        if n > 2 and rng.random() < 0.3:
            law[0] = 0.0
            law /= law.sum()
        reward = rng.standard_normal(n)
        with np.errstate(divide="ignore"):
            d, p = np.log(law), np.log(p)
        paid = bounds.kl_divergence(d, p)
        price = bounds.price_of_reward(d, reward, bounds.expected_reward(p, reward))
        over = bounds.overpayment(d, p, reward)
        assert over == pytest.approx(paid - price, rel=1e-9, abs=1e-12)
        assert_in_all(over >= 0, THREE_TERMS)
        largest = max(largest, float(over))
    evidence(f"against paid minus price on 300 worlds, overpayments up to {largest:.2f} nats")


@pytest.mark.certified
def test_a_frontier_policy_overpays_nothing():
    """d = (1/2, 1/2), r = (0, 1), p = (1/4, 3/4): l = 1/3 by hand."""
    on = exact_world(
        log_d="1/2 1/2",
        log_p="1/4 3/4",
        reward="0 1",
        slack="2/3",
        below_top="1/4",
        **SECOND_PROMPT,
    )
    assert_attained(Overpayment, OFF_DATA, on)
    assert bounds.overpayment(np.log([0.5, 0.5]), np.log([0.25, 0.75]), [0.0, 1.0]) < 1e-31


@pytest.mark.certified
def test_two_levels_and_no_others_make_the_tilt_exact():
    world = dict(log_p="1/3 1/3 1/3", slack="1/2", below_top="1")
    second = {k: f"{v} 0" if k.startswith("log") else v for k, v in SECOND_PROMPT.items()}
    second.update(log_p_two="1/3 1/3 1/3", reward_two="0 1 2")
    two = exact_world(**world, **second, log_d="1/2 1/4 1/4", reward="0 1 1")
    assert_attained(Overpayment, TILT, two)
    unused = exact_world(**world, **second, log_d="1/2 1/2 0", reward="0 1 7")
    assert_attained(Overpayment, TILT, unused)
    three = exact_world(**world, **second, log_d="1/2 1/4 1/4", reward="0 1 2")
    (verdict,) = [v for v in assert_holds(Overpayment, three) if v.claim == TILT]
    assert verdict.margin > 0


def three_responses(s, m):
    """d = (s, 1/3, 2/3 - s), r = (0, 1, m)."""
    a_third = F(1, 3)
    laws = dict(log_d=[s, a_third, 2 * a_third - s], log_p=[a_third] * 3)
    two = dict(log_d_two=[a_third] * 3, log_p_two=[a_third] * 3, reward_two=[0, 1, 2])
    rest = {k: [1] for k in ("below_top", "rate", "offset", "offset_two")}
    return dict(**laws, **two, **rest, reward=[0, 1, m], slack=[F(1, 2)], share=[F(1, 2)])


@pytest.mark.certified
def test_the_tilt_overpays_on_a_box_of_three_levels(evidence):
    box = Box({"s": (F(1, 10), F(1, 2)), "m": (F(3, 2), F(5))}, three_responses)
    found = certify_box(Overpayment, TILT, box)
    assert found.status is Status.HOLDS and found.smallest > 0
    evidence(f"d = (s, 1/3, 2/3 - s), r = (0, 1, m), {box}: {found}")
    tighter = certify_box(tightened(Overpayment, TILT, 1.5), TILT, box)
    assert tighter.status is Status.REFUTED


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(Overpayment, OFF_DATA, TILT, responses=2):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


# --- the checks can fail ----------------------------------------------------------------------


@pytest.mark.parametrize("claim", [OFF_DATA, TILT])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(Overpayment, claim, 1.01)


class WithoutMassOffTheData(Overpayment):
    """The identity at c = J(p) with the last of its three terms left out."""

    @staticmethod
    def claims(xp, w):
        reached = expected_reward(xp, w.log_p, w.reward)
        ratio = dual_ratio(xp, w.reward, reached, w.slack)
        paid = kl_by_definition(xp, w.log_d, w.log_p)
        dual = price_of_reward_dual(xp, w.log_d, w.reward, reached, w.slack)
        over = overpaid(xp, w.log_d, w.log_p, xp.log(ratio))
        kept = over - off_the_data(xp, w.log_d, w.log_p, ratio)
        yield Claim(THREE_TERMS, paid - dual, "==", kept)


def test_the_last_term_is_needed(evidence):
    second = {k: f"{v} 0" if k.startswith("log") else v for k, v in SECOND_PROMPT.items()}
    second.update(log_p_two="1/3 1/3 1/3", reward_two="0 1 2")
    world = exact_world(
        log_d="1/2 1/2 0",
        reward="0 1 1/2",
        log_p="1/4 1/2 1/4",
        slack="1/2",
        below_top="1",
        **second,
    )
    (verdict,) = certify(WithoutMassOffTheData, world)
    assert verdict.status is Status.REFUTED
    witness = smallest_witness(WithoutMassOffTheData, THREE_TERMS)
    assert witness is not None and 0 in witness.values["log_d"]
    evidence(f"false without the term off the data: {witness}")


def test_the_tilt_does_not_pay_the_price_through_fourth_order():
    """The claim "paid - price = O(t^5)" is refuted by three levels, and the constant 1/8 is seen."""
    d, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    law = np.exp(d)
    x = reward - law @ reward
    v, k3, k4 = (law @ x**k for k in (2, 3, 4))
    constant = (k4 / v**2 - k3**2 / v**3 - 1) / (8 * v**2)
    gains, over = [], []
    for beta in (200.0, 100.0):
        tilt = bounds.gibbs_tilt(d, reward, beta)
        gains.append(float(bounds.expected_reward(tilt, reward) - law @ reward))
        over.append(float(bounds.overpayment(d, tilt, reward)))
    order = np.log(over[1] / over[0]) / np.log(gains[1] / gains[0])
    assert order == pytest.approx(4, abs=0.1)  # fifth order would give 5
    ratios = np.array(over) / np.array(gains) ** 4 / constant
    assert 2 * ratios[0] - ratios[1] == pytest.approx(1, abs=0.01)  # extrapolated to t = 0
