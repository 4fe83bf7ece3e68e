"""T2, where each leash ends: derivations, flows run to their end, the frontier, and what has no optimum."""

from collections.abc import Iterator

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.trainers import (
    k2,
    k2_reward_penalty,
    k3,
    k3_reward_penalty,
    k3_reward_pull,
    pull_in_loss,
    pull_in_reward,
    pull_of_reward,
)
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t2_where_each_leash_ends import WhereEachLeashEnds
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_zero, normal_form

pytestmark = pytest.mark.statement("T2")
BEST, UNBOUNDED = "no policy does better", "k3 in the reward has no upper bound"
AT_TILT, K2_BOUND = (
    "k3 in the reward is best at the tilt",
    "k2 in the reward has an upper bound",
)
HARDEST = "k3 in the reward pulls hardest at one half"
AWAY = "from one half up k3 in the reward pushes away"
XP = floats_of(np.zeros(1))


# --- derivations ------------------------------------------------------------------------------


def one_response():
    """One response's part of each sum: policy P, ref q, logits' score s; sums of P s and P - p vanish."""
    policy, p, q, beta = sp.symbols("P p q beta", positive=True)
    score, mu = sp.symbols("s mu", real=True)
    return policy, p, q, beta, score, mu


@pytest.mark.symbolic
@pytest.mark.parametrize(
    ("name", "pull"),
    [
        ("k1 in the reward", lambda u, k1, k2, k3: k1),
        ("k2 in the loss", lambda u, k1, k2, k3: sp.diff(k2, u)),
        ("k3 times the ratio", lambda u, k1, k2, k3: k3 + sp.diff(k3, u)),
    ],
)
def test_three_leashes_stop_at_the_tilt(name, pull, evidence):
    """P s (r - beta pull(u)) is a constant times P s, whose sum is zero: for any number of responses."""
    policy, _, _, beta, score, _ = one_response()
    u, log_z = sp.symbols("u log_Z", real=True)
    reward = beta * (u + log_z)  # u = r/beta - log Z: P is the tilt
    leash = pull(u, u, u**2 / 2, sp.exp(-u) - 1 + u)
    part = policy * score * (reward - beta * leash)
    assert_zero(sp.simplify(part - policy * score * beta * log_z))
    evidence(f"{name} stops at the tilt, term by term, any n")


@pytest.mark.symbolic
def test_k3_in_the_loss(evidence):
    """r = mu - beta q/P at P = beta q/(mu - r): stationarity, value and the mirror of F3, term by term."""
    policy, p, q, beta, score, mu = one_response()
    reward = mu - beta * q / policy
    u = sp.Symbol("u", real=True)
    pull = sp.diff(sp.exp(-u) - 1 + u, u).subs(u, sp.log(policy / q))
    part = policy * score * (reward - beta * pull)
    assert_zero(sp.simplify(part - policy * score * (mu - beta)))  # sums to zero
    assert_zero(sp.simplify(policy * reward - (mu * policy - beta * q)))  # sums to mu - beta
    z = p / policy
    missed = (policy - p) * (reward - mu) - beta * q * (sp.log(q / policy) - sp.log(q / p))
    assert_zero(normal_form(missed - beta * q * (z - 1 - sp.log(z))))
    evidence("k3 in the loss stops at beta ref/(mu - r), J = mu - beta, mirror of F3: any n")
    evidence(f"no policy does better by {tangent_of_exp()}")


@pytest.mark.symbolic
def test_what_it_pays_is_the_price(evidence):
    """d/p* = b, the ratio of S5's supporting line at rate 1/beta: both sides are E_d log b."""
    xp = sympy_numbers()
    q = sp.Symbol("q", positive=True)
    beta, offset, gap = sp.symbols("beta o g", positive=True)
    top = sp.Symbol("M", real=True)
    # two responses, reward M - g and M: the maximum is known
    reward = xp.array([top - gap, top])
    log_d = xp.log(xp.array([q, 1 - q]))
    b = [(offset + gap) / beta, offset / beta]
    p = [q / b[0], (1 - q) / b[1]]
    one = {beta: sp.solve(sum(p) - 1, beta)[0]}
    paid = q * sp.log(b[0]) + (1 - q) * sp.log(b[1])
    reached = top - gap * p[0]

    class Known(type(xp)):
        def max(self, x):
            return self.array([top])

    known = Known(xp._operations)
    arguments = (xp.array([x]) for x in (1 / beta, offset / beta))
    line = supporting_line(known, log_d, reward, *arguments).flat[0]
    assert_zero(normal_form((paid - reached / beta - line).subs(one)))
    evidence("price: KL(d||p*) = J/beta + line, n = 2")


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_no_leash_at_first_or_second_order(n, evidence):
    """KL(p||ref) - KL(ref||p) at p = softmax(log ref + theta): no gradient, no Hessian; a third order."""
    ref = [*(free := sp.symbols(f"q1:{n}", positive=True)), 1 - sum(free)]
    theta = sp.symbols(f"theta1:{n + 1}", real=True)
    weights = [q * sp.exp(t) for q, t in zip(ref, theta, strict=True)]
    z = sum(weights)
    p = [x / z for x in weights]
    u = [t - sp.log(z) for t in theta]
    penalty = sum((a + q) * x for a, q, x in zip(p, ref, u, strict=True))
    at = dict.fromkeys(theta, 0)

    def value(expression):
        return sp.cancel(expression.subs(at))

    assert_zero(value(penalty))
    for i in range(n):
        assert_zero(value(sp.diff(penalty, theta[i])))
        for j in range(i + 1):
            assert_zero(value(sp.diff(penalty, theta[i], theta[j])))
    assert value(sp.diff(penalty, theta[0], 3)) != 0
    evidence(f"k3 in the reward at ref: gradient and Hessian zero, third derivative not, n = {n}")


