"""The sampled protocol end to end: files, verdicts, and resuming after kill -9 in training and in measuring."""

import errno
import json
import os

import numpy as np
import pytest
import qwen_validate
import sampled_recipes
import torch
from run_helpers import lines_of, start_and_kill
from safetensors import SafetensorError
from transformers import Trainer
from validate import disk
from validate.checksums import append_sealed_line, read_sealed_lines
from validate.configuration import configuration
from validate.errors import RunFolderError
from validate.models import model_of_run
from validate.run_folder import RunFolder
from validate.sampled import measuring, rewards
from validate.sampled.measuring import ARRAYS, PER_TOKEN, load_measurement
from validate.sampled.per_token import token_scores_of
from validate.sampled.sentences import load_sentences
from validate.sampled.task import make_task

SMALL = {
    "train-prompts": 300,
    "pilot-prompts": 20,
    "eval-prompts": 40,
    "responses": 4,
    "sft-steps": 40,
    "rl-steps": 8,
    "sft-batch": 16,
    "rl-prompts": 4,
    "generations": 4,
    "checkpoint-every": 4,
}
PROMPTS = SMALL["pilot-prompts"] + SMALL["eval-prompts"]
FILES = {
    "config.json",
    "environment.json",
    "forecast-sft.json",
    "measurements",
    "metrics.jsonl",
    "pareto-sft.svg",
    "plane-sft.svg",
    "plan-sft.json",
    "policies",
    "report.html",
    "report.json",
    "timing.jsonl",
    "training",
    "training.svg",
}


@pytest.fixture(scope="module")
def options():
    words = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
    return ["--protocol", "sampled", *words]


@pytest.fixture(scope="module")
def cycle(tmp_path_factory, options):
    """An uninterrupted run of the cycle."""
    folder = tmp_path_factory.mktemp("sampled") / "run"
    status = qwen_validate.main([*options, "--order", "cycle", "--out", str(folder)])
    return folder, status


def must_be_exact(report, *quantities):
    """Rewards have limits, so that there is an interval for as few prompts as here, where a bootstrap says nothing."""
    found = {p["quantity"]: p["observed"] for p in report["predictions"] if p["unit"] == "reward"}
    for quantity in quantities:
        assert np.isfinite([float(found[quantity][end]) for end in ("low", "high")]).all()
        assert not found[quantity]["approximate"]


@pytest.mark.slow  # trains every stage
def test_a_run_writes_its_files_and_no_theorem_is_violated(cycle):
    folder, status = cycle
    assert status == 0
    assert {path.name for path in folder.iterdir()} == FILES
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "holds"
    assert {row["kind"] for row in report["rows"]} == {"self-test", "theorem", "finding"}
    assert not any(r["outcome"] == "violated" for r in report["rows"] if r["kind"] != "finding")
    confirmed = {r["statement"] for r in report["rows"] if r["outcome"] == "confirmed"}
    assert "S7" in confirmed
    assert {p["statement"] for p in report["predictions"]} >= {"S1", "F3", "R1", "R2"}
    must_be_exact(report, "reward change", "reward lost")
    (soft,) = report["soft_values"]
    assert soft["bias_bound"] >= 0 and 1 <= soft["effective_samples"] <= 4
    assert {line["quantity"] for line in report["plans"]["sft"]} >= {"rise of the SFT loss by RL"}
    assert all(
        gap["gap"]["low"] >= -1e-9 for gap in report["optimality_gaps"] if "P_ref" in gap["by"]
    )
    ends = {"guarded": [], "itself": []}
    for line in report["optimality_gaps"]:
        ends["guarded" if line["policy"].endswith(", guarded") else "itself"].append(line["gap"])
    assert len(ends["guarded"]) == len(ends["itself"]) == 4  # two policies, J* bounded in two ways
    assert not any(gap["approximate"] for gap in ends["guarded"])
    assert all(isinstance(gap["high"], float) for gap in ends["guarded"])  # "inf" would be text
    assert all(gap["approximate"] and gap["high"] == "inf" for gap in ends["itself"])  # 40 prompts
    assert not any(
        (folder / "training").iterdir()
    )  # only an unfinished stage needs its checkpoints


