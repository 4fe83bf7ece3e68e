"""Where the start policy is: its reward and, from log-probabilities, its SFT loss."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from nondecoupling.forecast import Samples, forecast
from tests.command_line import invoke

REWARDS = np.tile([0.0, 1.0], (40, 2))
UNIT = (0, 1)


def samples_of(rng, prompts):
    """Losses of heavy tails: the mean of a prompt's is lognormal, their mean over prompts e^{1/2}."""
    losses = np.exp(rng.standard_normal((prompts, 1))) * np.ones(4)
    rewards = np.tile([0.0, 1.0], (prompts, 2))
    return Samples(rewards, reward_bounds=UNIT, ref_log_probs=-losses)


def test_averages_count_what_is_there():
    rng = np.random.default_rng(0)
    mask = np.arange(4) < rng.integers(2, 5, size=(40, 1))
    log_probs, weights = -rng.exponential(size=(40, 4)), rng.uniform(1, 3, size=40)
    experts = -rng.exponential(size=(40, 3))
    start = forecast(
        Samples(
            REWARDS, reward_bounds=UNIT, mask=mask, weights=weights, ref_log_probs=log_probs,
            expert_rewards=np.ones((40, 3)), expert_log_ref=experts,
        )
    ).at_start()  # fmt: skip

    def mean(rows):
        return np.dot([np.mean(row) for row in rows], weights) / weights.sum()

    there = [row[seen] for row, seen in zip(log_probs, mask, strict=True)]
    assert start.own_loss.value == pytest.approx(-mean(there))
    assert start.expert_loss.value == pytest.approx(-mean(experts))
    rewards = [row[seen] for row, seen in zip(REWARDS, mask, strict=True)]
    assert start.reward.value == pytest.approx(mean(rewards))
    assert 0 < start.reward.low < start.reward.value < start.reward.high < 1


def test_a_mean_at_the_edge_of_the_bounds_is_not_rounded_beyond_them():
    rewards = np.full((40, 3), 0.1)
    rewards[0, 0] = 0.0
    assert rewards[1].sum() / 3 > 0.1
    samples = Samples(rewards, reward_bounds=(0, 0.1))
    assert samples.drawn.mean().tolist() == [0.1 * 2 / 3] + [0.1] * 39
    assert forecast(samples).at_start().reward.high <= 0.1


@pytest.mark.slow  # a simulation
def test_lower_ends_hold_as_often_as_they_say():
    rng, worlds, delta = np.random.default_rng(1), 400, 0.2
    truth, missed, plainly = math.exp(0.5), 0, 0
    for _ in range(worlds):
        samples = samples_of(rng, 50)
        start = forecast(samples, delta=delta).at_start()
        assert start.own_loss.high == math.inf and start.expert_loss is None
        missed += start.own_loss.low > truth
        plainly += start.own_loss.value > truth
    assert stats.binomtest(missed, worlds, delta / 2, alternative="greater").pvalue > 1e-3
    # The estimate itself is no such limit, and this test would see it.
    assert stats.binomtest(plainly, worlds, delta / 2, alternative="greater").pvalue < 1e-3


def test_a_heavy_prompt_in_one_half_counts_in_the_other():
    """Loss 0 at weight 100, loss 1 at weight 1: one half has often no heavy prompt, and must know of the other's."""
    rng, chance, heavy, delta = np.random.default_rng(4), 0.02, 100.0, 0.2
    truth = (1 - chance) / (1 - chance + chance * heavy)
    missed = seen = 0
    for _ in range(300):
        rare = rng.random(32) < chance
        if not rare.any():
            continue
        weights, losses = np.where(rare, heavy, 1.0), np.where(rare, 0.0, 1.0)
        given = {"ref_log_probs": -losses[:, None] * np.ones(4), "weights": weights}
        samples = Samples(np.tile([0.0, 1.0], (32, 2)), reward_bounds=UNIT, **given)
        missed += forecast(samples, delta=delta).at_start().own_loss.low > truth
        seen += 1
    assert seen > 100
    assert stats.binomtest(missed, seen, delta / 2, alternative="greater").pvalue > 1e-3


def test_a_lower_end_is_near_the_mean_on_many_prompts():
    start = forecast(samples_of(np.random.default_rng(2), 4000)).at_start()
    assert 0.9 * math.exp(0.5) < start.own_loss.low < start.own_loss.value


def test_responses_that_are_certain_lose_nothing():
    start = forecast(Samples(REWARDS, reward_bounds=UNIT, ref_log_probs=0 * REWARDS)).at_start()
    assert (start.own_loss.value, start.own_loss.low) == (0.0, 0.0)


def test_command_and_page_say_it_where_it_is_known(tmp_path):
    path, page = tmp_path / "ref.jsonl", tmp_path / "page.html"
    rows = [
        {"prompt": f"p{i}", "reward": r.tolist(), "lp": [-2.0] * 4} for i, r in enumerate(REWARDS)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    options = ["forecast", str(path), "--reward-low", "0", "--reward-high", "1"]
    without = invoke(*options).stdout
    assert "The start policy" not in without
    shown = invoke(*options, "--log-prob", "lp", "--html", str(page))
    assert shown.exit_code == 0, shown.output
    assert "SFT loss, own data" in shown.stdout and "SFT loss, expert data" not in shown.stdout
    assert "At the start" in page.read_text() and "SFT loss, own data" in page.read_text()
    reply = json.loads(invoke(*options, "--log-prob", "lp", "--json").stdout)
    assert reply["at_start"]["own_loss"]["value"] == 2.0
    assert reply["at_start"]["own_loss"]["high"] is None