@pytest.mark.symbolic
@pytest.mark.parametrize("name", ["k3", "k2"])
def test_two_responses_below_ref_are_no_maximum(name, evidence):
    """Moving mass between i and j changes the penalty at second order by phi_i'' + phi_j'' < 0."""
    p, q, x = sp.symbols("p q x", positive=True)
    u = sp.log(p / q)
    term = (p + q) * u if name == "k3" else p * (u**2 / 2 - u)
    curvature = sp.diff(term, p, 2)
    expected = (p - q) / p**2 if name == "k3" else u / p
    assert_zero(sp.simplify(curvature - expected))
    below = curvature.subs(p, q / (1 + x))  # p < q: negative
    assert sp.simplify(sp.expand_log(below, force=True)).is_negative
    evidence(
        f"{name} in the reward: the penalty is concave in p below ref, so two there are no maximum"
    )


@pytest.mark.symbolic
def test_two_responses_the_threshold(evidence):
    """The pull G(c) = logit c - logit a + a/c - (1-a)/(1-c) rises from 0 at a to c = 1/2, then falls."""
    xp = sympy_numbers()
    a, c = sp.symbols("a c", positive=True)
    pull = k3_reward_pull(xp, xp.array([a]), xp.array([c])).flat[0]
    logit = sp.log(c / (1 - c)) - sp.log(a / (1 - a))
    assert_zero(normal_form(pull - (logit + a / c - (1 - a) / (1 - c))))
    slope = sp.diff(logit + a / c - (1 - a) / (1 - c), c)
    assert_zero(sp.simplify(slope - (c - a) * (1 - 2 * c) / (c * (1 - c)) ** 2))
    half = sp.Rational(1, 2)
    assert_zero(normal_form(pull.subs(c, half) - (sp.log((1 - a) / a) - 2 * (1 - 2 * a))))
    assert_zero(normal_form(pull.subs(c, a)))
    evidence("G' = (c - a)(1 - 2c)/(c(1-c))^2: the flow from ref runs away iff beta G(1/2) < 1")


@pytest.mark.symbolic
def test_k2_in_the_reward_is_bounded(evidence):
    u = sp.Symbol("u", real=True)
    assert_zero(sp.expand(u**2 / 2 - u + sp.Rational(1, 2) - (u - 1) ** 2 / 2))
    evidence("u^2/2 - u >= -1/2")


# --- drawn worlds, equality, attack -----------------------------------------------------------


@pytest.mark.sampled
@given(worlds(WhereEachLeashEnds))
def test_drawn_worlds(world):
    assert_holds(WhereEachLeashEnds, world)


REST = dict(direction="0 1", beta="1", depth="1", start="1/2", share="1/3")


@pytest.mark.certified
def test_the_optimum_is_attained():
    """ref = (1/2, 1/2), r = (0, 1), mu = 2: weights 1/4, 1/2, so p* = (1/3, 2/3), beta = 4/3."""
    world = exact_world(log_p="1/3 2/3", log_ref="1/2 1/2", reward="0 1", offset="1", **REST)
    assert_attained(WhereEachLeashEnds, BEST, world)


@pytest.mark.certified
def test_the_pull_is_attained_at_one_half():
    """a = 1/4, c = 1/4 + 3/4 * 1/3 = 1/2."""
    world = exact_world(log_p="1/3 2/3", log_ref="1/2 1/2", reward="0 1", offset="1", **REST)
    assert_attained(WhereEachLeashEnds, HARDEST, world)


