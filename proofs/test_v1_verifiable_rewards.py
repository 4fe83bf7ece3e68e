"""V1, verifiable rewards: derivations, drawn worlds, flows run to a target, and the check can fail."""

from fractions import Fraction as F

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from scipy.integrate import solve_ivp

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.deciding.boxes import Box, certify_box
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.price import bernoulli_kl
from nondecoupling.formulas.verifiable import log_given, one_wrong_response_on_the_path
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.v1_verifiable_rewards import VerifiableRewards, right_and_wrong
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import (
    assert_identity,
    assert_margin,
    assert_zero,
    claim,
)

pytestmark = pytest.mark.statement("V1")
LEAST_KL, LEAST_LOSS = "the least KL at a success", "the least loss at a success"
PASS_AT_K, RAZOR = "pass@k rises", "policy gradient moves least"
IDENTITIES = [
    "beta for a target",
    "cost",
    "the cost is the price",
    "the tilt moves least",
    "chain rule",
]
ELSEWHERE = dict(
    beta="1", lift="1/2", attempts="4", log_inside="2/3 1/3", ref_success="3/4", drive="3/4"
)


@pytest.mark.symbolic
@pytest.mark.parametrize("name", IDENTITIES)
def test_identities(name, evidence):
    """One correct response and two that are not."""
    evidence(assert_identity(VerifiableRewards, name, 3))


@pytest.mark.symbolic
@pytest.mark.parametrize("name", ["cost", "the cost is the price", "chain rule"])
def test_identities_with_two_correct_responses_and_two_wrong(name, evidence):
    evidence(assert_identity(VerifiableRewards, name, 4))


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_the_logit_moves_by_one_over_beta(responses, evidence):
    """Written with e^{1/beta} = k, which is no loss of generality."""
    found = claim(VerifiableRewards, "the logit of success", responses)
    k = sp.Symbol("k", positive=True)
    beta = sp.Symbol("beta", positive=True)
    difference = (found.lhs - found.rhs).flat[0].subs(beta, 1 / sp.log(k))
    assert_zero(difference, claim="the logit of success")
    evidence(f"the logit of success, n = {responses}")


