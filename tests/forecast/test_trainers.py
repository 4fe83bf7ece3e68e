"""Forecasts for a trainer: where it ends, against ``bounds`` on laws that the samples show exactly."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from known_runs import DELTA, RUNS, held

from nondecoupling import bounds
from nondecoupling.forecast import (
    AtBeta,
    Estimate,
    Forecast,
    Samples,
    UnsupportedBeta,
    UnsupportedRecipe,
    forecast,
)
from nondecoupling.forecast.leashes import ForwardEnds, NormalisedEnds
from nondecoupling.recipes import Recipe

UNIT = (0.0, 1.0)
GRADES, LOG_REF = np.array([0.0, 0.5, 1.0]), np.log([0.5, 0.25, 0.25])
GRADED = Samples(
    np.tile([0.0, 0.0, 0.5, 1.0] * 8, (400, 1)),
    reward_bounds=UNIT,
    expert_rewards=np.tile([0.5, 1.0], (400, 1)),
)
BINARY = Samples(
    np.tile([0.0, 1.0, 0.0, 0.0, 1.0] * 8, (400, 1)),
    reward_bounds=UNIT,
    expert_rewards=np.tile([0.0, 1.0, 1.0, 1.0], (400, 1)),
)
FORWARD = Recipe("leave-one-out", "k3-in-loss", beta=0.5)
NORMALISED = Recipe("group-normalised", "k3-with-ratio", beta=1.5, group_size=8)


def contained(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


@pytest.mark.parametrize(
    ("recipe", "beta"),
    [
        (Recipe("leave-one-out", "k1-in-reward", beta=0.5), 0.5),
        (Recipe("group-mean", "k1-in-reward", beta=0.5, group_size=4), 0.5),
        (Recipe("group-mean", "k2-in-loss", beta=0.3, group_size=4), 0.4),
        (Recipe("leave-one-out", "k3-with-ratio", 0.3, false_positives=0.1, false_negatives=0.3), 0.5),
    ],
)  # fmt: skip
def test_a_reverse_leash_ends_at_the_tilt(recipe, beta):
    trained, exact = forecast(BINARY, recipe=recipe).at_beta(), forecast(BINARY).at_beta(beta)
    assert trained.beta == recipe.beta
    for name in ("reward", "own_loss_change", "expert_loss_change", "kl", "soft_value"):
        a, b = getattr(trained, name), getattr(exact, name)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-12)


def test_a_forward_leash_ends_on_the_frontier():
    answer = forecast(GRADED, recipe=FORWARD).at_beta()
    end = bounds.forward_leash_optimum(LOG_REF, GRADES, FORWARD.beta)
    reward, loss = (
        float(bounds.expected_reward(end, GRADES)),
        float(bounds.kl_divergence(LOG_REF, end)),
    )
    experts = -float(np.mean((end - LOG_REF)[[1, 2]]))
    assert answer.reward.value == pytest.approx(reward)
    assert answer.own_loss_change.value == pytest.approx(loss)
    assert answer.expert_loss_change.value == pytest.approx(experts)
    assert contained(answer.reward, reward) and contained(answer.own_loss_change, loss)
    assert answer.reward.low > 0.3 and answer.own_loss_change.high < 3 * loss
    assert answer.kl is None and answer.soft_value is None
    assert loss == pytest.approx(float(bounds.price_of_reward(LOG_REF, GRADES, reward)))


@pytest.mark.parametrize("recipe", [NORMALISED, replace(NORMALISED, leash="k3-in-loss", beta=1.0)])
def test_normalised_advantages(recipe):
    answer = forecast(BINARY, recipe=recipe).at_beta()
    leash = "forward" if recipe.leash == "k3-in-loss" else "reverse"
    end = bounds.group_normalized_success(0.4, 8, recipe.beta, leash)
    success, start = float(end.success), 0.4
    up, down = np.log(success / start), np.log((1 - success) / (1 - start))
    loss = -(start * up + (1 - start) * down)
    assert answer.reward.value == pytest.approx(success)
    assert answer.own_loss_change.value == pytest.approx(loss)
    assert answer.expert_loss_change.value == pytest.approx(-(0.75 * up + 0.25 * down))
    assert contained(answer.reward, success) and contained(answer.own_loss_change, loss)
    assert answer.reward.low > start


def of_many_difficulties(prompts: int, responses: int) -> tuple[Samples, np.ndarray]:
    """Samples, many prompts of which show no success, and the chances of success of many more."""
    rng = np.random.default_rng(11)
    chances = rng.beta(0.3, 0.6, 8_000).clip(1e-4, 1 - 1e-4)
    rows = rng.random((prompts, responses)) < chances[:prompts, None]
    experts = np.ones((prompts, 1))
    return Samples(rows.astype(float), reward_bounds=UNIT, expert_rewards=experts), chances


@pytest.mark.parametrize(
    ("beta", "size"),
    [(0.6, 4), pytest.param(0.3, 16, marks=pytest.mark.slow)],  # chords, for both factors
)
def test_a_forward_leash_may_raise_what_no_response_shows_normalised_or_not(beta, size):
    samples, chances = of_many_difficulties(400, 32)
    assert (samples.mean_reward < 0.4) and (samples.ref_rewards.max(axis=1) == 0).mean() > 0.2
    recipe = Recipe("group-normalised", "k3-in-loss", beta=beta, group_size=size)
    log_ref = np.log(np.stack([1 - chances, chances], axis=1))
    end = bounds.stationary_policy(log_ref, np.tile(UNIT, (len(chances), 1)), recipe)
    change = log_ref - end.log_p
    rewards, losses = np.exp(end.log_p[:, 1]), np.sum(np.exp(log_ref) * change, axis=1)
    shown = 1 - (1 - chances) ** 32  # how probable it is that a response is right
    answer = forecast(samples, recipe=recipe).at_beta()
    for number, truths in ((answer.reward, rewards), (answer.own_loss_change, losses)):
        assert contained(number, truths.mean()) and contained(number, (shown * truths).mean())
        assert contained(number, number.value)
    reward, loss = ((shown * truths)[:400].mean() for truths in (rewards, losses))  # these prompts
    assert answer.reward.value == pytest.approx(reward, abs=0.03)
    assert answer.own_loss_change.value == pytest.approx(loss, rel=0.15)
    plain = forecast(samples, recipe=replace(FORWARD, beta=beta)).at_beta()
    assert answer.reward.value > plain.reward.value + 0.05
    # How likely right answers were at first, where no response shows any, samples overstate.
    experts = float(change[:, 1].mean())
    assert experts < answer.expert_loss_change.value < experts / 2
    assert experts < plain.expert_loss_change.value < 0


@pytest.mark.slow  # the path of a trainer, a root for each prompt and beta
def test_a_reward_that_a_normalised_forward_leash_reaches_is_not_refused():
    """By responses that were shown; a reward above the average of each prompt's best is not one of theirs."""
    samples, _ = of_many_difficulties(300, 16)
    assert 0.6 < samples.ref_rewards.max(axis=1).mean() < 0.7
    recipe = Recipe("group-normalised", "k3-in-loss", beta=0.3, group_size=8)
    plan = forecast(samples, recipe=recipe)
    found = plan.at_reward(0.6).beta
    assert isinstance(found, Estimate) and found.low < found.value < found.high
    assert plan.at_beta(found.value).reward.value == pytest.approx(0.6)
    assert isinstance(plan.at_reward(0.7).beta, UnsupportedBeta)


