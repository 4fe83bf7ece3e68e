"""What depends on which responses the data have: the rewards that tilts reach, and where statements are equalities."""

from __future__ import annotations

import numpy as np
import pytest
from validate.configuration import configuration
from validate.enumerated.checks import checks_of
from validate.enumerated.digest import _ending_predictions
from validate.enumerated.ending_checks import ending_checks
from validate.enumerated.endings import ending_of
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.means import PromptMeans
from validate.enumerated.story import _ending_story
from validate.enumerated.task import EnumeratedTask, Prompt
from validate.orders import STAGES
from validate.same_reward import law_at_reward

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status

OPTIMA = [bounds.gibbs_tilt, bounds.forward_leash_optimum]
LOG_REF = np.log([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
REWARD = np.array([[0.0, 1.0, 2.0], [0.5, 0.0, 1.0]])


def task_of(*prompts, other=0.0):
    """A task from (law, rewards) of each prompt."""
    words = ("a", "b", "c")
    return EnumeratedTask(
        tuple(
            Prompt(f"prompt {i}", words[: len(law)], law, rewards, other)
            for i, (law, rewards) in enumerate(prompts)
        )
    )


def mean_of(task, beta=0.2):
    return PromptMeans(task.log_d, task.reward, beta, 0.05)


def near_data(task):
    """The data law with a little mass on every response."""
    return np.log(np.exp(task.log_d) * (1 - 1e-3) + 1e-3 / task.reward.shape[1])


# Its best responses are not in the data, of whose rewards there are two.
BEYOND = task_of(((0.6, 0.4, 0.0), (0.0, 0.2, 1.0)), ((0.5, 0.5, 0.0), (0.0, 0.1, 1.0)))
YES_NO = task_of(((0.8, 0.2), (1.0, 0.0)), ((0.2, 0.8), (0.0, 1.0)), other=-1.0)
DEMONSTRATIONS = task_of(((1.0, 0.0), (1.0, 0.0)), ((0.0, 1.0), (0.0, 1.0)))
ONE_PROMPT = task_of(((0.7, 0.3), (0.0, 1.0)))


# --- the law with a reward -------------------------------------------------------------------------


def paid_at(optimum, scale, target):
    """KL(ref||p) of the optimum whose reward is ``target`` times the scale of the rewards."""
    law = law_at_reward(optimum, LOG_REF, scale * REWARD, scale * target)
    assert law is not None
    reached = bounds.expected_reward(law, REWARD).mean()
    assert reached == pytest.approx(target, abs=1e-12)
    return float(bounds.kl_divergence(LOG_REF, law).mean())


@pytest.mark.parametrize("optimum", OPTIMA)
def test_a_reward_is_reached_in_whatever_unit_it_is(optimum):
    for target in (0.9, 1.45):
        ones = paid_at(optimum, 1.0, target)
        for scale in (1e8, 1e-8, 1e60, 1e-60):
            assert paid_at(optimum, scale, target) == pytest.approx(ones, rel=1e-9)


@pytest.mark.parametrize("optimum", OPTIMA)
def test_a_reward_just_above_that_of_ref_is_reached(optimum):
    """To first order both leashes add t (r - E_ref r) to log p: KL is half the gain squared over the variance."""
    start = bounds.expected_reward(LOG_REF, REWARD)
    square = bounds.expected_reward(LOG_REF, REWARD**2)
    variance = float((square - start**2).mean())
    for gain in (1e-6, 1e-8):
        paid = paid_at(optimum, 1.0, float(start.mean()) + gain)
        assert paid == pytest.approx(gain**2 / (2 * variance), rel=1e-5 + 1e-14 / gain)


def test_tilts_stay_below_the_best_response_of_ref():
    mean, best = mean_of(BEYOND), (0.2 + 0.1) / 2
    assert mean.best_of_tilts(mean.log_d) == pytest.approx(best)
    near = mean.tilt_with_reward(mean.log_d, best - 1e-6)
    assert near is not None and mean.j(near) == pytest.approx(best - 1e-6, abs=1e-12)
    for target in (best + 1e-6, 0.5):
        assert mean.tilt_with_reward(mean.log_d, target) is None
        law = law_at_reward(bounds.forward_leash_optimum, mean.log_d, mean.reward, target)
        assert law is not None and mean.j(law) == pytest.approx(target, abs=1e-9)


def test_without_a_difference_of_rewards_no_beta_ends_elsewhere():
    for target in (0.5, 1.0, 2.0):
        assert law_at_reward(bounds.gibbs_tilt, LOG_REF, np.ones((2, 3)), target) is None


# --- what a report says where there is none --------------------------------------------------------


def bought(task, target):
    """A stage that ended on the frontier of the data with a reward, or nearly."""
    config = configuration({"order": "sft-rl", "recipe": "k3-in-loss"})
    mean = mean_of(task, config.beta)
    ref = near_data(task)
    end = ending_of(STAGES["rl"], config, mean, {"sft": ref})
    policy = law_at_reward(bounds.forward_leash_optimum, ref, mean.reward, target)
    path = [Checkpoint("rl", 1, policy)]
    return end, Episode(mean, [Checkpoint("sft", 1, ref)], path, [], end)


def test_beyond_all_tilts_their_row_and_sentence_give_way_to_the_reason():
    for target, reached in ((0.12, True), (0.6, False)):
        end, episode = bought(BEYOND, target)
        quantities = {one.quantity: one for one in _ending_predictions(episode, end)}
        assert "paid over the least for this reward" in quantities
        assert ("the same, if it were the tilt with this reward" in quantities) is reached
        said = " ".join(_ending_story(episode, end))
        assert ("the exact tilt with this reward pays" in said) is reached
        assert (
            "all of them stay below 0.150, the best of what the data have" in said
        ) is not reached


# --- where a statement is an equality --------------------------------------------------------------


def about_the_data(task):
    return [
        row
        for row in checks_of(mean_of(task), [])
        if row.relation == ">=" and row.statement in ("S2", "S3")
    ]


@pytest.mark.parametrize("task", [YES_NO, DEMONSTRATIONS, ONE_PROMPT])
def test_the_equality_cases_of_s2_and_s3_are_those_of_the_data_s_responses(task):
    rows = about_the_data(task)
    assert any(abs(row.margin) <= row.tolerance for row in rows)
    assert {row.status for row in rows} == {Status.HOLDS}


def test_elsewhere_a_margin_within_rounding_decides_nothing():
    """Rewards that hardly differ, in units of beta: two of them are no equality case of S2, nor three of S3."""
    nearly = mean_of(YES_NO, beta=1e9)
    claims = {r.claim: r for r in checks_of(nearly, []) if r.relation == ">="}
    assert claims["ref = d: RL to its optimum raises the SFT loss"].status is Status.UNDECIDED
    assert claims["ref = d: DeltaL(tilt) >= lower bound"].status is Status.HOLDS
    three = task_of(((0.5, 0.3, 0.2), (0.0, 1.0, 3.0)))
    rows = [r for r in checks_of(mean_of(three, beta=1e9), []) if r.relation == ">="]
    assert {row.status for row in rows} == {Status.UNDECIDED}


@pytest.mark.parametrize(
    ("task", "attained"),
    [(YES_NO, True), (DEMONSTRATIONS, True), (ONE_PROMPT, True), (BEYOND, False)],
)
def test_the_price_is_what_proportional_policies_pay_at_two_levels_the_best_one_included(
    task, attained
):
    """At every prompt the same mass on the best of all responses, the proportions among the others kept."""
    mean = mean_of(task)
    assert mean.two_levels(mean.log_d) is attained
    best = mean.reward == mean.reward.max(axis=1, keepdims=True)
    d = np.exp(mean.log_d)
    others, right = np.where(best, 0, d), np.where(best, np.maximum(d, 1e-9), 0)
    law = sum(
        share * part / np.maximum(part.sum(axis=1, keepdims=True), 1e-9)
        for share, part in ((0.1, others), (0.9, right))
    )
    law /= law.sum(axis=1, keepdims=True)
    p = np.log(law, where=law > 0, out=np.full(law.shape, -np.inf))
    excess = mean.kl(mean.log_d, p) - mean.price(mean.log_d, p)
    assert (abs(excess) < 1e-12) is attained


def rows_of_ending(task, **options):
    config = configuration(options)
    mean = mean_of(task, config.beta)
    ref = near_data(task)
    laws = {"base": ref, "sft": ref, "rl": mean.tilt(ref)}
    stage = STAGES[{"sft-rl": "rl"}.get(config.order, config.order)]
    end = ending_of(stage, config, mean, laws)
    path = [Checkpoint(stage.name, 1, end.log_p)]
    episode = Episode(mean, [Checkpoint("sft", 1, ref)], path, [], end)
    return list(ending_checks(config, episode, laws["rl"]))


def test_the_best_of_one_draw_is_ref():
    """Nothing is paid, and nothing allowed."""
    rows = [r for r in rows_of_ending(YES_NO, order="best-of-n", best_of=1) if r.statement == "T7"]
    assert len(rows) == 2
    assert all(abs(row.margin) <= row.tolerance and row.status is Status.HOLDS for row in rows)


def test_replay_of_single_demonstrations_pays_all_that_t8_allows():
    *_, row = rows_of_ending(DEMONSTRATIONS, order="replay")
    assert row.claim == "-log(1 - v + v e^-KL(d||p)) >= KL(d||m)"
    assert abs(row.margin) <= row.tolerance and row.status is Status.HOLDS
    *_, row = rows_of_ending(YES_NO, order="replay")
    assert row.margin > row.tolerance


def t2_rows(task, beta):
    asked = {"order": "sft-rl", "recipe": "k3-in-loss", "beta": beta}
    return [row for row in rows_of_ending(task, **asked) if row.statement == "T2"]


def test_a_tilt_of_one_prompt_with_two_rewards_is_on_the_frontier():
    *_, row = t2_rows(ONE_PROMPT, 0.3)
    assert abs(row.margin) <= row.tolerance and row.status is Status.HOLDS
    *_, row = t2_rows(BEYOND, 0.3)
    assert row.margin > row.tolerance


def test_an_end_whose_reward_rounds_to_the_best_is_compared_with_nothing():
    rows = t2_rows(ONE_PROMPT, 1e-40)[-2:]
    assert [row.status for row in rows] == [Status.OUT_OF_SCOPE] * 2
    assert {row.missing for row in rows} == {
        "in float64 the reward of p* is that of ref, or the best one"
    }