def within(xp, w, p, q, weight):
    """E_weight KL(p given the event||q given the event), over A and A^c."""
    events = xp.positive(w.correct), ~xp.positive(w.correct)
    return sum(
        mass * kl_divergence(xp, log_given(xp, p, event), log_given(xp, q, event))
        for mass, event in zip(right_and_wrong(xp, weight, w.correct), events, strict=True)
    )


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_what_else_p_moves(responses, evidence):
    """Both least values: what is over are divergences inside A and inside its complement."""
    for name, order, what in (
        (LEAST_KL, ("log_p", "log_ref"), "p(A) KL(p_A||ref_A) + the same off A"),
        (LEAST_LOSS, ("log_ref", "log_p"), "ref(A) KL(ref_A||p_A) + the same off A"),
    ):

        def room(xp, w, order=order):
            first, second = (w[name] for name in order)
            return within(xp, w, first, second, first)

        evidence(assert_margin(VerifiableRewards, name, responses, room, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.symbolic
def test_pass_at_k(evidence):
    """The tilt's failures are (1 - a)/(1 - a + a e^{1/beta}) < 1 - a, and powers keep the order."""
    a, growth = sp.symbols("a growth", positive=True)  # growth = e^{1/beta} - 1
    failures = (1 - a) / (1 - a + a * (1 + growth))
    share = sp.simplify((1 - a - failures) / ((1 - a) * failures))
    assert_zero(share - a * growth / (1 - a), claim=PASS_AT_K)
    evidence("1 - a - tilt(A^c) = tilt(A^c) a (e^(1/beta) - 1) > 0; a k-th power keeps the order")


@pytest.mark.symbolic
def test_the_path_solves_policy_gradient_without_a_leash(evidence):
    """1/p - 1/ref moves along a line in r, as (e^{-theta})' does, and sum theta is conserved."""
    theta, r = sp.symbols("theta1:4", real=True), (1, 1, 0)
    weight = [sp.exp(x) for x in theta]
    z = sum(weight)
    p = [x / z for x in weight]
    mean = sum(x * y for x, y in zip(p, r, strict=True))
    velocity = [q * (y - mean) for q, y in zip(p, r, strict=True)]
    assert_zero(sum(velocity))
    for x, v, y in zip(theta, velocity, r, strict=True):
        assert_zero(sp.diff(sp.exp(-x), x) * v - (mean - y) / z)  # affine in r
    evidence("(e^{-theta_y})' = (E_p r - r_y)/Z and (sum theta)' = 0 along policy gradient, n = 3")


@pytest.mark.symbolic
def test_the_path_of_the_claim_is_on_it(evidence):
    """prod(1 + ref (sigma - tau r)) = 1, and p prop. to 1/(1/ref + sigma - tau r)."""
    xp = sympy_numbers()
    a, t, g = sp.symbols("a t g", positive=True)
    inside = [t, 1 - t]
    right, wrong = one_wrong_response_on_the_path(
        xp, xp.log(xp.array(inside)), xp.array([a]), xp.array([g])
    )
    # On A, 1 + ref (sigma - tau) = 1 - g inside; off A 1 + ref sigma is ref/p in the same scale.
    scale = a * inside[0] / (1 - g * inside[0]) / right[0]
    off = (1 - a) / (wrong[0] * scale)
    assert_zero(
        (1 - g * t) * (1 - g * (1 - t)) * off - 1,
        right[0] * (1 - g * t) / t - right[1] * (1 - g * (1 - t)) / (1 - t),
    )
    evidence("the refuted claim's policies lie on the path, two correct responses and one wrong")


@pytest.mark.sampled
@given(worlds(VerifiableRewards))
def test_drawn_worlds(world):
    assert_holds(VerifiableRewards, world)


@pytest.mark.certified
def test_unchanged_conditional_laws_attain_both_least_values():
    """ref = (1/3, 1/6, 1/2), A the first two, p(A) = 4/5 with p_A = ref_A = (2/3, 1/3)."""
    more = dict(ELSEWHERE, log_inside="1/3 1/3 1/3")
    world = exact_world(log_ref="1/3 1/6 1/2", log_p="8/15 4/15 1/5", correct="1 1 0", **more)
    for name in (LEAST_KL, LEAST_LOSS):
        assert_attained(VerifiableRewards, name, world)
    moved = exact_world(log_ref="1/3 1/6 1/2", log_p="7/15 1/3 1/5", correct="1 1 0", **more)
    verdicts = {v.claim: v for v in assert_holds(VerifiableRewards, moved)}
    assert verdicts[LEAST_KL].margin > 0 and verdicts[LEAST_LOSS].margin > 0


def two_right(s, p):
    """ref = (1/4, 1/4, 1/2), the first two correct; p has success p, shared s : 1 - s."""
    half = F(1, 2)
    rest = dict(log_inside=[F(1, 3)] * 3, ref_success=[half], drive=[half], attempts=[2])
    return dict(
        log_ref=[half / 2, half / 2, half], log_p=[p * s, p * (1 - s), 1 - p], correct=[1, 1, 0],
        beta=[1], lift=[half], **rest,
    )  # fmt: skip


@pytest.mark.certified
@pytest.mark.parametrize("name", [LEAST_KL, LEAST_LOSS])
def test_on_a_box(name, evidence):
    """Away from s = 1/2, where p_A = ref_A attains the least values."""
    box = Box({"s": (F(1, 10), F(2, 5)), "p": (F(1, 4), F(9, 10))}, two_right)
    found = certify_box(VerifiableRewards, name, box)
    assert found.status is Status.HOLDS and found.smallest > 0
    evidence(f"ref = (1/4, 1/4, 1/2), p = (ps, p(1-s), 1-p), {box}: {found}")


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(VerifiableRewards, LEAST_KL, LEAST_LOSS, PASS_AT_K):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("name", [LEAST_KL, LEAST_LOSS, PASS_AT_K])
def test_one_percent_tighter_is_refuted(name):
    assert_tightened_fails(VerifiableRewards, name, 1.01)


# --- the razor --------------------------------------------------------------------------------

REF, CORRECT = np.array([0.5, 0.25, 0.25]), np.array([1.0, 1.0, 0.0])


@pytest.mark.certified
def test_search_refutes_that_policy_gradient_moves_least(evidence, capsys):
    witness = smallest_witness(VerifiableRewards, RAZOR)
    assert witness is not None and len(witness.values["log_inside"]) == 2
    used = {k: v for k, v in witness.values.items() if k in ("log_inside", "ref_success", "drive")}
    shown = type(witness)(used)
    evidence(f"policy gradient moves farther than the least KL at {shown}")
    with capsys.disabled():
        print(f"\nsmallest witness, policy gradient does not move least: {shown}")


@pytest.mark.attacked
def test_attack_refutes_it(evidence):
    assert attack(VerifiableRewards, RAZOR, responses=3, first_violation=True).violation
    evidence("attack finds a path that moves farther, three correct responses")


@pytest.mark.certified
def test_the_world_of_the_page(evidence):
    """ref = (1/2, 1/4, 1/4), tau = 23/3, sigma = 20/3: p = (96, 32, 9)/137."""
    ref = [F(1, 2), F(1, 4), F(1, 4)]
    tau, sigma = F(23, 3), F(20, 3)
    shifts = [sigma - tau, sigma - tau, sigma]
    assert np.prod([1 + q * x for q, x in zip(ref, shifts, strict=True)]) == 1
    weights = [1 / (1 / q + x) for q, x in zip(ref, shifts, strict=True)]
    policy = [x / sum(weights) for x in weights]
    assert policy == [F(96, 137), F(32, 137), F(9, 137)]
    more = dict(ELSEWHERE, log_inside="2/3 1/3")
    world = exact_world(log_ref="1/4 3/4", log_p="1/2 1/2", correct="0 1", **more)
    (verdict,) = [v for v in certify(VerifiableRewards, world) if v.claim == RAZOR]
    assert verdict.status is Status.REFUTED
    assert (verdict.lhs, verdict.rhs) == (
        pytest.approx(0.1328, abs=1e-4),
        pytest.approx(0.1175, abs=1e-4),
    )
    evidence(f"ref = (1/2, 1/4, 1/4): KL {verdict.lhs:.4f} against the least, {verdict.rhs:.4f}")


def run_until(success, natural):
    """Gradient flow of J in the logits from ref, stopped where p(A) = success; the last policy."""

    def policy(theta):
        weights = np.exp(theta - theta.max())
        return weights / weights.sum()

    def velocity(_, theta):
        p = policy(theta)
        advantage = CORRECT - p @ CORRECT
        return advantage if natural else p * advantage

    def reached(_, theta):
        return policy(theta) @ CORRECT - success

    reached.terminal = True
    run = solve_ivp(
        velocity, (0.0, 1e4), np.log(REF), events=reached, rtol=1e-11, atol=1e-13, method="DOP853"
    )
    assert run.status == 1
    return policy(run.y_events[0][0])


@pytest.mark.sampled
def test_flows_run_to_the_same_success(evidence):
    """Policy gradient ends at (96, 32, 9)/137; natural gradient has unchanged conditional laws."""
    success = 128 / 137
    plain, natural = run_until(success, False), run_until(success, True)
    np.testing.assert_allclose(plain, np.array([96, 32, 9]) / 137, rtol=1e-7)
    np.testing.assert_allclose(natural[:2] / natural[:2].sum(), [2 / 3, 1 / 3], rtol=1e-9)
    least = float(bernoulli_kl(floats_of(plain), np.array([success]), np.array([0.75]))[0])
    moved = [float(bounds.kl_divergence(np.log(p), np.log(REF))) for p in (plain, natural)]
    assert moved[1] == pytest.approx(least, rel=1e-7)
    assert_in_all(np.array(moved) > np.array([1.1, 0.999]) * least, LEAST_KL)
    evidence(
        f"flows to success {success:.4f}: KL {moved[0]:.4f} plain, {moved[1]:.4f} natural = least"
    )


@pytest.mark.sampled
def test_natural_gradient_is_not_refuted_by_the_same_comparison():
    """The comparison that refutes policy gradient passes on the tilt, whatever the conditional law."""
    rng = np.random.default_rng(0)
    law = rng.dirichlet(np.ones(4), size=300)
    correct = np.tile([1.0, 1.0, 1.0, 0.0], (300, 1))
    tilt = bounds.gibbs_tilt(np.log(law), correct, 10.0 ** rng.uniform(-0.5, 1, 300))
    a, c = law[:, :3].sum(-1), np.exp(tilt)[:, :3].sum(-1)
    moved = bounds.kl_divergence(tilt, np.log(law))
    least = c * np.log(c / a) + (1 - c) * np.log((1 - c) / (1 - a))
    assert_in_all(np.isclose(moved, least, rtol=1e-9, atol=1e-14), "the tilt moves least")


# --- the checks can fail ----------------------------------------------------------------------


@pytest.mark.parametrize("dropped", [0, 1])
def test_both_conditional_divergences_are_needed(dropped):
    """The chain rule without what p moves inside A, or outside it."""

    class Shorter(VerifiableRewards):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in VerifiableRewards.claims(xp, w) if c.name == "chain rule"]
            event = ~xp.positive(w.correct) if dropped else xp.positive(w.correct)
            laws = (log_given(xp, law, event) for law in (w.log_p, w.log_ref))
            mass = right_and_wrong(xp, w.log_p, w.correct)[dropped]
            yield Claim("chain rule", true.lhs, "==", true.rhs - mass * kl_divergence(xp, *laws))

    assert smallest_witness(Shorter, "chain rule") is not None


def test_a_shift_by_another_amount_is_refuted():
    class Longer(VerifiableRewards):
        @staticmethod
        def claims(xp, w):
            (true,) = [
                c for c in VerifiableRewards.claims(xp, w) if c.name == "the logit of success"
            ]
            yield Claim("shift", true.lhs, "==", true.rhs + 1 / (100 * w.beta))

    assert smallest_witness(Longer, "shift") is not None


def test_the_least_loss_uses_the_data_law_first():
    """kl(c, a) in place of kl(a, c) is no price: it can exceed what p pays."""

    class Swapped(VerifiableRewards):
        @staticmethod
        def claims(xp, w):
            found = {c.name: c for c in VerifiableRewards.claims(xp, w)}
            yield Claim(LEAST_LOSS, found[LEAST_LOSS].lhs, ">=", found[LEAST_KL].rhs)

    assert smallest_witness(Swapped, LEAST_LOSS) is not None
