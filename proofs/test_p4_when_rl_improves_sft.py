"""P4, when an RL step improves SFT: derivation, drawn worlds, sharp constants, both regimes occur."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.bounds.laws import kl_divergence
from nondecoupling.bounds.logits import rl_improves_sft_threshold
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import tightened
from nondecoupling.theory.theorems.p4_when_rl_improves_sft import WhenRlImprovesSft
from proofs.checks import assert_in_all, assert_survives, exact_world, tightness_line
from proofs.elementary import lagrange_identity
from proofs.symbolic import assert_identity, assert_zero

pytestmark = pytest.mark.statement("P4")
CURVATURE, TRIANGLE = "curvature of the step", "triangle of excess losses"
IMPROVEMENT = "improvement from excess loss"
SMALL_STEP_ACROSS = exact_world(
    log_d="1/2 1/2", theta="1/1000 -1/1000", direction="-1 1", step="1/500"
)


def almost_all_but_one(n):
    """theta = 0 and d nearly uniform on n - 1 responses: P1's extreme case, with a tiny step."""
    rest = Fraction(10**40 - 1, 10**40 * (n - 1))
    return exact_world(
        log_d=f"1/{10**40} {' '.join([str(rest)] * (n - 1))}",
        theta=" ".join(["0"] * n),
        direction=" ".join(["-1"] + ["0"] * (n - 1)),
        step="1/1000000",
    )


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_exact_change(n, evidence):
    evidence(assert_identity(WhenRlImprovesSft, "exact change", n))


@pytest.mark.symbolic
def test_thresholds_follow(evidence):
    step, size, rho, gradient, least = sp.symbols("eta g rho G m", positive=True)
    # change <= -eta rho G g + eta^2 g^2/4 < 0 iff G > eta g/(4 rho); G^2 >= m (e^x - 1) by P1
    change = -step * rho * gradient * size + step**2 * size**2 / 4
    edge = step * size / (4 * rho)
    assert_zero(change - step * size * rho * (edge - gradient))
    excess = sp.log(1 + edge**2 / least)
    assert_zero(least * (sp.exp(excess) - 1) - edge**2)
    # x + y >= 2 h, all nonnegative, with x < h leaves y > h: here x^2, y^2 are the excess losses
    half, slack = sp.symbols("h s", positive=True)
    assert_zero((2 * half - (half - slack)) - half - slack)
    threshold = least * step**2 * size**2 / 8
    assert_zero(2 * sp.sqrt(threshold) - step * size * sp.sqrt(least / 2))
    evidence(f"P1, P2 twice, and the triangle inequality by {lagrange_identity()}")


@pytest.mark.sampled
@given(worlds(WhenRlImprovesSft))
def test_drawn_worlds(world):
    assert_holds(WhenRlImprovesSft, world)


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(WhenRlImprovesSft, CURVATURE, IMPROVEMENT, TRIANGLE, responses=2):
        evidence(tightness_line(result))


SHARP = pytest.mark.parametrize(
    ("claim", "world"),
    [
        (CURVATURE, SMALL_STEP_ACROSS),
        (TRIANGLE, SMALL_STEP_ACROSS),
        (IMPROVEMENT, almost_all_but_one(3)),
    ],
    ids=["curvature", "triangle", "improvement"],
)


@pytest.mark.certified
@SHARP
def test_nearly_attained_on_exact_worlds(claim, world, evidence):
    (verdict,) = [v for v in assert_holds(WhenRlImprovesSft, world) if v.claim == claim]
    assert verdict.status is Status.HOLDS
    ratio = min(verdict.lhs, verdict.rhs) / max(verdict.lhs, verdict.rhs)
    assert 0.99 < ratio < 1
    evidence(f"{claim}: certified with ratio {ratio:.5f} of its sides")


@SHARP
def test_one_percent_tighter_is_refuted(claim, world):
    (verdict,) = certify(tightened(WhenRlImprovesSft, claim, 1.01), world)
    assert verdict.status is Status.REFUTED, verdict


@pytest.mark.sampled
def test_thresholds_decide_the_sign_of_the_change(evidence):
    rng = np.random.default_rng(0)
    d, p = (np.log(rng.dirichlet(np.ones(3), size=20000)) for _ in range(2))
    p[::2] = d[::2] + 0.01 * rng.standard_normal((10000, 3))
    p -= np.log(np.exp(p).sum(axis=-1, keepdims=True))
    direction, step = rng.standard_normal((20000, 3)), 10.0 ** rng.uniform(-3, 1, 20000)
    change, raises_below, lowers_above = rl_improves_sft_threshold(d, p, direction, step)
    excess = kl_divergence(d, p)
    raised, lowered = excess < raises_below, excess > lowers_above
    assert raised.sum() > 1000 and lowered.sum() > 1000
    assert_in_all(change[raised] > 0, "below the threshold the step raises the loss")
    assert_in_all(change[lowered] < 0, "above the threshold the step lowers the loss")
    decided = (raised | lowered).mean()
    evidence(f"the thresholds decide {decided:.0%} of 20000 drawn steps, all with the right sign")


def test_the_upper_threshold_is_the_excess_loss_itself_where_p1_is_attained():
    """p uniform on 3 responses, d on 2 of them, g towards d, eta = 2: ||p - d|| = eta ||g_c||/4, L - L* = log 3/2."""
    d, p, toward = np.log([1e-300, 0.5, 0.5]), np.log(np.full(3, 1 / 3)), np.array([-1.0, 0.0, 0.0])
    change, _, lowers_above = rl_improves_sft_threshold(d, p, toward, 2.0)
    assert lowers_above == pytest.approx(np.log(1.5)) == kl_divergence(d, p)
    assert change < 0
    assert rl_improves_sft_threshold(d, p, -toward, 2.0)[2] == np.inf
