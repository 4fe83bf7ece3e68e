"""The two figures of a sampled run: what they show is what the report says, and the model before training."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import paper_figures
import pytest
import qwen_validate
from paper_figures import Measured, StageEnd, Story, draw

SIZES = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 64, "responses": 4}
SIZES |= {"sft-steps": 20, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
RESULTS = Path(__file__).parents[2] / "experiments" / "results"
WORDS = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def end(title, step, loss, **predicted):
    sure = Measured(0.5, 0.4, 0.6)
    return StageEnd(title, step, Measured(loss, -np.inf, np.inf), sure, sure, **predicted)


def test_what_is_drawn():
    predictions = {"predicted_loss": 2.0, "predicted_reward": 0.9, "least_loss": 0.0}
    story = Story(
        (end("before training", 0, 9.0), end("SFT", 10, 0.5), end("RL", 20, 1.0, **predictions)),
        ((15, 0.3), (20, 0.4)),
    )
    picture = draw(story)
    for words in ("before any training", "rollouts, logged", "least for the reward reached (S5)"):
        assert words in picture
    # Predictions belong to RL: a run without any has no marks of them.
    assert "exact optimum" not in draw(Story(story.ends[:2], story.logged))


@pytest.mark.parametrize("folder", ["tiny-qwen3", "tiny-qwen3-sampled"])
def test_an_enumerated_run_and_several_orders_are_refused(folder, tmp_path, capsys):
    assert paper_figures.main([str(RESULTS / folder), "--out", str(tmp_path / "out")]) == 2
    assert "one order of --protocol sampled" in capsys.readouterr().err


def test_no_run_is_refused(tmp_path, capsys):
    assert paper_figures.main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "Error: " in capsys.readouterr().err


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
    ((change,),) = [[c for c in report["changes"] if c["stage"] == "rl"]]
    rise = change["predicted_loss_change"]
    assert ends[1]["predicted_loss"] == pytest.approx(ends[0]["loss"]["value"] + rise)
    assert ends[1]["predicted_reward"] == pytest.approx(change["predicted_J"])
    assert 0 <= ends[1]["least_loss"] <= ends[1]["loss"]["value"]
    # Nothing was learnt yet: every token of 7 or so costs about the log of the vocabulary's size.
    assert untrained["loss"]["value"] > 5 * ends[0]["loss"]["value"]
    steps = [step for step, _ in story["logged"]]
    assert steps and all(20 < step <= 24 for step in steps)
    # A second start measures nothing; another run's figures are not written over these.
    kept = (out / "measurements" / "base.jsonl").read_bytes()
    assert paper_figures.main([str(run), "--out", str(out)]) == 0
    assert (out / "measurements" / "base.jsonl").read_bytes() == kept
    settings = (out / "run.json").read_text()
    (out / "run.json").write_text(re.sub(r'"seed": 0', '"seed": 1', settings))
    assert paper_figures.main([str(run), "--out", str(out)]) == 2
    assert "another --out" in capsys.readouterr().err
