"""A file of a recipe means the same to recipe, forecast and monitor, and what is wrong with it is told alike."""

from __future__ import annotations

import json

import pytest

from tests.command_line import invoke

FORWARD = {"advantage": "leave-one-out", "leash": "k3-in-loss", "beta": 0.5}
UNHELD = {"advantage": "leave-one-out", "leash": "none"}
OUTSIDE = [["temperature", "not 1"], ["loss_type", "per token"]]


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "ref.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"p{x}", "reward": [0, 1]}) for x in range(20)))
    return str(path)


@pytest.fixture
def commands(tmp_path, samples):
    """Three commands, each with the option that names a recipe; monitor needs rollouts."""
    rollouts = tmp_path / "20.jsonl"
    rows = [{"input": f"p{x}", "score": 0.5} for x in range(20)]
    rollouts.write_text("\n".join(map(json.dumps, rows)))
    bounds = ["--reward-low", "0", "--reward-high", "1"]
    return {
        "recipe": (["recipe", "--success", "0.2"], "--trl"),
        "forecast": (["forecast", samples, *bounds], "--recipe"),
        "monitor": (["monitor", str(rollouts), "--samples", samples, *bounds], "--recipe"),
    }


@pytest.fixture
def file(tmp_path):
    def made(**fields):
        (tmp_path / "recipe.json").write_text(json.dumps(fields))
        return str(tmp_path / "recipe.json")

    return made


NAMES = ["recipe", "forecast", "monitor"]


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_without_its_options_is_refused(commands, name, file):
    words, option = commands[name]
    shown = invoke(*words, "--trainer", "rloo")
    assert shown.exit_code == 2 and f"give {option} FILE" in shown.output
    shown = invoke(*words, option, file(**FORWARD), "--trainer", "rloo")
    assert shown.exit_code == 2 and "fields of a recipe; leave it away" in " ".join(
        shown.output.split()
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_outside_the_theory_is_a_list_of_pairs(commands, name, file):
    words, option = commands[name]
    for wrong in (["x"], "xy", None, [["x"]], [["x", 1]], {"x": "why"}):
        shown = invoke(*words, option, file(**FORWARD, outside=wrong))
        assert shown.exit_code == 2 and f"outside={wrong!r}: give a list of pairs" in shown.output
    shown = invoke(*words, option, file(**FORWARD, outside=OUTSIDE))
    assert shown.exit_code == 0, shown.output
    assert "the recipe: leave-one-out advantages, leash k3-in-loss, beta 0.5\n" in shown.stdout
    for of, why in OUTSIDE:
        assert f"outside the theory: {of}: {why}" in shown.stdout


@pytest.mark.parametrize("name", ["forecast", "monitor"])
def test_the_recipe_that_a_command_writes_can_be_read(commands, name, file):
    words, option = commands[name]
    first = json.loads(invoke(*words, option, file(**FORWARD, outside=OUTSIDE), "--json").stdout)
    again = json.loads(invoke(*words, option, file(**first["recipe"]), "--json").stdout)
    assert first["recipe"]["outside"] == OUTSIDE and again["recipe"] == first["recipe"]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_leash_no_beta_is_asked_for(commands, name, file):
    words, option = commands[name]
    shown = invoke(*words, option, file(**UNHELD), "--json")
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["recipe"]["beta"] == 0
    for given in ({"leash": "k3-in-loss"}, {}):
        shown = invoke(*words, option, file(advantage="group-mean", **given))
        assert shown.exit_code == 2 and "beta missing: next to advantage" in shown.output


@pytest.mark.parametrize("name", NAMES)
def test_what_holds_no_option_of_a_trainer_is_no_recipe(commands, name, file, tmp_path):
    words, option = commands[name]
    for fields, named in (
        ({"prompt": ["a", "b"], "answer": [1, 2]}, "'prompt', 'answer'"),
        ({}, "nothing"),
    ):
        shown = invoke(*words, option, file(**fields))
        said = " ".join(shown.output.split())
        assert shown.exit_code == 2 and f"recipe.json: has {named}, and none of the options" in said
    shown = invoke(*words, option, file(loss_type="dr_grpo"), "--trainer", "rloo")
    assert shown.exit_code == 2 and "TRL's rloo trainer" in " ".join(shown.output.split())
    empty = tmp_path / "empty.yaml"
    empty.write_text("# beta: 0.1\n")
    shown = invoke(*words, option, str(empty))
    assert shown.exit_code == 2 and "holds no options" in shown.output


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_no_recipe(commands, name, tmp_path):
    words, option = commands[name]
    shown = invoke(*words, option, str(tmp_path))
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and "is a folder; give the .yaml or .json file in it" in said
    shown = invoke(*words, option, str(tmp_path / "none.yaml"))
    said = " ".join(shown.output.split())
    assert shown.exit_code == 2 and "none.yaml: cannot be read (No such file" in said


def test_a_success_counts_the_weight_of_its_reward(file):
    """3 (7/8) a (1 - a) = 0.04 (a - 0.2) where the forward leash rests; several rewards are not 0 and 1."""
    options = {
        "beta": 0.04,
        "loss_type": "dr_grpo",
        "scale_rewards": "none",
        "use_bias_correction_kl": False,
    }
    words = ["recipe", "--success", "0.2", "--json", "--trl"]
    for weight in (1.0, 3.0):
        found = json.loads(invoke(*words, file(**options, reward_weights=[weight])).stdout)
        success = found["policy"][1]
        assert weight * 7 / 8 * success * (1 - success) == pytest.approx(0.04 * (success - 0.2))
        assert found["reward"] == pytest.approx(weight * success)
        assert ("reward_weights" in {o["option"] for o in found["outside"]}) == (weight != 1)
    shown = invoke(*words, file(**options, reward_weights=[1.0, 0.5]))
    assert shown.exit_code == 2
    assert "adds up 2 rewards, reward_weights=[1.0, 0.5]" in " ".join(shown.output.split())
    world = ["--ref", "0.8,0.2", "--reward", "0,1"]
    shown = invoke("recipe", *world, "--trl", file(**options, reward_weights=[1.0, 0.5]))
    assert shown.exit_code == 0, shown.output
