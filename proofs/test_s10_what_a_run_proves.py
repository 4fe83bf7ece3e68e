"""S10, what a run's logs prove: derivation, drawn worlds, a real run, box, and the check can fail."""

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
from nondecoupling.formulas.laws import cross_entropy, kl_divergence
from nondecoupling.formulas.sft_then_rl import coupling_from_run
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.s10_what_a_run_proves import WhatARunProves, logged
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin, assert_zero

pytestmark = pytest.mark.statement("S10")
IDENTITY, BOUND = "what the logs leave out", "a checkpoint bounds the optimum"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(WhatARunProves, IDENTITY, responses))


@pytest.mark.symbolic
def test_the_room_is_a_divergence(evidence):
    def room(xp, w):
        return kl_divergence(xp, w.log_p, gibbs_tilt(xp, w.log_ref, w.reward, w.beta))

    evidence(assert_margin(WhatARunProves, BOUND, 2, room, "KL(p||tilt)"))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.symbolic
def test_a_checkpoint_is_affine_and_the_curve_convex_in_time(evidence):
    s, gain, kl = sp.symbols("s gain KL", positive=True)
    assert sp.diff(coupling_from_run(sympy_numbers(), gain, kl, 1 / s), s, 2) == 0
    ref = sp.Symbol("p", positive=True)
    r = sp.Symbol("r", real=True)
    cumulants = sp.log(1 - ref + ref * sp.exp(s * r))  # DeltaL(tilt_s) less an affine function of s
    tilted = ref * sp.exp(s * r) / (1 - ref + ref * sp.exp(s * r))
    assert_zero(sp.diff(cumulants, s, 2) - r**2 * tilted * (1 - tilted), claim="convex in time")
    evidence("affine in s; the curve's second derivative is a variance (n = 2)")


@pytest.mark.sampled
@given(worlds(WhatARunProves))
def test_drawn_worlds(world):
    assert_holds(WhatARunProves, world)


@pytest.mark.sampled
def test_every_checkpoint_of_a_run_and_the_best_of_them(evidence):
    """Policy gradient without a leash: the upper envelope of its checkpoints' lines, and no line is above."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(20):
        logits, reward = rng.standard_normal((2, 5))
        log_ref = logits - np.logaddexp.reduce(logits)
        log_d = np.log(rng.dirichlet(np.ones(5)))
        theta, gains, kls = log_ref.copy(), [], []
        for _ in range(60):
            theta = theta + 0.3 * bounds.reward_gradient(theta, reward)
            theta = theta - np.logaddexp.reduce(theta)
            gains.append(
                bounds.expected_reward(theta, reward) - bounds.expected_reward(log_d, reward)
            )
            kls.append(bounds.kl_divergence(theta, log_ref))
        beta = 10.0 ** np.linspace(-1.5, 1.5, 31)
        lines = bounds.coupling_from_run(np.array(gains)[:, None], np.array(kls)[:, None], beta)
        curve = [float(bounds.sft_loss_increase(log_d, log_ref, reward, b)) for b in beta]
        room = np.array(curve) - lines.max(axis=0)
        assert_in_all(room > -1e-12, BOUND)
        worst = max(worst, float(np.min(room / (1 + np.abs(curve)))))
    evidence(f"20 runs of 60 checkpoints, 31 betas: a run's best line came within {worst:.1e}")


@pytest.mark.sampled
def test_the_tilt_attains_it():
    rng = np.random.default_rng(1)
    log_ref, log_d = np.log(rng.dirichlet(np.ones(4), size=(2, 200)))
    reward, beta = rng.standard_normal((200, 4)), 10 ** rng.uniform(-1, 1, 200)
    tilt = bounds.gibbs_tilt(log_ref, reward, beta)
    gain = bounds.expected_reward(tilt, reward) - bounds.expected_reward(log_d, reward)
    proved = bounds.coupling_from_run(gain, bounds.kl_divergence(tilt, log_ref), beta)
    change = bounds.sft_loss_increase(log_d, log_ref, reward, beta)
    assert_in_all(np.isclose(proved, change, rtol=1e-9, atol=1e-11), "the tilt attains it")


def binary(a, p, g):
    """ref = (1 - a, a), d = ref, the run at (1 - p, p), r = (0, g)."""
    return dict(log_d=[1 - a, a], log_ref=[1 - a, a], log_p=[1 - p, p], reward=[0, g], beta=[1])


@pytest.mark.certified
def test_on_a_box(evidence):
    """p stays below ref's success, away from the tilt, which attains the bound."""
    box = Box({"a": (F(1, 2), F(9, 10)), "p": (F(1, 20), F(2, 5)), "g": (F(1, 10), F(3))}, binary)
    found = certify_box(WhatARunProves, BOUND, box)
    assert found.status is Status.HOLDS and found.smallest > 0
    evidence(f"ref = d = (1-a, a), p = (1-p, p), r = (0, g), {box}: {found}")


@pytest.mark.certified
def test_a_run_without_move_proves_nothing_and_loses_nothing():
    """p = d = ref and a constant reward: both sides zero."""
    flat = exact_world(
        log_d="1/3 2/3", log_p="1/3 2/3", log_ref="1/3 2/3", reward="5 5", beta="1/2"
    )
    assert_attained(WhatARunProves, BOUND, flat)


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(WhatARunProves, BOUND)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


# --- the check can fail -----------------------------------------------------------------------


class TokenMean(WhatARunProves):
    """The bound with the KL per token of responses of two tokens, as trainers log it."""

    @staticmethod
    def claims(xp, w):
        gain, kl = logged(xp, w)
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        change = cross_entropy(xp, w.log_d, tilt) - cross_entropy(xp, w.log_d, w.log_ref)
        yield Claim(BOUND, coupling_from_run(xp, gain, kl / 2, w.beta), "<=", change)


def test_a_token_mean_proves_nothing(evidence):
    """d = ref = (1/2, 1/2), r = (0, 1), beta = 1/2, p = (1/10, 9/10): 4/5 - KL/2 > DeltaL."""
    world = exact_world(
        log_d="1/2 1/2", log_ref="1/2 1/2", log_p="1/10 9/10", reward="0 1", beta="1/2"
    )
    (verdict,) = certify(TokenMean, world)
    assert verdict.status is Status.REFUTED
    assert attack(TokenMean, BOUND, responses=4, first_violation=True).violation
    witness = smallest_witness(TokenMean, BOUND)
    assert witness is not None
    evidence(f"false with the KL per token, two tokens a response: {witness}")


def test_gain_over_ref_instead_of_the_data_is_refuted():
    """The gain counts from the reward of the data; from ref's own it would prove too much."""

    class FromRef(WhatARunProves):
        @staticmethod
        def claims(xp, w):
            over_ref = type(w)({**w, "log_d": w.log_ref})
            gain, kl = logged(xp, over_ref)
            tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
            change = cross_entropy(xp, w.log_d, tilt) - cross_entropy(xp, w.log_d, w.log_ref)
            yield Claim(BOUND, coupling_from_run(xp, gain, kl, w.beta), "<=", change)

    assert smallest_witness(FromRef, BOUND) is not None


def test_one_percent_more_is_refuted():
    class OnePercentMore(WhatARunProves):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in WhatARunProves.claims(xp, w) if c.name == BOUND]
            gain, kl = logged(xp, w)
            yield Claim(BOUND, coupling_from_run(xp, 1.01 * gain, kl, w.beta), "<=", true.rhs)

    assert attack(OnePercentMore, BOUND, responses=2, first_violation=True).violation
