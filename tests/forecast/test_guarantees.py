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
    assert advice.guaranteed.own_loss_change.high <= budget
    assert isinstance(advice.plug_in, UnsupportedBeta)
    assert "by Hoeffding's bound (S3), without samples" in advice.why
    assert "98% of the prompts show one reward only" in advice.why
    for name in ("reward", "own_loss_change", "kl", "soft_value"):
        assert "do not support the estimate" in getattr(advice.guaranteed, name).how
    assert isinstance(plan.at_beta(advice.guaranteed.beta), UnsupportedBeta)


TILTED = [
    (Recipe("leave-one-out", "k1-in-reward", beta=0.5), 1.0),
    (Recipe("group-mean", "k2-in-loss", beta=0.5, group_size=4), 0.75),
    (Recipe("leave-one-out", "k3-with-ratio", 0.5, false_positives=0.1, false_negatives=0.3), 0.6),
    # Not by its own beta, but by the strongest tilt it may end at: T4's factor sqrt(G - 1), whatever the reward's unit.
    (Recipe("group-normalised", "k3-with-ratio", beta=0.5, group_size=10), 3.0),
]


@pytest.mark.parametrize(("recipe", "met"), TILTED)
@pytest.mark.parametrize("rows", [HOPELESS, np.tile([0.0, 1.0, 0.0, 1.0], (60, 1))])
def test_hoeffdings_bound_keeps_a_budget_for_every_recipe_that_ends_at_a_tilt(recipe, met, rows):
    plan = forecast(Samples(7 * rows, reward_bounds=(0, 7)), recipe=recipe)
    unit = 1 if recipe.advantage == "group-normalised" else 7
    for budget in (1e-3, 0.17):
        advice = plan.recommend(loss_budget=budget)
        assert isinstance(advice.guaranteed, AtBeta)
        always = met * unit / math.sqrt(8 * budget)
        assert advice.guaranteed.beta <= always * (1 + 1e-12)
        assert advice.guaranteed.own_loss_change.high <= budget
        if rows is HOPELESS:
            assert advice.guaranteed.beta == pytest.approx(always)
            assert "by Hoeffding's bound (S3)" in advice.why


def test_a_recipe_that_is_exact_rl_has_the_same_guarantee():
    samples = Samples(np.tile([0.0, 1.0, 0.0, 1.0], (60, 1)), reward_bounds=UNIT)
    same = Recipe("leave-one-out", "k1-in-reward", beta=0.5)
    for budget in (0.02, 0.2):
        assert forecast(samples, recipe=same).recommend(loss_budget=budget) == forecast(
            samples
        ).recommend(loss_budget=budget)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("leave-one-out", "k3-in-loss", beta=0.5),
        Recipe(
            "group-normalised", "k3-with-ratio", beta=0.5
        ),  # large groups: T4 has no largest factor
    ],
)
def test_where_hoeffdings_bound_says_nothing_nothing_is_guaranteed_by_it(recipe):
    advice = forecast(Samples(HOPELESS, reward_bounds=UNIT), recipe=recipe).recommend(
        loss_budget=0.2
    )
    assert advice.guaranteed is None


def test_rounding_takes_no_guarantee_over_its_budget():
    plan = forecast(Samples(HOPELESS, reward_bounds=UNIT))
    rounded_up = 0
    for budget in np.linspace(0.01, 0.4, 40).tolist():
        found = plan.recommend(loss_budget=budget).guaranteed
        assert found.own_loss_change.high <= budget
        rounded_up += found.beta > 1 / math.sqrt(8 * budget)
        assert found.beta == pytest.approx(1 / math.sqrt(8 * budget), rel=1e-14)
    assert rounded_up > 0
    assert plan.recommend(loss_budget=1e-300).guaranteed.own_loss_change.high <= 1e-300


@pytest.mark.parametrize(
    "recipe",
    [
        None,
        Recipe("group-mean", "k2-in-loss", beta=0.5, group_size=4),
        Recipe("group-normalised", "k3-with-ratio", beta=0.5, group_size=8),
        Recipe("leave-one-out", "k3-in-loss", beta=0.5),
    ],
)
@pytest.mark.parametrize("budget", [1e-4, 1e-7])
def test_a_plug_in_choice_keeps_to_a_budget_below_those_of_the_grid(recipe, budget):
    plan = forecast(
        Samples(np.tile([0.0, 1.0, 0.0, 0.0], (40, 2)), reward_bounds=UNIT), recipe=recipe
    )
    assert plan._plans.path.losses.estimate[0] > budget
    found = plan.recommend(loss_budget=budget).plug_in
    assert isinstance(found, AtBeta) and 0 < found.own_loss_change.value <= budget
    assert plan.at_beta(found.beta / 1.16).own_loss_change.value > budget  # a step of 15 % stronger


@pytest.mark.parametrize("recipe", [None, Recipe("leave-one-out", "k3-in-loss", beta=0.5)])
def test_no_budget_is_too_small_for_an_answer(recipe):
    plan = forecast(Samples(np.tile([0.0, 1.0], (40, 4)), reward_bounds=UNIT), recipe=recipe)
    found = plan.recommend(loss_budget=1e-30).plug_in
    assert isinstance(found, AtBeta) and found.own_loss_change.value <= 1e-30


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
