"""T8, replay: Jensen, drawn worlds, the equality cases, and what a wrong share would claim."""

from fractions import Fraction

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.deciding.boxes import Box, certify_box
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import kl_by_definition, mixture
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim, tightened
from nondecoupling.theory.theorems.t8_replay import Replay
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_zero

pytestmark = pytest.mark.statement("T8")
COST, WHATEVER, SHARE = BOUNDS = (
    "the cost of a mixture", "bounded whatever the policy", "at most its share",
)  # fmt: skip


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_the_reward_moves_in_proportion(responses, evidence):
    evidence(assert_identity(Replay, "the reward moves in proportion", responses))


@pytest.mark.symbolic
def test_the_bound_is_jensen_for_a_convex_function(evidence):
    """x -> log(1 - v + v e^x) is convex; its slope at x is t in (0, 1), its curvature t (1 - t)."""
    x = sp.Symbol("x", real=True)
    v, kept = sp.symbols("v k", positive=True)  # k = 1 - v
    curve = sp.log(kept + v * sp.exp(x))
    t = v * sp.exp(x) / (kept + v * sp.exp(x))
    assert_zero(sp.simplify(sp.diff(curve, x) - t))
    assert_zero(sp.simplify(sp.diff(curve, x, 2) - t * (1 - t)))
    assert_zero(
        sp.simplify((1 - t) - kept / (kept + v * sp.exp(x)))
    )  # so both factors are positive
    # At most v kl: -log(1 - v + v e^-kl) is concave in kl with slope v at 0, where it vanishes
    kl = sp.Symbol("kl", positive=True)
    most = -sp.log(1 - v + v * sp.exp(-kl))
    assert_zero(sp.simplify(sp.diff(most, kl).subs(kl, 0) - v))
    assert_zero(most.subs(kl, 0))
    curvature = sp.diff(most, kl, 2).subs(v, 1 - kept)
    u = (1 - kept) * sp.exp(-kl)
    assert_zero(sp.simplify(curvature + kept * u / (kept + u) ** 2))  # negative for 0 < v < 1
    assert_zero(sp.limit(sp.exp(-kl), kl, sp.oo))  # so it stays below -log(1 - v)
    evidence(f"log(1 - v + v e^x) is convex with slope below one; {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(Replay))
def test_drawn_worlds(world):
    assert_holds(Replay, world)


@pytest.mark.certified
def test_equality_where_the_policy_is_the_data_law_on_its_support():
    """p is d halved on supp d and elsewhere new: KL(d||p) = log 2, the bound is attained."""
    world = exact_world(log_d="1/2 1/2 0", log_p="1/4 1/4 1/2", reward="0 1 2", share="1/3")
    assert_attained(Replay, COST, world)


@pytest.mark.certified
def test_equality_where_the_policy_misses_the_data():
    world = exact_world(log_d="1/2 1/2 0", log_p="0 0 1", reward="0 1 2", share="1/3")
    assert_attained(Replay, COST, world)
    assert_attained(Replay, WHATEVER, world)


@pytest.mark.certified
def test_equality_at_the_data_law():
    world = exact_world(log_d="1/4 3/4", log_p="1/4 3/4", reward="0 1", share="1/3")
    assert_attained(Replay, SHARE, world)


def two(t, p, v):
    return dict(log_d=[t, 1 - t], log_p=[p, 1 - p], reward=[0, 1], share=[v])


BOX = Box(
    dict(
        t=(Fraction(1, 2), Fraction(7, 8)),
        p=(Fraction(1, 8), Fraction(3, 8)),
        v=(Fraction(1, 8), Fraction(3, 4)),
    ),
    two,
)


@pytest.mark.certified
@pytest.mark.parametrize("claim", BOUNDS)
def test_a_box(claim, evidence):
    certificate = certify_box(Replay, claim, BOX)
    assert certificate.status is Status.HOLDS, certificate
    evidence(f"{certificate}")
    assert certify_box(tightened(Replay, claim, 2), claim, BOX).status is Status.REFUTED


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(Replay, *BOUNDS):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", BOUNDS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(Replay, claim, 1.01)


def test_half_the_share_is_not_enough():
    """With v/2 in place of v inside the logarithm the bound is refuted."""

    class Halved(Replay):
        @staticmethod
        def claims(xp, w):
            paid = kl_by_definition(xp, w.log_d, mixture(xp, w.log_d, w.log_p, w.share))
            whole = kl_by_definition(xp, w.log_d, w.log_p)
            most = -xp.log(1 - w.share / 2 + w.share / 2 * xp.exp(-whole))
            yield Claim("half the share", paid, "<=", most)

    witness = smallest_witness(Halved, "half the share")
    assert witness is not None
    assert attack(Halved, "half the share").violation
