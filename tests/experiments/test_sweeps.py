"""Sweeps: the trials of a grid, failures that are reported and not lost, and going on where a sweep stopped."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import sweep
from sweeps import running
from sweeps.grid import AXES, trials
from sweeps.running import last_attempts, run_trial
from sweeps.summary import _common_task, rows_of, table
from validate.errors import InputError

pytestmark = pytest.mark.slow  # whole runs, killed and resumed

SHORT = [
    "--prompts",
    "3",
    "--sft-steps",
    "12",
    "--rl-steps",
    "12",
    "--checkpoint-every",
    "6",
]


def test_lambda_makes_no_difference_without_joint_training():
    axes = {"order": ["sft-rl", "joint"], "beta": [0.1, 0.2], "lambda": [0.01, 0.1], "seed": [0, 1]}
    found = trials(axes, [], {})
    assert len(found) == 4 + 8
    assert len({trial.name for trial in found}) == 12
    assert found[0].name == "order=sft-rl,beta=0.1,seed=0"
    assert found[0].options == ["--order", "sft-rl", "--beta", "0.1", "--seed", "0"]


def test_steps_that_only_some_orders_have_go_to_these():
    shared = {"warmup_steps": 7, "rl_steps": 9}
    words = ["--warmup-steps", "7", "--rl-steps", "9"]
    found = trials({"order": ["sft-rl", "rl-sft", "best-of-n"]}, words, shared)
    assert [trial.options[2:] for trial in found] == [words[2:], words, []]
    with pytest.raises(InputError, match="--warmup-steps is 7"):
        trials({"order": ["sft-rl", "best-of-n"]}, words, shared)


def test_every_axis_is_an_option_of_the_script():
    from validate.options import parse_arguments

    values = {
        "model": "x",
        "order": "all",
        "reward": "right",
        "beta": "1",
        "lambda": "1",
        "seed": "1",
    }
    for axis, (option, name) in AXES.items():
        assert list(parse_arguments([option, values[axis]], "").asked) == [name]


def test_models_of_one_name_are_an_error():
    with pytest.raises(ValueError, match="two trials would be called"):
        trials({"model": ["a/tiny", "b/tiny"]}, [], {})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two good trials and one whose reward does not exist."""
    folder = tmp_path_factory.mktemp("sweep") / "run"
    given = ["--reward", "right", "format", "nonsense", "--order", "sft-rl", "--out", str(folder)]
    status = sweep.main([*given, "--", *SHORT])
    return folder, status


def test_a_failed_trial_is_reported_and_stops_nobody(finished):
    folder, status = finished
    assert status == 1
    text = (folder / "table.md").read_text()
    assert "1 trials have no report" in text
    assert "`order=sft-rl,reward=nonsense`" in text and "--reward is 'nonsense'" in text
    assert text.count("| tiny-qwen3 |") == 2
    attempts = last_attempts(folder)
    assert {name: line["status"] for name, line in attempts.items()} == {
        "order=sft-rl,reward=right": "ok",
        "order=sft-rl,reward=format": "ok",
        "order=sft-rl,reward=nonsense": "failed",
    }
    assert (folder / "sweep.svg").stat().st_size > 10_000
    lines = json.loads((folder / "summary.json").read_text())
    assert {line["statement"] for line in lines if "statement" in line} == {"S1"}


def test_going_on_repeats_only_what_failed(finished):
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in folder.glob("trials/*/report.json")}
    assert len(before) == 2
    assert sweep.main(["--out", str(folder)]) == 1
    assert {p: p.stat().st_mtime_ns for p in folder.glob("trials/*/report.json")} == before
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4


@pytest.mark.parametrize("given", [["--beta", "1"], ["--", "--rl-steps", "5"]])
def test_another_sweep_in_the_same_folder_is_refused(finished, capsys, given):
    folder, _ = finished
    assert sweep.main(["--out", str(folder), *given]) == 2
    assert "holds another sweep" in capsys.readouterr().err