def test_an_offset_of_the_rewards_leaves_a_forward_leash_alone():
    rows, offset = BINARY.ref_rewards[:60], 2.0**30
    far = Samples(rows + offset, reward_bounds=(offset, offset + 1))
    near = Samples(rows, reward_bounds=UNIT)
    here, there = (forecast(samples, recipe=FORWARD).at_beta() for samples in (near, far))
    for name, shift in (("reward", offset), ("own_loss_change", 0.0)):
        a, b = getattr(here, name), getattr(there, name)
        assert (b.value - shift, b.low - shift, b.high - shift) == pytest.approx(
            (a.value, a.low, a.high), abs=1e-6
        )


@pytest.mark.parametrize("size", [2, 4, 8, 16])
@pytest.mark.parametrize("sd", ["population", "sample"])
@pytest.mark.parametrize("eps", [0.0, 1e-4, 0.1])
def test_the_factors_hold_and_are_near(size, sd, eps):
    recipe = replace(NORMALISED, group_size=size, sd=sd, eps=eps)
    low, high = NormalisedEnds(BINARY, np.ones(1), recipe).factors
    h = bounds.group_advantage_factor(1 / (1 + np.exp(np.linspace(-12, 12, 97))), size, sd, eps)
    assert low <= h.min() * (1 + 1e-12) and h.max() <= high * (1 + 1e-12)
    if not eps:
        assert 0.98 * high < h.max()  # 2 % closer it would not hold
        assert low > 0.9 * h.min()


