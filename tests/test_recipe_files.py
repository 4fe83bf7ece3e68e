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
