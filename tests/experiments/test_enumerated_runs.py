"""The script end to end: files, exit status, bad input, and resuming after kill -9."""

import errno
import json
import os
import shutil

import pytest
import qwen_validate
import torch
from run_helpers import lines_of, start_and_kill
from validate import disk, places, run_folder
from validate.configuration import configuration, run_name
from validate.enumerated.facts import vocabulary_texts
from validate.errors import RunFolderError
from validate.models import model_of_run

FILES = {
    "config.json",
    "environment.json",
    "forecast-sft.json",
    "metrics.jsonl",
    "report.json",
    "report.html",
    "policies",
    "timing.jsonl",
}
TEXTS = vocabulary_texts()


@pytest.fixture(scope="module")
def cycle(tmp_path_factory, small):
    """An uninterrupted run of the cycle."""
    folder = tmp_path_factory.mktemp("cycle") / "run"
    status = qwen_validate.main([*small, "--order", "cycle", "--out", str(folder)])
    return folder, status


def test_a_run_writes_its_files_and_holds(cycle):
    folder, status = cycle
    assert status == 0
    names = {path.name for path in folder.iterdir()}
    plots = {"course-rl.svg", "margins.svg", "price-of-reward.svg"}
    plots |= {"pareto-sft.svg", "plane-sft.svg"}
    assert names == FILES | plots
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "holds"
    assert report["counts"]["REFUTED"] == report["counts"]["UNDECIDED"] == 0
    kinds = {row["kind"] for row in report["rows"]}
    assert kinds == {"identity", "consequence", "exact optimum", "trained policy"}


def test_the_html_needs_nothing_else(cycle):
    html = (cycle[0] / "report.html").read_text()
    assert html.count("data:image/svg+xml;base64,") == 6  # the first one once more in its section
    for loader in ("http:", "https:", "<script ", "<link", "@import", "fetch("):
        assert loader not in html


@pytest.mark.slow  # whole runs
def test_all_orders_share_sft_and_say_who_is_who(tmp_path, small):
    folder = tmp_path / "all"
    assert qwen_validate.main([*small, "--warmup-steps", "8", "--out", str(folder)]) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    before, after = ["sft", "rl", "sft-again", "joint"], ["warm-up", "rl-first", "sft-after"]
    assert stages == ["base", *before, *after]
    report = json.loads((folder / "report.json").read_text())
    table = [(line["order"], line["stage"], line["ref"]) for line in report["policies"]]
    assert ("rl-sft", "SFT after RL", "the result of warm-up SFT") in table
    assert ("cycle", "RL after SFT", "the result of SFT") in table
    assert len(table) == 10


