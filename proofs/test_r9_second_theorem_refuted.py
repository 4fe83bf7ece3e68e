"""R9, the reported second theorem refuted: every witness is found by search, the true forms hold."""

from collections.abc import Iterator
from fractions import Fraction as F

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.deciding.boxes import Box, certify_box
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import jeffreys_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim, StatementType
from nondecoupling.theory.theorems.r9_second_theorem_refuted import SecondTheoremRefuted
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin, assert_zero

pytestmark = pytest.mark.statement("R9")
LOSES, NEVER_GAINS = "SFT loses raw reward", "SFT never gains raw reward"
OPTIMUM, TRUE_FORM = "p_RL is an exact RL optimum", "the regularised reward falls by beta KL"
LONGER = "a longer run gains raw reward"
STEPS = dict(beta="1", longer="1")


def where(*more) -> StatementType:
    """R9 restricted to worlds that satisfy more conditions."""

    def conditions(xp, w) -> Iterator[Claim]:
        yield from SecondTheoremRefuted.conditions(xp, w)
        yield from (condition(xp, w) for condition in more)

    return type("Restricted", (SecondTheoremRefuted,), {"conditions": staticmethod(conditions)})


def the_reward_varies(xp, w) -> Claim:
    spread = xp.max(w.reward) - xp.min(w.reward)
    return Claim("the reward varies", spread, ">", xp.full_like(spread, 0.0))


# --- the refutation ---------------------------------------------------------------------------


@pytest.mark.certified
@pytest.mark.parametrize(
    ("claim", "statement", "responses", "levels", "what"),
    [
        (LOSES, SecondTheoremRefuted, 2, 1, "a constant reward"),
        (LOSES, where(the_reward_varies), 2, 2, "any reward that varies"),
        (NEVER_GAINS, SecondTheoremRefuted, 2, 2, "the reward rises"),
    ],
)
def test_search_finds_the_smallest_witness(
    claim, statement, responses, levels, what, evidence, capsys
):
    witness = smallest_witness(statement, claim)
    assert witness is not None
    assert len(witness.values["reward"]) == responses
    assert len(set(witness.values["reward"])) == levels
    (verdict,) = [v for v in certify(SecondTheoremRefuted, witness) if v.claim == claim]
    assert verdict.status is not Status.HOLDS
    evidence(f"{what}: {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness, {what}: {witness}")


@pytest.mark.certified
def test_search_finds_mass_moved_inside_a_level_set(evidence, capsys):
    """Two reward levels, a reward that stays, and a policy that moves: three responses are needed."""

    def two_levels(xp, w) -> Claim:
        between = xp.sum((w.reward - xp.min(w.reward)) * (xp.max(w.reward) - w.reward))
        return Claim(
            "rewards, which are whole here, take two levels", 1 - between, ">", 0 * between
        )

    class Moves(where(the_reward_varies, two_levels)):
        @staticmethod
        def claims(xp, w):
            (loses,) = [c for c in SecondTheoremRefuted.claims(xp, w) if c.name == LOSES]
            moved = xp.abs(loses.lhs - loses.rhs)
            yield Claim("the reward moves", moved, ">", 0 * moved, refuted=True)

    assert smallest_witness(Moves, "the reward moves", max_responses=2) is None
    witness = smallest_witness(Moves, "the reward moves", max_denominator=4)
    assert witness is not None and len(set(witness.values["reward"])) == 2
    (verdict,) = [v for v in certify(SecondTheoremRefuted, witness) if v.claim == LOSES]
    assert verdict.status is not Status.HOLDS
    evidence(f"inside a level set: {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness inside a level set: {witness}")


@pytest.mark.certified
@pytest.mark.parametrize(
    ("sft", "rl", "reward", "gain"),
    [
        ("3/4 1/4", "1/2 1/2", "0 0", F(0)),
        ("1/4 3/4", "1/2 1/2", "0 1", F(1, 4)),
        ("1/2 1/4 1/4", "1/4 1/2 1/4", "0 0 1", F(0)),
    ],
)
def test_the_worlds_of_the_page(sft, rl, reward, gain):
    world = exact_world(log_sft=sft, log_rl=rl, reward=reward, **STEPS)
    verdicts = {v.claim: v for v in certify(SecondTheoremRefuted, world)}
    assert verdicts[OPTIMUM].status is verdicts[TRUE_FORM].status is Status.HOLDS
    assert verdicts[NEVER_GAINS].margin == pytest.approx(-gain, abs=1e-30)
    assert (verdicts[NEVER_GAINS].status is Status.REFUTED) == (gain > 0)


def test_the_rise_with_the_reference_of_the_page():
    """ref = (3/4, 1/4), r = (0, 1), e^{1/beta} = 3: the tilt is (1/2, 1/2), and SFT to (1/4, 3/4) gains."""
    beta = 1 / np.log(3)
    tilt = bounds.gibbs_tilt(np.log([0.75, 0.25]), [0.0, 1.0], beta)
    np.testing.assert_allclose(np.exp(tilt), [0.5, 0.5], rtol=1e-14)
    rise = bounds.reward_drop(np.log([0.25, 0.75]), np.log([0.75, 0.25]), [0.0, 1.0], beta)
    assert rise == pytest.approx(-0.25, rel=1e-12)


