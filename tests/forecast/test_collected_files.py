"""A forecast of what ``collect`` wrote needs no further options: the file says its bounds and columns."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nondecoupling.collected import CollectedSamples, Origin
from nondecoupling.forecast import forecast
from tests.command_line import invoke

pyarrow = pytest.importorskip("pyarrow")

REWARDS = np.tile([0.0, 2.0, 1.0, 0.0] * 2, (32, 1))
EXPERTS = np.tile([2.0, 1.0], (32, 1))
ORIGIN = Origin(
    model="a model", model_digest="", tokenizer_digest="", prompts_digest="", responses=8, max_tokens=8, seed=0,
    rows_at_once=64, reward_bounds=(0.0, 3.0), rewards=("length",), rewards_digest="",
)  # fmt: skip


def collected(log_ref: float = -1.5) -> CollectedSamples:
    columns = {
        "prompt": [f"p{x}" for x in range(32)],
        "prompt_tokens": [[1]] * 32,
        "reward": REWARDS.tolist(),
        "log_ref": [[log_ref] * 8] * 32,
        "expert_reward": EXPERTS.tolist(),
        "expert_log_ref": [[-2.5, -2.5]] * 32,
        "halves": (REWARDS / 2).tolist(),
        "often": [1.0 + x % 2 for x in range(32)],
    }
    return CollectedSamples(pyarrow.table(columns), ORIGIN)


@pytest.fixture
def file(tmp_path):
    collected().write(tmp_path / "ref.parquet")
    return str(tmp_path / "ref.parquet")


def told(*words):
    result = invoke("forecast", *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_command_needs_no_options(file):
    reply = told(file, "--beta", "5", "--loss-budget", "0.5")
    plan = forecast(collected().samples(), betas=[5])
    advice = plan.recommend(loss_budget=0.5).to_dict()
    assert reply == plan.to_dict() | {"recommendation": advice}
    assert reply["reward_bounds"] == [0.0, 3.0]
    assert reply["at_start"]["own_loss"]["value"] == 1.5
    assert reply["at_start"]["expert_loss"]["value"] == 2.5
    assert reply["at_beta"][0]["expert_loss_change"]["value"] < 0


def test_weights_are_added_to_what_collect_wrote(file):
    command = [file, "--weight", "often"]
    assert "weighted" in invoke("forecast", *command).stdout
    start = told(*command)["at_start"]
    assert start["own_loss"]["value"] == 1.5 and start["expert_loss"]["value"] == 2.5
    wrong = invoke("forecast", file, "--weight", "seldom")
    assert wrong.exit_code == 2 and "--weight seldom: " in wrong.output
    assert "no column 'seldom'" in wrong.output


SAME = ["--prompt", "prompt", "--reward", "reward", "--log-prob", "log_ref", "--reward-high", "3"]
SAME_OF_EXPERTS = ["--expert-reward", "expert_reward", "--expert-log-prob", "expert_log_ref"]


def test_options_that_say_what_the_file_says_are_accepted(file):
    assert told(file, *SAME, *SAME_OF_EXPERTS) == told(file)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--reward-high", "5"], "from 0 to 3; leave the option away"),
        (["--reward-low", "-1"], "from 0 to 3; leave the option away"),
        (["--reward", "halves"], "calls that column 'reward'; leave the option away"),
        (["--log-prob", "reward"], "calls that column 'log_ref'; leave"),
        (["--expert-reward", "halves"], "calls that column 'expert_reward'; leave"),
        (["--step", "0"], "from the start policy; leave the option away"),
    ],
)
def test_options_that_contradict_the_file_are_refused(file, options, remedy):
    result = invoke("forecast", file, *options)
    said = " ".join(result.output.split())
    assert result.exit_code == 2 and f"{' '.join(options)}: " in said and remedy in said


def test_experts_that_were_not_collected_are_refused(tmp_path):
    found = collected()
    table = found.table.drop_columns(["expert_reward", "expert_log_ref"])
    CollectedSamples(table, ORIGIN).write(tmp_path / "ref.parquet")
    result = invoke("forecast", str(tmp_path / "ref.parquet"), *SAME_OF_EXPERTS)
    assert result.exit_code == 2 and "collect with --experts" in result.output


def test_log_probabilities_that_are_not_finite_are_left_out(tmp_path):
    path = tmp_path / "ref.parquet"
    collected(-np.inf).write(path)
    start = told(str(path))["at_start"]
    assert start["own_loss"] is None and start["expert_loss"]["value"] == 2.5


def test_python_takes_what_collect_returned():
    here, there = forecast(collected(), betas=[5]), forecast(collected().samples(), betas=[5])
    assert here.to_dict() == there.to_dict()


@pytest.mark.parametrize("given", [REWARDS, forecast(collected().samples()), "ref.parquet", None])
def test_what_has_no_samples_is_named(given):
    with pytest.raises(
        ValueError, match=r"(?s)samples=.*give Samples\(.*, or what lm.collect returned"
    ):
        forecast(given)
