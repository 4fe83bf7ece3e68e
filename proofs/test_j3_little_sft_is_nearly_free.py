"""J3, a little SFT is nearly free: derivation, drawn worlds, the expansion by Richardson in balls."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.formulas.laws import (
    chi_squared,
    cross_entropy,
    expected_reward,
    kl_by_definition,
)
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.arb import arb
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.j3_little_sft_is_nearly_free import LittleSftIsNearlyFree
from proofs.checks import (
    assert_attained,
    assert_positive,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import mean_minimises_squares
from proofs.roots import enclose_joint
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("J3")
CLAIMS = ("saving at least", "saving at most", "cost at least", "cost at most")


@pytest.mark.symbolic
def test_the_path_of_joint_optima(evidence):
    """One response along the path: p' = p (w - c)/(beta + lambda w), w = d/p, c = mu'."""
    weight, beta = sp.symbols("lambda beta", positive=True)
    w, c, d, speed = sp.symbols("w c d p_dot", positive=True)
    p, mu = sp.Function("p")(weight), sp.Function("mu")(weight)
    stationary = -beta * sp.log(p) + weight * d / p - mu
    moved = sp.diff(stationary, weight).subs({p.diff(weight): speed, mu.diff(weight): c})
    (p_dot,) = sp.solve(moved.subs(p, d / w), speed)
    flow = (w - c) / (beta + weight * w)
    assert_zero(p_dot - d / w * flow)
    # -dCE/dlambda = sum w p' = sum p (w - c)^2/(beta + lambda w), since sum p' = 0
    assert_zero(w * flow - (w - c) ** 2 / (beta + weight * w) - c * flow)
    # chi2 = sum d^2/p - 1 falls: its slope is -sum w^2 p' = -sum m (w - c)(w^2 - c^2), sum m(w-c) = 0
    assert_zero((w - c) * (w**2 - c**2) - (w - c) ** 2 * (w + c))
    # d log w/dlambda = -flow: the largest w falls (w >= c), and lambda w rises for every response
    rises = sp.simplify(w - weight * w * flow)
    assert_zero(rises - w * (beta + weight * c) / (beta + weight * w))
    evidence(
        "-dCE/dlambda = sum p (w - c)^2/(beta + lambda w); chi2 and max w fall, lambda w rises"
    )


@pytest.mark.symbolic
def test_bounds_from_the_path(evidence):
    """chi2(d||p)/(beta + lambda max w) <= -dCE/dlambda <= chi2(d||p)/beta, integrated."""
    weight, beta, chi, u, largest, extra = sp.symbols("lambda beta chi u W e", positive=True)
    # positive: the rate is at most chi2/beta
    assert_zero(1 / beta - 1 / (beta + u) - u / (beta * (beta + u)), claim="saving at most")
    # u W(u) <= lambda W(lambda): the rate over [0, lambda] is at least its value at the end
    room = 1 / (beta + largest) - 1 / (beta + largest + extra)
    assert_zero(room * (beta + largest) * (beta + largest + extra) - extra, claim="saving at least")
    # the cost is int u (-dCE/du) du by the envelope theorem: both bounds times lambda/2
    saving, cost = (sp.integrate(f, (u, 0, weight)) for f in (chi / beta, u * chi / beta))
    for claim in ("cost at least", "cost at most"):
        assert_zero(cost - weight / 2 * saving, claim=claim)
    evidence(f"integrated over [0, lambda]; {mean_minimises_squares()}")


@pytest.mark.sampled
@given(worlds(LittleSftIsNearlyFree))
def test_drawn_worlds(world):
    assert_holds(LittleSftIsNearlyFree, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", CLAIMS)
def test_equality_where_the_tilt_is_the_data_law(claim):
    world = exact_world(
        log_joint="1/4 3/4", log_d="1/4 3/4", log_ref="1/2 1/2", beta="1/2", weight="3"
    )
    assert_attained(LittleSftIsNearlyFree, claim, world)


WORLDS = {
    "two responses": ("1/4 3/4", "1/2 1/2", "0 1", "1"),
    "three responses": ("1/5 3/10 1/2", "1/3 1/3 1/3", "0 2 1", "1/2"),
    "huge constants": ("1/2 1/2", "1/2 1/2", "0 10", "1"),
}


@pytest.mark.certified
@pytest.mark.parametrize("name", WORLDS)
def test_expansion(name, evidence):
    """saving/(lambda chi2/beta) and cost/(lambda^2 chi2/(2 beta)) tend to one, in balls.

    With lambda halved, every Richardson column must come closer to one than the column before, and
    its distance must fall by its own power of two: first order for the raw ratios.
    """
    import flint

    saved = flint.ctx.prec
    flint.ctx.prec = 600
    try:
        data, ref, reward, beta = ([Fraction(x) for x in text.split()] for text in WORLDS[name])
        xp = arb()
        log_d, log_ref = (xp.log(xp.array(x)) for x in (data, ref))
        r, b = xp.array(reward), xp.array(beta)
        log_tilt = gibbs_tilt(xp, log_ref, r, b)
        chi = chi_squared(xp, log_d, log_tilt)
        largest = max(float(x.exp()) for x in log_d - log_tilt)
        # lambda max(d/tilt)/beta = 2^-10, 2^-11, ...: inside the radius of the expansion
        start = Fraction(2) ** -10 * beta[0] / Fraction(largest).limit_denominator(10**6)

        def ratios(weight):
            lam = xp.array([weight])
            joint = enclose_joint(log_d, log_tilt, lam / b, digits=120)
            saving = cross_entropy(xp, log_d, log_tilt) - cross_entropy(xp, log_d, joint)
            best, reached = (
                expected_reward(xp, p, r) - b * kl_by_definition(xp, p, log_ref)
                for p in (log_tilt, joint)
            )
            unit = lam / b * chi
            return (saving / unit).flat[0], ((best - reached) * 2 / (lam * unit)).flat[0]

        table = [ratios(start / 2**k) for k in range(4)]
        for kind, column in zip(("saving", "cost"), zip(*table, strict=True), strict=True):
            column = list(column)
            # J3's upper bounds, along the way
            assert_positive(*(1 - x for x in column), claim=f"{kind} at most")
            for order in range(1, 4):
                shrink = [abs(y - 1) / abs(x - 1) for x, y in pairwise(column)]
                near = (flint.arb(0.01) - abs(q * 2**order - 1) for q in shrink)
                assert_positive(*near, claim=f"{kind}: order {order} of the expansion")
                factor = 2**order
                column = [(factor * y - x) / (factor - 1) for x, y in pairwise(column)]
            distance = flint.arb(2) ** -40 - abs(column[-1] - 1)
            assert_positive(distance, claim=f"{kind}: limit of the expansion")
            evidence(f"{name}, {kind}: limit {float(column[-1]):.12f} after three Richardson steps")
    finally:
        flint.ctx.prec = saved


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(LittleSftIsNearlyFree, *CLAIMS):
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(LittleSftIsNearlyFree, claim, 1.01)


def test_the_upper_bound_pays_for_what_the_data_miss():
    """d = (1, 0), tilt = (1/2, 1/2): chi2(d||tilt) = 1, half of it mass that d lacks; the saving needs all of it."""
    log_d, half, reward, weight = np.array([0.0, -np.inf]), np.log([0.5, 0.5]), np.zeros(2), 1e-3
    joint = bounds.joint_optimum(log_d, half, reward, 1.0, weight)
    saving = bounds.cross_entropy(log_d, half) - bounds.cross_entropy(log_d, joint)
    lower, upper = bounds.joint_saving_bounds(log_d, half, reward, 1.0, weight)
    assert lower <= saving <= upper == pytest.approx(weight, rel=1e-12)
    assert saving > 0.99 * upper
