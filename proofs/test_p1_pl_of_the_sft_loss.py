"""P1, PL of the SFT loss: derivation, drawn worlds, where it is attained, the constant is sharp."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import tightened
from nondecoupling.theory.theorems.p1_pl_of_the_sft_loss import PlOfTheSftLoss
from proofs.checks import assert_attained, assert_survives, exact_world, tightness_line
from proofs.elementary import logarithm_below_tangent
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("P1")


def data_on_all_but_one(n):
    """p uniform on n responses, d uniform on n - 1 of them, the same on both prompts."""
    data = f"0 {' '.join([f'1/{n - 1}'] * (n - 1))}"
    uniform = " ".join([f"1/{n}"] * n)
    return exact_world(log_d=data, log_p=uniform, log_d_two=data, log_p_two=uniform, share="1/2")


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3, 4])
def test_divergence_below_log_of_one_plus_chi_squared(n, evidence):
    free_d, free_p = sp.symbols(f"d1:{n}", positive=True), sp.symbols(f"p1:{n}", positive=True)
    d, p = [*free_d, 1 - sum(free_d)], [*free_p, 1 - sum(free_p)]
    mean_ratio = sum(x * x / y for x, y in zip(d, p, strict=True))  # E_d d/p
    chi_squared = sum((x - y) ** 2 / y for x, y in zip(d, p, strict=True))
    assert_zero(mean_ratio - 1 - chi_squared)
    # log(1 + chi2) - KL = E_d[-log t], t = (d/p)/E_d(d/p), and -log t >= 1 - t has mean zero
    scaled = sum(x * (1 - x / y / mean_ratio) for x, y in zip(d, p, strict=True))
    assert_zero(scaled)
    evidence(f"KL(d||p) <= log(1 + chi2), n = {n}, by {logarithm_below_tangent()}")


@pytest.mark.symbolic
def test_gradient_bounds_chi_squared(evidence):
    least, extra, gap, x, y, q = sp.symbols("m e g x y q", nonnegative=True)
    # termwise, p = m + e: (d - p)^2/m >= (d - p)^2/p
    room = sp.factor(gap**2 / least - gap**2 / (least + extra))
    assert_zero(room * least * (least + extra) - gap**2 * extra, claim="sharper form")
    # log(1 + x) <= x at x = g/m, g = ||p - d||^2: m/2 KL <= g/2
    assert_zero(least / 2 * (gap / least) - gap / 2, claim="PL inequality")
    # averages, q_1 = q + x, q_2 = q + y with q = q_min: q_i^2 g - q q_i g >= 0
    for more in (x, y):
        assert_zero((q + more) ** 2 - q * (q + more) - more * (q + more), claim="two prompts")
    evidence("chi2 <= ||p - d||^2/min p termwise; q^2 >= q_min q")
    evidence(f"log(1 + x) <= x by {logarithm_below_tangent()}")


@pytest.mark.sampled
@given(worlds(PlOfTheSftLoss))
def test_drawn_worlds(world):
    assert_holds(PlOfTheSftLoss, world)


@pytest.mark.certified
@pytest.mark.parametrize("n", [2, 3, 8])
def test_sharper_form_is_attained(n):
    assert_attained(PlOfTheSftLoss, "sharper form", data_on_all_but_one(n))


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(PlOfTheSftLoss, "PL inequality", "sharper form", "two prompts"):
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", ["PL inequality", "two prompts"])
def test_one_percent_more_is_refuted(claim, evidence):
    weakened = tightened(PlOfTheSftLoss, claim, 1.01)
    (verdict,) = certify(weakened, data_on_all_but_one(128))
    assert verdict.status is Status.REFUTED, verdict
    evidence(f"{claim}: refuted 1 % tighter at n = 128; ratio (n-1) log(n/(n-1)) -> 1")


def test_sharper_form_one_percent_tighter_is_refuted():
    weakened = tightened(PlOfTheSftLoss, "sharper form", 1.01)
    (verdict,) = certify(weakened, data_on_all_but_one(2))
    assert verdict.status is Status.REFUTED, verdict