def test_a_request_that_makes_no_sense_leaves_no_sweep_behind(tmp_path, capsys):
    folder = tmp_path / "sweep"
    assert sweep.main(["--seed", "0", "--out", str(folder), "--", "--seed", "5"]) == 2
    assert "--seed comes before the --" in capsys.readouterr().err
    assert sweep.main(["--seed", "0", "--out", str(folder), "--", "--rl", "grpo"]) == 2
    assert "--rl is 'grpo', a trainer of the sampled protocol" in capsys.readouterr().err
    assert not folder.exists()


def test_curves_are_drawn_only_where_all_trials_have_one_task():
    shared: dict = {}
    tiny = {"model": "tiny-qwen3", "reward": "right"}
    assert _common_task([tiny, tiny], shared).reward.shape[0] == 32
    assert _common_task([tiny, {**tiny, "model": "smollm2-135m"}], shared) is None
    assert _common_task([tiny, {**tiny, "reward": "format"}], shared) is None
    assert _common_task([tiny], {**shared, "data_law": "self"}) is None
    assert _common_task([tiny], {**shared, "protocol": "sampled"}) is None


def test_without_a_common_disk_a_trial_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = run_trial(["--order", "sft-rl", *SHORT], str(tmp_path / "not here" / "trial"))
    assert result["exit"] == 0, result["messages"]
    assert json.loads(result["report"])["config"]["order"] == "sft-rl"
    assert list(tmp_path.iterdir()) == []


def _is_locked(place):
    with place.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def end_with_the_worker(options, folder):
    """As a worker of Ray runs a trial; that of seed 1 dies each time that Ray tries it."""
    if "1" in options:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"exit": 0, "seconds": 0.0, "messages": "", "report": '{"outcome": "holds"}'}


def test_a_worker_that_dies_is_a_failed_trial_and_stops_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "run_trial", end_with_the_worker)
    planned = trials({"seed": [0, 1, 2]}, [], {})
    runner = running.Runner(tmp_path, None, cpus=1, gpus=0)
    ended = {}
    try:
        runner.run(planned, lambda trial, result: ended.update({trial.name: result}))
    finally:
        runner.stop()
    assert {name: result["status"] for name, result in ended.items()} == {
        "seed=0": "ok",
        "seed=1": "failed",
        "seed=2": "ok",
    }
    assert "died" in ended["seed=1"]["messages"] and ended["seed=1"]["exit"] is None
    assert last_attempts(tmp_path)["seed=1"]["status"] == "failed"
    assert [running.report_of(tmp_path, trial) is None for trial in planned] == [False, True, False]
    assert "1 trials have no report" in table(rows_of(tmp_path, planned[1:2]))


def test_a_killed_sweep_goes_on(tmp_path):
    """Killed with trials half done: the same table as without, and finished trials are kept."""
    folder = tmp_path / "killed"
    script = sweep.__file__
    given = ["--seed", "0", "1", "2", "--order", "joint", "--out", str(folder), "--", *SHORT]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, script, *given],
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not any(folder.glob("trials/*/report.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Ray's workers are in sessions of their own and notice a little later; a run locks its folder until it ends.
    while any(_is_locked(place) for place in folder.glob("trials/*/.lock")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert len(list(folder.glob("trials/*/report.json"))) < 3
    assert sweep.main(["--out", str(folder)]) == 0
    lines = json.loads((folder / "summary.json").read_text())
    assert [line["seed"] for line in lines] == [0, 1, 2]
    assert {line["stage"] for line in lines} == {"joint"}
    assert "| 3 |" in table(lines)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "nothing to do"),
        (
            ["--lambda", "1", "--order", "joint", "--", "--rl", "grpo", "--protocol", "sampled"],
            None,
        ),
    ],
)
def test_requests(given, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_run", lambda *arguments: 0)
    status = sweep.main(given)
    if words:
        assert status == 2 and words in capsys.readouterr().err
    else:
        assert status == 0 and "not run yet" in (tmp_path / "runs/sweep/table.md").read_text()
