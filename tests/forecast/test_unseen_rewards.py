"""Where a forward leash ends when no response to a prompt shows the highest reward of the bounds (T2).

Either none exists, as under a broken answer key or with loose bounds, or it is too rare to be seen: limits hold for
both, and estimates are those of the rewards that were seen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_runs import DELTA, held

from nondecoupling import bounds
from nondecoupling.forecast import Samples, UnsupportedBeta, forecast
from nondecoupling.forecast.curves import Path
from nondecoupling.forecast.leashes import ForwardEnds, NormalisedEnds
from nondecoupling.forecast.planning import Plans
from nondecoupling.forecast.trainers import ForecastTrainer
from nondecoupling.monitor.prices import PriceCurves
from nondecoupling.recipes import Recipe

FORWARD = Recipe("leave-one-out", "k3-in-loss", beta=0.3)
NORMALISED = Recipe("group-normalised", "k3-in-loss", beta=0.6, group_size=4)
BETAS = np.array([2.0, 0.5, 0.1])
# (rewards, chances of each kind of prompt, the highest reward that the bounds allow)
WORLDS = {
    "broken keys": ([0.0, 1.0], [[1, 0], [1, 0], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7]], 1.0),
    "rare successes": ([0.0, 1.0], [[0.999, 0.001], [0.98, 0.02], [0.6, 0.4]], 1.0),
    "loose bounds": ([0.0, 0.3, 0.8, 1.0], [[0.1, 0.3, 0.4, 0.2], [0.5, 0.2, 0.3, 0]], 2.0),
}


def ends(rewards, chances, beta, best=None):
    """Of each kind of prompt the reward and the loss, with one more response of reward ``best`` and no mass."""
    found = []
    for law in np.array(chances, float):
        shown = np.array(rewards)[law > 0]
        top = shown.max() if best is None else best
        log_ref = np.log(np.append(law[law > 0], np.finfo(float).tiny))
        at = bounds.forward_leash_optimum(log_ref, np.append(shown, top), beta)
        found.append([np.exp(at) @ np.append(shown, top), np.exp(log_ref) @ (log_ref - at)])
    return np.array(found).T


def draw(world, rng, prompts, k):
    """Samples, and the kind of each prompt."""
    rewards, chances, high = WORLDS[world]
    kind = rng.integers(len(chances), size=prompts)
    below = np.cumsum(chances, axis=1)[kind, None, :-1]
    picked = (rng.random((prompts, k, 1)) >= below).sum(axis=-1)
    return Samples(np.array(rewards)[picked], reward_bounds=(0, high)), kind


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("k", [2, 7, 16])
def test_what_limits_are_made_of_is_on_the_safe_side_of_each_kind_of_prompt(world, k):
    rewards, chances, high = WORLDS[world]
    samples, kind = draw(world, np.random.default_rng(k), 6_000, k)
    found = ForwardEnds(samples, BETAS)
    sides = [(found._from_below, 1, None), (found._from_above, -1, high)]
    for (of_reward, of_loss), sign, best in sides:
        truths = np.array([ends(rewards, chances, beta, best) for beta in BETAS])
        for number, (values, least, most) in enumerate((of_reward, of_loss)):
            if sign > 0:
                assert np.all(values >= least)
            else:
                assert np.all(values <= most)
            for one in range(len(chances)):
                each = values[:, kind == one] + (high if number == 0 else 0.0)
                error = each.std(axis=1) / np.sqrt(each.shape[1])
                assert np.all(
                    sign * (each.mean(axis=1) - truths[:, number, one]) <= 4 * error + 1e-9
                )


@pytest.mark.parametrize("worlds", [5, pytest.param(40, marks=pytest.mark.slow)])  # roots
@pytest.mark.parametrize("world", WORLDS)
def test_limits_hold_whether_or_not_an_unseen_reward_exists(world, worlds):
    rewards, chances, high = WORLDS[world]
    rng, missed, strongest = np.random.default_rng(5), [], []
    truths = np.array(
        [
            [ends(rewards, chances, beta, best).mean(axis=1) for beta in BETAS]
            for best in (None, high)
        ]
    )
    for _ in range(worlds):
        found = ForwardEnds(draw(world, rng, 100, 16)[0], BETAS)
        for_each = found.rewards(DELTA), found.own_loss_changes(DELTA)
        low, high_end = (
            np.stack(side, axis=1)
            for side in zip(*((i.low, i.high) for i in for_each), strict=True)
        )
        missed.append((low > truths) | (truths > high_end))
        strongest.append((low[-1, 0], high_end[-1, 0]))
    lowest, highest = np.mean(strongest, axis=0)
    assert lowest > 0.2 and highest < high  # they say something
    for each in np.reshape(missed, (worlds, -1)).T:
        assert held(each, DELTA)


@pytest.mark.parametrize("world", ["broken keys", "loose bounds"])
def test_estimates_are_those_of_rewards_that_were_seen(world):
    rewards, chances, _ = WORLDS[world]
    samples, kind = draw(world, np.random.default_rng(1), 2_000, 64)
    found = ForwardEnds(samples, BETAS)
    truths = np.array([ends(rewards, chances, beta)[:, kind].mean(axis=1) for beta in BETAS]).T
    np.testing.assert_allclose(found.plug_in_rewards(), truths[0], atol=0.01)
    np.testing.assert_allclose(found.plug_in_losses(), truths[1], atol=0.03)


@pytest.mark.parametrize("worlds", [1, pytest.param(6, marks=pytest.mark.slow)])  # whole paths
def test_a_guaranteed_reward_is_reached_under_loose_bounds(worlds):
    law, rng, short = [0.3, 0.4, 0.3], np.random.default_rng(4), []
    for _ in range(worlds):
        rows = rng.choice([0.0, 0.5, 1.0], (200, 8), p=law)
        trainer = ForecastTrainer(Samples(rows, reward_bounds=(0, 2)), FORWARD)
        path = Path(trainer, DELTA)
        _, strongest = path.around(0.6)
        sure = float(path.betas[strongest])
        short.append(ends([0.0, 0.5, 1.0], [law], sure)[0, 0] < 0.6)
    assert held(short, DELTA) if worlds > 1 else not any(short)


HALF_BROKEN = Samples(
    np.repeat([[0.0] * 16, [0.0, 1.0] * 8], 40, axis=0), reward_bounds=(0, 1)
)  # no success at half of the prompts


def test_the_note_says_where_only_the_upper_end_allows_for_an_unseen_reward():
    said = "at 50.0% of the prompts an unseen response of reward 1 would change the end"
    for recipe in (FORWARD, NORMALISED):
        answer = forecast(HALF_BROKEN, recipe=recipe).at_beta()
        assert said in answer.reward.how and said in answer.own_loss_change.how
    # So weak a leash as this ends where it would, seen or not; and exact RL has nothing to gain from what ref lacks.
    assert "unseen" not in forecast(HALF_BROKEN, recipe=FORWARD).at_beta(1.5).reward.how
    assert "unseen" not in forecast(HALF_BROKEN).at_beta(0.3).reward.how


@pytest.mark.parametrize("share", [0.25, 0.9, 1.1])
def test_the_note_is_there_wherever_a_rare_success_would_be_raised(share):
    """To a share of the way from the lower to the higher factor, and beyond both."""
    recipe = Recipe("group-normalised", "k3-in-loss", beta=1.0, group_size=8)
    low, high = NormalisedEnds(HALF_BROKEN, BETAS, recipe).factors
    recipe = replace(recipe, beta=low + share * (high - low))
    rare = float(bounds.group_normalized_success(1e-12, 8, recipe.beta, "forward").success)
    answer = forecast(HALF_BROKEN, recipe=recipe).at_beta()
    for number in (answer.reward, answer.own_loss_change):
        assert number.how.count("unseen") == (rare > 1e-3) == (share < 1)


def test_without_a_limit_for_the_factor_every_prompt_without_a_success_counts():
    recipe = Recipe("group-normalised", "k3-in-loss", beta=1e3, eps=0.0)
    how = NormalisedEnds(HALF_BROKEN, np.array([1e3]), recipe).how("reward")
    assert how.count("at 50.0% of the prompts an unseen response of reward 1") == 1


@pytest.mark.slow  # the whole path of a trainer
def test_so_does_the_note_of_what_reaches_a_reward():
    reached = forecast(HALF_BROKEN, recipe=FORWARD).at_reward(0.4)
    for number in (reached.beta, reached.trained_price):
        assert "at 50.0% of the prompts an unseen response" in number.how


def test_normalised_advantages_leave_prompts_without_a_success():
    answer = forecast(HALF_BROKEN, recipe=NORMALISED).at_beta()
    success = float(bounds.group_normalized_success(0.5, 4, 0.6, "forward").success)
    assert answer.reward.value == pytest.approx(success / 2)
    assert answer.own_loss_change.value == pytest.approx(-np.log(4 * success * (1 - success)) / 4)
    # Were successes there and rare, it would raise them to nearly as much.
    rare = float(bounds.group_normalized_success(1e-12, 4, 0.6, "forward").success)
    assert answer.reward.low < success / 2 < (success + rare) / 2 < answer.reward.high


@pytest.mark.parametrize("recipe", [FORWARD, NORMALISED])
def test_only_experts_who_are_right_show_that_a_success_exists(recipe):
    def change(expert):
        rows = np.repeat([[expert], [1.0]], 40, axis=0)
        samples = Samples(HALF_BROKEN.ref_rewards, reward_bounds=(0, 1), expert_rewards=rows)
        return forecast(samples, recipe=recipe).at_beta().expert_loss_change.value

    alone = ends([0.0, 1.0], [[0.5, 0.5]], 0.3)[0, 0]
    if recipe == NORMALISED:
        alone = float(bounds.group_normalized_success(0.5, 4, 0.6, "forward").success)
    assert change(0.0) == pytest.approx(-np.log(2 * alone) / 2)  # wrong answers stay as likely
    assert change(1.0) < change(0.0) - 0.5


def test_the_cheapest_recipe_reaches_the_reward_where_keys_are_broken():
    plans = Plans(ForecastTrainer(HALF_BROKEN, None), 0.05)
    price, recipe = plans.cheapest(0.4)
    cheap = forecast(HALF_BROKEN, recipe=recipe).at_beta()
    assert cheap.reward.value == pytest.approx(0.4)
    assert cheap.own_loss_change.value == pytest.approx(price.value)
    assert price.low == plans.price(0.4).low < plans.price(0.4).value < price.value
    for free_or_beyond in (0.2, 0.6):
        assert plans.cheapest(free_or_beyond) == (None, None)


def test_a_reward_above_the_samples_by_less_than_rounding_is_free():
    """Rewards are counted from each prompt's highest, and their average is rounded otherwise."""
    seen = []
    for seed in range(8):
        samples = Samples(np.random.default_rng(seed).random((100, 4)), reward_bounds=(0, 1))
        target = float(np.nextafter(samples.mean_reward, 1))
        price, recipe = Plans(ForecastTrainer(samples, None), 0.05).cheapest(target)
        assert (price is None) == (recipe is None)
        assert price is None or price.value < 1e-12
        seen.append(price is None)
    assert any(seen)


@pytest.mark.slow  # the whole path of a trainer
def test_no_beta_reaches_a_reward_that_broken_keys_forbid():
    advice = forecast(HALF_BROKEN, recipe=FORWARD).recommend(reward_target=0.6)
    assert advice.guaranteed is None and isinstance(advice.plug_in, UnsupportedBeta)
    assert advice.cheapest is None and advice.cheapest_recipe is None


def test_a_monitor_reads_the_beta_and_the_price_where_keys_are_broken():
    curves = PriceCurves(HALF_BROKEN, 0.05, FORWARD)
    reward, loss = ends([0.0, 1.0], [[1, 0], [0.5, 0.5]], 0.3).mean(axis=1)
    assert curves.trained.beta(reward).value == pytest.approx(0.3, rel=0.02)
    assert curves.trained.price(reward).value == pytest.approx(loss, rel=0.02)
    assert curves.trained.price(0.6).sign == ">="
