"""T11, noise and entropy bonus are temperatures: derivations, verdicts enumerated, roots, and what can fail."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.formulas.groups import GroupFactor, first_stationary_success
from nondecoupling.formulas.laws import entropy, expected_reward, kl_by_definition
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.trainers import entropy_bonus_optimum, k2, pull_in_loss, pull_of_reward
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t11_noise_and_entropy_are_temperatures import (
    NoiseAndEntropyAreTemperatures,
)
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.symbolic import assert_zero, normal_form, symbolic_world

pytestmark = pytest.mark.statement("T11")
BOUNDED, BEST = "noise bounds the factor of large groups", "no policy does better with the bonus"
XP = floats_of(np.zeros(1))


@pytest.mark.symbolic
def test_the_mean_verdict(evidence):
    """Given the response the mean verdict is f0 + (1 - f0 - f1) r: an affine function of the true reward."""
    f0, f1, r = sp.symbols("f0 f1 r")
    mean = r * (1 - f1) + (1 - r) * f0
    assert_zero(sp.expand(mean - (f0 + (1 - f0 - f1) * r)))
    c = sp.Symbol("c")
    accepted = f0 + (1 - f0 - f1) * c
    assert (
        sp.diff(accepted, c) == 1 - f0 - f1
    )  # so the gradient of the accepted share is that times grad c
    evidence("mean verdict f0 + (1-f0-f1) r; the constant f0 pulls nowhere")


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_the_bonus(n, evidence):
    """J - beta KL + alpha H = E_p(r - alpha log ref) - (alpha + beta) KL(p||ref), for free p, ref and r."""
    xp, w = sympy_numbers(), symbolic_world(NoiseAndEntropyAreTemperatures, n)
    objective = (
        expected_reward(xp, w.log_p, w.reward)
        - w.beta * kl_by_definition(xp, w.log_p, w.log_ref)
        + w.bonus * entropy(xp, w.log_p)
    )
    effective = expected_reward(xp, w.log_p, w.reward - w.bonus * w.log_ref)
    other = effective - (w.beta + w.bonus) * kl_by_definition(xp, w.log_p, w.log_ref)
    assert_zero(normal_form((objective - other).flat[0]))
    evidence(f"the bonus is F3 with r - alpha log ref at alpha + beta, n = {n}; the price is S2")


@pytest.mark.symbolic
def test_the_bound_of_large_groups(evidence):
    """x(1-x) on [f0, 1-f1] is at least its least end value: it is concave."""
    x, t, a, b = sp.symbols("x t a b", real=True)
    parabola = x * (1 - x)
    middle = parabola.subs(x, (1 - t) * a + t * b)
    chord = (1 - t) * parabola.subs(x, a) + t * parabola.subs(x, b)
    assert_zero(sp.expand(middle - chord - t * (1 - t) * (a - b) ** 2))
    evidence("x(1-x) - chord = t(1-t)(a-b)^2")


@pytest.mark.sampled
@given(worlds(NoiseAndEntropyAreTemperatures, max_responses=3))
def test_drawn_worlds(world):
    assert_holds(NoiseAndEntropyAreTemperatures, world)


def test_every_group_and_every_verdict(evidence):
    """Groups of 3 from three responses, each with both verdicts: 27 x 8 outcomes, nothing summed beforehand."""
    rng, worst = np.random.default_rng(9), 0.0
    correct = np.array([1, 0, 1])
    for _ in range(5):
        p, (f0, f1) = rng.dirichlet(np.ones(3)), rng.uniform(0, 0.4, size=2)
        direction = rng.normal(size=3)
        score = direction - p @ direction
        total = 0.0
        for group in product(range(3), repeat=3):
            for verdicts in product((0, 1), repeat=3):
                says = np.where(correct[list(group)] == 1, 1 - f1, f0)
                chance = np.prod(np.where(np.array(verdicts) == 1, says, 1 - says))
                spread = np.std(verdicts)
                advantage = (verdicts - np.mean(verdicts)) / spread if spread else np.zeros(3)
                total += p[list(group)].prod() * chance * (advantage @ score[list(group)]) / 3
        told, c = 1 - f0 - f1, p @ correct
        factor = bounds.group_advantage_factor(f0 + told * c, 3)
        worst = max(worst, abs(total - told * factor * (p * score) @ correct))
    assert worst < 1e-14
    evidence(f"216 outcomes of group and verdicts, 5 worlds: within {worst:.0e}")


def test_noise_leaves_large_groups_a_stationary_policy(evidence):
    """Far below the critical beta of clean verdicts a noisy verifier still has a root, and it is one."""
    worst, one = 0.0, np.ones((1, 1))
    for start, beta, f0, f1 in (
        (0.2, 0.3, 0.0, 0.05),
        (0.5, 0.5, 0.1, 0.01),
        (0.01, 0.1, 0.2, 0.2),
    ):
        assert beta < bounds.critical_beta(start)
        factor = GroupFactor(XP, None, "population", 0 * one, f0, f1)
        success, there = first_stationary_success(XP, factor, start * one, beta * one)
        told, c = 1 - f0 - f1, success.item()
        accepted = f0 + told * c
        x = np.log(start / (1 - start)) + told / np.sqrt(accepted * (1 - accepted)) / beta
        assert there.all()
        worst = max(worst, abs(1 / (1 + np.exp(-x)) / c - 1))
    assert worst < 1e-12
    evidence(f"G = inf with false negatives: roots below the critical beta, residual {worst:.0e}")


REST = dict(log_p="1/3 2/3", log_ref="1/2 1/2", direction="0 1", beta="1", success="1/2")


@pytest.mark.certified
def test_equality():
    """With a constant reward and a uniform ref the optimum is ref."""
    same = {**REST, "log_p": "1/2 1/2"}
    world = exact_world(**same, reward="1 1", bonus="2", wrong="1/2", told="1/2")
    assert_attained(NoiseAndEntropyAreTemperatures, BEST, world)


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(NoiseAndEntropyAreTemperatures, BOUNDED, BEST):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


# --- the checks can fail ----------------------------------------------------------------------


@pytest.mark.parametrize("claim", [BOUNDED, BEST])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(NoiseAndEntropyAreTemperatures, claim, 1.01)


def test_noise_that_is_ignored_is_refuted(evidence):
    """RL on noisy verdicts does not stop at the tilt of beta itself."""

    class Ignored(NoiseAndEntropyAreTemperatures):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            f0, f1 = (1 - w.told) * w.wrong, (1 - w.told) * (1 - w.wrong)
            pattern = np.arange(w.log_p.shape[-1]) % 2 == 0
            binary = xp.where(pattern, xp.full_like(w.log_p, 1), 0.0)
            tilt = gibbs_tilt(xp, w.log_ref, binary, w.beta)
            verdict = binary * (1 - f1) + (1 - binary) * f0
            pull = pull_of_reward(xp, tilt, verdict, w.direction)
            leash = w.beta * pull_in_loss(xp, k2, tilt, w.log_ref, w.direction)
            yield Claim("stops", pull, "==", leash)

    witness = smallest_witness(Ignored, "stops")
    assert witness is not None
    evidence(f"at beta instead of beta/(1-f0-f1) it is false: {witness}")


def test_a_bonus_that_keeps_ref_is_refuted():
    """ref e^{r/(alpha+beta)} without the power of ref is no optimum."""

    class WholeRef(NoiseAndEntropyAreTemperatures):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta + w.bonus)
            best = entropy_bonus_optimum(xp, w.log_ref, w.reward, w.beta, w.bonus)
            differ = xp.sum(w.direction * (best - tilt))
            yield Claim("tilt", differ, "==", xp.full_like(differ, 0))

    assert smallest_witness(WholeRef, "tilt") is not None
