"""R5, refuted: "SFT after RL always lowers the raw reward". Every witness is found by search."""

import time
from collections.abc import Iterator
from fractions import Fraction

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.deciding.attack import attack, smallest_witness
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import expected_reward
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim, Statement, StatementType
from nondecoupling.theory.theorems.r5_sft_can_raise_reward import SftCanRaiseReward
from nondecoupling.theory.worlds import World, rational_worlds
from proofs.checks import assert_survives, exact_world
from proofs.symbolic import assert_zero, symbolic_world

pytestmark = pytest.mark.statement("R5")
NEVER_RAISES, MOVES = "SFT never raises the raw reward", "SFT moves the raw reward"
GREEDY = "the greedy policy beats the tilt"


def where(condition) -> StatementType:
    """R5 restricted to worlds that satisfy one more condition."""

    def conditions(xp, w) -> Iterator[Claim]:
        yield from SftCanRaiseReward.conditions(xp, w)
        yield condition(xp, w)

    return type("Restricted", (SftCanRaiseReward,), {"conditions": staticmethod(conditions)})


@pytest.mark.certified
def test_search_finds_a_rise(evidence, capsys):
    """(iii): an SFT result with more reward than the RL optimum."""
    witness = smallest_witness(SftCanRaiseReward, NEVER_RAISES)
    assert witness is not None
    assert len(witness.values["reward"]) == 2
    evidence(f"(iii) reward rises at {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness, reward rises: {witness}")


@pytest.mark.certified
def test_search_finds_no_drop_for_a_constant_reward(evidence, capsys):
    """(i): the smallest world in which SFT moves away from the tilt and the reward stays."""
    witness = smallest_witness(SftCanRaiseReward, MOVES)
    assert witness is not None
    assert len(witness.values["reward"]) == 2
    assert len(set(witness.values["reward"])) == 1
    evidence(f"(i) reward unmoved at {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness, constant reward: {witness}")


@pytest.mark.symbolic
def test_search_finds_no_drop_inside_a_level_set(evidence, capsys):
    """(ii): the same for a reward that is not constant. p keeps the tilt's mass on each level of r.

    Such a p is irrational, so it is built from the world: the tilt's mass on each level, shared out
    as the rational p is.
    """
    candidates = (
        world
        for size in range(1, 7)
        for world in rational_worlds(SftCanRaiseReward.world, 3, size)
        if len(set(world.values["reward"])) == 2 and moves_within_a_level(world)
    )
    world = next(candidates)
    moved = moved_within_levels(world)
    evidence(f"(ii) reward unmoved with p = {moved} against the tilt of {world}")
    with capsys.disabled():
        print(f"\nsmallest witness inside a level set (n = 2 has none): {world}, p = {moved}")


def by_level(world: World, name: str) -> dict[Fraction, list[Fraction]]:
    levels: dict[Fraction, list[Fraction]] = {}
    for value, level in zip(world.values[name], world.values["reward"], strict=True):
        levels.setdefault(level, []).append(value)
    return levels


def moves_within_a_level(world: World) -> bool:
    """Whether p and ref have mass on every level and share some level out differently."""
    p, ref = by_level(world, "log_p"), by_level(world, "log_ref")
    return all(map(sum, p.values())) and any(
        [x * sum(ref[r]) for x in p[r]] != [x * sum(p[r]) for x in ref[r]] for r in p
    )


def moved_within_levels(world: World) -> list[sp.Expr]:
    """The tilt's level masses shared out as p; sympy proves the reward kept, the policy moved."""
    xp = sympy_numbers()
    w = world.exact(SftCanRaiseReward.world, xp)
    tilt = [sp.exp(t) for t in gibbs_tilt(xp, w.log_ref, w.reward, w.beta)]
    reward, shares = list(w.reward), [sp.Rational(s) for s in world.values["log_p"]]

    def on_level(values, level):
        return sum(v for v, r in zip(values, reward, strict=True) if r == level)

    moved = [
        sp.simplify(s * on_level(tilt, r) / on_level(shares, r))
        for s, r in zip(shares, reward, strict=True)
    ]
    gain = sum((m - t) * r for m, t, r in zip(moved, tilt, reward, strict=True))
    assert_zero(gain)
    assert any(sp.simplify(m - t) != 0 for m, t in zip(moved, tilt, strict=True))
    return moved


@pytest.mark.attacked
@pytest.mark.parametrize("responses", [2, 3, 6])
def test_attack_refutes_it(responses, evidence):
    start = time.perf_counter()
    result = attack(SftCanRaiseReward, NEVER_RAISES, responses=responses)
    assert result.violation
    evidence(f"attack raised the reward with n = {responses}")
    print(f"attack took {time.perf_counter() - start:.2f} s")


@pytest.mark.symbolic
def test_the_greedy_policy_always_beats_the_tilt(evidence):
    """M - J(tilt) = sum tilt (M - r): positive unless r is constant, since the tilt is positive."""
    xp, w = sympy_numbers(), symbolic_world(SftCanRaiseReward, 3)
    tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
    top = sp.Symbol("M", real=True)
    gain = top - expected_reward(xp, tilt, w.reward).flat[0]
    spelled = sum(sp.exp(t) * (top - r) for t, r in zip(tilt, w.reward, strict=True))
    assert_zero(gain - spelled, claim=GREEDY)
    evidence("J(greedy) - J(tilt) = sum tilt (max r - r), n = 3")


@pytest.mark.sampled
@given(worlds(SftCanRaiseReward))
def test_drawn_worlds(world):
    assert_holds(SftCanRaiseReward, world)


def test_the_true_claim_survives_and_its_negation_does_not():
    assert_survives(SftCanRaiseReward, GREEDY)

    class Reversed(SftCanRaiseReward):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            for claim in SftCanRaiseReward.claims(xp, w):
                if claim.name == GREEDY:
                    yield Claim("reversed", claim.rhs, ">=", claim.lhs)

    assert issubclass(Reversed, Statement)
    assert smallest_witness(Reversed, "reversed") is not None


def test_inside_the_ball_the_search_finds_nothing():
    """The same search with R3's condition comes back empty: the refutation needs leaving the ball."""
    from nondecoupling.theory.theorems.r3_kl_ball import KlBall

    def in_the_ball(xp, w) -> Claim:
        (claim,) = KlBall.conditions(xp, w)
        return claim

    assert smallest_witness(where(in_the_ball), NEVER_RAISES, max_denominator=3) is None


def test_equality_is_not_mistaken_for_a_rise():
    from nondecoupling.deciding.certify import certify

    world = exact_world(log_p="0 1", log_ref="1/2 1/2", reward="1 1", beta="1")
    verdicts = {v.claim: v for v in certify(SftCanRaiseReward, world)}
    assert verdicts[NEVER_RAISES].status is not Status.REFUTED
