"""What TRL's options in a file do to the command, and what is wrong with them in its words."""

from __future__ import annotations

import json

import pytest

from tests.command_line import invoke


@pytest.fixture
def answer(tmp_path):
    def given(options, *words):
        path = tmp_path / "options.json"
        path.write_text(options if isinstance(options, str) else json.dumps(options))
        return invoke("recipe", "--success", "0.3", "--trl", str(path), *words)

    return given


def refusal(shown):
    assert shown.exit_code == 2 and shown.stdout == ""
    return " ".join(shown.stderr.split())


def test_an_option_of_the_other_trainer_names_the_option_of_the_command(answer):
    options = {"beta": 0.05, "normalize_advantages": True}
    assert "give --trainer rloo, or leave normalize_advantages out" in refusal(answer(options))
    shown = answer(options, "--trainer", "rloo", "--json")
    assert json.loads(shown.stdout)["recipe"]["leash"] == "k1-in-reward"
    options = {"beta": 0.05, "scale_rewards": "none"}
    said = refusal(answer(options, "--trainer", "rloo"))
    assert "config has 'scale_rewards'" in said and "give --trainer grpo" in said


@pytest.mark.parametrize("beside", [{}, {"temperature": 1.0}])
def test_options_one_level_down_are_said_to_be_there(beside, answer):
    said = refusal(answer({**beside, "grpo": {"beta": 0.1, "num_generations": 16}}))
    assert "config has 'beta' under 'grpo'" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"num_generations": Infinity}', "num_generations=inf: give a whole number, at least 2"),
        ('{"num_generations": NaN}', "num_generations=nan: give a whole number, at least 2"),
        ('{"beta": 0.1, "num_generations": 1000000000000}', "give a whole number, at least 2 and at"),
        ('{"temperature": NaN}', "temperature=nan: give a number, finite and above 0"),
    ],
)  # fmt: skip
def test_numbers_that_no_training_can_have_are_refused(text, said, answer):
    assert said in refusal(answer(text))


def test_rewards_that_count_for_nothing_are_said_to(answer):
    shown = answer({"loss_type": "cispo", "epsilon_high": 0, "beta": 0.1, "scale_rewards": "none"})
    assert shown.exit_code == 0, shown.output
    assert "rewards count 0 times" in " ".join(shown.stdout.split())
