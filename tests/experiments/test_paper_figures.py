"""The two figures of a sampled run: what they show is what the report says, and the model before training."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import paper_figures
import pytest
import qwen_validate
from paper_figures import (
    ExpectedChange,
    LoggedStep,
    MeasuredEnd,
    StageChange,
    Story,
    draw,
    table_of,
)
from validate.configuration import configuration
from validate.finished_runs import Reached
from validate.orders import ORDERS
from validate.run_folder import RunFolder
from validate.sampled.inputs import inputs_of
from validate.sampled.measuring import load_measurement
from validate.sampled.resampling import resampled
from validate.sampled.rewards import last_label
from validate.sampled.sentences import load_sentences
from validate.sampled.task import LABELS, make_task

SIZES = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 64, "responses": 4}
SIZES |= {"sft-steps": 20, "rl-steps": 4, "sft-batch": 16}
SIZES |= {"rl-prompts": 4, "generations": 4, "checkpoint-every": 4}
RESULTS = Path(__file__).parents[2] / "experiments" / "results"
WORDS = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def end(title, step, loss, least=0.0, regularized=None, **predicted):
    sure = Reached(0.5, 0.4, 0.6)
    loss = Reached(loss, -np.inf, np.inf)
    return MeasuredEnd(title, step, loss, sure, sure, {}, regularized, least, **predicted)


def story(least=0.0, of_rl=(), after=()):
    ends = [
        end("before training", 0, 9.0),
        end("SFT", 10, 0.5, regularized=Reached.exact(0.5)),
        end("RL", 20, 1.0, least, Reached.exact(0.4), **dict(of_rl)),
        end("SFT after RL", 30, 0.5, 0.0, Reached.exact(0.3), **dict(after)),
    ]
    logged = LoggedStep(15, 0.3, 0.2), LoggedStep(20, 0.4, 0.3)
    return Story(tuple(ends), (), logged, ((5, 0.7), (10, -0.1)), 0.6, "")


ALWAYS = ("before any training", "rollouts, logged", "measured", "last label right", "(F3)")
PREDICTED = {"predicted_loss": 2.0, "predicted_reward": 0.9, "predicted_regularized": 0.6}


@pytest.mark.parametrize(("statement", "of_reward"), [("S1", "F3"), ("J1", "J1")])
def test_what_is_drawn(statement, of_reward):
    picture = draw(story(0.3, {"predicted_by": statement, **PREDICTED}))
    of_rl = (f"at the exact optimum ({statement})", "least for the reward reached (S5, S7)")
    assert all(words in picture for words in (*ALWAYS, *of_rl, "batches, logged"))
    assert f"at the exact optimum ({of_reward})" in picture
    assert "data law" not in picture and "before SFT after RL" not in picture


def test_where_sft_after_rl_ends_is_drawn_beside_where_it_began():
    picture = draw(story(after={"predicted_by": "R2", **PREDICTED}))
    drawn = ("before SFT after RL", "at the data law (R2)", "at the data law (R1, R8)")
    assert all(words in picture for words in (*ALWAYS, *drawn))
    assert "exact optimum" not in picture


def test_picture_and_table_say_from_what_the_exact_ends_are_estimated():
    told = replace(story(), estimated=", estimated: 8 responses")
    report = {"config": {"delta": 0.05}, "rows": []}
    assert "exact ends, estimated: 8 responses" in draw(told)
    assert "\nExact ends, estimated: 8 responses.\n" in table_of(told, report)
    assert "xact ends" not in draw(story()) + table_of(story(), report)


def test_what_nothing_is_known_of_is_not_drawn():
    picture = draw(story())
    assert all(words in picture for words in ALWAYS)
    assert not any(
        words in picture for words in ("exact optimum", "data law", "least for the reward")
    )


def test_a_policy_that_is_the_data_law_has_batches_without_excess(monkeypatch):
    """Its loss per token, as a trainer logs it, is that of d on the very responses of the batches before each log."""
    monkeypatch.setattr(paper_figures, "response_tokens", lambda tokenizer, text: text.split())
    given = {"protocol": "sampled", "order": "cycle", "sft_steps": 6, "sft_batch": 4, "rl_steps": 5}
    config = configuration(given)
    task = make_task(load_sentences("grammar", 60), 40, 10, seed=0)
    records = [{"stage": "rl", "step": 5, "reward": 0.5, "loss": 1.0}]
    for stage in ("sft", "sft-again"):
        questions = task.sft_draws(stage, 24)
        texts = task.expert_draws(stage, questions)
        tokens = np.array([len(text.split()) for text in texts])
        cost = -np.log(
            [
                dict(zip(q.responses, q.law, strict=True))[t]
                for q, t in zip(questions, texts, strict=True)
            ]
        )
        for first, last in ((0, 8), (8, 16), (16, 24)):
            loss = cost[first:last].sum() / tokens[first:last].sum()
            records.append({"stage": stage, "step": last // 4, "loss": loss})
    model = type("Model", (), {"tokenizer": None})
    found = paper_figures._batches(config, task, model, records)
    assert [step for step, _ in found] == [2, 4, 6, 13, 15, 17]
    assert [loss for _, loss in found] == pytest.approx([0.0] * 6, abs=1e-12)


def test_the_regularised_reward_of_rollouts_pays_for_the_kl_of_whole_responses():
    config = configuration(
        {"protocol": "sampled", "order": "rl-sft", "beta": 0.5, "warmup_steps": 7}
    )
    line = {
        "stage": "rl-first",
        "step": 3,
        "reward": 0.8,
        "kl": 0.1,
        "completions/mean_length": 6.0,
    }
    (found,) = paper_figures._logged(config, [{"stage": "warm-up", "step": 7, "loss": 1.0}, line])
    assert (found.step, found.reward) == (10, 0.8)
    assert found.regularized == pytest.approx(0.5)


def test_rl_without_a_leash_logs_no_kl_and_has_no_regularised_rollouts():
    config = configuration({"protocol": "sampled", "order": "alternate", "sft_steps": 7})
    line = {"stage": "alternate", "step": 3, "reward": 0.8, "completions/mean_length": 6.0}
    (found,) = paper_figures._logged(config, [line])
    assert found == LoggedStep(10, 0.8, None)
    picture = draw(replace(story(of_rl={"predicted_by": "T6", **PREDICTED}), logged=(found, found)))
    assert picture.count("rollouts, logged") == 1  # beside the reward, where it is known
    assert "at the limit of short cycles (T6)" in picture and "exact optimum" not in picture
    assert "rollouts, logged" not in draw(replace(story(), logged=()))


def test_the_table_has_every_change_and_every_verdict_but_the_self_tests():
    said = (
        ExpectedChange("S1", "at the exact optimum", 1.5),
        ExpectedChange("S7", "at least", 0.25),
    )
    rise = StageChange("RL", "SFT loss", "nats", 0.5, 2.5, Reached(2.0, 1.75, 2.25), said)
    unsure = StageChange("SFT", "SFT loss", "nats", 9.0, 0.5, Reached(-8.5, -np.inf, np.inf), ())
    row = {
        "statement": "R4",
        "claim": "a >= |b|",
        "policy": "rl",
        "kind": "theorem",
        "unit": "reward",
    }
    row |= {"lhs": 1.0, "rhs": 0.5, "outcome": "confirmed", "by_bootstrap": True}
    hidden = {**row, "kind": "self-test", "statement": "F4"}
    whole = Story((), (unsure, rise), (), (), 0.6, "")
    silent = {**row, "outcome": "inconclusive", "by_bootstrap": False, "note": "says nothing"}
    report = {"config": {"delta": 0.05}, "rows": [hidden, row, silent]}
    table = table_of(whole, report).splitlines()
    by_theory = "+1.500 at the exact optimum (S1); +0.250 at least (S7)"
    assert (
        table[2]
        == "| SFT | SFT loss | 9.000 | 0.500 | -8.500 (too few prompts, or too skewed) | nats |  |"
    )
    assert (
        table[3]
        == f"| RL | SFT loss | 0.500 | 2.500 | +2.000 (+1.750 to +2.250) | nats | {by_theory} |"
    )
    assert "at level 0.95" in table[5]
    verdicts = ("confirmed ~", "inconclusive: says nothing")
    assert table[9:] == [
        rf"| R4 | a >= \|b\| | rl | 1.000 | 0.500 | reward | {verdict} |" for verdict in verdicts
    ]


@pytest.mark.parametrize("folder", ["tiny-qwen3", "tiny-qwen3-sampled"])
def test_an_enumerated_run_and_several_orders_are_refused(folder, tmp_path, capsys):
    assert paper_figures.main([str(RESULTS / folder), "--out", str(tmp_path / "out")]) == 2
    assert "one order of --protocol sampled" in capsys.readouterr().err


def test_a_folder_without_a_complete_run_is_refused(tmp_path, capsys):
    for run in (tmp_path / "none", tmp_path):
        assert paper_figures.main([str(run), "--out", str(tmp_path / "out")]) == 2
        assert f"{run} has no complete run in it" in capsys.readouterr().err


def changed(story, stage, quantity):
    (found,) = [c for c in story["changes"] if (c["stage"], c["quantity"]) == (stage, quantity)]
    said = {(one["statement"], one["says"]): one["value"] for one in found["expected"]}
    from_reached = {name: value for (name, says), value in said.items() if "from" not in says}
    return found, from_reached, said


def check_changes(story, report, run):
    """Paired, of the prompts behind the pilot's, and what is said of them is what report and ends say."""
    folder = RunFolder(run, writes=False)
    config = folder.configuration({})
    task = inputs_of(config, folder).task
    first, names = config.pilot_prompts, ORDERS[config.order]
    measured = [
        load_measurement(run / "measurements" / f"{name}.jsonl", len(task.evaluation)).part(
            first, None
        )
        for name in names
    ]
    _, ref_end, rl_end, last_end = story["ends"]
    weights, log_d = np.exp(task.log_d[first:]), task.log_d[first:]
    losses = [(weights * (log_d - one.expert_log_p)).sum(axis=1) for one in measured]
    rewards, last = (
        [getattr(one, name).mean(axis=1) for one in measured] for name in ("rewards", "robust")
    )
    for place, stage in ((1, rl_end["title"]), (2, last_end["title"])):
        for quantity, of in (
            ("SFT loss", losses),
            ("training reward", rewards),
            ("last label right", last),
        ):
            paired = resampled(of[place] - of[place - 1])(0.05)
            found, _, _ = changed(story, stage, quantity)
            ends = [float(found["change"][end]) for end in ("value", "low", "high")]
            assert ends == pytest.approx([paired.estimate, paired.low, paired.high], rel=1e-6)
            assert (found["before"], found["after"]) == pytest.approx(
                (of[place - 1].mean(), of[place].mean())
            )
    predicted = {(p["statement"], p["quantity"]): p["predicted"] for p in report["predictions"]}
    (change,) = report["changes"]
    of_rl = rl_end["title"]
    _, loss, _ = changed(story, of_rl, "SFT loss")
    assert loss["S1"] == pytest.approx(change["predicted_loss_change"])
    assert loss["S7"] == pytest.approx(rl_end["least_loss"] - ref_end["loss"]["value"])
    _, reward, _ = changed(story, of_rl, "training reward")
    assert reward["F3"] == pytest.approx(predicted["F3", "reward change"])
    (gold,) = [r for r in report["rows"] if (r["statement"], r["policy"]) == ("G1", names[1])]
    _, of_labels, _ = changed(story, of_rl, "last label right")
    assert of_labels["G1"] == pytest.approx(gold["rhs"])
    _, of_regularized, _ = changed(story, of_rl, "regularised reward")
    best = predicted["F3", "regularised reward"]
    most = of_regularized["F3"] + ref_end["regularized"]["value"]
    assert story["ceiling"] == pytest.approx(most) and most > best
    assert best == pytest.approx(rl_end["predicted_regularized"])
    reached = rl_end["regularized"]["value"]
    assert reached == pytest.approx(rewards[1].mean() - config.beta * measured[1].kl.mean())
    # Of SFT after RL, from where RL came and from where it would have come.
    again = last_end["title"]
    _, at_data, everything = changed(story, again, "training reward")
    from_optimum = "from the exact optimum to the data law"
    assert everything["R2", from_optimum] == pytest.approx(-predicted["R2", "reward lost"])
    assert at_data["R2"] == pytest.approx(last_end["predicted_reward"] - rewards[1].mean())
    _, at_data, everything = changed(story, again, "regularised reward")
    lost = predicted["R1", "regularised reward lost"]
    assert everything["R1", from_optimum] == pytest.approx(-lost)
    assert at_data["R8"] == pytest.approx(best - lost - reached)
    assert last_end["predicted_regularized"] == pytest.approx(best - lost)
    assert changed(story, again, "SFT loss")[1]["F1"] == pytest.approx(-losses[1].mean())


