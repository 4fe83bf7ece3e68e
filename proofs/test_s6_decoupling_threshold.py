"""S6, non-decoupling threshold: derivations, drawn worlds, tight radius, and the check can fail."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s6_decoupling_threshold import DecouplingThreshold
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import best_time_for_hoeffding, hoeffding_by_curvature, tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin, assert_zero

pytestmark = pytest.mark.statement("S6")
PINSKER, EXACT = "Pinsker radius", "exact radius"
AFTER_ZERO, BEFORE_END = "the root lies after 0", "the root lies before 1/beta"
SMALLER = "Pinsker's is the smaller radius"
CONVEX_AFTER, CONVEX_BEFORE = "convex after the stop", "convex before the stop"
CLAIMS = [PINSKER, EXACT, AFTER_ZERO, BEFORE_END, SMALLER, CONVEX_AFTER, CONVEX_BEFORE]


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
@pytest.mark.parametrize(
    "name",
    [
        "threshold form",
        "sign of the change",
        "the exact radius is attained",
        "change at an early stop",
    ],
)
def test_identities(name, responses, evidence):
    evidence(assert_identity(DecouplingThreshold, name, responses))


def rl_optimum(xp, w):
    return gibbs_tilt(xp, w.log_ref, w.reward, w.beta)


def stop(xp, w):
    return gibbs_tilt(xp, w.log_ref, w.reward, 1 / w.time)


def later(xp, w):
    return gibbs_tilt(xp, w.log_ref, w.reward, 1 / (w.time + w.longer))


ROOMS = {
    EXACT: (lambda xp, w: kl_divergence(xp, w.log_d, stop(xp, w)), "KL(d||tilt_t)"),
    AFTER_ZERO: (
        lambda xp, w: w.beta * kl_divergence(xp, w.log_ref, rl_optimum(xp, w)),
        "beta KL(ref||tilt)",
    ),
    BEFORE_END: (
        lambda xp, w: w.beta * kl_divergence(xp, rl_optimum(xp, w), w.log_ref),
        "beta KL(tilt||ref)",
    ),
    CONVEX_AFTER: (
        lambda xp, w: kl_divergence(xp, stop(xp, w), later(xp, w)),
        "KL(tilt_t||tilt_{t+h})",
    ),
    CONVEX_BEFORE: (
        lambda xp, w: kl_divergence(xp, later(xp, w), stop(xp, w)),
        "KL(tilt_{t+h}||tilt_t)",
    ),
}


@pytest.mark.symbolic
@pytest.mark.parametrize("claim", ROOMS)
def test_inequalities_reduce_to_divergences(claim, evidence):
    room, what = ROOMS[claim]
    evidence(assert_margin(DecouplingThreshold, claim, 2, room, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.symbolic
def test_pinsker_from_the_exact_radius(evidence):
    """log Z_t - t E_ref r <= t^2 R^2/8, put into the exact radius at the best and at one time."""
    evidence(hoeffding_by_curvature())
    # t beta DeltaL + eps >= t beta KL(ref||tilt) - t^2 R^2/8 for every t: divide by t beta.
    evidence(f"{PINSKER} by {best_time_for_hoeffding()}")
    gain, spread = sp.symbols("gain R", positive=True)  # gain = beta KL(ref||tilt)
    t = 4 * gain / spread**2
    assert_zero(t * gain - t**2 * spread**2 / 8 - 2 * (gain / spread) ** 2, claim=SMALLER)
    evidence(f"{SMALLER} by the time t = 4 beta KL(ref||tilt)/R^2")


@pytest.mark.sampled
@given(worlds(DecouplingThreshold))
def test_drawn_worlds(world):
    assert_holds(DecouplingThreshold, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", CLAIMS)
def test_equality_at_constant_rewards_only(claim):
    law = dict(log_d="1/3 2/3", log_ref="1/3 2/3", beta="1/2", time="1", longer="1")
    assert_attained(DecouplingThreshold, claim, exact_world(**law, reward="5 5"))
    near = exact_world(**law, reward="0 1/1000000")
    assert all(v.margin > 0 for v in assert_holds(DecouplingThreshold, near) if v.claim == claim)


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(DecouplingThreshold, *CLAIMS, responses=2):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(DecouplingThreshold, claim, 1.01)


def random_refs(worlds_):
    rng = np.random.default_rng(0)
    log_ref = np.log(rng.dirichlet(np.ones(4), size=worlds_))
    return log_ref, rng.standard_normal((worlds_, 4)), 10 ** rng.uniform(-1, 2, size=worlds_)


@pytest.mark.sampled
def test_solved_threshold_is_where_the_sign_changes():
    """At the solver's radius a data law exists whose loss does not change; a bit farther it falls."""
    log_ref, reward, beta = random_refs(500)
    pinsker, exact = bounds.decoupling_threshold(log_ref, reward, beta)
    assert_in_all(pinsker <= exact, SMALLER)
    for farther, sign in ((0.99, 1), (1.01, -1)):
        # The best data law at a KL distance is the extreme of J in that ball (R4).
        _, rise = bounds.reward_change_extremes(log_ref, reward, farther * exact)
        start = bounds.expected_reward(log_ref, reward)
        change = bounds.log_partition(log_ref, reward, beta) - (start + rise) / beta
        assert_in_all(sign * change > 0, "the sign changes at the exact radius")


