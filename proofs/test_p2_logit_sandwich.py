"""P2, logit sandwich: derivation, drawn worlds, both constants are sharp."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.p2_logit_sandwich import LogitSandwich
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import variance_above_least_mass, variance_below_half_norm
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("P2")
CLAIMS = (
    "moved logits move the law",
    "near logits, near laws",
    "RL raises the SFT loss at least",
    "RL raises the SFT loss at most",
)


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3, 4])
def test_divergence_is_an_integral_of_variances(n, evidence):
    """f(t) = logsumexp(theta + t v): KL = f(1) - f(0) - f'(0) = int (1 - t) f'', f'' = Var_t v."""
    t = sp.Symbol("t", real=True)
    e, v = sp.symbols(f"e1:{n + 1}", positive=True), sp.symbols(f"v1:{n + 1}", real=True)
    weights = [x * sp.exp(t * y) for x, y in zip(e, v, strict=True)]
    total = sum(weights)
    mean = sum(w * y for w, y in zip(weights, v, strict=True)) / total
    square = sum(w * y**2 for w, y in zip(weights, v, strict=True)) / total
    curvature = sp.diff(sp.log(total), t, 2)
    assert_zero(sp.expand((curvature - square + mean**2) * total**2))
    # KL = sum p (log p - log q) is that Bregman divergence, since log(p/q) = -v + f(1) - f(0)
    p = [x / sum(e) for x in e]
    rise = sp.Symbol("rise", real=True)  # f(1) - f(0)
    divergence = sum(q * (rise - y) for q, y in zip(p, v, strict=True))
    assert_zero(divergence - (rise - mean.subs(t, 0)))
    evidence(f"KL = int (1 - t) Var_t dt, n = {n}")
    # m ||v_c||^2 <= Var_t <= ||v_c||^2/2 all along, and the weight 1 - t integrates to 1/2
    for claim in CLAIMS[:2]:
        assert_zero(sp.integrate(1 - t, (t, 0, 1)) - sp.Rational(1, 2), claim=claim)
    evidence(f"with {variance_above_least_mass(n)} and {variance_below_half_norm(n)}")


@pytest.mark.symbolic
def test_smallest_probability_is_at_an_end(evidence):
    """log p_y along a segment is concave: minus the curvature of logsumexp, a variance."""
    t, a, b, x, y = sp.symbols("t a b x y", real=True)
    log_p = x + t * a - sp.log(sp.exp(x + t * a) + sp.exp(y + t * b))
    curvature = sp.simplify(sp.diff(log_p, t, 2))
    odds = sp.exp(x + t * a) * sp.exp(y + t * b)
    variance = (a - b) ** 2 * odds / (sp.exp(x + t * a) + sp.exp(y + t * b)) ** 2
    assert_zero(curvature + variance)
    evidence("log p_y is concave on segments of logits")


@pytest.mark.sampled
@given(worlds(LogitSandwich))
def test_drawn_worlds(world):
    assert_holds(LogitSandwich, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", CLAIMS)
def test_equality_at_equal_logits(claim):
    """Logits that differ by a constant are the same policy."""
    world = exact_world(theta="0 1 2", theta_prime="5 6 7", reward="3 3 3", beta="1/2")
    assert_attained(LogitSandwich, claim, world)


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(LogitSandwich, *CLAIMS):
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(LogitSandwich, claim, 1.01)