def drawn(order, tmp_path, *more):
    """A run of an order, its figures' folder, and what is in both."""
    run, out = tmp_path / "run", tmp_path / "figures"
    given = ["--protocol", "sampled", "--order", order, *WORDS, *more]
    assert qwen_validate.main([*given, "--out", str(run)]) == 0
    assert paper_figures.main([str(run), "--out", str(out)]) == 0
    story = json.loads((out / "figures.json").read_text())
    return run, out, story, json.loads((run / "report.json").read_text())


@pytest.mark.slow  # trains every stage
def test_rl_first(tmp_path):
    run, out, story, report = drawn("rl-sft", tmp_path, "--warmup-steps", "10")
    check_changes(story, report, run)
    assert [end["step"] for end in story["ends"]] == [0, 10, 14, 34]
    assert [end["predicted_by"] for end in story["ends"]] == [None, None, "S1", "R2"]
    steps = [step for step, _ in story["batches"]]
    assert steps == [4, 8, 18, 22, 26, 30, 34]
    assert "RL from the warm-up" in (out / "figures.svg").read_text()


@pytest.mark.slow  # trains every stage
@pytest.mark.parametrize(
    ("order", "by"),
    [("joint", "J1"), ("alternate", "T6"), ("best-of-n", "T7"), ("weighted-sft", "T9")],
)
def test_every_order_that_raises_the_reward_is_drawn(order, by, tmp_path):
    """With its own end, and with rollouts where RL has some."""
    more = ("--cycles", "1", "--sft-share", "0.25") if order == "alternate" else ()
    _, out, story, report = drawn(order, tmp_path, *more)
    (change,) = report["changes"]
    assert [end["predicted_by"] for end in story["ends"]] == [None, None, by]
    assert story["ends"][-1]["predicted_reward"] == pytest.approx(change["predicted_J"])
    known = [one["regularized"] is not None for one in story["logged"]]
    assert known and all(known) if order == "joint" else not any(known)
    assert bool(known) == (order in ("joint", "alternate"))
    picture = (out / "figures.svg").read_text()
    assert ("rollouts, logged" in picture) == bool(known)
    assert ("exact optimum" in picture) == (order == "joint") and f"({by})" in picture


