"""T9, weighted SFT: gradients and optima derived, trainings run to their end, wrong ends refuted."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from scipy.integrate import solve_ivp

from nondecoupling import bounds
from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.formulas.schedules import sharpened
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t9_weighted_sft import WeightedSft
from proofs.checks import (
    assert_attained,
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import logarithm_below_tangent
from proofs.symbolic import assert_identity, assert_zero, normal_form

pytestmark = pytest.mark.statement("T9")


def fixed(**values):
    """The statement with some of its ingredients given."""

    class Fixed(WeightedSft):
        @staticmethod
        def claims(xp, w):
            given_values = {k: xp.array(list(v)) for k, v in values.items()}
            yield from WeightedSft.claims(xp, type(w)({**w, **given_values}))

    return Fixed


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_the_gradient_is_that_of_a_power(responses, evidence):
    """-E_d[stopgrad(p^a) log p] against -sum d p^a/a, differentiated in the logits, for every a."""
    theta = sp.symbols(f"theta1:{responses + 1}", real=True)
    d = sp.symbols(f"d1:{responses + 1}", positive=True)
    a = sp.Symbol("a", real=True, nonzero=True)
    held = sp.symbols(f"p1:{responses + 1}", positive=True)
    total = sum(map(sp.exp, theta))
    p = [sp.exp(t) / total for t in theta]
    sft = -sum(x * h**a * sp.log(y) for x, h, y in zip(d, held, p, strict=True))
    power = -sum(x * y**a for x, y in zip(d, p, strict=True)) / a
    for t in theta:
        trained = sp.diff(sft, t).subs(dict(zip(held, p, strict=True)))
        assert_zero(trained - sp.diff(power, t))
    evidence(
        f"the gradient is that of -E_d p^a/a, n = {responses}; for a = 1 policy gradient on E_p d"
    )


@pytest.mark.symbolic
def test_what_every_policy_misses(evidence):
    """Term by term for any power; sympy checks the sum for a = 1/2, and the sign of each term."""
    d, z, p, a, x = sp.symbols("d Z p a x", positive=True)
    best = d ** (1 / (1 - a)) / z
    termwise = sp.log(d * p**a) - sp.log(z ** (1 - a) * best * (p / best) ** a)
    assert sp.simplify(sp.expand_log(termwise, force=True)) == 0
    evidence(assert_identity(fixed(reward=[0, 1], sharpness=[2]), "what every policy misses", 2))
    # (1 + a (x - 1) - x^a)/a vanishes with its slope at 1 and is convex for a < 1
    room = (1 + a * (x - 1) - x**a) / a
    assert room.subs(x, 1) == 0 and sp.diff(room, x).subs(x, 1) == 0
    assert sp.simplify(sp.diff(room, x, 2) - (1 - a) * x ** (a - 2)) == 0
    evidence(f"each term is nonnegative for a < 1; {logarithm_below_tangent()} is a -> 0")


@pytest.mark.symbolic
def test_the_cost_is_the_coupling_gap_of_log_d(evidence):
    """q free: the cost, and S2's gap for the reward log d at the time q - 1."""
    for responses in (2, 3):
        evidence(assert_identity(fixed(reward=range(responses)), "its cost", responses))
    xp = sympy_numbers()
    log_d = xp.log(xp.array(sp.symbols("d1:4", positive=True)))
    q = xp.array([sp.Symbol("q", positive=True)])
    tilted = log_d + (q - 1) * log_d
    tilted = tilted - xp.log(xp.sum(xp.exp(tilted)))
    for x, y in zip(tilted, sharpened(xp, log_d, q), strict=True):
        assert normal_form(x - y) == 0
    evidence("the optimum is the tilt of d by log d at time q - 1")


@pytest.mark.symbolic
@pytest.mark.parametrize(
    "claim",
    [
        "the optimum is stationary",
        "frontier weights end at beta d/(mu - r)",
        "which pays the price",
        "exponential weights end at the tilt",
        "filtered SFT with replay is a tilt",
    ],
)
def test_derivation(claim, evidence):
    evidence(assert_identity(fixed(reward=[0, 1], sharpness=[2]), claim, 2))


@pytest.mark.sampled
@given(worlds(WeightedSft, max_responses=3))
def test_drawn_worlds(world):
    assert_holds(WeightedSft, world)


A_WORLD = dict(log_law="1/2 1/2", reward="0 1", beta="1", room="1", share="1/3")


