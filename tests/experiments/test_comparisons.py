"""compare.py: methods, what is said of their policies, the table, bad requests, and going on where it stopped."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import compare
import comparison_of_models
import numpy as np
import pytest
import torch
from comparisons import natural, outcomes
from comparisons.methods import methods_for, shares_of_cycles, steps_of_cycles
from comparisons.outcomes import MethodOutcome, Paid
from comparisons.summary import ComparedModel, figure, figure_of_fineness, table, table_of_models
from torch import nn
from validate.configuration import (
    PRECISIONS,
    EnumeratedConfiguration,
    configuration,
    of_order,
)
from validate.enumerated.facts import embedded_task
from validate.enumerated.inputs import inputs_of
from validate.enumerated.means import PromptMeans

from nondecoupling import bounds

TASK = embedded_task(3)
MEAN = PromptMeans(TASK.log_d, TASK.reward, 0.2, 0.05)
SMALL = ["--", "--prompts", "2", "--sft-steps", "6", "--rl-steps", "8"]


def made(seed, method, log_p, **more):
    paid = Paid.of(MEAN, log_p)
    return MethodOutcome(seed, method, "T2", paid, paid, 0.01, 0.002, 8, 1.0, **more)


def forward(beta):
    return bounds.forward_leash_optimum(TASK.log_d, TASK.reward, beta)


def test_only_rewards_of_two_levels_have_normalised_methods():
    for reward, count in (("right-and-format", 0), ("right", 2)):
        task = embedded_task(3, reward)
        found = methods_for(configuration({"reward": reward}), task.reward, task.log_d)
        assert sum("normalised" in method.name for method in found) == count
        assert len({method.name for method in found}) == len(found) >= 15


@pytest.mark.parametrize("precision", PRECISIONS)
def test_methods_are_trained_on_the_law_in_the_precision_asked_for(precision):
    config = configuration({"prompts": 2, "precision": precision})
    law = outcomes._Trained(config, inputs_of(config)).policy
    assert str(law.precision) == f"torch.{precision}"
    assert law.measured().shape == (2, 7)
    assert (law.log_mass is None) is (precision == "float64")


def test_every_method_is_a_configuration():
    steps = [{"rl_steps": count} for count in (5, 59, 100, 250)]
    for preset in ({}, {"model": "smollm2-135m"}, *steps):
        config = configuration(preset)
        for method in methods_for(config, TASK.reward, TASK.log_d):
            order = method.options.get("order", "all")
            configuration({**of_order(preset, order), **method.options})


def test_cycles_have_the_steps_that_their_name_says():
    def named(rl_steps):
        config = configuration({"rl_steps": rl_steps})
        found = methods_for(config, TASK.reward, TASK.log_d)
        cycles = [m for m in found if m.options.get("order") == "alternate"]
        for method in cycles:
            made = replace(config, **method.options)
            assert f"cycles of {sum(made.cycle())} steps" in method.name
        return len(cycles)

    assert [named(count) for count in (300, 100, 80, 8, 5, 3)] == [4, 3, 3, 2, 0, 0]


def test_the_frontier_pays_the_least_and_the_tilt_pays_the_tilts():
    best = Paid.of(MEAN, forward(0.3))
    assert best.times == pytest.approx(1, abs=1e-9)
    assert best.overpaid == pytest.approx(0, abs=1e-9)
    uneven = Paid.of(MEAN, forward(np.array([0.1, 0.3, 0.9])))
    assert uneven.times > 1.05  # each prompt pays its own price, but at another rate
    assert uneven.overpaid == pytest.approx(0, abs=1e-9)
    tilt = Paid.of(MEAN, MEAN.tilt(TASK.log_d))
    assert tilt.paid == pytest.approx(tilt.tilt, rel=1e-6)
    assert tilt.times > 1.2 and tilt.overpaid > 0.1


def test_the_sft_loss_in_place_of_the_leash_ends_on_the_frontier():
    (method,) = (
        m for m in methods_for(configuration({}), TASK.reward, TASK.log_d) if "0.001" in m.name
    )
    beta, weight = method.options["beta"], method.options["weight"]
    end = PromptMeans(TASK.log_d, TASK.reward, beta, weight).joint_optimum(TASK.log_d)
    assert MEAN.kl(forward(weight), end) < 1e-5
    assert Paid.of(MEAN, end).times == pytest.approx(1, abs=1e-4)


def test_where_no_reward_was_bought_there_is_no_price():
    assert math.isnan(Paid.of(MEAN, TASK.log_d).times)


def test_outcomes_survive_json():
    for one in (made(0, "a", forward(0.3)), MethodOutcome(1, "b", refused="why")):
        assert MethodOutcome.from_json(json.loads(json.dumps(one.as_json()))) == one


def test_the_table_has_a_line_per_method_and_says_why_one_was_not_trained():
    rows = [made(seed, "fine", forward(0.3 + seed / 10)) for seed in (0, 1)]
    text = table([*rows, MethodOutcome(0, "endless", refused="no upper bound")])
    line = next(line for line in text.splitlines() if line.startswith("| fine"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[2] == "2"
    mean = np.mean([row.trained.reward for row in rows])
    spread = np.std([row.trained.reward for row in rows], ddof=1)
    assert cells[3] == f"{mean:.3f} ± {spread:.3f}"
    assert cells[6].startswith("1.000 ± 0.000")
    assert "- endless: no upper bound" in text


def test_the_figure_has_the_frontier_and_every_outcome():
    drawn = figure([made(0, "method a", forward(0.3))], MEAN)
    assert drawn.startswith("<?xml")
    for words in ("frontier: nothing lies below (S5)", "tilts of the data (S4)", "method a"):
        assert f"<!-- {words} -->" in drawn


def test_the_figure_of_fineness_has_what_alternates():
    """A panel for each kind of cycle that there are two of."""
    coarse, fine = list(steps_of_cycles())[:2]
    natural = [name for after in ("sft", "half-rl", "rl") for name in shares_of_cycles(after)]
    alone = [
        made(0, coarse, forward(0.3)),
        made(0, "RL", forward(0.3)),
        made(0, natural[0], MEAN.tilt(TASK.log_d)),
    ]
    assert figure_of_fineness(alone) is None
    adamw = figure_of_fineness([*alone, made(0, fine, forward(0.2)), made(1, fine, forward(0.4))])
    assert "<!-- steps of a cycle, AdamW -->" in adamw and "share of SFT" not in adamw
    both = [made(0, name, MEAN.tilt(TASK.log_d)) for name in natural]
    drawn = figure_of_fineness([*both, made(0, coarse, forward(0.3)), made(0, fine, forward(0.2))])
    for words in ("after half an RL phase: T6", "share of SFT in a cycle, natural gradient"):
        assert f"<!-- {words} -->" in drawn
    assert "<!-- steps of a cycle, AdamW -->" in drawn
    dearer = [made(1, name, forward(0.4)) for name in natural]
    assert figure_of_fineness([*both, *dearer]) != figure_of_fineness(both)  # no seed is dropped


def test_methods_that_were_refused_are_named_in_both_tables():
    some = [made(0, "method a", forward(0.3)), MethodOutcome(0, "method b", refused="no optimum")]
    assert table(some).endswith("Not trained:\n\n- method b: no optimum\n")
    several = table_of_models([ComparedModel("tiny-llama", 2, "6, 8", some)])
    assert several.endswith("Not trained:\n\n- tiny-llama, method b: no optimum\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "--beta", "0.3"], "--beta is set by the methods"),
        (["--", "--lambda", "0.3"], "--lambda is set by the methods"),
        (["--", "--order", "all"], "--order is set by the methods"),
        (["--", "--protocol", "sampled"], "a comparison is of the enumerated protocol"),
        (["--", "--resume"], "go before the --"),
        (["--", "--data-law", "self"], "--data-law is 'self', which no method"),
        (["--", "--warmup-steps", "7"], "--warmup-steps is 7, which no method"),
        (["--", "--checkpoint-every", "7"], "--checkpoint-every is 7, which no method"),
        (["--seed", "0", "-1"], "--seed is -1; it must be at least 0"),
        (["--", "--model", "no/such/model"], "no/such/model"),
        (["--", "--task", "no/such/task"], "--task no/such/task could not be read"),
        (["--method", "magic"], "--method 'magic' is in no method's name"),
        (["--", "--prompts", "99"], "prompts is 99"),
    ],
)
def test_bad_requests_are_named_and_leave_their_folder_free(
    words, message, tmp_path, monkeypatch, capsys
):
    out = ["--out", str(tmp_path / "run")]
    assert compare.main([*out, *words]) == 2
    assert message in capsys.readouterr().err
    calls = []
    monkeypatch.setattr(outcomes, "outcomes", fake(calls))
    assert compare.main([*out, "--method", "k3-in-loss, beta 0.3", *SMALL]) == 0
    assert calls == [(0, "RL k3-in-loss, beta 0.3")]


def test_every_option_is_used_or_refused():
    used = {"model", "task", "prompts", "reward", "training", "precision"}
    used |= {"sft_steps", "rl_steps", "sft_rate", "rl_rate"}
    names = {one.name for one in fields(EnumeratedConfiguration)}
    assert names == used | {*compare.OF_METHODS, *compare.UNUSED}


def test_what_was_stopped_while_its_model_was_loaded_has_not_begun(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(outcomes, "_Trained", stop)
    given = ["--out", str(tmp_path / "run"), "--method", "k3-in-loss"]
    assert compare.main([*given, *SMALL]) == 130
    assert "stopped before anything was trained" in capsys.readouterr().err
    assert not (tmp_path / "run" / "comparison.json").exists()


def fake(calls):
    def of(config, inputs, methods, kept):
        for method in methods:
            calls.append((config.seed, method.name))
            yield made(config.seed, method.name, forward(0.3))

    return of


def task_file(place, rewards):
    prompts = [
        {"prompt": prompt, "responses": [" a", " b"], "law": [0.9, 0.1], "rewards": rewards}
        for prompt in ("One", "Two", "Three")
    ]
    place.write_text("\n".join(map(json.dumps, prompts)) + "\n")
    return ["--", "--task", str(place), "--sft-steps", "6", "--rl-steps", "8"]


def test_a_task_that_has_changed_is_not_gone_on_with(tmp_path, monkeypatch, capsys):
    """Its first seed would be of another task than its second."""
    folder, calls, place = tmp_path / "run", [], tmp_path / "task.jsonl"
    monkeypatch.setattr(outcomes, "outcomes", fake(calls))
    given = ["--out", str(folder), "--seed", "0", "1", "--method", "k3-in-loss, beta 0.3"]
    run = task_file(place, [0, 1])
    assert compare.main([*given, *run]) == 0
    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text(lines[0])
    task_file(place, [1, 0])
    assert compare.main(["--out", str(folder)]) == 2
    assert f"--task {place} is not what it was when the comparison" in capsys.readouterr().err
    assert len(calls) == 2
    task_file(place, [0, 1])
    assert compare.main(["--out", str(folder)]) == 0
    settings = json.loads((folder / "comparison.json").read_text())
    assert calls[2:] == calls[1:2] and settings.keys() == {"seed", "method", "run", "inputs"}
    # Of earlier versions, which did not record it, nothing is known.
    del settings["inputs"]
    (folder / "comparison.json").write_text(json.dumps(settings))
    task_file(place, [1, 0])
    assert compare.main(["--out", str(folder)]) == 0


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch, capsys):
    """A comparison that was stopped goes on with what is missing; another request for its folder is refused."""
    folder, calls = tmp_path / "run", []
    monkeypatch.setattr(outcomes, "outcomes", fake(calls))
    given = ["--seed", "0", "1", "--method", "k3-in-loss", "--out", str(folder), *SMALL]
    assert compare.main(given) == 0
    assert len(calls) == 4
    whole = (folder / "table.md").read_text()
    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(lines[:3]))
    assert compare.main(["--out", str(folder)]) == 0
    assert calls[4:] == calls[3:4]
    assert (folder / "table.md").read_text() == whole
    assert compare.main(["--out", str(folder), "--seed", "7"]) == 2
    assert "seed is [7], but the comparison in" in capsys.readouterr().err
    assert len(calls) == 5


@pytest.mark.parametrize(("eps", "goes_on"), [(0.002 * (1 + 1e-5), True), (0.00201, False)])
def test_a_comparison_that_goes_on_has_one_sft(eps, goes_on, tmp_path, monkeypatch, capsys):
    """Its methods would otherwise have started from different policies."""
    folder, calls = tmp_path / "run", []
    monkeypatch.setattr(outcomes, "outcomes", fake(calls))
    assert compare.main(["--method", "k3-in-loss", "--out", str(folder), *SMALL]) == 0
    results = folder / "results.jsonl"
    kept = results.read_text().splitlines(keepends=True)[0]
    refused = MethodOutcome(0, "a method that was not trained has no eps", refused="no end")
    results.write_text(kept + json.dumps(refused.as_json()) + "\n")
    monkeypatch.undo()
    trained = []

    class AfterSFT:
        def __init__(self, config, inputs):
            self.eps = eps

        def outcome(self, method):
            trained.append((0, method.name))
            return made(0, method.name, forward(0.3))

    monkeypatch.setattr(outcomes, "_Trained", AfterSFT)
    assert compare.main(["--out", str(folder)]) == (0 if goes_on else 2)
    assert trained == (calls[1:] if goes_on else [])
    if not goes_on:
        said = capsys.readouterr().err
        assert "seed 0 after an SFT with eps = KL(d||SFT) = 0.002 nats" in said
        assert "trained now has 0.00201" in said and "choose another --out" in said


def test_the_eps_of_the_sft_is_that_of_every_outcome():
    config = configuration({"prompts": 2, "sft_steps": 2, "rl_steps": 1})
    inputs = inputs_of(config)
    method = methods_for(config, inputs.task.reward, inputs.task.log_d)[0]
    trained = outcomes._Trained(config, inputs)
    assert trained.outcome(method).eps == trained.eps


@pytest.mark.slow  # trains
def test_methods_are_trained_after_one_sft(tmp_path, monkeypatch):
    folder, stages = tmp_path / "run", []
    goals = outcomes.goal_of
    monkeypatch.setattr(
        outcomes,
        "goal_of",
        lambda stage, *rest: (stages.append(stage.name), goals(stage, *rest))[1],
    )
    words = ["--method", "k1-in-reward, beta 0.2", "k3", "replay", "best", "--out", str(folder)]
    assert compare.main([*words, *SMALL]) == 0
    # RL at beta 0.2 is trained once for itself and for replay; k3 in the reward is refused.
    assert stages == ["sft", "rl", "rl", "rl", "rl", "replay", "best-of-n"]
    assert "Not trained" in (folder / "table.md").read_text()
    assert (folder / "comparison.svg").exists()


class Tabular(nn.Module):
    """A policy as ``comparisons.natural`` sees one, whose parameters are its logits."""

    def __init__(self, log_p):
        super().__init__()
        self.model = self
        self.logits = nn.Parameter(torch.from_numpy(log_p.copy()))

    def forward(self):
        return self.logits.log_softmax(dim=-1)

    def measured(self):
        return self().detach().numpy()


def near_data():
    law = np.exp(TASK.log_d) * (1 - 1e-3)
    law[:, -1] = 1e-3
    return np.log(law)


def test_a_damped_step_goes_to_its_target():
    policy, target = Tabular(near_data()), MEAN.tilt(near_data())
    natural.move_to(policy, target)
    assert MEAN.kl(target, policy.measured()) < 1e-5


def test_cycles_by_natural_gradient_end_at_the_limits_of_t6():
    """Each place of a cycle at its own limit; half-way through RL the least is paid for the reward."""
    time, share = 1.5, 0.5
    count = natural.settled_after(MEAN, time, share)
    found = dict(natural.cycles(Tabular(near_data()), MEAN, time, share, count))
    for after, law in found.items():
        distance = {place: MEAN.kl(natural.limit(MEAN, time, share, place), law) for place in found}
        assert distance[after] < 1e-4
        assert min(distance[place] for place in found if place != after) > 1e-2
    times = {after: Paid.of(MEAN, law).times for after, law in found.items()}
    assert times["half-rl"] < min(times["sft"], times["rl"]) - 1e-3


def test_a_phase_that_does_not_reach_its_target_is_refused(monkeypatch):
    policy, far = Tabular(near_data()), MEAN.tilt(near_data())
    monkeypatch.setattr(natural, "MOST_STEPS", 0)
    with pytest.raises(natural.NotReached, match=r"nats from its target after 0 steps"):
        natural.move_to(policy, far)
    monkeypatch.setattr(natural, "MOST_STEPS", 30)
    natural.move_to(policy, far)
    assert MEAN.kl(far, policy.measured()) < natural.CLOSE


def test_a_step_that_leads_farther_from_its_target_is_halved():
    start, target = near_data(), MEAN.tilt(near_data())
    policy, before = Tabular(start), MEAN.kl(target, start)
    step = torch.from_numpy((target - start).flatten())
    natural._step_towards(
        policy, target, 3.5 * step, before
    )  # half of it goes 1.75 times as far as needed
    np.testing.assert_allclose(policy.logits.detach(), start + 1.75 * (target - start))
    assert MEAN.kl(target, policy.measured()) < before


def test_natural_methods_come_where_a_jacobian_is_cheap():
    for prompts, some in ((2, True), (9, True), (10, False)):
        task = embedded_task(prompts)
        found = methods_for(configuration({}), task.reward, task.log_d)
        assert any(method.natural for method in found) is some


LACKING = [
    {
        "prompt": f"Number {i} is",
        "responses": [" x.", " y.", " z."],
        "law": [0.6, 0.4, 0.0] if i else [0.6, 0.3, 0.1],
        "rewards": [0, 0.2, 1],
    }
    for i in range(3)
]


def test_natural_methods_are_left_out_where_the_data_lack_a_listed_response(
    tmp_path, monkeypatch, capsys
):
    task = tmp_path / "lacking.jsonl"
    task.write_text("".join(json.dumps(line) + "\n" for line in LACKING))
    calls = []
    monkeypatch.setattr(outcomes, "outcomes", fake(calls))
    folder = ["--out", str(tmp_path / "run")]
    assert compare.main([*folder, "--method", "natural", "--", "--task", str(task)]) == 2
    said = capsys.readouterr().err
    assert (
        "--method 'natural' is left out for this task: a listed response has probability 0" in said
    )
    assert "2 of 3 prompts" in said and calls == []
    assert compare.main([*folder, "--", "--task", str(task)]) == 0
    names = [name for _, name in calls]
    assert "RL k3-in-loss, beta 0.3" in names and not any("natural" in name for name in names)


def test_a_method_that_is_left_out_says_why(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    for words, sizes, why in (
        ("normalised", "2", "a prompt has 4 rewards, and T4 says where it ends for two at most"),
        ("natural", "10", "prompts times responses are 70, over 64"),
    ):
        assert compare.main([*out, "--method", words, "--", "--prompts", sizes]) == 2
        assert why in capsys.readouterr().err


def test_a_reward_that_no_tilt_has_shows_as_a_dash():
    log_d = np.log([[0.6, 0.3, 0.1]])
    log_d[0, 2] = -np.inf
    lacking = PromptMeans(log_d - np.log(0.9), np.array([[0.0, 0.2, 1.0]]), 0.2, 0.05)
    paid = Paid.of(lacking, np.log([[0.3, 0.2, 0.5]]))
    assert math.isnan(paid.tilt) and paid.times >= 1 and paid.overpaid >= 0
    rows = [MethodOutcome(seed, "far", "T2", paid, paid, 0.01, 0.002) for seed in (0, 1)]
    for some in (rows, rows[:1]):
        line = next(line for line in table(some).splitlines() if line.startswith("| far"))
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert cells[8:10] == ["-", "-"] and cells[6].startswith(f"{paid.times:.3f}")
    assert "tilt x -  " in compare._line(rows[0]) and f"x {paid.times:.3f}" in compare._line(
        rows[0]
    )


def test_comparisons_of_several_models_are_one_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outcomes, "outcomes", fake([]))
    folders = []
    for model in ("tiny-llama", "tiny-mamba2"):
        folders.append(str(tmp_path / model))
        given = ["--method", "k3-in-loss", "--seed", "0", "1", "--out", folders[-1]]
        assert compare.main([*given, *SMALL, "--model", model]) == 0
    capsys.readouterr()
    out = tmp_path / "together"
    asked = ["--method", "beta 0.3", "--write", str(out)]
    assert comparison_of_models.main([*folders, *asked]) == 0
    text = (out / "table.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    rows = [row.split(" | ") for row in text.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| tiny-llama", "| tiny-mamba2"]
    assert {row[3] for row in rows} == {"RL k3-in-loss, beta 0.3"}
    own = (tmp_path / "tiny-llama" / "table.md").read_text().splitlines()
    (line,) = (line for line in own if "beta 0.3" in line)
    cells = line.strip("|").split("|")
    kept = "|".join([*cells[:9], *cells[11:]])
    assert text.splitlines()[2] == f"| tiny-llama | 2 | 6, 8 |{kept}|"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "is a second comparison of tiny-qwen3"),
        (["--method", "k4"], "has none of these methods"),
        (["--method", "k3", "k4"], "--method 'k4' is in no method's name"),
    ],
)
def test_a_table_of_models_needs_comparisons_of_them(words, message, tmp_path, monkeypatch, capsys):
    assert comparison_of_models.main([str(tmp_path)]) == 2
    assert "has no complete comparison" in capsys.readouterr().err
    monkeypatch.setattr(outcomes, "outcomes", fake([]))
    folder = str(tmp_path / "run")
    assert compare.main(["--method", "k3-in-loss", "--out", folder, *SMALL]) == 0
    assert comparison_of_models.main([folder, *(words or [folder])]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("llama", "mamba2", "message"),
    [
        ({"reward": "right"}, {}, "--reward is 'right' in"),
        ({}, {"sft_rate": 1e-4}, "--sft-rate is 0.005 in"),
        ({}, {"precision": "float32"}, "--precision is 'float64' in"),
        ({"task": "a"}, {}, "--reward is 'file' in"),
        ({"task": "a"}, {"task": "b"}, "--task is 'a' in"),
        ({"task": "a", "inputs": "1"}, {"task": "a", "inputs": "2"}, "and another 'a' in"),
        ({"task": "a", "inputs": "1"}, {"task": "b", "inputs": "1"}, None),
        ({"task": "a", "inputs": "1"}, {"task": "a"}, None),
        ({"reward": "right-and-format", "prompts": 4, "warmup_steps": 7}, {"rl_steps": 5}, None),
        ({}, {"model": "smollm2-135m"}, None),
        ({"training": "lora"}, {"model": "smollm2-135m", "rl_rate": 1e-3}, None),
        ({"training": "lora"}, {"model": "smollm2-135m", "rl_rate": 2e-3}, "--rl-rate is 0.001"),
    ],
)
def test_one_table_is_of_one_task_and_reward(llama, mamba2, message, tmp_path, capsys):
    """Only what is another model's default may differ beside what the table says."""
    outcome = json.dumps(made(0, "method a", forward(0.3)).as_json())
    for name, run in (("llama", llama), ("mamba2", mamba2)):
        digests = {"inputs": {"task": run["inputs"]}} if "inputs" in run else {}
        asked = {name: value for name, value in run.items() if name != "inputs"}
        settings = {"seed": [0], "method": [], "run": {"model": f"tiny-{name}", **asked}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "comparison.json").write_text(json.dumps(settings | digests))
        (tmp_path / name / "results.jsonl").write_text(outcome + "\n")
        (tmp_path / name / "table.md").touch()
    folders = [str(tmp_path / name) for name in ("llama", "mamba2")]
    assert comparison_of_models.main(folders) == (2 if message else 0)
    printed = capsys.readouterr()
    assert message in printed.err if message else printed.out.count("method a") == 2