@pytest.mark.slow  # trains every stage
def test_the_numbers_are_those_of_the_report(tmp_path, capsys):
    run, out, story, report = drawn("cycle", tmp_path)
    check_changes(story, report, run)
    table = (out / "table.md").read_text()
    rows = [row for row in report["rows"] if row["kind"] != "self-test"]
    assert story["estimated"] in table
    assert table.count("\n") == 2 + len(story["changes"]) + 2 + 5 + len(rows)
    # Batches of other prompts, at the parameters of a few steps before.
    near = story["batches"][-1][1], story["ends"][-1]["loss"]["value"]
    assert story["batches"][-1][0] == 44 and abs(near[0] - near[1]) < 0.5
    untrained, *ends = story["ends"]
    assert [e["step"] for e in ends] == [20, 24, 44]
    for mine, theirs in zip(ends, report["averages"], strict=True):
        assert mine["title"] == theirs["policy"]
        assert mine["loss"]["value"] == pytest.approx(theirs["excess_loss"])
        assert mine["reward"]["value"] == pytest.approx(theirs["reward"])
        assert mine["last_label"]["value"] == pytest.approx(theirs["last_label"])
        assert mine["reward"]["low"] <= theirs["reward"] <= mine["reward"]["high"]
    # What the model wrote, judged anew, of the prompts behind the pilot's.
    folder = RunFolder(run, writes=False)
    questions = inputs_of(folder.configuration({}), folder).task.evaluation
    written = load_measurement(run / "measurements" / "rl.jsonl", len(questions)).texts
    for label in LABELS:
        judged = [
            value
            for question, texts in list(zip(questions, written, strict=True))[20:]
            if question.label == label
            for value in last_label(texts, [label] * len(texts))
        ]
        assert ends[1]["by_label"][label] == pytest.approx(np.mean(judged))
    ((change,),) = [[c for c in report["changes"] if c["stage"] == "rl"]]
    rise = change["predicted_loss_change"]
    assert ends[1]["predicted_loss"] == pytest.approx(ends[0]["loss"]["value"] + rise)
    assert ends[1]["predicted_reward"] == pytest.approx(change["predicted_J"])
    assert 0 <= ends[1]["least_loss"] <= ends[1]["loss"]["value"]
    # Nothing was learnt yet: every token of 7 or so costs about the log of the vocabulary's size.
    assert untrained["loss"]["value"] > 5 * ends[0]["loss"]["value"]
    steps = [one["step"] for one in story["logged"]]
    assert steps and all(20 < step <= 24 for step in steps)
    # A second start measures nothing, and says so of a measurement that is damaged.
    base = out / "measurements" / "base.jsonl"
    kept = base.read_bytes()
    assert paper_figures.main([str(run), "--out", str(out)]) == 0
    assert base.read_bytes() == kept
    base.write_bytes(kept.replace(b"0.", b"1.", 1))
    assert paper_figures.main([str(run), "--out", str(out)]) == 2
    assert f"{base} is damaged; remove it" in capsys.readouterr().err
    # Another run's figures are not written over these, and no run is mistaken for a folder.
    settings = (out / "run.json").read_text()
    (out / "run.json").write_text(re.sub(r'"seed": 0', '"seed": 1', settings))
    assert paper_figures.main([str(run), "--out", str(out)]) == 2
    assert "another --out" in capsys.readouterr().err
    assert paper_figures.main([str(run), "--out", str(out / "run.json")]) == 2
    assert "Error: " in capsys.readouterr().err
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"expert"', '"self"'))
    assert paper_figures.main([str(run), "--out", str(tmp_path / "other")]) == 2
    assert "Error: " in capsys.readouterr().err
