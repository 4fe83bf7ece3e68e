"""The two figures of a sampled run: what they show is what the report says, and the model before training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import paper_figures
import pytest
import qwen_validate
from paper_figures import MeasuredEnd, Story, draw
from validate.finished_runs import Reached
from validate.run_folder import RunFolder
from validate.sampled.inputs import inputs_of
from validate.sampled.measuring import load_measurement
from validate.sampled.rewards import last_label
from validate.sampled.task import LABELS

SIZES = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 64, "responses": 4}
SIZES |= {"sft-steps": 20, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
RESULTS = Path(__file__).parents[2] / "experiments" / "results"
WORDS = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def end(title, step, loss, **predicted):
    sure = Reached(0.5, 0.4, 0.6)
    return MeasuredEnd(title, step, Reached(loss, -np.inf, np.inf), sure, sure, {}, **predicted)


def story(**predicted):
    ends = end("before training", 0, 9.0), end("SFT", 10, 0.5), end("RL", 20, 1.0, **predicted)
    return Story(ends, ((15, 0.3), (20, 0.4)))


ALWAYS = ("before any training", "rollouts, logged", "measured", "last label right")


@pytest.mark.parametrize("statement", ["S1", "J1"])
def test_what_is_drawn(statement):
    predicted = {"predicted_by": statement, "predicted_loss": 2.0, "predicted_reward": 0.9}
    of_rl = (f"at the exact optimum ({statement})", "least for the reward reached (S5)")
    picture = draw(story(least_loss=0.3, **predicted))
    assert all(words in picture for words in (*ALWAYS, *of_rl))


@pytest.mark.parametrize("least", [{}, {"least_loss": 0.0}], ids=str)
def test_what_nothing_is_known_of_is_not_drawn(least):
    picture = draw(story(**least))
    assert all(words in picture for words in ALWAYS)
    assert "exact optimum" not in picture and "least for the reward" not in picture


@pytest.mark.parametrize("folder", ["tiny-qwen3", "tiny-qwen3-sampled"])
def test_an_enumerated_run_and_several_orders_are_refused(folder, tmp_path, capsys):
    assert paper_figures.main([str(RESULTS / folder), "--out", str(tmp_path / "out")]) == 2
    assert "one order of --protocol sampled" in capsys.readouterr().err


def test_a_folder_without_a_complete_run_is_refused(tmp_path, capsys):
    for run in (tmp_path / "none", tmp_path):
        assert paper_figures.main([str(run), "--out", str(tmp_path / "out")]) == 2
        assert f"{run} has no complete run in it" in capsys.readouterr().err


@pytest.mark.slow  # trains every stage
def test_the_numbers_are_those_of_the_report(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "figures"
    given = ["--protocol", "sampled", "--order", "cycle", *WORDS]
    assert qwen_validate.main([*given, "--out", str(run)]) == 0
    assert paper_figures.main([str(run), "--out", str(out)]) == 0
    story = json.loads((out / "figures.json").read_text())
    report = json.loads((run / "report.json").read_text())
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
    steps = [step for step, _ in story["logged"]]
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