@pytest.mark.slow  # trains every stage
def test_measurements_are_whole(cycle):
    for policy in ("sft", "rl", "sft-again"):
        found = load_measurement(cycle[0] / "measurements" / f"{policy}.jsonl", PROMPTS)
        for name in ARRAYS:
            columns = 6 if name.startswith("expert_") else 4
            assert getattr(found, name).shape == (60, columns)
        assert (found.kl >= 0).all() and (found.back_kl >= 0).all()
        own, back = (token_scores_of(getattr(found, name)) for name in PER_TOKEN)
        for scores, whole in ((own, found.log_p), (back, found.back_log_ref)):
            summed = np.where(scores.mask, scores.log_p, 0.0).sum(axis=1)
            np.testing.assert_allclose(summed, whole.ravel(), atol=1e-4)
        np.testing.assert_array_equal(own.mask.sum(axis=1), found.lengths.ravel())
        assert set(np.unique(found.rewards)) <= {0.0, 1.0}
    ref = load_measurement(cycle[0] / "measurements" / "sft.jsonl", PROMPTS)
    assert (ref.kl == 0).all()
    np.testing.assert_array_equal(ref.log_p, ref.log_ref)


@pytest.mark.slow  # trains every stage
def test_a_measurement_of_an_earlier_version_is_refused(cycle, tmp_path):
    """One without the per-token scores that the self-tests need."""
    place = tmp_path / "rl.jsonl"
    for line in read_sealed_lines(cycle[0] / "measurements" / "rl.jsonl"):
        kept = {name: value for name, value in line.items() if name != "own_tokens"}
        append_sealed_line(place, kept)
    with pytest.raises(RunFolderError, match=r"has no own_tokens: an earlier version .* --out"):
        load_measurement(place, PROMPTS)


@pytest.mark.slow  # trains every stage
def test_killed_at_several_places_and_resumed_gives_the_same_bits(cycle, options, tmp_path, script):
    """In SFT, while its result is measured, in RL before and after a checkpoint, and while that is measured."""
    folder, given = tmp_path / "killed", [*options, "--order", "cycle"]
    metrics, measured = "metrics.jsonl", "measurements/{}.jsonl"
    kill = [
        (metrics, '"stage": "sft", "step": 8'),
        (measured.format("sft"), '"tokens"'),
        (metrics, '"stage": "rl", "step": 4'),
        (measured.format("rl"), '"tokens"'),
    ]
    for index, (file, words) in enumerate(kill):
        start_and_kill(script, given, folder, file, words, resume=index > 0)
        with (folder / file).open("a") as damaged:  # what a kill in the middle of a write leaves
            damaged.write('{"stage": "')
    assert not (folder / "report.json").exists()
    assert qwen_validate.main(["--protocol", "sampled", "--out", str(folder), "--resume"]) == 0
    names = ["config.json", metrics, "report.json", "plan-sft.json", "forecast-sft.json"]
    names += [measured.format(policy) for policy in ("sft", "rl", "sft-again")]
    for name in names:
        assert (folder / name).read_bytes() == (cycle[0] / name).read_bytes(), name
    sessions = json.loads((folder / "environment.json").read_text())["sessions"]
    assert len(sessions) == len(kill) + 1


@pytest.mark.slow  # trains every stage
def test_resuming_a_complete_run_only_writes_its_report_again(cycle):
    names = ["report.json", "report.html", "metrics.jsonl", "environment.json"]
    before = [(cycle[0] / name).read_bytes() for name in names]
    assert qwen_validate.main(["--protocol", "sampled", "--out", str(cycle[0]), "--resume"]) == 0
    assert [(cycle[0] / name).read_bytes() for name in names] == before


@pytest.mark.slow  # trains every stage
def test_an_empty_response_is_a_response(options, tmp_path, monkeypatch):
    """A model may end at once: one token, no text, no reward."""
    right = measuring.draw

    def often_empty(language_model, *rest):
        end = language_model.tokenizer.eos_token_id
        drawn = right(language_model, *rest)
        return [[end] if index % 2 else tokens for index, tokens in enumerate(drawn)]

    monkeypatch.setattr(measuring, "draw", often_empty)
    folder = tmp_path / "empty"
    assert qwen_validate.main([*options, "--order", "sft-rl", "--out", str(folder)]) != 0
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "violated"  # they are not drawn from the model's law
    tested = {r["claim"]: r["outcome"] for r in report["rows"] if r["kind"] == "self-test"}
    assert set(tested.values()) == {"violated"} and len(tested) == 2
    found = load_measurement(folder / "measurements" / "rl.jsonl", PROMPTS)
    empty = found.lengths == 1
    assert empty.mean() == pytest.approx(0.5, abs=0.05)
    assert (found.rewards[empty] == 0).all() and np.isfinite(found.log_p[empty]).all()