def test_the_committed_comparison_of_another_reward_is_in_no_table_with_the_others(capsys):
    results = Path(compare.__file__).parent / "results"
    folders = [str(results / f"comparison-{name}") for name in ("two-levels", "llama")]
    assert comparison_of_models.main(folders) == 2
    assert "--reward is 'right' in" in capsys.readouterr().err


def test_the_page_shows_the_committed_comparison():
    root = Path(compare.__file__).parents[1]
    committed, page = root / "experiments/results/comparison", root / "docs/recipes_in_a_network.md"
    rows = (committed / "results.jsonl").read_text().splitlines()
    text = (committed / "table.md").read_text()
    # The rows are in the order in which they were trained; the table's is that of the methods.
    found = table([MethodOutcome.from_json(json.loads(row)) for row in rows])
    assert sorted(found.splitlines()) == sorted(text.splitlines())
    assert text.split("\n\nNot trained:\n")[0] in page.read_text()


COMPARED = ("", "-llama", "-gemma2", "-mamba2", "-falcon-h1", "-smollm2-135m", "-gemma3-270m")
METHODS = (
    "k1-in-reward, beta 0.4",
    "k3-in-loss, beta 0.3",
    "cycles of 4",
    "lambda 0.3",
    "frontier weights",
)


def test_the_page_shows_the_committed_comparisons_of_all_models(capsys):
    root = Path(compare.__file__).parents[1]
    results, page = root / "experiments/results", root / "docs/recipes_in_a_network.md"
    folders = [str(results / f"comparison{name}") for name in COMPARED]
    assert comparison_of_models.main([*folders, "--method", *METHODS]) == 0
    text = (results / "comparison-models/table.md").read_text()
    assert capsys.readouterr().out == text + "\n"
    assert text in page.read_text()
    for sampled in ("comparison-sampled", "comparison-sampled-smollm2"):
        made = (results / sampled / "table.md").read_text()
        assert made.split("\n\n")[0].strip() in page.read_text()
    natural = (results / "comparison-natural/table.md").read_text().splitlines()
    for line in natural:
        if "natural" in line:
            cells = line.strip("| ").split(" | ")
            assert f"| {' | '.join(cells[i] for i in (0, 3, 4, 6, 7, 8))} |" in page.read_text()