@pytest.mark.sampled
def test_solved_early_stop_beats_every_other_time():
    log_ref, reward, _ = random_refs(300)
    log_d = np.roll(log_ref, 7, axis=0)
    time, change = bounds.best_early_stop(log_d, log_ref, reward)
    helped = bounds.expected_reward(log_d, reward) > bounds.expected_reward(log_ref, reward)
    assert (time[~helped] == 0).all() and (change[~helped] == 0).all()
    assert (time[helped] > 0).all() and (change[helped] < 0).all()
    log_d, log_ref, reward = log_d[helped], log_ref[helped], reward[helped]
    time, change = time[helped], change[helped]
    at_stop = bounds.sft_loss_increase(log_d, log_ref, reward, 1 / time)
    np.testing.assert_allclose(at_stop, change, rtol=1e-9, atol=1e-15)
    for factor in (0.5, 0.99, 1.01, 2.0, 10.0):
        other = bounds.sft_loss_increase(log_d, log_ref, reward, 1 / (factor * time))
        assert_in_all(other > change, "no other time is better than the early stop")


def test_far_from_sft_optimality_rl_helps(evidence):
    """Beyond the radius "RL raises the SFT loss" is false: eps cannot be left out of the bound."""

    class WithoutEps(DecouplingThreshold):
        @staticmethod
        def claims(xp, w):
            (true,) = [c for c in DecouplingThreshold.claims(xp, w) if c.name == EXACT]
            eps = kl_divergence(xp, w.log_d, w.log_ref)
            yield type(true)(EXACT, true.lhs - eps, ">=", true.rhs)

    witness = smallest_witness(WithoutEps, EXACT)
    assert witness is not None
    evidence(f"false without eps: {witness}")


def test_where_no_stop_is_best_the_change_is_that_of_all_time():
    """Data on the best responses only: the longer RL the better, and in the limit the loss falls by -log ref(best)."""
    log_d = np.array([-np.inf, np.log(0.4), np.log(0.6)])
    log_ref, reward = np.log([0.2, 0.3, 0.5]), np.array([0.0, 1.0, 1.0])
    time, change = bounds.best_early_stop(log_d, log_ref, reward)
    assert time == np.inf and change == pytest.approx(np.log(0.8))
    late = bounds.sft_loss_increase(log_d, log_ref, reward, 1e-3)
    assert change == pytest.approx(float(late))