@pytest.mark.slow  # whole runs
def test_killed_in_sft_and_in_rl_and_resumed_gives_the_same_bits(cycle, tmp_path, script, small):
    options, folder = [*small, "--order", "cycle"], tmp_path / "killed"
    place = "metrics.jsonl"
    text = start_and_kill(script, options, folder, place, '"stage": "sft"', resume=False)
    assert '"stage": "rl"' not in text
    # What a kill in the middle of a write leaves behind.
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "sft", "step": 99')
    text = start_and_kill(script, options, folder, place, '"stage": "rl"', resume=True)
    assert '"stage": "sft-again"' not in text
    assert not (folder / "report.json").exists()
    assert qwen_validate.main(["--out", str(folder), "--resume"]) == 0
    names = ["config.json", "forecast-sft.json", "metrics.jsonl", "report.json", "report.html"]
    for name in [*names, "margins.svg"]:
        assert (folder / name).read_bytes() == (cycle[0] / name).read_bytes(), name
    sessions = json.loads((folder / "environment.json").read_text())["sessions"]
    assert [session["resumed"] for session in sessions] == [False, True, True]


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_head_in_less_than_float64_gives_a_law_of_its_own_that_holds(
    cycle, tmp_path, script, small, precision, capsys
):
    folder, killed = tmp_path / "run", tmp_path / "killed"
    options = [*small, "--order", "cycle", "--precision", precision]
    assert qwen_validate.main([*options, "--out", str(folder)]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["counts"]["REFUTED"] == report["counts"]["UNDECIDED"] == 0
    assert report["config"]["precision"] == precision
    assert 0 < report["precision_difference"] <= report["precision_tolerance"]
    exact = json.loads((cycle[0] / "report.json").read_text())
    for line, other in zip(report["checkpoints"], exact["checkpoints"], strict=True):
        assert line["mass_error"] <= report["precision_mass_tolerance"] + 1e-12
        assert line["sft_loss"] != other["sft_loss"]
        assert line["sft_loss"] == pytest.approx(other["sft_loss"], abs=0.2)
    html = (folder / "report.html").read_text()
    assert f"The head is applied in {precision}" in html and "--precision" in html
    assert "The head is applied" not in (cycle[0] / "report.html").read_text()
    assert qwen_validate.main(["--precision", "float64", "--out", str(folder), "--resume"]) == 2
    message = capsys.readouterr().err
    assert "--precision is 'float64'" in message and precision in message
    start_and_kill(script, options, killed, "metrics.jsonl", '"stage": "rl"', resume=False)
    assert qwen_validate.main(["--out", str(killed), "--resume"]) == 0
    for name in ("metrics.jsonl", "report.json"):
        assert (killed / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow  # whole runs
def test_stopped_by_ctrl_c_before_the_first_checkpoint(cycle, tmp_path, small, monkeypatch, capsys):
    from validate.enumerated.training import Trainer

    folder = tmp_path / "stopped"
    advance = Trainer.advance

    def stop(trainer):
        if trainer.step == 3:
            raise KeyboardInterrupt
        advance(trainer)

    monkeypatch.setattr(Trainer, "advance", stop)
    options = [*small, "--order", "cycle", "--out", str(folder)]
    assert qwen_validate.main(options) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert qwen_validate.main([*options, "--resume"]) == 0
    assert (folder / "report.json").read_bytes() == (cycle[0] / "report.json").read_bytes()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_existing_run_is_not_overwritten(cycle, small, capsys):
    folder, _ = cycle
    before = contents(folder)
    assert qwen_validate.main([*small, "--out", str(folder)]) == 2
    message = capsys.readouterr().err
    assert str(folder) in message.replace("\n", "")
    assert "--resume" in message
    assert "--out" in message
    assert contents(folder) == before


def test_resuming_with_another_value_is_refused(cycle, capsys):
    folder, _ = cycle
    assert qwen_validate.main(["--beta", "0.5", "--out", str(folder), "--resume"]) == 2
    message = capsys.readouterr().err
    assert "--beta is 0.5" in message
    assert "0.2" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--beta", "0"], "'0' is not a positive finite number"),
        (["--beta", "-1"], "not a positive finite number"),
        (["--beta", "nan"], "'nan' is not a positive finite number"),
        (["--prompts", "0"], "'0' is not a whole number of at least 1"),
        (["--rl-steps", "many"], "'many' is not a whole number"),
        (["--order", "rl"], "invalid choice: 'rl'"),
    ],
)
def test_bad_options_are_usage_errors(options, words, capsys):
    with pytest.raises(SystemExit) as stop:
        qwen_validate.main(options)
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow  # runs and their reports
def test_resuming_a_complete_run_only_writes_its_report_again(cycle):
    before = contents(cycle[0])
    assert qwen_validate.main(["--out", str(cycle[0]), "--resume"]) == 0
    assert contents(cycle[0]) == before


@pytest.mark.slow  # runs and their reports
def test_a_lost_report_is_written_again_without_training(cycle, tmp_path, monkeypatch):
    from validate.enumerated.training import Trainer

    folder = tmp_path / "copy"
    shutil.copytree(cycle[0], folder)
    before = contents(folder)
    (folder / "report.json").unlink()
    monkeypatch.setattr(Trainer, "advance", lambda trainer: pytest.fail("trained again"))
    assert qwen_validate.main(["--out", str(folder), "--resume"]) == 0
    assert contents(folder) == before


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize("reward", ["right", "format"])
def test_rewards_of_two_levels_are_decided(tmp_path, small, reward):
    """There S3's bounds are attained, which is no reason to be undecided."""
    given = [*small, "--order", "cycle", "--reward", reward, "--out", str(tmp_path / "run")]
    assert qwen_validate.main(given) == 0


def test_two_runs_in_one_folder_are_kept_apart(tmp_path, small, capsys):
    folder = run_folder.RunFolder(tmp_path)
    folder.lock()
    other = run_folder.RunFolder(tmp_path)
    with pytest.raises(RunFolderError, match="another run works in"):
        other.lock()
    folder.release()
    other.lock()
    other.release()


def test_a_folder_that_another_run_took_meanwhile_is_left_alone(tmp_path):
    """Two runs chose the same free folder; the first one began, and ended or was killed."""
    first, second = (run_folder.RunFolder(tmp_path) for _ in range(2))
    configs = [configuration({"seed": n}) for n in (1, 2)]
    assert not second.has_begun
    first.begin(configs[0], resumed=False, processes="one", model="a")
    first.release()
    assert second.has_begun
    with pytest.raises(RunFolderError, match="exists already"):
        second.begin(configs[1], resumed=False, processes="one", model="b")
    second.release()
    assert second.configuration({}) == configs[0]


def test_a_damaged_line_is_named(tmp_path):
    place = tmp_path / "metrics.jsonl"
    place.write_text('{"step": 1}\n{"step": 2\n{"step": 3}\n')
    with pytest.raises(RunFolderError, match=r"metrics.jsonl, line 2 is damaged"):
        list(disk.read_lines(place))


def test_stopped_before_the_run_began(tmp_path, monkeypatch, capsys):
    from validate.enumerated import run

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "model_of_run", stop)
    assert qwen_validate.main(["--out", str(tmp_path / "run")]) == 130
    message = capsys.readouterr().err
    assert "before anything was measured" in message and "--resume" not in message


