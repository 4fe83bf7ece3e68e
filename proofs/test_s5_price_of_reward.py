"""S5, price of reward."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.formulas.laws import expected_reward
from nondecoupling.formulas.price import bernoulli_kl, frontier_ratio
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s5_price_of_reward import PriceOfReward
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import logarithm_below_tangent, tangent_of_exp
from proofs.symbolic import above_tangent, assert_identity, assert_margin, assert_zero

pytestmark = pytest.mark.statement("S5")
DUAL, BERNOULLI, PINSKER = "weak duality", "Bernoulli bound", "Pinsker bound"
LINE = "supporting line"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    evidence(assert_identity(PriceOfReward, "the frontier is attained", responses))


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_weak_duality(responses, evidence):
    """Both dual bounds have the room E_d[u - 1 - log u], u = (p/d) b with E_p b the same for all p."""

    def of_dual(xp, w):
        top, reached = xp.max(w.reward), expected_reward(xp, w.log_p, w.reward)
        mixed = (1 - w.slack) * (top - w.reward) / (top - reached) + w.slack
        return above_tangent(xp, w.log_d, w.log_p, mixed)

    def of_line(xp, w):
        ratio = frontier_ratio(xp, w.reward, w.rate, w.offset)
        return above_tangent(xp, w.log_d, w.log_p, ratio)

    what = "E_d[u - 1 - log u], u = (p/d)((1 - w)(M - r)/(M - J(p)) + w)"
    evidence(assert_margin(PriceOfReward, DUAL, responses, of_dual, what))
    what = "E_d[u - 1 - log u], u = (p/d)(t + nu (M - r))"
    evidence(assert_margin(PriceOfReward, LINE, responses, of_line, what))
    evidence(f"nonnegative by {logarithm_below_tangent()}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_bernoulli_and_pinsker(responses, evidence):
    """For u in [0, 1] split every law by u: KL(d||p) = kl(a, b) + two divergences of the parts."""
    xp = sympy_numbers()
    laws = [sp.symbols(f"{name}1:{responses}", positive=True) for name in "dp"]
    d, p = ([*free, 1 - sum(free)] for free in laws)
    u = sp.symbols(f"u1:{responses + 1}", positive=True)
    a, b = (sum(x * y for x, y in zip(law, u, strict=True)) for law in (d, p))

    def divergence(mass, other, share, total, other_total):
        here, there = mass * share / total, other * share / other_total
        return total * here * (sp.log(here) - sp.log(there))

    whole = sum(x * (sp.log(x) - sp.log(y)) for x, y in zip(d, p, strict=True))
    parts = sum(
        divergence(x, y, z, a, b) + divergence(x, y, 1 - z, 1 - a, 1 - b)
        for x, y, z in zip(d, p, u, strict=True)
    )
    binary = bernoulli_kl(xp, *(xp.array([x]) for x in (a, b))).flat[0]
    assert_zero(whole - binary - parts, claim=BERNOULLI)
    # kl(a, b) - 2 (a - b)^2 is zero at b = a, with slope (b - a)(1 - 2b)^2/(b (1 - b)) in b
    here, there = sp.symbols("a b", positive=True)
    room = bernoulli_kl(xp, xp.array([here]), xp.array([there])).flat[0] - 2 * (here - there) ** 2
    slope = (there - here) * (1 - 2 * there) ** 2 / (there * (1 - there))
    assert_zero(room.subs(there, here), sp.diff(room, there) - slope, claim=PINSKER)
    evidence(f"Bernoulli: KL(d||p) - kl is a mean of two KLs, n = {responses}; {tangent_of_exp()}")
    evidence("Pinsker: kl(a, b) - 2 (a - b)^2 falls to 0 at b = a and rises after it")


@pytest.mark.sampled
@given(worlds(PriceOfReward))
def test_drawn_worlds(world):
    assert_holds(PriceOfReward, world)


@pytest.mark.certified
def test_weak_duality_is_attained_on_the_frontier():
    """d = (1/2, 1/2), r = (0, 1), p = (1/4, 3/4): c = 3/4, l = 1/3, nu = 4/3, t = 2/3 by hand."""
    world = exact_world(
        log_d="1/2 1/2", log_p="1/4 3/4", reward="0 1", slack="2/3", rate="4/3", offset="2/3"
    )
    assert_attained(PriceOfReward, LINE, world)
    assert_attained(PriceOfReward, DUAL, world)


@pytest.mark.certified
def test_bernoulli_bound_is_attained_by_two_reward_levels():
    world = exact_world(
        log_d="1/2 1/4 1/4", log_p="1/4 1/4 1/2", reward="0 0 1", slack="1/3", rate="1", offset="1"
    )
    assert_attained(PriceOfReward, BERNOULLI, world)


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(PriceOfReward, DUAL, LINE, BERNOULLI, PINSKER):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [DUAL, LINE, BERNOULLI, PINSKER])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(PriceOfReward, claim, 1.01)


def test_the_tilt_is_on_the_frontier_for_two_levels_and_above_it_for_three(evidence):
    """Binary rewards: RL is Pareto optimal. Three levels: it pays more, and we say how much."""
    data = np.log([0.5, 0.3, 0.2])
    distance = {}
    for name, reward in (("two levels", [0.0, 0.0, 1.0]), ("three levels", [0.0, 1.0, 3.0])):
        tilt = bounds.gibbs_tilt(data, reward, 0.5)
        paid = bounds.kl_divergence(data, tilt)
        least = bounds.price_of_reward(data, reward, bounds.expected_reward(tilt, reward))
        distance[name] = float(paid - least)
    assert abs(distance["two levels"]) < 1e-14
    assert distance["three levels"] > 0.01
    evidence(f"distance of the tilt from the frontier: {distance['three levels']:.4f} nats")


@pytest.mark.sampled
def test_average_price_is_the_best_split_of_the_target_over_prompts(evidence):
    """No way of dividing the reward among prompts is cheaper, and the one rate attains the price."""
    rng, closest = np.random.default_rng(5), np.inf
    for _ in range(40):
        prompts, n = int(rng.integers(2, 5)), int(rng.integers(2, 6))
        data = np.log(rng.dirichlet(np.ones(n), size=prompts))
        reward = rng.normal(size=(prompts, n)) * np.exp(rng.normal())
        free, top = bounds.expected_reward(data, reward), reward.max(-1)
        target = free.mean() + rng.uniform(0.05, 0.95) * (top - free).mean()
        price = bounds.price_of_average_reward(data, reward, target)
        # Laws that reach the target, each a mixture towards the best response of every prompt.
        laws = rng.dirichlet(np.ones(n), size=(2000, prompts))
        best = np.eye(n)[reward.argmax(-1)]
        reached, most = (laws * reward).sum(-1).mean(-1), top.mean()
        share = np.clip((target - reached) / (most - reached), 0, 1)[:, None, None]
        paid = bounds.kl_divergence(data, np.log((1 - share) * laws + share * best)).mean(-1)
        assert_in_all(paid >= price * (1 - 1e-9), "no policy is cheaper than the average price")
        split = bounds.price_of_reward(
            data, reward, free + (target - free.mean()) * (top - free) / (top - free).mean()
        )
        assert split.mean() >= price * (1 - 1e-9)
        rate = bounds.frontier_rate(data, reward, target)
        policy, line, _ = bounds.frontier_policy(data, reward, rate)
        assert bounds.expected_reward(policy, reward).mean() == pytest.approx(target, rel=1e-9)
        assert bounds.kl_divergence(data, policy).mean() == pytest.approx(price, rel=1e-8)
        assert rate * target + line.mean() <= price * (1 + 1e-9)
        closest = min(closest, float((paid / price).min()))
    evidence(
        f"average price: 80,000 random policies, the cheapest at {closest:.2f} times the price"
    )


def test_a_price_above_the_average_one_is_refuted_by_its_own_policy():
    data, reward = np.log([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    policy, *_ = bounds.frontier_policy(data, reward, 2.0)
    target = bounds.expected_reward(policy, reward).mean()
    price = bounds.price_of_average_reward(data, reward, target)
    assert bounds.kl_divergence(data, policy).mean() < 1.01 * price


def test_what_the_data_earn_costs_nothing():
    """The price is clipped at zero: the data law itself has every reward up to J(d)."""
    log_d, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    earned = bounds.expected_reward(log_d, reward)
    targets = np.array([-1.0, 0.0, 0.5, earned, earned + 1e-3])
    prices = [float(bounds.price_of_reward(log_d, reward, c)) for c in targets]
    assert prices[:4] == [0.0] * 4 and prices[4] > 0


@pytest.mark.parametrize("target", [1.0, 2.0, 2.9])
def test_a_best_response_that_the_data_lack_is_paid_for_by_hand(target):
    """There l = 1 is best: p = d (M - c)/(M - r), and what mass is left goes to the best response, which d lacks."""
    log_d, reward = np.array([np.log(0.5), np.log(0.5), -np.inf]), np.array([0.0, 1.0, 3.0])
    left = 3 - target
    p = np.array([0.5 * left / 3, 0.5 * left / 2, 1 - left * (0.5 / 3 + 0.5 / 2)])
    assert p @ reward == pytest.approx(target)
    paid = float(bounds.kl_divergence(log_d, np.log(p)))
    assert paid == pytest.approx(0.5 * np.log(3 / left) + 0.5 * np.log(2 / left))
    assert float(bounds.price_of_reward(log_d, reward, target)) == pytest.approx(paid)
    averaged = bounds.price_of_average_reward(log_d[None], reward[None], target)
    assert float(averaged) == pytest.approx(paid)
