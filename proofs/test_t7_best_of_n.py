"""T7, best of n: every group enumerated, the bounds by Jensen, how nearly they are attained."""

import itertools
import math
from fractions import Fraction

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import cross_entropy
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.fields import Law
from nondecoupling.theory.statement import Claim, only, tightened
from nondecoupling.theory.theorems.t7_best_of_n import BestOfN, best_of, is_best
from proofs.checks import assert_attained, assert_survives, exact_world, tightness_line
from proofs.elementary import logarithm_below_tangent
from proofs.symbolic import assert_identity, assert_zero, normal_form

pytestmark = pytest.mark.statement("T7")
TO_REF, FROM_REF, CHI = BOUNDS = ("KL to ref", "KL from ref", "chi-squared")


def by_enumeration(law, reward, draws):
    """The law of the best of ``draws``: every group, the first of its best draws."""
    best = [0] * len(law)
    for group in itertools.product(range(len(law)), repeat=draws):
        chosen = max(group, key=lambda y: reward[y])  # max takes the first of several
        best[chosen] += math.prod(law[y] for y in group)
    return best


@pytest.mark.symbolic
@pytest.mark.parametrize("reward", [(0, 1), (2, 0, 1), (0, 1, 1), (1, 0, 1)])
@pytest.mark.parametrize("draws", [1, 2, 3])
def test_the_law_is_that_of_all_groups(reward, draws, evidence):
    xp = sympy_numbers()
    law = Law().symbols("log_ref", len(reward), sp.Integer(1))
    found = best_of(xp, xp.log(xp.array(law)), xp.array(reward), xp.array([draws]))
    for mine, true in zip(found, by_enumeration(law, reward, draws), strict=True):
        assert_zero(sp.cancel(sp.together(normal_form(sp.exp(mine)) - true)))
    evidence(f"the law, from every group of {draws}, rewards {reward}, any ref")


def test_the_law_is_that_of_all_groups_up_to_five_draws(evidence):
    xp = arb()
    law = [Fraction(k, 21) for k in (1, 9, 4, 7)]
    rewards = [(0, 1, 2, 3), (3, 1, 1, 0), (0, 0, 0, 1), (Fraction(1, 3), 2, Fraction(1, 3), 2)]
    for reward, draws in itertools.product(rewards, range(1, 6)):
        log_p = best_of(xp, xp.log(xp.array(law)), xp.array(reward), xp.array([draws]))
        for mine, true in zip(xp.exp(log_p), by_enumeration(law, reward, draws), strict=True):
            assert abs(mine - xp.number(true)) < 1e-12  # a ball: certain
    evidence("1,364 groups of up to five of four responses, with and without ties")


@pytest.mark.symbolic
def test_the_bounds_are_jensen_on_each_response(evidence):
    """pi_n/ref is the mean of g = n U^{n-1} over the quantiles of a response, and E g = 1.

    With m that mean and t = g/m: g log g >= g log m + g - m and -log g >= -log m + 1 - t, both by
    log t <= t - 1, and g^2 >= 2 m g - m^2. Averaged over the response the linear terms vanish.
    """
    n, u, low, high = sp.symbols("n u a b", positive=True)
    g = n * u ** (n - 1)
    mean = sp.integrate(g, (u, low, high))
    assert_zero(sp.simplify(mean - (high**n - low**n)))  # times 1/(b - a): F^n - F_-^n over ref
    t = sp.Symbol("t", positive=True)
    m = sp.Symbol("m", positive=True)
    room = t * m * sp.log(t * m) - (t * m * sp.log(m) + t * m - m)
    assert_zero(sp.simplify(sp.expand_log(room, force=True) - m * (t * sp.log(t) - t + 1)))
    # t log t - t + 1 = t (1/t - 1 - log(1/t)), nonnegative by the tangent of the logarithm
    assert_zero(sp.simplify(sp.expand_log(t * (1 / t - 1 - sp.log(1 / t)) - t * sp.log(t) + t - 1)))
    assert_zero(sp.expand((t * m) ** 2 - 2 * m * (t * m) + m**2 - m**2 * (t - 1) ** 2))
    # The limits: the integrals of g log g, -log g and g^2 - 1 over (0, 1), from antiderivatives
    log_g = sp.log(n) + (n - 1) * sp.log(u)
    above = u**n * (log_g - (n - 1) / n)
    below = -u * (log_g - (n - 1))
    square = n**2 * u ** (2 * n - 1) / (2 * n - 1) - u
    assert_zero(sp.simplify(sp.diff(above, u) - g * log_g))
    assert_zero(sp.simplify(sp.diff(below, u) + log_g))
    assert_zero(sp.simplify(sp.diff(square, u) - (g**2 - 1)))
    at_one = [f.subs(u, 1) for f in (above, below, square)]  # and all three vanish at 0
    k = sp.Symbol("k", integer=True, positive=True)
    assert [sp.limit(f.subs(n, 3), u, 0, "+") for f in (above, below, square)] == [0, 0, 0]
    limits = [sp.log(n) - (n - 1) / n, n - 1 - sp.log(n), (n - 1) ** 2 / (2 * n - 1)]
    assert [sp.simplify((x - y).subs(n, k)) for x, y in zip(at_one, limits, strict=True)] == [0] * 3
    evidence(f"Jensen on each response by {logarithm_below_tangent()}; the limits integrated")


