"""T4, group-normalised advantages: derivations, every group enumerated, roots, flows, and what can fail."""

from collections.abc import Iterator

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.formulas.groups import group_factor, normalised
from nondecoupling.formulas.trainers import group_pull
from nondecoupling.numbers.floats import floats_of
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t4_group_normalised_advantages import GroupNormalisedAdvantages
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("T4")
LOWER, UPPER, OTHER = (
    "h is at least 2(G-1)/G, groups of {}",
    "h is at most sqrt(G-1), groups of {}",
    "h^2 c(1-c) is at most (G-1)/G, groups of {}",
)
CONVEX, CONCAVE = "h is convex", "the forward pull is concave"
CRITICAL = "no stationary policy below the critical beta"
ONE = "groups of four have one stationary policy"
XP = floats_of(np.zeros(1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logit(c):
    return np.log(c) - np.log1p(-c)


# --- derivations ------------------------------------------------------------------------------


@pytest.mark.symbolic
@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_from_groups_to_the_others(size, evidence):
    """E[m(1-m) f_K]/(c(1-c)), K ~ Bin(G, c), is (G-1)/G E[f_{1+j}], j ~ Bin(G-2, c), for any f."""
    c = sp.Symbol("c")
    f = sp.symbols(f"f0:{size + 1}")

    def weight(n, k):
        return sp.binomial(n, k) * c**k * (1 - c) ** (n - k)

    shares = [sp.Rational(k, size) for k in range(size + 1)]
    of_groups = sum(weight(size, k) * m * (1 - m) * f[k] for k, m in enumerate(shares))
    others = sum(weight(size - 2, j) * f[j + 1] for j in range(size - 1))
    assert_zero(sp.expand(of_groups - c * (1 - c) * others * sp.Rational(size - 1, size)))
    evidence(f"h is a mean over the other G - 2, G = {size}")


@pytest.mark.symbolic
@pytest.mark.parametrize("trials", [2, 3, 6])
def test_binomial_means_keep_convexity(trials, evidence):
    """The second derivative in c is N(N-1) times a mean of second differences, for any f."""
    c = sp.Symbol("c")
    f = sp.symbols(f"f0:{trials + 1}")

    def mean(values):
        n = len(values) - 1
        return sum(sp.binomial(n, k) * c**k * (1 - c) ** (n - k) * v for k, v in enumerate(values))

    second = [f[k + 2] - 2 * f[k + 1] + f[k] for k in range(trials - 1)]
    curvature = sp.diff(mean(f), c, 2)
    assert_zero(sp.expand(curvature - trials * (trials - 1) * mean(second)))
    evidence(f"binomial means keep convexity, N = {trials}")


@pytest.mark.symbolic
def test_convex_and_concave(evidence):
    """1/(s + e) is convex in m and m(1-m)/(s + e) concave, s = b sqrt(m(1-m)): h and the forward pull."""
    m, e, b, x = sp.symbols("m e b x", positive=True)
    s = sp.Function("s")(m)
    bends = sp.diff(1 / (s + e), m, 2)
    first, second = sp.diff(s, m), sp.diff(s, m, 2)
    assert_zero(sp.simplify(bends - (2 * first**2 / (s + e) ** 3 - second / (s + e) ** 2)))
    root = b * sp.sqrt(m * (1 - m))
    assert_zero(sp.simplify(sp.diff(root, m, 2) * 4 * (m * (1 - m)) ** sp.Rational(3, 2) + b))
    # x/(b sqrt(x) + e) rises and is concave in x = m(1-m), which is concave in m
    g = x / (b * sp.sqrt(x) + e)
    rises = sp.simplify(sp.diff(g, x) * (b * sp.sqrt(x) + e) ** 2)
    assert_zero(sp.expand(rises - (b * sp.sqrt(x) / 2 + e)))
    falls = sp.diff(sp.diff(g, x), x) * 4 * sp.sqrt(x) * (b * sp.sqrt(x) + e) ** 3
    assert_zero(sp.simplify(falls + b * (b * sp.sqrt(x) + 3 * e)))
    evidence("1/(s + e) convex, m(1-m)/(s + e) concave, any e >= 0: one root of the forward leash")


@pytest.mark.symbolic
def test_bounds_on_h(evidence):
    k, size, c = sp.symbols("K G c", positive=True)
    # (G-1)/G/sd between its values at sd = 1/2 and sd = sqrt(G-1)/G, 1 <= K <= G-1
    assert_zero(sp.expand(k * (size - k) - (size - 1) - (k - 1) * (size - 1 - k)))
    assert_zero(sp.expand(size**2 / 4 - k * (size - k) - (k - size / 2) ** 2))
    # E m(1-m) = c(1-c)(G-1)/G, so E sqrt(m(1-m)) is at most its root (Jensen)
    second_moment = c * (1 - c) / size + c**2
    assert_zero(sp.factor(c - second_moment - c * (1 - c) * (size - 1) / size))
    evidence("sd between sqrt(G-1)/G and 1/2; E m(1-m) = c(1-c)(G-1)/G")


@pytest.mark.symbolic
def test_critical_beta(evidence):
    """beta(y) = 2 cosh(y/2)/(y - l) is stationary where (y - l) tanh(y/2) = 2, and there sinh(y/2)."""
    t, u, y, x, start = sp.symbols("t u y x l", positive=True)  # t = e^{y/2}, u = e^{x/2}

    def cosh_sinh_tanh(e):
        return (e + 1 / e) / 2, (e - 1 / e) / 2, (e**2 - 1) / (e**2 + 1)

    cosh, sinh, tanh = cosh_sinh_tanh(t)
    assert_zero(sp.cancel(t / 2 * sp.diff(cosh, t) - sinh / 2))  # d/dy of cosh(y/2)
    slope = sinh / (y - start) - 2 * cosh / (y - start) ** 2
    assert_zero(sp.cancel(slope * (y - start) ** 2 / cosh - ((y - start) * tanh - 2)))
    cosh, sinh, tanh = cosh_sinh_tanh(u)
    at = x - 2 / tanh
    assert_zero(sp.cancel(2 * cosh / (x - at) - sinh))
    # the tangent of 2 cosh(y/2) at x is sinh(x/2) (y - l), and cosh is convex
    assert_zero(sp.cancel(2 * cosh + (y - x) * sinh - sinh * (y - at)))
    # (y - l) tanh(y/2) rises for y > max(0, l): one critical point, so two roots above, none below
    evidence("beta_c: 2 cosh(y/2) >= its tangent sinh(x/2)(y - logit a)")


@pytest.mark.symbolic
def test_three_levels_have_no_objective(evidence):
    """G = 2: the effective reward is P(r' < r) - P(r' > r); its gradient field in the logits has curl."""
    p = [*(free := sp.symbols("p1 p2", positive=True)), 1 - sum(free)]
    win_rate = [sum(p[:i]) - sum(p[i + 1 :]) for i in range(3)]
    field = [x * w for x, w in zip(p, win_rate, strict=True)]

    def along(f, j):
        return sum(sp.diff(f, free[i]) * p[i] * (int(i == j) - p[j]) for i in range(2))

    curl = along(field[2], 0) - along(field[0], 2)
    assert_zero(sp.expand(curl + 2 * p[0] * p[1] * p[2]))  # zero iff two levels
    xp = floats_of(np.zeros(1))
    log_p = np.log([[0.2, 0.3, 0.5]])
    for direction in np.eye(3):

        def sign(rewards):
            return [np.sign(2 * r - sum(rewards)) for r in rewards]

        by_groups = group_pull(xp, log_p, [0, 1, 2], direction[None], 2, sign).item()
        value = sum(f * d for f, d in zip(field, direction, strict=True))
        assert by_groups == pytest.approx(
            float(value.subs({free[0]: 0.2, free[1]: 0.3})), abs=1e-15
        )
    evidence("three levels, G = 2: curl -2 p1 p2 p3, no objective")


def test_more_levels_in_large_groups(evidence):
    """The flow of (r - J)/sd under a reverse leash ends at tilt_s with s sd_{tilt_s}(r) = 1/beta."""
    rng, worst = np.random.default_rng(8), 0.0
    for _ in range(5):
        log_ref, reward = np.log(rng.dirichlet(2 * np.ones(3))), rng.normal(size=3)
        log_p, tilt = log_ref, bounds.gibbs_tilt(log_ref, reward, 1 / 0.3)
        mean = np.exp(tilt) @ reward
        beta = 1 / (0.3 * np.sqrt(np.exp(tilt) @ (reward - mean) ** 2))  # s = 0.3 is stationary
        for _ in range(4000):
            p = np.exp(log_p)
            centred = reward - p @ reward
            moved = centred / np.sqrt(p @ centred**2) - beta * (log_p - log_ref)
            log_p = log_p + 0.1 / beta * (moved - p @ moved)
            log_p = log_p - np.logaddexp.reduce(log_p)
        deviation = np.sqrt(np.exp(log_p) @ reward**2 - (np.exp(log_p) @ reward) ** 2)
        tilt = bounds.gibbs_tilt(log_ref, reward, beta * deviation)
        worst = max(worst, float(np.abs(tilt - log_p).max()))
    assert worst < 1e-9
    evidence(f"three levels, G = inf: 5 flows end at tilt_s, s sd = 1/beta, within {worst:.0e}")


# --- drawn worlds, equality, attack -----------------------------------------------------------


@pytest.mark.sampled
@given(worlds(GroupNormalisedAdvantages, max_responses=3))
def test_drawn_worlds(world):
    assert_holds(GroupNormalisedAdvantages, world)


@pytest.mark.parametrize("sd", ["population", "sample"])
def test_every_group_of_eight(sd, evidence):
    """Advantages as trainers compute them, eps = 1e-4, for all 2^8 outcomes of a group."""
    size, eps = 8, 1e-4
    outcomes = np.array(np.meshgrid(*[[0.0, 1.0]] * size)).reshape(size, -1).T
    spread = outcomes.std(axis=1, ddof=int(sd == "sample"), keepdims=True)
    advantage = (outcomes - outcomes.mean(axis=1, keepdims=True)) / (spread + eps)
    worst = 0.0
    for c in (1e-6, 0.1, 0.5, 0.999):
        probability = np.prod(np.where(outcomes == 1, c, 1 - c), axis=1)
        score = np.where(outcomes == 1, 1 / c, -1 / (1 - c))  # d log p/dc
        expected = (probability[:, None] * advantage * score).mean(axis=1).sum()
        got = bounds.group_advantage_factor(c, size, sd, eps)
        worst = max(worst, abs(got / expected - 1))
    assert worst < 1e-9  # the enumeration itself cancels at c = 1e-6
    evidence(f"all 256 outcomes of a group of 8, {sd} sd + 1e-4: within {worst:.0e}")


REST = dict(log_p="1/2 1/2", log_ref="1/4 3/4", direction="0 1", duration="1", eps="1/10")


@pytest.mark.certified
def test_the_lower_bound_is_attained_by_groups_of_two():
    """h_2 = 1 = 2(G-1)/G; and the convex bound is attained where the two points agree."""
    world = exact_world(**REST, success="1/3", other="1/3", critical="1", ahead="2")
    assert_attained(GroupNormalisedAdvantages, CONVEX, world)
    assert_attained(GroupNormalisedAdvantages, CONCAVE, world)
    assert float(bounds.group_advantage_factor(1 / 3, 2)) == pytest.approx(1, rel=1e-15)


@pytest.mark.attacked
def test_attack(evidence):
    attained = dict.fromkeys([UPPER.format(4), UPPER.format(8), CRITICAL, CONVEX, CONCAVE], 0.99)
    least = {**attained, LOWER.format(4): 0.9, OTHER.format(8): 0.95}
    for result in assert_survives(GroupNormalisedAdvantages, *least):
        assert result.tightness > least[result.claim]
        evidence(tightness_line(result))


@pytest.mark.certified
def test_groups_of_four_have_several_stationary_policies(evidence, capsys):
    witness = smallest_witness(GroupNormalisedAdvantages, ONE)
    assert witness is not None
    c, share = (float(witness.values[name][0]) for name in ("success", "other"))
    high, low = (1 + c) / 2, (1 + c * share) / 2
    one = np.ones((1, 1))
    values = [float(group_factor(XP, x * one, 4, "population", 0 * one)[0, 0]) for x in (low, high)]
    beta = (values[1] - values[0]) / (logit(high) - logit(low))
    starts = [logit(x) - h / beta for x, h in zip((low, high), values, strict=True)]
    assert starts[0] == pytest.approx(starts[1], rel=1e-9)
    found = f"G = 4: c = {low} and {high} are both stationary at beta = {beta:.4f}, logit a = {starts[0]:.2f}"
    evidence(found)
    with capsys.disabled():
        print(f"\n{found}")


# --- roots and flows --------------------------------------------------------------------------


def success_along_the_flow(start, factor, beta, *, forward=False, until=40.0):
    """Natural gradient from ref: x' = h - beta times the leash's own slope, x = logit c, to its end."""
    x, time = logit(start), 0.0
    while time < 1e4 and x < until:
        c = sigmoid(x)
        pull = (c - start) / (c * sigmoid(-x)) if forward else x - logit(start)
        velocity = factor(c) - beta * pull
        if abs(velocity) < 1e-12:
            break
        step = min(
            0.2 / (beta * (1 if not forward else 1 / (c * sigmoid(-x)))), 0.5 / abs(velocity)
        )
        x, time = x + step * velocity, time + step
    return sigmoid(x)


@pytest.mark.parametrize("leash", ["reverse", "forward"])
def test_flows_from_ref_end_at_the_first_root(leash, evidence):
    worst, count = 0.0, 0
    for start, size, beta in ((0.2, 2, 0.5), (0.05, 8, 0.8), (0.01, 16, 0.9), (0.5, 64, 2.0)):

        def factor(c, size=size):
            return float(bounds.group_advantage_factor(c, size, "sample", 1e-4))

        law = bounds.group_normalized_success(start, size, beta, leash, "sample", 1e-4)
        end = success_along_the_flow(start, factor, beta, forward=leash == "forward")
        worst, count = max(worst, abs(end - float(law.success))), count + 1
    assert worst < 1e-9
    evidence(f"{leash} leash: {count} flows from ref end within {worst:.0e} of the first root")


def test_large_groups_run_away_below_the_critical_beta(evidence):
    for start in (0.01, 0.2, 0.5):
        critical = float(bounds.critical_beta(start))

        def factor(c):
            return 1 / np.sqrt(c * (1 - c)) if c < 1 else np.inf

        below = success_along_the_flow(start, factor, 0.95 * critical, until=30.0)
        above = success_along_the_flow(start, factor, 1.05 * critical)
        assert below > 1 - 1e-12
        law = bounds.group_normalized_success(start, None, 1.05 * critical)
        assert law.stationary and above == pytest.approx(float(law.success), abs=1e-9)
        assert not bounds.group_normalized_success(start, None, 0.95 * critical).stationary
    evidence("G = inf, a = .01, .2, .5: runs away 5 % below beta_c, stops 5 % above")


def test_the_first_root_is_the_first(evidence):
    """On a fine grid the residual has no change of sign before the success found, and one at it."""
    rng, several = np.random.default_rng(7), 0
    for _ in range(60):
        size = int(rng.choice([2, 3, 4, 8, 32, 200]))
        start, beta = 10 ** rng.uniform(-6, -0.1), 10 ** rng.uniform(-1, 0.7)
        found = bounds.group_normalized_success(start, size, beta)
        x = logit(start) + np.linspace(0, np.sqrt(size - 1) / beta + 1, 4001)[1:]
        residual = beta * (x - logit(start)) - bounds.group_advantage_factor(
            np.minimum(sigmoid(x), 1.0), size
        )
        crossings = np.flatnonzero(np.diff(np.sign(residual)) != 0)
        several += len(crossings) > 1
        first = x[crossings[0] : crossings[0] + 2]
        assert sigmoid(first[0]) * (1 - 1e-12) <= found.success <= sigmoid(first[1]) * (1 + 1e-12)
    assert several >= 3
    evidence(f"first root of 60 worlds by a grid; {several} of them have several")


def test_at_usual_betas_the_leash_barely_holds(evidence):
    """Within e^{-2(G-1)/(G beta)} of one, in odds against those of ref."""
    beta, start, size = 0.04, 0.2, 16
    x = logit(start) + bounds.group_advantage_factor(1.0, size) / beta
    failure = np.exp(-x)
    allowed = np.exp(-logit(start) - 2 * (size - 1) / (size * beta))
    assert failure <= allowed < 1e-19
    evidence(f"G = 16, beta = 0.04, a = 0.2: failure of {failure:.0e}")


# --- the checks can fail ----------------------------------------------------------------------


@pytest.mark.parametrize("claim", [UPPER.format(4), UPPER.format(8), CRITICAL, CONVEX, CONCAVE])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(GroupNormalisedAdvantages, claim, 1.01)


@pytest.mark.parametrize(("claim", "factor"), [(LOWER.format(4), 1.13), (OTHER.format(8), 1.06)])
def test_a_little_past_the_best_ratio_is_refuted(claim, factor):
    assert_tightened_fails(GroupNormalisedAdvantages, claim, factor)


def test_one_root_above_the_critical_beta_is_refuted():
    """Above beta_c two log-odds are stationary; that the second were the first is refuted by search."""

    class OneRoot(GroupNormalisedAdvantages):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            # beta as a function of y - logit a would rise if there were one root
            near, far = w.ahead, w.ahead + w.critical

            def beta(ahead):
                y = ahead - w.duration  # logit a = -duration
                return (xp.exp(y / 2) + xp.exp(-y / 2)) / ahead

            yield Claim("one root", beta(near), ">=", beta(far))

    assert smallest_witness(OneRoot, "one root") is not None
    start = 0.2
    beta = 1.05 * float(bounds.critical_beta(start))
    x = logit(start) + np.linspace(0.01, 20, 200_000)
    residual = beta * (x - logit(start)) - 2 * np.cosh(x / 2)
    assert (np.diff(np.sign(residual)) != 0).sum() == 2


def test_groups_pull_by_another_factor_is_refuted():
    """With the sample deviation taken for the population one the identity fails."""

    class Mistaken(GroupNormalisedAdvantages):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            zero = xp.full_like(w.success, 0)
            factors = [group_factor(xp, w.success, 4, sd, zero) for sd in ("sample", "population")]
            yield Claim("same", factors[0], "==", factors[1])

    assert smallest_witness(Mistaken, "same") is not None


def test_without_the_zero_of_equal_rewards_nothing_is_defined():
    """A group without spread has advantage zero by definition, with eps = 0 too."""
    eps = np.zeros((1, 1))
    assert [float(a[0, 0]) for a in normalised(XP, eps, "population")([1, 1, 1])] == [0, 0, 0]


def test_a_constant_factor_for_groups_of_four_is_refuted():
    class Constant(GroupNormalisedAdvantages):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            zero = xp.full_like(w.success, 0)
            h = group_factor(xp, w.success, 4, "population", zero)
            yield Claim("below 1.7", h, "<=", zero + 1.7)

    assert attack(Constant, "below 1.7", responses=2, first_violation=True).violation
