"""Quality of the generators: the drawn worlds reach the extremes and the near-equality cases."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.testing import worlds
from nondecoupling.theory.theorems.r3_kl_ball import KlBall
from nondecoupling.theory.theorems.s2_coupling_at_sft_optimality import CouplingAtSftOptimality
from nondecoupling.theory.theorems.s3_two_sided_size import TwoSidedSize
from nondecoupling.theory.theorems.s5_price_of_reward import PriceOfReward
from nondecoupling.theory.worlds import rational_worlds

SEARCH = settings(
    max_examples=1000,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def reaches(statement, condition):
    return find(worlds(statement), condition, settings=SEARCH)


@pytest.mark.parametrize(
    "condition",
    [
        lambda w: max(w.values["log_d"]) > 1 - Fraction(1, 10**20),
        lambda w: 0 < min(w.values["log_d"]) < Fraction(1, 10**20),
        lambda w: 0 in w.values["log_d"],
        lambda w: w.values["beta"][0] <= Fraction(1, 10**6),
        lambda w: w.values["beta"][0] >= 10**6,
        lambda w: len(set(w.values["reward"])) == 1,
        lambda w: 1 < len(set(w.values["reward"])) < len(w.values["reward"]),
        lambda w: max(w.values["reward"]) - min(w.values["reward"]) > 10**6,
        lambda w: min(w.values["reward"]) > 900_000,
        lambda w: len(w.values["log_d"]) == 4,
    ],
    ids=[
        "near-deterministic law", "probability below 1e-20", "zero mass", "tiny beta", "huge beta",
        "constant reward", "ties", "wide rewards", "large offset", "four responses",
    ],
)  # fmt: skip
def test_extremes_are_reached(condition):
    assert reaches(CouplingAtSftOptimality, condition)


@pytest.mark.parametrize(
    ("statement", "claim", "share"),
    [
        (TwoSidedSize, "Bennett upper bound", 1e-3),
        (TwoSidedSize, "Hoeffding upper bound", 0.05),
        (PriceOfReward, "weak duality", 0.05),
        (KlBall, "the drop inside the ball", 0.2),
    ],
)
def test_near_equality_worlds_are_reached(statement, claim, share):
    def nearly_attained(world):
        verdict = next(v for v in certify(statement, world, (128,)) if v.claim == claim)
        size = max(abs(verdict.lhs), abs(verdict.rhs))
        return verdict.status is Status.HOLDS and 0 < verdict.margin < share * size

    assert reaches(statement, nearly_attained)


@pytest.mark.slow  # many random worlds
def test_the_quality_check_can_fail():
    with pytest.raises(NoSuchExample):
        reaches(CouplingAtSftOptimality, lambda w: len(w.values["log_d"]) == 9)


def test_sampled_float_worlds_reach_both_ends():
    from nondecoupling.theory.worlds import sample_worlds

    drawn = sample_worlds(CouplingAtSftOptimality.world, np.random.default_rng(0), 20_000, 3)
    top = np.exp(drawn["log_d"]).max(axis=1)
    assert top.max() > 1 - 1e-12 and top.min() < 0.4
    assert np.isneginf(drawn["log_d"]).any()
    assert drawn["beta"].min() < 0.05 and drawn["beta"].max() > 20


def test_rational_worlds_come_in_order_and_without_repeats():
    found = [
        str(w) for n in (1, 2, 3) for w in rational_worlds(CouplingAtSftOptimality.world, 2, n)
    ]
    assert len(found) == len(set(found)) > 20
    assert "reward = (0, 1)" in " ".join(found)