@pytest.mark.certified
def test_k3_in_the_reward_is_not_best_at_the_tilt(evidence, capsys):
    witness = smallest_witness(WhereEachLeashEnds, AT_TILT)
    assert witness is not None and len(witness.values["log_p"]) == 2
    evidence(f"k3 in the reward beats its tilt: {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness, k3 in the reward: {witness}")


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(WhereEachLeashEnds, BEST, HARDEST, K2_BOUND):
        assert result.tightness > 0.9
        evidence(tightness_line(result))


@pytest.mark.attacked
def test_attack_of_bounds_that_are_not_sharp():
    assert_survives(WhereEachLeashEnds, UNBOUNDED, AWAY)


# --- flows, preconditioned (Fisher), run to their end -----------------------------------------


def natural(k, place, log_ref, reward, beta):
    """The natural gradient in the logits [rows, n], from the trainers' own expected gradients."""
    rows, n = log_ref.shape
    unit = np.tile(np.eye(n), (rows, 1))
    ref, values, leash = (np.repeat(x, n, axis=0) for x in (log_ref, reward, beta))

    def velocity(log_p):
        p = np.repeat(log_p, n, axis=0)
        pull = pull_of_reward(XP, p, values, unit) - leash * place(XP, k, p, ref, unit)
        moved = pull.reshape(rows, n) / np.exp(log_p)
        return moved - (np.exp(log_p) * moved).sum(1, keepdims=True)

    return velocity


def flow(log_p, velocity, *, steps=3000, rate=0.2, stop=1e-12, gone=1e-9):
    """The path of theta' = velocity, until nothing moves or a probability is below ``gone``.

    Time runs slower where it moves fast, which does not change the path.
    """
    for _ in range(steps):
        moved = velocity(log_p) * (log_p.min(1, keepdims=True) > np.log(gone))
        log_p = log_p + rate * moved / (1 + rate * np.abs(moved).max(1, keepdims=True))
        log_p = log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)
        if np.abs(moved).max() < stop:
            break
    return log_p


@pytest.mark.parametrize("k", [k2, k3])
def test_flows_end_where_they_should(k, evidence):
    rng = np.random.default_rng(2)
    log_ref, start = np.log(rng.dirichlet(2 * np.ones(4), size=(2, 8)))
    reward, beta = rng.normal(size=(8, 4)), rng.uniform(0.5, 1.5, size=(8, 1))
    law = bounds.gibbs_tilt if k is k2 else bounds.forward_leash_optimum
    ends = law(log_ref, reward, beta[:, 0])
    velocity = natural(k, pull_in_loss, log_ref, reward, beta)
    worst = max(np.abs(flow(p, velocity) - ends).max() for p in (log_ref, start))
    assert worst < 1e-10
    evidence(f"{k.__name__} in the loss: 16 flows end within {worst:.0e} of the closed form")


def test_k3_in_the_reward_with_two_responses(evidence):
    """The flow from ref runs away on one side of the threshold and stops on the other."""
    a = np.array([0.02, 0.05, 0.1, 0.2])
    threshold = 1 / (np.log((1 - a) / a) - 2 * (1 - 2 * a))
    stops = 1 / (np.log(2.25) - 0.625)  # ref = (1/10, 9/10): at (1/5, 4/5)
    starts = np.concatenate([a, a, [0.5, 0.7, 0.1]])
    beta = np.concatenate([0.9 * threshold, 1.1 * threshold, [1e3, 1e3, stops]])
    log_ref = np.log(np.stack([starts, 1 - starts], axis=1))
    reward = np.tile([1.0, 0.0], (len(starts), 1))
    velocity = natural(k3, pull_in_reward, log_ref, reward, beta[:, None])
    end = np.exp(flow(log_ref, velocity, rate=0.5, stop=1e-10))[:, 0]
    assert (end[:4] > 1 - 1e-8).all() and (end[8:10] > 1 - 1e-8).all()
    assert ((end[4:8] > a) & (end[4:8] < 0.5)).all()
    assert end[10] == pytest.approx(0.2, abs=1e-6)
    evidence(
        f"n = 2: 8 flows 10 % to either side of the threshold; beta = {stops:.4f} stops at 1/5"
    )


