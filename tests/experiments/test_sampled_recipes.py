"""Recipes compared in samples: what the theory pays for a reward, and the table of finished runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import qwen_validate
import sampled_recipes
from sampled_recipes import (
    RecipeOutcome,
    alignment,
    differences,
    end_of_rl,
    paid_at_reward,
    refuse_other_settings,
    table,
)
from validate.configuration import configuration
from validate.errors import RunError
from validate.finished_runs import Reached
from validate.pareto import Landscape

from nondecoupling import bounds

RESULTS = Path(sampled_recipes.__file__).parent / "results"
SIZES = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 64, "responses": 4}
SIZES |= {"sft-steps": 60, "rl-steps": 20, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
WORDS = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def land():
    rng = np.random.default_rng(3)
    log_d, log_ref = (np.log(rng.dirichlet(np.ones(5), size=6)) for _ in range(2))
    reward = rng.choice([0.0, 0.5, 1.0], size=(6, 5))
    return Landscape(log_d, log_ref, reward, 0.2, np.ones((6, 1)))


@pytest.mark.parametrize("beta", [0.07, 0.4, 2.0])
@pytest.mark.parametrize("optimum", [bounds.gibbs_tilt, bounds.forward_leash_optimum])
def test_a_leash_is_found_again_by_its_reward(land, optimum, beta):
    law = optimum(land.log_ref, land.reward, beta)
    reached = float(bounds.expected_reward(law, land.reward).mean())
    paid = paid_at_reward(land, optimum, reached)
    assert paid == pytest.approx(float(bounds.kl_divergence(land.log_d, law).mean()), rel=1e-7)
    assert paid >= land.price(reached) > 0


@pytest.mark.parametrize("optimum", [bounds.gibbs_tilt, bounds.forward_leash_optimum])
def test_no_leash_has_less_than_ref_s_reward_nor_more_than_the_best(land, optimum):
    before = float(bounds.expected_reward(land.log_ref, land.reward).mean())
    assert paid_at_reward(land, optimum, before - 0.01) is None
    best = float(land.reward.max(axis=1).mean())
    assert paid_at_reward(land, optimum, best) is paid_at_reward(land, optimum, 1.01) is None
    assert paid_at_reward(land, optimum, best - 1e-4) > 0


def test_the_tilt_is_wholly_aligned_however_far_on_every_part_of_the_responses(land):
    tilt = bounds.gibbs_tilt(land.log_ref, land.reward, 0.05)
    for part in (slice(None), slice(0, 4)):
        worlds = land.log_ref[:, part], tilt[:, part], land.reward[:, part]
        assert alignment(*worlds) == pytest.approx(1)
    forward = bounds.forward_leash_optimum(land.log_ref, land.reward, 0.5)
    assert 0.8 < alignment(land.log_ref, forward, land.reward) < 1


def test_a_small_move_pays_the_price_over_its_alignment(land):
    """S9, for averages over prompts: one direction in all of them, and E_d[h r]^2 < E_d[h^2] E_d[r^2]."""
    direction = land.reward + np.random.default_rng(0).normal(size=land.reward.shape)
    log_p = bounds.gibbs_tilt(land.log_d, direction, 1e3)
    reached = float(bounds.expected_reward(log_p, land.reward).mean())
    paid = float(bounds.kl_divergence(land.log_d, log_p).mean())
    assert alignment(land.log_d, log_p, land.reward) < 0.7
    assert paid / land.price(reached) == pytest.approx(
        1 / alignment(land.log_d, log_p, land.reward), rel=0.01
    )


def test_a_policy_that_did_not_move_has_no_alignment(land):
    assert np.isnan(alignment(land.log_ref, land.log_ref, land.reward))
    assert np.isnan(alignment(land.log_ref, land.log_d, np.ones_like(land.reward)))


def run(**asked):
    return configuration({"protocol": "sampled", "order": "sft-rl", **asked})


@pytest.mark.parametrize(
    ("rl", "law", "generations", "beta"),
    [
        ("rloo", bounds.gibbs_tilt, 4, 0.2),
        # Of a group's own mean the reward counts (G-1)/G times, of a leash in the loss beta is what it is.
        ("k3-with-ratio", bounds.gibbs_tilt, 4, 0.2 * 4 / 3),
        ("k3-in-loss", bounds.forward_leash_optimum, 8, 0.2 * 8 / 7),
    ],
)
def test_the_exact_end_is_that_of_the_gradient_that_the_trainer_takes(
    land, rl, law, generations, beta
):
    end = end_of_rl(run(rl=rl, beta=0.2, generations=generations), land)
    assert end == pytest.approx(law(land.log_ref, land.reward, beta))
    groups, rewards = np.exp(land.log_ref), land.reward
    if rl == "k3-in-loss":  # the gradient: (G-1)/G of the policy's, less that of KL(ref||p)
        p = np.exp(end)
        centred = rewards - (p * rewards).sum(axis=1, keepdims=True)
        assert 7 / 8 * p * centred == pytest.approx(0.2 * (p - groups))


def test_the_end_of_normalised_advantages_is_known_for_two_levels(land):
    grpo = run(rl="grpo", beta=0.4, generations=8)
    assert end_of_rl(grpo, land) is None
    right = replace(land, reward=np.tile([0.0, 1.0, 0.0, 1.0, 0.0], (6, 1)))
    end = end_of_rl(grpo, right)
    chance = bounds.expected_reward(end, right.reward)
    start = bounds.expected_reward(right.log_ref, right.reward)
    expected = bounds.group_normalized_success(start, 8, 0.4, sd="sample", eps=1e-4)
    assert chance == pytest.approx(expected.success)


def test_the_end_of_own_responses_is_that_of_their_law(land):
    exponential = run(order="weighted-sft", weights="exponential", beta=0.2)
    assert end_of_rl(exponential, land) == pytest.approx(
        bounds.gibbs_tilt(land.log_ref, land.reward, 0.2)
    )


def test_runs_of_other_models_rewards_or_sizes_are_refused():
    one = run(rl="k3-in-loss", reward="combined")
    alike = run(rl="k3-with-ratio", reward="combined", beta=0.4, seed=3)
    own = run(order="weighted-sft", reward="combined", weights="exponential")
    refuse_other_settings({Path("a"): one, Path("b"): alike, Path("c"): own})
    for other, said in (
        (run(reward="strict"), "--reward is combined in a and strict in b"),
        (run(reward="combined", model="tiny-llama"), "--model is tiny-qwen3 in a and tiny-llama"),
        (run(reward="combined", rl_steps=7), "--rl-steps is 300 in a and 7 in b"),
    ):
        with pytest.raises(RunError, match=said):
            refuse_other_settings({Path("a"): one, Path("b"): other})


def outcome(seed, paid, reverse):
    sure = Reached.exact(0.5)
    return RecipeOutcome(
        "rloo", 0.2, seed, sure, sure, sure, 0.75, 0.5, 0.9, Reached.exact(paid), reverse, 0.3, 0.25
    )


def test_recipes_are_compared_at_the_seeds_that_both_have():
    """Gaps of 1 and 2: the mean 1.5, and t(.975, 1) = 12.706 times 1/2 to either side."""
    cheap = [replace(outcome(seed, paid, 0.5), beta=0.1) for seed, paid in enumerate((1.0, 1.5))]
    dear = [outcome(seed, paid, 0.5) for seed, paid in enumerate((2.0, 3.5, 9.0))]
    (line,) = differences([*cheap, *dear]).splitlines()
    assert line.startswith(
        "- rloo, beta 0.2, beside rloo, beta 0.1: paid 1.500 more, -4.853 to 7.853,"
    )
    assert "more at 2 of 2 seeds; reward 0.000 more" in line
    assert differences(dear) == differences([cheap[0], *dear[1:]]) == ""


def test_what_a_higher_reward_costs_anyway_is_taken_out():
    """Paid 1.0 and 2.0 more, of which the reverse leash pays 0.5 and 1.0 more for its reward."""
    cheap = [replace(outcome(seed, 1.0, 0.25), beta=0.1) for seed in (0, 1)]
    (line,) = differences([*cheap, outcome(0, 2.0, 0.75), outcome(1, 3.0, 1.25)]).splitlines()
    assert "beyond the exact reverse leash with its own reward 0.750 more" in line
    (line,) = differences([*cheap, outcome(0, 2.0, 0.75), outcome(1, 3.0, None)]).splitlines()
    assert "paid 1.500 more" in line and "reverse leash" not in line


def test_a_run_that_is_given_twice_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sampled_recipes, "complete_runs", lambda runs: [Path(run) for run in runs])
    monkeypatch.setattr(sampled_recipes, "configuration_of", lambda folder: run())
    monkeypatch.setattr(
        sampled_recipes, "outcome_of", lambda run: outcome(int(run.path.name), 1.0, 0.5)
    )
    assert sampled_recipes.main(["0", "1"]) == 0
    capsys.readouterr()
    assert sampled_recipes.main(["0", "1", "1"]) == 2
    captured = capsys.readouterr()
    assert "Error: 2 runs of rloo, beta 0.2, seed 1: give one" in captured.err and not captured.out


def test_the_table_averages_over_seeds():
    *_, line = table([outcome(0, 1.0, 0.5), outcome(1, 3.0, 1.0)]).splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["rloo", "0.2", "2"]
    assert cells[6:9] == ["0.750 ± 0.000", "0.500 ± 0.000", "0.900 ± 0.000"]
    assert cells[9:11] == ["2.000 ± 1.414", "0.750 ± 0.354"] and cells[-1] == "2.500 ± 0.707"


def test_a_recipe_without_beta_has_none_in_the_table_nor_in_its_name():
    best = [replace(outcome(seed, 1.0, 0.5), rl="best of 4", beta=None) for seed in (0, 1)]
    *_, line = table(best).splitlines()
    assert line.startswith("| best of 4 | - | 2 |")
    (line,) = differences([*best, outcome(0, 2.0, 0.5), outcome(1, 2.5, 0.5)]).splitlines()
    assert line.startswith("- rloo, beta 0.2, beside best of 4: paid 1.250 more")


def test_where_one_seed_raised_no_reward_there_is_no_number():
    *_, line = table([outcome(0, 1.0, 0.5), outcome(1, 3.0, None)]).splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[10] == cells[-1] == "-" and cells[11] == "0.300 ± 0.000"


def test_runs_that_have_no_such_outcome_are_refused(tmp_path, capsys):
    assert sampled_recipes.main([str(RESULTS / "tiny-qwen3")]) == 2
    assert "give sampled ones" in capsys.readouterr().err
    assert sampled_recipes.main([str(RESULTS / "smollm2-135m-sampled")]) == 2
    assert "sft.jsonl is missing; give a run with RL after SFT" in capsys.readouterr().err
    assert sampled_recipes.main([str(tmp_path)]) == 2
    assert f"{tmp_path} has no complete run in it" in capsys.readouterr().err


@pytest.mark.slow  # trains two stages
def test_the_numbers_are_those_of_the_report(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    given = ["--protocol", "sampled", "--order", "sft-rl", *WORDS]
    assert qwen_validate.main([*given, "--rl", "k3-in-loss", "--out", str(run)]) == 0
    assert sampled_recipes.main([str(tmp_path), "--write", str(out)]) == 0
    (mine,) = json.loads((out / "outcomes.json").read_text())
    before, after = json.loads((run / "report.json").read_text())["averages"]
    assert (mine["rl"], mine["beta"], mine["seed"]) == ("k3-in-loss", 0.2, 0)
    assert mine["before"]["value"] == pytest.approx(before["excess_loss"])
    assert mine["reward_before"]["value"] == pytest.approx(before["reward"])
    assert mine["paid"]["value"] == pytest.approx(after["excess_loss"])
    assert mine["reward"]["value"] == pytest.approx(after["reward"])
    assert 0 < mine["alignment"] < 1 and 0 < mine["alignment_at_end"] < 1
    assert mine["reward_at_end"] > mine["reward"]["value"]
    assert "k3-in-loss" in capsys.readouterr().out and "0.2" in (out / "table.md").read_text()