@pytest.mark.slow  # trains every stage
def test_self_distilled_data_start_at_the_sft_optimum(options, tmp_path):
    folder = tmp_path / "self"
    given = [*options, "--order", "cycle", "--data-law", "self", "--out", str(folder)]
    assert qwen_validate.main(given) == 0
    report = json.loads((folder / "report.json").read_text())
    refs = [line for line in report["averages"] if line["policy"] == "SFT"]
    assert refs[0]["excess_loss"] == 0.0
    assert {"S5", "J2"} <= {row["statement"] for row in report["rows"]}
    assert "J2" in {line["statement"] for line in report["plans"]["sft"]}
    assert not any(
        row["statement"] == "S6" for row in report["rows"]
    )  # it would be Jensen's inequality
    assert any("by at least 0.01 nats" in row["claim"] for row in report["rows"])


@pytest.mark.slow  # trains every stage
def test_joint_training_and_grpo_run(options, tmp_path):
    folder = tmp_path / "joint"
    given = [*options, "--order", "joint", "--rl", "grpo", "--out", str(folder)]
    assert qwen_validate.main(given) == 0
    html = (folder / "report.html").read_text()
    assert "This is not the gradient of" in html and "RL by grpo does not maximise J_b" in html
    report = json.loads((folder / "report.json").read_text())
    assert {p["statement"] for p in report["predictions"]} == {"J1", "J3"}
    must_be_exact(report, "reward")
    logged = [line for line in lines_of(folder / "metrics.jsonl") if line["stage"] == "joint"]
    rewarded = [line for line in logged if "reward" in line]
    assert rewarded and all("sft_loss" in line for line in rewarded)