@pytest.mark.attacked
@pytest.mark.parametrize("responses", [2, 3, 6])
def test_attack_refutes_it(responses, evidence):
    assert attack(
        SecondTheoremRefuted, NEVER_GAINS, responses=responses, first_violation=True
    ).violation
    evidence(f"attack raised the reward with n = {responses}")


@pytest.mark.sampled
def test_every_shell_below_the_best_response_holds_a_gain(evidence):
    """KL(p||p_RL) takes every value in (0, -log p_RL(argmax r)) along longer runs, and J rises."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        n = int(rng.integers(2, 6))
        log_rl, reward = np.log(rng.dirichlet(np.ones(n))), rng.standard_normal(n)
        radius = rng.uniform(0.01, 0.99) * -log_rl[reward.argmax()]
        low, high = -30.0, 60.0  # log2 of the added time
        for _ in range(50):
            middle = (low + high) / 2
            onwards = bounds.gibbs_tilt(log_rl, reward, 2.0**-middle)
            short = bounds.kl_divergence(onwards, log_rl) < radius
            low, high = (middle, high) if short else (low, middle)
        assert bounds.kl_divergence(onwards, log_rl) == pytest.approx(radius, rel=1e-6)
        gained = bounds.expected_reward(onwards, reward)
        assert_in_all(gained > bounds.expected_reward(log_rl, reward), LONGER)
    evidence("60 worlds: at a random radius below -log p_RL(argmax r) a longer run gains")


# --- what is true -----------------------------------------------------------------------------


@pytest.mark.symbolic
@pytest.mark.parametrize("claim", [OPTIMUM, TRUE_FORM])
@pytest.mark.parametrize("responses", [2, 3])
def test_identities(claim, responses, evidence):
    evidence(assert_identity(SecondTheoremRefuted, claim, responses))


@pytest.mark.symbolic
def test_a_longer_run_gains_a_divergence(evidence):
    def room(xp, w):
        onwards = gibbs_tilt(xp, w.log_rl, w.reward, 1 / w.longer)
        return jeffreys_divergence(xp, w.log_rl, onwards) / w.longer

    evidence(assert_margin(SecondTheoremRefuted, LONGER, 2, room, "Jeffreys/h"))
    evidence(f"nonnegative by {tangent_of_exp()}, zero iff the longer run is p_RL")


@pytest.mark.symbolic
def test_the_divergence_does_not_know_the_direction(evidence):
    """p_RL = (1/2, 1/2): p and its mirror image are equally far, and their rewards lie on both sides."""
    p = sp.Symbol("p", positive=True)
    half = sp.Rational(1, 2)
    kl = p * sp.log(p / half) + (1 - p) * sp.log((1 - p) / half)
    assert_zero(kl - kl.subs(p, 1 - p), (p - half) + ((1 - p) - half))
    evidence("n = 2: KL(p||p_RL) is even about p_RL = (1/2, 1/2), J(p) - J(p_RL) odd")


@pytest.mark.sampled
@given(worlds(SecondTheoremRefuted))
def test_drawn_worlds(world):
    assert_holds(SecondTheoremRefuted, world)


@pytest.mark.certified
def test_a_longer_run_gains_nothing_for_a_constant_reward():
    flat = exact_world(log_sft="1/3 2/3", log_rl="1/2 1/2", reward="5 5", **STEPS)
    assert_attained(SecondTheoremRefuted, LONGER, flat)


@pytest.mark.certified
def test_a_longer_run_gains_on_a_box(evidence):
    def world(p, g):
        return dict(
            log_sft=[F(1, 3), F(2, 3)], log_rl=[1 - p, p], reward=[0, g], beta=[1], longer=[1]
        )

    box = Box({"p": (F(1, 10), F(9, 10)), "g": (F(1, 10), F(3))}, world)
    found = certify_box(SecondTheoremRefuted, LONGER, box)
    assert found.status is Status.HOLDS and found.smallest > 0
    evidence(f"p_RL = (1-p, p), r = (0, g), {box}: {found}")


@pytest.mark.attacked
def test_no_longer_run_that_loses_is_found(evidence):
    (result,) = assert_survives(SecondTheoremRefuted, LONGER)
    evidence(tightness_line(result))


# --- the checks can fail ----------------------------------------------------------------------


def test_the_regularised_reward_is_what_falls():
    """With J in place of J_b the true form fails."""

    class RawReward(SecondTheoremRefuted):
        @staticmethod
        def claims(xp, w):
            found = {c.name: c for c in SecondTheoremRefuted.claims(xp, w)}
            fall = found[NEVER_GAINS].lhs - found[NEVER_GAINS].rhs
            yield Claim(TRUE_FORM, fall, "==", found[TRUE_FORM].rhs)

    assert smallest_witness(RawReward, TRUE_FORM) is not None


def test_a_longer_run_does_not_lose():
    class Loses(SecondTheoremRefuted):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in SecondTheoremRefuted.claims(xp, w) if c.name == LONGER]
            yield Claim(LONGER, true.lhs, "<=", true.rhs)

    assert smallest_witness(Loses, LONGER) is not None


def test_the_search_comes_back_empty_where_sft_does_lose():
    """With J(p_SFT) < J(p_RL) as a condition, R6's criterion, no counterexample is found."""

    def loses(xp, w):
        (claim,) = [c for c in SecondTheoremRefuted.claims(xp, w) if c.name == LOSES]
        return claim

    assert smallest_witness(where(loses), NEVER_GAINS, max_responses=2, max_denominator=4) is None
