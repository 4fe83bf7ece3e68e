"""What is guaranteed rests on limits, which hold where the samples support no estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nondecoupling.forecast import AtBeta, Samples, UnsupportedBeta, forecast
from nondecoupling.recipes import Recipe

UNIT = (0.0, 1.0)
HOPELESS = np.zeros((40, 8))
HOPELESS[0, 0] = 1
EASY = np.ones((400, 8))  # 70 % of the prompts always succeed, the others mostly
EASY[:120, 0] = 0


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("budget", [1e-6, 0.2, 5.0])
def test_hoeffdings_bound_keeps_a_budget_where_no_beta_is_supported(budget, scale):
    plan = forecast(Samples(scale * HOPELESS, reward_bounds=(0, scale)))
    advice = plan.recommend(loss_budget=budget)
    assert isinstance(advice.guaranteed, AtBeta)
    assert advice.guaranteed.beta == pytest.approx(scale / math.sqrt(8 * budget))
    assert advice.guaranteed.own_loss_change.high <= budget * (1 + 1e-12)
    assert isinstance(advice.plug_in, UnsupportedBeta)
    assert "by Hoeffding's bound (S3), without samples" in advice.why
    assert "98% of the prompts show one reward only" in advice.why
    for name in ("reward", "own_loss_change", "kl", "soft_value"):
        assert "do not support the estimate" in getattr(advice.guaranteed, name).how
    assert isinstance(plan.at_beta(advice.guaranteed.beta), UnsupportedBeta)


def test_a_large_budget_goes_beyond_the_supported_betas():
    plan = forecast(Samples(np.tile([1.0] + [0.0] * 31, (100, 1)), reward_bounds=UNIT))
    advice = plan.recommend(loss_budget=8.0)
    assert isinstance(advice.guaranteed, AtBeta) and advice.guaranteed.beta == 0.125
    assert advice.guaranteed.own_loss_change.high <= 8.0
    assert "too far for 32 responses" in advice.why
    assert isinstance(advice.plug_in, AtBeta) and advice.plug_in.beta > 0.125
    assert "do not support" not in advice.plug_in.reward.how


@pytest.mark.parametrize("budget", [1e20, 1e300])
def test_no_budget_leads_below_the_least_beta(budget):
    plan = forecast(Samples(np.tile([0.0, 1.0] * 8, (40, 1)), reward_bounds=UNIT))
    advice = plan.recommend(loss_budget=budget)
    assert advice.guaranteed == plan.at_beta(1e-6)


def test_the_least_beta_of_the_grid_is_not_the_last_of_none():
    """Counted from the end, place -1 of no supported beta would be the strongest RL there is."""
    plan = forecast(Samples(HOPELESS, reward_bounds=UNIT))
    least = float(plan._plans.path.betas[-1])
    why = plan.recommend(loss_budget=1 / (8 * least**2)).why
    assert "stronger RL may fit too" not in why


def test_without_a_supported_beta_a_recipe_says_why():
    recipe = Recipe("leave-one-out", "k3-in-loss", beta=0.5)
    advice = forecast(Samples(HOPELESS, reward_bounds=UNIT), recipe=recipe).recommend(loss_budget=1)
    assert advice.guaranteed is None
    assert "98% of the prompts show one reward only" in advice.why
    assert "can be had for less" not in advice.why


def test_a_reward_is_guaranteed_by_its_lower_end_where_no_beta_is_supported():
    advice = forecast(Samples(EASY, reward_bounds=UNIT)).recommend(reward_target=0.97)
    assert isinstance(advice.guaranteed, AtBeta) and advice.guaranteed.reward.low > 0.97
    assert "do not support the estimate" in advice.guaranteed.reward.how
    assert isinstance(advice.plug_in, UnsupportedBeta)
    assert "read the limits, not the estimates" in advice.why


def test_a_supported_choice_has_no_such_remark():
    plan = forecast(Samples(np.tile([0.0, 1.0] * 8, (400, 1)), reward_bounds=UNIT))
    for advice in (plan.recommend(loss_budget=0.1), plan.recommend(reward_target=0.6)):
        assert advice.guaranteed == plan.at_beta(advice.guaranteed.beta)
        assert "not the estimates" not in advice.why