@pytest.mark.parametrize("k", [k2, k3])
def test_what_penalties_in_the_reward_find_has_at_most_one_response_below_ref(k, evidence):
    rng = np.random.default_rng(3)
    rare = rng.uniform(0.05, 0.15, size=(60, 2))  # two rare good responses, one common bad one
    log_ref = np.log(np.concatenate([rare, 1 - rare.sum(1, keepdims=True)], axis=1))
    reward = np.concatenate([rng.uniform(0.8, 1.2, size=(60, 2)), np.zeros((60, 1))], axis=1)
    start = np.log(0.9 * np.exp(log_ref) + 0.1 * rng.dirichlet(np.ones(3), size=60))
    beta = rng.uniform(2, 20, size=(60, 1))
    velocity = natural(k, pull_in_reward, log_ref, reward, beta)
    end = flow(start, velocity, rate=0.1, stop=1e-10)
    interior = (np.abs(velocity(end)).max(1) < 1e-8) & (end.min(1) > np.log(1e-6))
    assert interior.sum() >= 5
    assert ((end < log_ref - 1e-6).sum(1)[interior] <= 1).all()
    evidence(f"{k.__name__} in the reward, n = 3: {interior.sum()} interior limits of 60 flows")


def test_on_the_frontier_and_what_the_tilt_pays_at_the_same_reward(evidence):
    """k3 in the loss pays exactly the price; the tilt pays more iff there are three levels."""
    rng, most = np.random.default_rng(4), 1.0
    for levels in (2, 3):
        for _ in range(100):
            data = np.log(rng.dirichlet(np.ones(4)))
            reward = rng.permutation([0.0, 1.0, *rng.integers(0, 2, 2)]) if levels == 2 else None
            reward = rng.normal(size=4) if reward is None else reward
            tilt = bounds.gibbs_tilt(data, reward, 10 ** rng.uniform(-0.5, 1))
            target = bounds.expected_reward(tilt, reward)
            price = bounds.price_of_reward(data, reward, target)
            ratio = bounds.kl_divergence(data, tilt) / price
            if levels == 2:
                assert ratio == pytest.approx(1, rel=1e-9)
            else:
                assert ratio > 1
                most = max(most, float(ratio))
            beta = 10 ** rng.uniform(-3, 3)
            best = bounds.forward_leash_optimum(data, reward, beta)
            paid = bounds.kl_divergence(data, best)
            assert paid == pytest.approx(bounds.price_of_policy(data, best, reward), rel=1e-9)
    evidence(
        f"200 worlds: k3 in the loss pays the price, the tilt up to {most:.2f} times the price"
    )


def test_beta_runs_through_all_rewards():
    data, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    betas = np.logspace(-9, 9, 200)
    policies = bounds.forward_leash_optimum(
        np.tile(data, (200, 1)), np.tile(reward, (200, 1)), betas
    )
    reached = bounds.expected_reward(policies, reward * np.ones((200, 1)))
    assert (np.diff(reached) < 0).all()
    assert reached[0] == pytest.approx(3, abs=1e-8) and reached[-1] == pytest.approx(0.9, abs=1e-8)


# --- the checks can fail ----------------------------------------------------------------------


@pytest.mark.parametrize(("claim", "factor"), [(BEST, 1.01), (HARDEST, 1.01)])
def test_one_percent_tighter_is_refuted(claim, factor):
    assert_tightened_fails(WhereEachLeashEnds, claim, factor)


def test_k2_in_the_reward_bounded_by_a_little_less_is_refuted():
    """u^2/2 - u >= -1/2 is nearly attained: beta/2.02 is too small."""

    class Tighter(WhereEachLeashEnds):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            penalty = k2_reward_penalty(xp, w.log_p, w.log_ref)
            yield Claim("tighter", -penalty, "<=", xp.full_like(penalty, 1) / 2.02)

    assert attack(Tighter, "tighter", responses=2, first_violation=True).violation


def test_k3_in_the_loss_does_not_stop_at_the_tilt():
    class Tilted(WhereEachLeashEnds):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
            pull = pull_of_reward(xp, tilt, w.reward, w.direction)
            leash = w.beta * pull_in_loss(xp, k3, tilt, w.log_ref, w.direction)
            yield Claim("stops", pull, "==", leash)

    assert smallest_witness(Tilted, "stops") is not None


def test_k3_in_the_reward_has_no_bound_that_a_constant_could_be():
    """The world of the statement's words: O >= beta (k/2 - 2) log 2, and no number is above all."""
    log_ref = np.log([[0.5, 0.5]])
    k = np.arange(2, 40)[:, None]
    small = -k * np.log(2.0)
    log_p = np.concatenate([np.log1p(-np.exp(small)), small], axis=1)
    objective = -k3_reward_penalty(XP, log_p, log_ref + 0 * log_p)
    assert (objective >= (k / 2 - 2) * np.log(2)).all()
    assert objective[-1] > 12 and (np.diff(objective[:, 0]) > 0).all()