@pytest.mark.slow  # trains every stage
def test_alternation_runs_and_resumes(options, tmp_path, script):
    given = [*options, "--order", "alternate", "--cycles", "2", "--reward", "combined"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert qwen_validate.main([*given, "--out", str(whole)]) == 0
    html = (whole / "report.html").read_text()
    assert "cycles" in html and "RLOO without a leash" in html
    report = json.loads((whole / "report.json").read_text())
    assert {p["statement"] for p in report["predictions"]} == {"T6"}
    (change,) = report["changes"]
    outcome = sampled_recipes.outcome_of(RunFolder(whole))
    assert change["statement"] == "T6" and change["predicted_J"] == outcome.reward_at_end
    assert (outcome.rl, outcome.beta) == ("alternation, cycles of 4, after half-rl", 1 / 3)
    logged = [line for line in lines_of(whole / "metrics.jsonl") if line["stage"] == "alternate"]
    assert [line["step"] for line in logged] == [4, 8]
    assert all("reward" in line and "sft_loss" in line for line in logged)
    at = '"stage": "alternate", "step": 4'
    start_and_kill(script, given, killed, "metrics.jsonl", at, resume=False)
    assert qwen_validate.main([*given, "--out", str(killed), "--resume"]) == 0
    for name in ("metrics.jsonl", "report.json", "measurements/alternate.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow  # trains every stage
def test_lora_trains_through_every_stage_and_resumes(options, tmp_path, script):
    """RL from an adapter: ref is a copy of it, which is gone afterwards; killed in RL, the same bits."""
    texts = make_task(load_sentences("grammar"), 300, 5, 0).texts
    model = model_of_run(configuration({"protocol": "sampled"}), texts)
    model.model.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    given = [*options, "--model", str(tmp_path / "model"), "--order", "cycle", "--sft-rate", "0.05"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert qwen_validate.main([*given, "--out", str(whole)]) == 0
    state = torch.load(whole / "policies" / "rl.pt", weights_only=True)
    assert state and all("lora" in name and "ref" not in name.split(".") for name in state)
    start_and_kill(script, given, killed, "metrics.jsonl", '"stage": "rl", "step": 4', resume=False)
    assert qwen_validate.main([*given, "--out", str(killed), "--resume"]) == 0
    for name in ("metrics.jsonl", "report.json", "measurements/rl.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow  # trains every stage
def test_a_reward_of_ones_own(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def shortness(completions, **columns):\n"
        "    return [max(-3.0, -len(text) / 20) for text in completions]\n\n\n"
        "shortness.bounds = (-3.0, 0.0)\n"
    )
    given = [*options, "--order", "sft-rl", "--reward", "mine:shortness", "--out", "run"]
    assert qwen_validate.main(given) == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["config"]["reward"] == "mine:shortness"
    assert all("P_ref" not in gap["by"] for gap in report["optimality_gaps"])  # not binary


@pytest.mark.slow  # trains every stage
@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([float("nan")] * 16, "reward strict is nan for the response"),
        ([0.5] * 16, "is 0.5 for the response"),
        ([0.0] * 15, "returned 15 values for 16 completions"),
        (["good"] * 16, "return one number per completion"),
    ],
)
def test_a_bad_reward_ends_the_run_and_keeps_what_was_measured(
    options, tmp_path, monkeypatch, capsys, cycle, result, words
):
    """The reward goes bad in RL; with a good one again, the run ends in the same report."""
    folder, right = tmp_path / "bad", rewards.strict

    def bad(prompts, completions, **columns):
        return result if "trainer_state" in columns else right(completions, **columns)

    bad.binary = True
    monkeypatch.setitem(rewards.BUILT_IN, "strict", bad)
    given = [*options, "--order", "cycle", "--out", str(folder)]
    assert qwen_validate.main(given) == 2
    message = capsys.readouterr().err
    assert words in message
    sft = (folder / "measurements" / "sft.jsonl").read_bytes()
    assert sft == (cycle[0] / "measurements" / "sft.jsonl").read_bytes()
    if words.startswith("reward strict is nan"):
        monkeypatch.undo()
        assert qwen_validate.main([*given, "--resume"]) == 0
        assert (folder / "report.json").read_bytes() == (cycle[0] / "report.json").read_bytes()


@pytest.mark.slow  # trains every stage
def test_a_disk_that_fills_while_measuring(options, tmp_path, monkeypatch, capsys, cycle):
    folder, written = tmp_path / "full", []
    right = os.fsync

    def full(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        written.append(name)
        if name.endswith("rl.jsonl") and sum(n.endswith("rl.jsonl") for n in written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        right(descriptor)

    monkeypatch.setattr(disk.os, "fsync", full)
    given = [*options, "--order", "cycle", "--out", str(folder)]
    assert qwen_validate.main(given) == 2
    assert "rl.jsonl could not be written (No space left on device)" in capsys.readouterr().err
    monkeypatch.undo()
    assert len(lines_of(folder / "measurements" / "rl.jsonl")) == 1
    assert qwen_validate.main([*given, "--resume"]) == 0
    assert (folder / "report.json").read_bytes() == (cycle[0] / "report.json").read_bytes()


@pytest.mark.slow  # trains every stage
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
        RuntimeError(
            "[enforce fail at inline_container.cc] PytorchStreamWriter failed writing file data/1"
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_disk_that_fills_while_a_checkpoint_is_written(
    options, tmp_path, monkeypatch, capsys, error
):
    right = Trainer._save_rng_state

    def full(trainer, place):
        if place.endswith("rl/checkpoint-4"):
            raise error
        right(trainer, place)

    monkeypatch.setattr(Trainer, "_save_rng_state", full)
    folder = tmp_path / "full"
    given = [*options, "--order", "sft-rl", "--out", str(folder)]
    assert qwen_validate.main(given) == 2
    message = capsys.readouterr().err
    assert "a checkpoint of rl could not be written to" in message and "--resume" in message
    assert len(lines_of(folder / "measurements" / "sft.jsonl")) == 3
    monkeypatch.undo()
    assert qwen_validate.main([*given, "--resume"]) == 0


LOADS_A_MODEL = pytest.mark.slow


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--prompts", "3"], "--prompts is no option of the sampled protocol"),
        (["--reward", "nonsense"], "choose strict, last-label, combined, or give module:function"),
        (["--reward", "nowhere:f"], "cannot import 'nowhere'"),
        (["--reward", "json:f"], "has no function 'f'"),
        (["--data", "missing.tsv"], "missing.tsv"),
        (["--train-prompts", "9500"], "--train-prompts is 9500, but there are only 9408"),
        pytest.param(
            ["--max-tokens", "3"], "has 5 tokens, more than --max-tokens 3", marks=LOADS_A_MODEL
        ),
        pytest.param(
            ["--max-tokens", "60"], "more than the model's context of 64", marks=LOADS_A_MODEL
        ),
        (["--eval-prompts", "4"], "--eval-prompts is 4; it must be at least 5"),
        (["--generations", "1"], "--generations is 1; it must be at least 2"),
        (["--seed", "-1"], "--seed is -1; it must be at least 0"),
    ],
)
def test_bad_requests_are_named(options, given, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert qwen_validate.main([*options, *given]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_options_of_the_other_protocol_are_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert qwen_validate.main(["--rl", "grpo"]) == 2
    assert "--rl is 'grpo', a trainer of the sampled protocol" in capsys.readouterr().err