def test_factors_of_large_groups_and_other_units():
    large = NormalisedEnds(BINARY, np.ones(1), replace(NORMALISED, group_size=None, eps=0.01))
    assert large.factors == pytest.approx((1 / 0.51, 100.0))
    twice = Samples(2 * BINARY.ref_rewards, reward_bounds=(0, 2))
    one, other = (
        forecast(samples, recipe=NORMALISED).at_beta() for samples in (BINARY, twice)
    )  # normalised advantages have no unit
    assert other.own_loss_change.value == pytest.approx(one.own_loss_change.value)
    assert other.reward.value == pytest.approx(2 * one.reward.value)


REFUSED = [
    (Recipe("leave-one-out", "none", beta=0.0), "nothing holds the policy"),
    (Recipe("leave-one-out", "k3-in-reward", beta=0.1), "no upper bound.*put it in the loss"),
    (Recipe("leave-one-out", "k2-in-reward", beta=0.1), "no closed form"),
    (Recipe("leave-one-out", "k2-in-loss", beta=0.1, entropy_bonus=0.1), "entropy bonus"),
    (NORMALISED, "advantages normalised in groups: the theory is about two levels"),
    (replace(NORMALISED, leash="k1-in-reward"), "the penalty is part of the reward"),
    (replace(FORWARD, false_positives=0.1), "a noisy verifier: the theory is about two levels"),
]


@pytest.mark.parametrize(("recipe", "reason"), REFUSED)
def test_a_recipe_without_an_end_is_refused_and_the_floor_stays(recipe, reason):
    plan = forecast(GRADED, recipe=recipe)
    answer = plan.at_reward(0.6)
    assert isinstance(answer.beta, UnsupportedRecipe)
    assert answer.price == forecast(GRADED).at_reward(0.6).price
    assert re.search(reason, str(answer.beta))
    assert isinstance(plan.at_beta(0.5), UnsupportedRecipe)
    for advice in (plan.recommend(loss_budget=0.1), plan.recommend(reward_target=0.6)):
        assert advice.guaranteed is None and isinstance(advice.plug_in, UnsupportedRecipe)


def test_below_the_critical_beta_there_is_no_end():
    recipe = Recipe("group-normalised", "k3-with-ratio", beta=0.5)
    assert float(bounds.critical_beta(0.4)) > 0.5
    answer = forecast(BINARY, recipe=recipe).at_beta()
    assert isinstance(answer, UnsupportedRecipe)
    assert "at 100% of the prompts no policy is stationary" in str(answer)


def test_the_cheapest_recipe_reaches_the_reward_at_its_price():
    plan = forecast(GRADED, recipe=Recipe("leave-one-out", "k1-in-reward", beta=0.1))
    advice = plan.recommend(reward_target=0.6)
    cheap = forecast(GRADED, recipe=advice.cheapest_recipe).at_beta()
    assert cheap.reward.value == pytest.approx(0.6, abs=0.01)  # its rate has half a response more
    assert cheap.own_loss_change.value == pytest.approx(advice.cheapest.value, rel=0.1)
    assert advice.cheapest.value < advice.plug_in.own_loss_change.value
    free = plan.recommend(reward_target=0.2)
    assert free.cheapest is None and free.cheapest_recipe is None


@pytest.mark.slow  # the whole path of a trainer, a root for each prompt and beta
@pytest.mark.parametrize("recipe", [FORWARD, NORMALISED])
def test_recommendations_for_a_trainer_are_its_own(recipe):
    plan = forecast(BINARY, recipe=recipe)
    spends = plan.recommend(loss_budget=0.2)
    assert isinstance(spends.guaranteed, AtBeta) and isinstance(spends.plug_in, AtBeta)
    assert spends.guaranteed.own_loss_change.high <= 0.2
    assert spends.plug_in.own_loss_change.value <= 0.2
    assert plan.at_beta(spends.plug_in.beta) == spends.plug_in
    reaches = plan.recommend(reward_target=0.6)
    assert reaches.plug_in.reward.value == pytest.approx(0.6)
    assert reaches.guaranteed.reward.low >= 0.6