@pytest.mark.certified
def test_equality_at_the_optimum():
    """a = 1/2 squares the data law: (1/3, 2/3) becomes (1/5, 4/5)."""
    world = exact_world(log_d="1/3 2/3", log_p="1/5 4/5", sharpness="2", **A_WORLD)
    assert_attained(WeightedSft, "the only optimum", world)


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(WeightedSft, "the only optimum")
    assert result.tightness > 0.99
    evidence(tightness_line(result))


def test_the_check_can_fail():
    assert_tightened_fails(WeightedSft, "the only optimum", 1.01)

    class Wrong(WeightedSft):
        """The data law itself as the end, as if the weight did not matter."""

        @staticmethod
        def claims(xp, w):
            best = sharpened(xp, w.log_d, w.sharpness)
            cost = kl_by_definition(xp, w.log_d, best)
            yield Claim("costs nothing", cost, "<=", xp.full_like(cost, 0.0))

    assert_needs(Wrong, "conditions", "costs nothing")


def trained(d, power, start, until=1e9):
    """SFT with the weight p^a on the logits, by a stiff solver, to the end."""
    d = np.array(d)

    def step(_, theta):
        p = np.exp(theta - np.logaddexp.reduce(theta))
        force = d * p**power
        return force - p * force.sum()

    run = solve_ivp(step, (0, until), np.log(start), method="LSODA", rtol=1e-10, atol=1e-12)
    end = run.y[:, -1]
    return np.exp(end - np.logaddexp.reduce(end))


@pytest.mark.parametrize("power", [-2.0, -0.5, 0.25, 0.5, 0.8])
def test_training_ends_at_the_optimum(power, evidence):
    rng = np.random.default_rng(0)
    for _ in range(5):
        d, start = rng.dirichlet(np.ones(3), size=2)
        end = trained(d, power, start)
        best = np.exp(bounds.weighted_sft_optimum(np.log(d), power))
        assert end == pytest.approx(best, abs=1e-6)
    evidence(f"training with the weight p^a, a = {power}, ends at the optimum from five starts")


def test_from_a_power_of_one_on_there_is_a_winner(evidence):
    """a = 1 ends at the mode. a = 2 ends where the start decides: here at the wrong response."""
    assert trained([0.6, 0.4], 1.0, [0.05, 0.95])[0] > 0.999
    assert trained([0.6, 0.4], 2.0, [0.5, 0.5])[0] > 0.999
    assert trained([0.6, 0.4], 2.0, [0.3, 0.7])[1] > 0.999
    evidence(
        "a = 2, d = (.6, .4): the start (.5, .5) ends at the mode, (.3, .7) at the other response"
    )


def test_weights_of_responses_train_to_the_frontier_and_to_the_tilt(evidence):
    d, reward, beta = np.array([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0]), 0.7
    weights = {
        "beta/(mu - r)": bounds.frontier_weights(np.log(d), reward, beta),
        "e^{r/beta}": np.exp(reward / beta),
    }
    paid = {}
    for name, weight in weights.items():
        end = np.log(trained(d * weight / (d @ weight), 0.0, [1 / 3] * 3))
        price = bounds.price_of_reward(np.log(d), reward, bounds.expected_reward(end, reward))
        paid[name] = float(bounds.kl_divergence(np.log(d), end) / price)
    assert paid["beta/(mu - r)"] == pytest.approx(1, abs=1e-7)
    assert paid["e^{r/beta}"] > 1.01
    evidence(f"paid over price: frontier weights 1, exponential weights {paid['e^{r/beta}']:.4f}")


def test_the_success_of_filtered_data():
    """Success c needs the share v = (c - a)/(1 - a); half of it does not suffice."""
    d, solved, target = np.array([0.8, 0.15, 0.05]), np.array([0.0, 1.0, 1.0]), 0.6
    a = d @ solved
    share = (target - a) / (1 - a)
    mixed = (1 - share) * d + share * d * solved / a
    assert mixed @ solved == pytest.approx(target, rel=1e-14)
    beta = 1 / (np.log(target / (1 - target)) - np.log(a / (1 - a)))
    tilt = np.exp(bounds.gibbs_tilt(np.log(d), solved, beta))
    assert mixed == pytest.approx(tilt, rel=1e-13)
    assert abs(((1 - share / 2) * a + share / 2) - target) > 0.1
