"""D1, exact decoupling: derivation, drawn worlds, disjoint prompts, the false claim refuted."""

import pytest
from hypothesis import given

from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim, Statement, only
from nondecoupling.theory.theorems.d1_exact_decoupling import ExactDecoupling
from nondecoupling.theory.worlds import WorldValues
from proofs.checks import assert_attained, assert_survives, exact_world
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_zero, symbolic_world

pytestmark = pytest.mark.statement("D1")
NEVER_LOWERS = "RL never lowers the SFT loss"
TWO_PROMPTS = dict(
    kind="1 -1", log_d="1/3 2/3", reward="0 1", log_d_two="1/4 3/4", reward_two="2 0", beta="1"
)


@pytest.mark.symbolic
@pytest.mark.parametrize(("rl", "shared"), [((1, 0), "one"), ((1, 1), "both"), ((0, 1), "other")])
def test_only_shared_prompts_pay(rl, shared, evidence):
    """Two prompts, free laws, rewards and SFT weights; RL on one of them or on both."""
    xp = sympy_numbers()
    trained = xp.array([0 if present else float("-inf") for present in rl])
    free = symbolic_world(ExactDecoupling, 2)
    w = WorldValues({**free, "kind": xp.array([1, -1]), "log_rl": trained})
    (claim,) = only(ExactDecoupling, "only shared prompts pay").claims(xp, w)
    assert_zero(claim.lhs.flat[0] - claim.rhs.flat[0], claim=claim.name)
    (never,) = only(ExactDecoupling, NEVER_LOWERS).claims(xp, w)
    assert_zero((never.margin() - claim.rhs).flat[0], claim=NEVER_LOWERS)
    evidence(f"the change is the shared prompts' gaps ({shared} trained); {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(ExactDecoupling))
def test_drawn_worlds(world):
    assert_holds(ExactDecoupling, world)


@pytest.mark.certified
@pytest.mark.parametrize(
    "world",
    [
        exact_world(log_sft="1 0", log_rl="0 1", **TWO_PROMPTS),
        exact_world(log_sft="0 1", log_rl="1 0", **TWO_PROMPTS),
        exact_world(log_sft="1 0", log_rl="1/2 1/2", **{**TWO_PROMPTS, "reward": "5 5"}),
        exact_world(log_sft="1 0", log_rl="1/2 1/2", **{**TWO_PROMPTS, "log_d": "0 1"}),
    ],
    ids=["disjoint", "disjoint the other way", "constant on the shared prompt", "point mass"],
)
def test_decoupled(world):
    assert_attained(ExactDecoupling, NEVER_LOWERS, world)


@pytest.mark.certified
@pytest.mark.parametrize("share", ["1/2 1/2", "999999/1000000 1/1000000"])
def test_one_shared_prompt_couples(share):
    world = exact_world(log_sft=share, log_rl="0 1", **TWO_PROMPTS)
    (margin,) = [v.margin for v in assert_holds(ExactDecoupling, world) if v.claim == NEVER_LOWERS]
    assert margin > 0


@pytest.mark.attacked
def test_no_violation_is_found():
    assert_survives(ExactDecoupling, NEVER_LOWERS)


def test_always_coupled_is_refuted(evidence):
    witness = smallest_witness(ExactDecoupling, "RL always raises the SFT loss")
    assert witness is not None
    evidence(f"decoupled world: {witness}")


def test_counting_all_sft_prompts_is_refuted():
    """The identity with the gaps of all SFT prompts, shared or not, fails where they differ."""

    class AllPrompts(ExactDecoupling):
        @staticmethod
        def claims(xp, w):
            (found,) = only(ExactDecoupling, "only shared prompts pay").claims(xp, w)
            everywhere = xp.full_like(w.log_sft, 0.0)
            w = type(w)({**w, "log_rl": everywhere})
            (all_prompts,) = only(ExactDecoupling, "only shared prompts pay").claims(xp, w)
            yield Claim("all prompts pay", found.lhs, "==", all_prompts.rhs)

    assert issubclass(AllPrompts, Statement)
    with pytest.raises(AssertionError, match="refuted"):
        assert_holds(AllPrompts, exact_world(log_sft="1 0", log_rl="0 1", **TWO_PROMPTS))
