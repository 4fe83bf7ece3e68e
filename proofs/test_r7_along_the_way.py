"""R7, along the way: derivations, drawn worlds, tightness, and the refutation found by search."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.formulas.laws import expected_reward, log_softmax
from nondecoupling.formulas.logits import sft_loss_gradient
from nondecoupling.formulas.rl_then_sft import sft_step_reward_slope
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r7_along_the_way import AlongTheWay
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.symbolic import assert_identity, assert_zero

pytestmark = pytest.mark.statement("R7")
FASTER, STEP = "J_b falls ever faster", "the first SFT step lowers the reward"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    for name in ("J is affine", "slope of a step"):
        evidence(assert_identity(AlongTheWay, name, responses))


@pytest.mark.symbolic
def test_the_fall_is_convex(evidence):
    """By R1 the fall is beta KL(mixture||tilt); each term is convex in the share u and 0 at u = 0."""
    u, p, q = sp.symbols("u p q", positive=True)
    mixed = (1 - u) * q + u * p
    term = mixed * sp.log(mixed / q)
    assert_zero(term.subs(u, 0))
    assert_zero(sp.diff(term, u, 2) - (p - q) ** 2 / mixed, claim=FASTER)
    evidence(f"{FASTER}: KL(.||tilt) is convex along the mixture and 0 at the tilt")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_slope_is_the_derivative(responses, evidence):
    """d/d eta J(softmax(theta - eta (p - d))) at eta = 0."""
    xp, eta = sympy_numbers(), sp.Symbol("eta", real=True)
    x = sp.symbols(f"x1:{responses + 1}", positive=True)
    d = sp.symbols(f"d1:{responses}", positive=True)
    reward = xp.array(list(sp.symbols(f"r1:{responses + 1}", real=True)))
    logits = xp.array([sp.log(v) for v in x])
    log_p, log_d = log_softmax(xp, logits), xp.log(xp.array([*d, 1 - sum(d)]))
    stepped = logits - eta * sft_loss_gradient(xp, log_p, log_d)
    reached = expected_reward(xp, log_softmax(xp, stepped), reward)[0]
    slope = sft_step_reward_slope(xp, log_p, log_d, reward)[0]
    assert_zero(sp.diff(reached, eta).subs(eta, 0) - slope)
    evidence(f"slope of a softmax SFT step, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_with_two_reward_levels_the_first_step_lowers_the_reward(low, high, evidence):
    """Binary rewards, ref = d: the slope is minus a sum of positive terms."""
    xp, e = sympy_numbers(), sp.Symbol("e", positive=True)  # e = e^{1/beta} > 1
    d = sp.symbols(f"d1:{low + high}", positive=True)
    masses = [1 - sum(d), *d]
    log_d, reward = xp.log(xp.array(masses)), xp.array([0] * low + [1] * high)
    tilt = gibbs_tilt(xp, log_d, reward, xp.array([1 / sp.log(e)]))
    slope = sft_step_reward_slope(xp, tilt, log_d, reward)[0]
    on_top = sum(masses[low:])
    z = 1 + on_top * (e - 1)
    kept = on_top * e / z
    positive = (1 - on_top) * (1 - kept) * e * sum(m**2 for m in masses[low:])
    positive += on_top * kept * sum(m**2 for m in masses[:low])
    assert_zero(slope + (e - 1) / z**2 * positive)
    evidence(f"two reward levels ({low} + {high} responses): the first step lowers the reward")


@pytest.mark.sampled
@given(worlds(AlongTheWay))
def test_drawn_worlds(world):
    assert_holds(AlongTheWay, world)


@pytest.mark.certified
def test_the_fall_is_strict_unless_d_is_the_tilt():
    values = dict(log_d="1/4 3/4", beta="1", mix="1/2", share="1/2")
    assert_attained(AlongTheWay, FASTER, exact_world(**values, reward="2 2"))
    near = exact_world(**values, reward="0 1/1000000")
    assert all(v.margin > 0 for v in assert_holds(AlongTheWay, near) if v.claim == FASTER)


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(AlongTheWay, FASTER)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


def test_one_percent_tighter_is_refuted():
    assert_tightened_fails(AlongTheWay, FASTER, 1.01)


@pytest.mark.certified
def test_search_finds_a_first_step_that_raises_the_reward(evidence, capsys):
    witness = smallest_witness(AlongTheWay, STEP)
    assert witness is not None
    shown = str(witness).split(", mix")[0]
    evidence(f"first SFT step raises the reward at {shown}")
    with capsys.disabled():
        print(f"\nsmallest witness, the first SFT step raises the reward: {shown}")


def test_two_responses_have_no_such_step():
    assert smallest_witness(AlongTheWay, STEP, max_responses=2, max_denominator=8) is None


@pytest.mark.attacked
def test_attack_refutes_the_step_claim(evidence):
    result = attack(AlongTheWay, STEP)
    assert result.violation
    evidence(
        f"attack: the slope reaches {-result.margin:.3g} at beta = {result.world['beta'][0]:.3g}"
    )