OTHER_BETAS = [
    NORMALISED,
    FORWARD,
    Recipe("group-mean", "k2-in-loss", beta=0.5, group_size=4),
    Recipe("leave-one-out", "k2-in-loss", beta=0.5, false_negatives=0.2),
    Recipe("leave-one-out", "k3-in-reward", beta=0.5),
]


@pytest.mark.parametrize("recipe", OTHER_BETAS)
def test_joint_takes_no_beta_of_another_meaning(recipe):
    for plan in (forecast(BINARY, recipe=recipe), forecast(BINARY, recipe=recipe, betas=[0.7])):
        with pytest.raises(ValueError, match=r"beta=None: betas=\[.*give a beta of that"):
            plan.joint([1.0])
        assert plan.joint([1.0], beta=0.5) == forecast(BINARY, betas=[0.5]).joint([1.0])


def test_joint_takes_the_beta_of_a_recipe_that_ends_where_exact_rl_does():
    same = Recipe("leave-one-out", "k1-in-reward", beta=0.5)
    assert forecast(BINARY, recipe=same).joint([1.0]) == forecast(BINARY).joint([1.0], beta=0.5)


def test_questions_about_exact_rl_take_betas_in_the_unit_of_the_reward():
    small, large = (
        Samples(scale * BINARY.ref_rewards, reward_bounds=(0, scale)) for scale in (1e-3, 1e3)
    )  # advantages normalised in groups have the unit 1
    fits = forecast(small, recipe=NORMALISED)
    for beta in (5e-7, 5e-4):
        assert fits.threshold(beta) == forecast(small).threshold(beta)
        assert fits.joint([1.0], beta) == forecast(small).joint([1.0], beta)
    ask = forecast(large, recipe=NORMALISED)
    for call in (ask.threshold, lambda beta: ask.joint([1.0], beta)):
        with pytest.raises(ValueError, match=r"beta=0.0005: at least 0.001"):
            call(5e-4)
    with pytest.raises(ValueError, match=r"beta=5e-07: at least 1e-06"):
        fits.at_beta(5e-7)


def test_a_recipe_is_kept_with_its_forecast(tmp_path):
    recipe = Recipe.from_trl({"beta": 0.04, "loss_type": "dr_grpo"}, trainer="grpo")
    plan = forecast(BINARY, recipe=recipe)
    plan.save(tmp_path / "plan.json")
    again = Forecast.load(tmp_path / "plan.json")
    assert again.recipe == recipe and again.betas == [0.04]
    assert again.to_dict() == plan.to_dict()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: forecast(BINARY, recipe="grpo"), "recipe='grpo': give nondecoupling.recipes.Recipe"),
        (lambda: forecast(BINARY).at_beta(), "beta=None: give one, or a recipe that has one"),
    ],
)  # fmt: skip
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("worlds", [5, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["binary", "graded"])
def test_the_limits_of_a_forward_leash_hold(kind, worlds):
    """And its plug-in loss, which is what its upper end would be without chords, is seen to be too low."""
    run, beta, rng = RUNS[kind], 0.5, np.random.default_rng(6)
    best = np.full((len(run.reward), 1), 1.0)
    rows = np.concatenate([run.reward, best], axis=1)
    with np.errstate(divide="ignore"):
        log_ref = np.concatenate([run.log_ref, np.log(0 * best)], axis=1)
    end = bounds.frontier_policy(log_ref, rows, 1 / beta)
    reward = float(np.mean(bounds.expected_reward(end.log_p, rows)))
    loss = float(np.mean(end.line)) + reward / beta
    missed = []
    for _ in range(worlds):
        ends = ForwardEnds(run.draw(rng, 200, 16), np.array([beta]))
        found = (ends.rewards(DELTA), reward), (ends.own_loss_changes(DELTA), loss)
        missed.append([not i.low[0] <= truth <= i.high[0] for i, truth in found])
    assert all(held(each, DELTA) for each in zip(*missed, strict=True))