def test_what_a_run_that_never_began_left_behind_is_no_run(tmp_path, small):
    for name in (".lock", ".config.json.partial"):
        (tmp_path / name).write_text("")
    run_folder.RunFolder(tmp_path).must_be_free()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="exists already"):
        run_folder.RunFolder(tmp_path).must_be_free()


@pytest.mark.slow  # whole runs
def test_self_distilled_data_hold_with_ref_at_its_optimum(tmp_path, small):
    folder = tmp_path / "self"
    given = [*small, "--warmup-steps", "8", "--data-law", "self", "--out", str(folder)]
    assert qwen_validate.main(given) == 0
    report = json.loads((folder / "report.json").read_text())
    assert {row["d"] for row in report["policies"]} == {
        "the data law of the experts",
        "the law of ref, the result of SFT",
        "the law of ref, the result of warm-up SFT",
    }
    measured = {(one["stage"], one["step"]): one for one in lines_of(folder / "metrics.jsonl")}
    assert len(measured) == len(report["checkpoints"])
    for one in report["checkpoints"]:
        line = measured[one["stage"], one["step"]]
        for name in ("sft_loss", "eps", "price_of_reward"):
            assert one[name] == pytest.approx(line[name], abs=1e-12)


@pytest.mark.slow  # runs and their reports
def test_a_full_disk_names_the_file_and_loses_nothing(tmp_path, small, monkeypatch, capsys, cycle):
    """The disk fills at the fourth checkpoint; with room again the run ends in the same report."""
    folder, saved = tmp_path / "full", []

    def full(state, file):
        saved.append(file)
        if len(saved) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        right(state, file)

    right = torch.save
    monkeypatch.setattr(run_folder.torch, "save", full)
    options = [*small, "--order", "cycle", "--out", str(folder)]
    assert qwen_validate.main(options) == 2
    message = capsys.readouterr().err
    assert "checkpoint.pt could not be written (No space left on device)" in message
    assert "--resume" in message
    monkeypatch.undo()
    assert qwen_validate.main([*options, "--resume"]) == 0
    assert (folder / "report.json").read_bytes() == (cycle[0] / "report.json").read_bytes()


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    place = tmp_path / "metrics.jsonl"
    disk.append_line(place, {"step": 1})
    before = place.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl could not be written"):
        disk.append_line(place, {"step": 2})
    assert place.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompts", "33"], "prompts is 33; choose 1 to 32"),
        (
            ["--reward", "strict"],
            "--reward is 'strict'; the enumerated protocol has right-and-format",
        ),
        (["--model", "no-such-model"], "no folder here and no hub id"),
        (["--model", "./missing/folder"], "'./missing/folder' is no folder here"),
        (["--model", "x" * 300 + "/y/z"], "is no folder here"),
        (["--resume"], "nothing to resume"),
        (["--out", "void", "--resume"], "nothing to resume: void has no config.json"),
    ],
)
def test_bad_requests_are_named(options, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert qwen_validate.main(options) == 2
    assert words in capsys.readouterr().err


def test_a_model_that_is_missing_leaves_no_run_folder(tmp_path, capsys):
    out = tmp_path / "run"
    assert qwen_validate.main(["--model", str(tmp_path), "--out", str(out)]) == 2
    assert "has no config.json" in capsys.readouterr().err
    assert not out.exists()


def test_a_diverging_run_says_what_to_change(tmp_path, small, capsys):
    options = [*small, "--sft-rate", "1e30", "--out", str(tmp_path / "run")]
    assert qwen_validate.main(options) == 2
    assert "lower the learning rate" in capsys.readouterr().err


@pytest.mark.slow  # whole runs
def test_a_saved_folder_of_the_same_format_runs_with_lora(tmp_path, small):
    tiny = model_of_run(configuration({"seed": 3}), TEXTS)
    tiny.model.save_pretrained(tmp_path / "qwen")
    tiny.tokenizer.save_pretrained(tmp_path / "qwen")
    loaded = model_of_run(configuration({"model": str(tmp_path / "qwen")}), TEXTS)
    assert all("lora" in name for name in loaded.trainable)
    out = tmp_path / "run"
    options = [*small, "--order", "sft-rl", "--model", str(tmp_path / "qwen"), "--out", str(out)]
    assert qwen_validate.main(options) in (0, 3)
    report = json.loads((out / "report.json").read_text())
    assert report["counts"]["REFUTED"] == 0
    assert "LoRA" in report["model"]


def test_default_folders_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(places.free_folder(run_name({"model": "Qwen/Qwen3-0.6B"}))) == "runs/Qwen3-0.6B-1"
    for number in (1, 2, 10):
        (tmp_path / f"runs/Qwen3-0.6B-{number}").mkdir(parents=True)
    assert str(places.free_folder(run_name({"model": "Qwen/Qwen3-0.6B"}))) == "runs/Qwen3-0.6B-3"
    assert str(places.newest_folder("Qwen3-0.6B")) == "runs/Qwen3-0.6B-10"
