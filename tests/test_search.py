"""Certificates, sampling and the attack: statuses, budgets, determinism, minimal witnesses."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.deciding.attack import _fields_in_use, attack, attacks, smallest_witness
from nondecoupling.deciding.certify import certify, is_equality_case
from nondecoupling.deciding.decisions import recording
from nondecoupling.deciding.sampling import check_arguments, check_random_worlds
from nondecoupling.deciding.verdict import Status
from nondecoupling.theory.statement import Claim, assumptions, dropping, only, tightened
from nondecoupling.theory.theorems.j3_little_sft_is_nearly_free import LittleSftIsNearlyFree
from nondecoupling.theory.theorems.r3_kl_ball import KlBall
from nondecoupling.theory.theorems.r5_sft_can_raise_reward import SftCanRaiseReward
from nondecoupling.theory.theorems.r7_along_the_way import AlongTheWay
from nondecoupling.theory.theorems.s2_coupling_at_sft_optimality import CouplingAtSftOptimality
from nondecoupling.theory.theorems.s3_two_sided_size import TwoSidedSize
from nondecoupling.theory.worlds import World, sample_worlds

HALF = (Fraction(1, 2), Fraction(1, 2))
RAISES = "RL raises the SFT loss"
STEP = "the first SFT step lowers the reward"


def coupling_world(reward, beta=1):
    return World({"log_d": HALF, "reward": reward, "beta": (Fraction(beta),)})


def test_precision_is_raised_until_decided():
    """At beta = 10^40 the gap is about 1e-81: 128 bits cannot tell it from zero."""
    world = coupling_world((Fraction(0), Fraction(1)), 10**40)
    low = {v.claim: v for v in certify(CouplingAtSftOptimality, world, precisions=(128,))}
    assert low[RAISES].status is Status.UNDECIDED
    raised = {v.claim: v for v in certify(CouplingAtSftOptimality, world)}
    assert raised[RAISES].status is Status.HOLDS
    assert raised[RAISES].margin == pytest.approx(1.25e-81)


def test_an_equality_case_stays_undecided_and_says_so():
    verdicts = {v.claim: v for v in certify(CouplingAtSftOptimality, coupling_world(HALF))}
    assert is_equality_case(verdicts[RAISES])
    assert "margin within" in verdicts[RAISES].reason


def test_out_of_scope_names_the_condition():
    world = World(
        {
            "log_p": (Fraction(0), Fraction(1)),
            "log_ref": HALF,
            "reward": (Fraction(0), Fraction(1)),
            "beta": (Fraction(1),),
        }
    )
    (verdict,) = certify(KlBall, world)
    assert verdict.status is Status.OUT_OF_SCOPE and "p in the KL ball" in verdict.reason


def test_a_refutation_carries_its_world():
    wrong = tightened(TwoSidedSize, "Hoeffding upper bound", 2.0)
    (verdict,) = certify(wrong, coupling_world((Fraction(0), Fraction(1))))
    assert verdict.status is Status.REFUTED
    assert verdict.witness == {"log_d": HALF, "reward": (0, 1), "beta": (1,)}


def test_a_world_must_sum_to_one_exactly():
    with pytest.raises(ValueError, match=r"log_d=1/2, 1/3: .*they sum to 5/6"):
        World({"log_d": (Fraction(1, 2), Fraction(1, 3))})


def test_assumptions_have_names_and_can_be_dropped():
    assert assumptions(CouplingAtSftOptimality) == ["log_ref = log_d"]
    assert "log_ref" in dropping(CouplingAtSftOptimality, "log_ref = log_d").world
    with pytest.raises(ValueError, match="S2 has"):
        dropping(CouplingAtSftOptimality, "beta is odd")
    with pytest.raises(ValueError, match="claim='none'"):
        check_random_worlds(only(CouplingAtSftOptimality, "none"), worlds=1)


def test_sampling_reports_violations_with_their_number():
    result = check_random_worlds(
        tightened(TwoSidedSize, "Hoeffding upper bound", 3.0), worlds=500, responses=2
    )[0]
    verdict = result.verdict(TwoSidedSize)
    assert verdict.status is Status.REFUTED and "worlds violate it" in verdict.reason


def test_worlds_outside_the_conditions_are_not_counted():
    outside = {
        "log_p": np.log([[1e-9, 1 - 1e-9]]),
        "log_ref": np.log([[0.5, 0.5]]),
        "reward": np.array([[0.0, 1.0]]),
        "beta": np.array([[1.0]]),
    }
    (result,) = check_arguments(KlBall, outside)
    assert result.verdict(KlBall).status is Status.OUT_OF_SCOPE


def test_a_batch_is_undecided_if_no_world_in_scope_is_decided():
    from nondecoupling.deciding.sampling import BatchResult

    result = BatchResult(
        "claim",
        False,
        margin=np.array([np.nan, 1.0]),
        error=np.array([np.inf, 0.0]),
        size=np.ones(2),
        applies=np.array([True, False]),
        relation=">=",
    )
    assert result.verdict(TwoSidedSize).status is Status.UNDECIDED


def test_the_attack_is_deterministic_by_seed():
    first, second = (
        attack(TwoSidedSize, "Hoeffding upper bound", restarts=16, steps=20, seed=s) for s in (3, 3)
    )
    assert first == second


def test_the_attack_result_is_a_world_that_reproduces_its_margin():
    found = attack(SftCanRaiseReward, "SFT never raises the raw reward", restarts=32, steps=50)
    arguments = {name: np.array([value]) for name, value in found.world.items()}
    results = {r.claim: r for r in check_arguments(SftCanRaiseReward, arguments)}
    assert results[found.claim].margin[0] == pytest.approx(found.margin, rel=1e-12)


class WithInfiniteSlopes(TwoSidedSize):
    """The slope of the first claim is infinite in every world, and NaN after the chain rule."""

    @staticmethod
    def claims(xp, w):
        yield Claim("steep", 2 + xp.sqrt(0 * w.beta), ">=", 0 * w.beta + 1)
        yield Claim("plain", 1 + w.beta, ">=", 0 * w.beta + 1)


@pytest.mark.parametrize(
    "statement",
    [TwoSidedSize, pytest.param(LittleSftIsNearlyFree, marks=pytest.mark.slow), WithInfiniteSlopes],
)
def test_claims_attacked_together_end_where_each_ends_alone(statement):
    settings = {"restarts": 8, "steps": 20}
    world = sample_worlds(statement.world, np.random.default_rng(0), 1, 2)
    names = [r.claim for r in check_arguments(statement, world) if not r.is_identity]
    together = attacks(statement, names[::-1], **settings)
    assert [found.claim for found in together] == names[::-1]
    for found in together:
        alone = attack(statement, found.claim, **settings)
        assert found.margin == pytest.approx(alone.margin, rel=1e-9), found.claim
        assert found.tightness == pytest.approx(alone.tightness, rel=1e-9), found.claim


def test_an_attack_on_sides_that_vanish_is_undecided():
    class Nothing(TwoSidedSize):
        @staticmethod
        def claims(xp, w):
            yield Claim("nothing", 0 * w.beta, ">=", 0 * w.beta)

    found = attack(Nothing, "nothing", restarts=4, steps=3)
    assert found.status is Status.UNDECIDED and found.in_scope and math.isnan(found.tightness)


def test_an_attack_that_meets_no_world_in_scope_decides_nothing():
    class Nowhere(TwoSidedSize):
        @staticmethod
        def conditions(xp, w):
            yield Claim("never", 0 * w.beta, ">", w.beta)

    found = attack(Nowhere, "Hoeffding upper bound", restarts=4, steps=3)
    assert found.status is Status.OUT_OF_SCOPE and not found.in_scope
    assert attacks(Nowhere, []) == []


@pytest.mark.parametrize(
    ("claim", "relation", "options", "message"),
    [
        ("bound", ">=", dict(restarts=0), "restarts=0: an attack needs at least 1"),
        ("bound", ">=", dict(steps=-1), "steps=-1"),
        ("bound", ">=", dict(responses=0), "responses=0"),
        ("same", "==", {}, "claim='same': an identity has no margin to attack"),
        ("strict", ">", {}, "claim='strict': S3 claims a strict inequality"),
    ],
)
def test_what_cannot_be_attacked_is_refused(claim, relation, options, message):
    class Stated(TwoSidedSize):
        @staticmethod
        def claims(xp, w):
            yield Claim(claim, 2 * w.beta, relation, w.beta + w.beta)

    with recording() as made, pytest.raises(ValueError, match=re.escape(message)):
        attack(Stated, claim, **{"restarts": 2, "steps": 1, **options})
    assert made == []


def test_the_attack_climbs():
    """From two starts that are far from tight it reaches an inequality that is attained in a limit only."""
    start, found = (
        attack(TwoSidedSize, "Hoeffding upper bound", restarts=2, steps=steps) for steps in (0, 100)
    )
    assert start.tightness < 0.9 and found.tightness > 0.97


def test_rounding_is_held_against_the_attack():
    """An attained bound is never said to be tighter than it is proved to be: the error bound is taken off."""
    found = attack(TwoSidedSize, "Bennett upper bound", responses=2, restarts=8, steps=10)
    assert found.error > 0 and found.tightness < 1
    arguments = {name: np.array([value]) for name, value in found.world.items()}
    (result,) = check_arguments(only(TwoSidedSize, found.claim), arguments)
    law, reward, beta = (np.array(found.world[name]) for name in ("log_d", "reward", "beta"))
    size = float(bounds.coupling_gap(law, reward, beta[0]))
    assert found.tightness <= 1 - (result.margin[0] + 0.9 * result.error[0]) / size


def test_the_smallest_witness_has_two_responses_and_the_smallest_denominators():
    found = smallest_witness(SftCanRaiseReward, "SFT never raises the raw reward")
    assert found is not None
    denominators = {v.denominator for field in found.values.values() for v in field}
    assert len(found.values["reward"]) == 2 and max(denominators) == 2


def test_no_witness_against_a_theorem():
    budget = dict(max_responses=2, max_denominator=6)
    assert smallest_witness(CouplingAtSftOptimality, RAISES, **budget) is None


@pytest.mark.slow  # most of a budget
def test_the_default_budget_reaches_r7s_witness_whose_denominator_is_eleven():
    found = smallest_witness(AlongTheWay, STEP)
    assert found is not None
    assert str(found).startswith("d = (1/11, 3/11, 7/11), reward = (11, 0, 10), beta = 2")


@pytest.mark.slow  # exhausts a budget
@pytest.mark.parametrize("budget", [dict(max_denominator=10), dict(max_worlds=600_000)])
def test_a_smaller_budget_does_not_reach_it(budget):
    assert smallest_witness(AlongTheWay, STEP, **budget) is None


def test_a_field_without_use_keeps_its_smallest_value_and_one_of_a_condition_does_not():
    assert _fields_in_use(only(AlongTheWay, STEP)) == {"log_d", "reward", "beta"}

    class FarAlong(AlongTheWay):
        @staticmethod
        def conditions(xp, w):
            yield Claim("mix exceeds one half", w.mix, ">", xp.full_like(w.mix, 0.5))

    assert _fields_in_use(only(FarAlong, STEP)) == {"log_d", "reward", "beta", "mix"}


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_false_identity_has_a_witness_on_either_side(factor):
    class Wrong(SftCanRaiseReward):
        @staticmethod
        def claims(xp, w):
            yield Claim("wrong", 2 * w.beta, "==", 2 * factor * w.beta)

    found = smallest_witness(Wrong, "wrong")
    assert str(found) == "p = (0, 1), ref = (1/2, 1/2), reward = (0, 0), beta = 1"