@pytest.mark.symbolic
def test_success_and_the_binary_tilt(evidence):
    """Success from F^n, and the log-odds of n draws: two levels, any ref with two responses."""

    class Ordered(BestOfN):
        """With the rewards 0 and 1, which sympy can order."""

        @staticmethod
        def claims(xp, w):
            values = {**w, "reward": xp.array([0, 1])}
            yield from BestOfN.claims(xp, type(w)(values))

    for name in ("success", "a tilt for binary rewards", "best of best"):
        evidence(assert_identity(Ordered, name, 2))


@pytest.mark.sampled
@given(worlds(BestOfN))
def test_drawn_worlds(world):
    assert_holds(BestOfN, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", BOUNDS)
def test_one_draw_costs_nothing(claim):
    world = exact_world(log_law="1/2 1/2", log_ref="1/3 2/3", reward="0 1", draws="1", again="3")
    assert_attained(BestOfN, claim, world)


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(BestOfN, *BOUNDS, responses=4):
        evidence(tightness_line(result))


def many(responses: int, draws: int):
    """Equally likely responses with distinct rewards: nearly continuous."""
    even = " ".join([f"1/{responses}"] * responses)
    ranks = " ".join(map(str, range(responses)))
    return exact_world(log_law=even, log_ref=even, reward=ranks, draws=str(draws), again="1")


@pytest.mark.certified
@pytest.mark.parametrize(("claim", "responses"), [(TO_REF, 30), (FROM_REF, 140), (CHI, 30)])
def test_the_constants_are_sharp(claim, responses, evidence):
    """A bound that is 1 % smaller is refuted: two draws from many equally likely responses."""
    world = many(responses, 2)
    (verdict,) = certify(only(BestOfN, claim), world)
    assert verdict.status is Status.HOLDS
    (refuted,) = certify(tightened(BestOfN, claim, 1.01), world)
    assert refuted.status is Status.REFUTED
    evidence(f"{claim}: {verdict.lhs / verdict.rhs:.4f} of the bound with {responses} responses")


def test_ties_by_a_fixed_order_are_no_tilt(evidence):
    """Three equal responses of rewards 0, 1, 1: a fixed order prefers one of the two best."""
    xp = arb()
    law, reward = xp.log(xp.array([Fraction(1, 3)] * 3)), xp.array([0, 1, 1])
    ordered = xp.exp(best_of(xp, law, xp.array([0, 1, 2]), xp.array([2])))
    first = xp.exp(best_of(xp, law, reward, xp.array([2])))
    assert abs(first[1] - first[2]) < 1e-12
    assert ordered[2] - ordered[1] > 0.2
    evidence(
        "ties by a fixed order: (1, 3, 5)/9 at ref = (1, 1, 1)/3, r = (0, 1, 1), n = 2: no tilt"
    )


def test_the_checks_can_fail():
    """That n draws tilt by log n is refuted, and so is best of m of n being best of m + n."""

    class Wrong(BestOfN):
        @staticmethod
        def claims(xp, w):
            twice = best_of(xp, best_of(xp, w.log_ref, w.reward, w.draws), w.reward, w.again)
            once = best_of(xp, w.log_ref, w.reward, w.draws + w.again)
            losses = (cross_entropy(xp, w.log_law, p) for p in (twice, once))
            yield Claim("sum of draws", next(losses), "==", next(losses))
            solved = is_best(xp, w.reward)
            binary = best_of(xp, w.log_ref, solved, w.draws)
            tilt = w.log_ref + xp.log(w.draws) * solved
            tilt = tilt - xp.log(xp.sum(xp.exp(tilt)))
            losses = (cross_entropy(xp, w.log_law, p) for p in (binary, tilt))
            yield Claim("tilt by log n", next(losses), "==", next(losses))

    for claim in ("sum of draws", "tilt by log n"):
        assert smallest_witness(Wrong, claim, max_denominator=3) is not None
