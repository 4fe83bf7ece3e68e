"""Forecasts held against runs: what they may see, what was reached, and a floor that is broken."""

import json
from dataclasses import replace
from pathlib import Path

import forecast_outcomes
import numpy as np
import pytest
import qwen_validate
from forecast_outcomes import outcome_of, stages_of, table
from validate.enumerated.inputs import inputs_of
from validate.errors import RunError
from validate.finished_runs import Reached, complete_runs
from validate.run_folder import RunFolder

from nondecoupling.forecast import Samples

RESULTS = Path(forecast_outcomes.__file__).parent / "results"


@pytest.fixture(scope="module")
def stages():
    return list(stages_of(RunFolder(RESULTS / "tiny-qwen3")))


def test_what_rl_reached_is_the_committed_report_s(stages):
    changes = json.loads((RESULTS / "tiny-qwen3" / "report.json").read_text())["changes"]
    rl = [change for change in changes if change["stage"] != "joint"]
    assert [title for title, _, _ in stages] == ["RL after SFT", "RL from the warm-up"]
    for (_, _, stage), change in zip(stages, rl, strict=True):
        assert stage.reward.value == pytest.approx(change["J"], rel=1e-12)
        assert stage.expert_loss_change.value == pytest.approx(change["loss_change"], rel=1e-9)


def test_the_samples_are_of_the_policy_before_rl(stages):
    """Their mean reward is ref's within its standard error, and far from the trained policy's."""
    _, _, stage = stages[0]
    rewards = stage.samples.ref_rewards
    lines = (RESULTS / "tiny-qwen3" / "metrics.jsonl").read_text().splitlines()
    before = [json.loads(line) for line in lines]
    sft = [line for line in before if line["stage"] == "sft"][-1]
    config = RunFolder(RESULTS / "tiny-qwen3").configuration({})
    reward = inputs_of(config).task.reward
    exact = float((np.exp(np.array(sft["log_p"])) * reward).sum(axis=1).mean())
    error = rewards.std() / np.sqrt(rewards.size)
    assert abs(rewards.mean() - exact) < 4 * error < stage.reward.value - exact


def test_a_policy_that_pays_too_little_breaks_the_floor(stages):
    title, config, stage = stages[1]
    sound = outcome_of("run", title, config, stage)
    assert sound.floor > 0 and sound.floor_holds
    cheap = replace(stage, own_loss_change=Reached.exact(sound.floor / 2))
    assert not outcome_of("run", title, config, cheap).floor_holds
    # An estimate whose interval reaches above the floor breaks nothing.
    unsure = replace(stage, own_loss_change=Reached(sound.floor / 2, 0.0, sound.floor * 2))
    assert outcome_of("run", title, config, unsure).floor_holds


def test_a_beta_that_the_samples_do_not_support_has_no_number(stages):
    title, config, stage = stages[0]
    rare = np.zeros((40, 4))
    rare[0, 0] = 1.0
    samples = Samples(rare, reward_bounds=(0, 1.5), expert_rewards=np.ones((40, 2)))
    found = outcome_of("run", title, config, replace(stage, samples=samples))
    assert found.predicted_reward is None
    text = table([found])
    assert "not supported" in text and "no beta was supported" in text


def test_learning_rates_are_told_apart_where_there_are_several(stages):
    title, config, stage = stages[0]
    found = [outcome_of("run", title, replace(config, rl_rate=rate), stage) for rate in (0.25, 0.5)]
    assert "learning rate" not in table(found[:1])
    text = table(found)
    assert "| beta | learning rate | seed |" in text and "| 0.25 | 0 |" in text
    assert "at learning rate 0.25, one stage" in text and "at learning rate 0.5, one stage" in text


@pytest.mark.slow  # bootstraps whole runs
def test_the_script_writes_its_table_and_says_a_broken_floor(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert forecast_outcomes.main([str(RESULTS / "tiny-qwen3"), "--write", str(out)]) == 0
    # After SFT the samples of 32 prompts give no floor; from the warm-up they do.
    assert "The floor held in 1 of 1 where it" in capsys.readouterr().out
    assert len(json.loads((out / "outcomes.json").read_text())) == 2
    assert "forecast_outcomes.py" in (out / "table.md").read_text()
    monkeypatch.setattr(forecast_outcomes.ForecastOutcome, "floor_holds", False)
    assert forecast_outcomes.main([str(RESULTS / "tiny-qwen3")]) == 5


@pytest.mark.slow  # bootstraps whole runs
def test_what_no_forecast_can_be_made_for_is_named(capsys):
    assert forecast_outcomes.main([str(RESULTS / "smollm2-135m")]) == 2
    told = capsys.readouterr().err
    assert "has 8 prompts" in told and "nothing to compare" in told
    assert forecast_outcomes.main([str(RESULTS / "tiny-qwen3-sampled")]) == 2
    assert "has no measurements/" in capsys.readouterr().err


def test_a_reward_at_the_edge_of_its_range_is_left_out(monkeypatch, capsys, stages):
    title, config, stage = stages[0]
    edge = replace(stage, reward=Reached.exact(1.5))
    both = [(title, config, edge), (title, config, stage)]
    monkeypatch.setattr(forecast_outcomes, "stages_of", lambda folder: iter(both))
    assert forecast_outcomes.main([str(RESULTS / "tiny-qwen3")]) == 0
    told = capsys.readouterr()
    assert "left out: " in told.err and told.out.count("RL after SFT") == 1


def test_an_estimated_reward_is_priced_at_its_lower_end(stages):
    title, config, stage = stages[1]
    exact = outcome_of("run", title, config, stage)
    unsure = replace(stage, reward=Reached(stage.reward.value, 1.39, 1.45))
    assert outcome_of("run", title, config, unsure).floor < exact.floor


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(RunError, match="has no complete run in it"):
        complete_runs([tmp_path])
    assert forecast_outcomes.main([str(tmp_path)]) == 2
    assert "has no complete run" in capsys.readouterr().err


@pytest.mark.slow  # trains every stage
@pytest.mark.parametrize("rl", ["rloo", "grpo", "k3-in-loss"])
def test_a_sampled_run(tmp_path, rl):
    sizes = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 40, "responses": 8}
    sizes |= {"sft-steps": 40, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    given = ["--protocol", "sampled", "--order", "sft-rl", "--beta", "2", "--rl", rl]
    assert qwen_validate.main([*given, *words, "--out", str(tmp_path / "run")]) == 0
    ((title, config, stage),) = stages_of(RunFolder(tmp_path / "run"))
    assert stage.samples.ref_rewards.shape == (40, 8)
    assert (stage.recipe is None) == (rl == "rloo")
    averages = json.loads((tmp_path / "run" / "report.json").read_text())["averages"]
    assert stage.reward.value == pytest.approx(averages[1]["reward"])
    rise = averages[1]["excess_loss"] - averages[0]["excess_loss"]
    assert stage.expert_loss_change.value == pytest.approx(rise)
    found = outcome_of("run", title, config, stage)
    assert found.floor_holds and found.trainer == rl
