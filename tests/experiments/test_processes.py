"""Two processes give the numbers of one, and a run survives the loss of one of them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import qwen_validate

pytestmark = pytest.mark.slow  # whole runs in two processes

# How far metrics of two processes may lie from those of one: sums in another order, in float32, through 80 steps.
TOLERANCE = 1e-3
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2"]
WAYS = {"data-parallel": ["--multi_gpu"], "FSDP": ["--use_fsdp", "--fsdp_version", "2"]}


def launch(script, way, options, port):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    command = [*LAUNCH, *WAYS[way], "--main_process_port", str(port), str(script), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment
    )


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(line["stage"], line["step"]): line for line in lines}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert qwen_validate.main([*small, "--order", "sft-rl", "--out", str(folder)]) == 0
    return metrics(folder)


@pytest.mark.parametrize(
    ("way", "precision", "port"),
    [("data-parallel", "bfloat16", 29618), ("FSDP", "float32", 29619)],
)
def test_every_process_applies_its_head_in_the_precision_asked_for(
    script, small, tmp_path, way, precision, port
):
    """The law before training is that of one process but for sums in another order."""
    options = [*small, "--order", "sft-rl", "--precision", precision]
    assert qwen_validate.main([*options, "--out", str(tmp_path / "one")]) == 0
    process = launch(script, way, [*options, "--out", str(tmp_path / "two")], port)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    one, two = (metrics(tmp_path / name) for name in ("one", "two"))
    assert two.keys() == one.keys()
    first, second = (np.array(lines["base", 0]["log_p"]) for lines in (one, two))
    assert np.abs(first - second).max() <= 1e-5
    assert two["base", 0]["precision_difference"] == one["base", 0]["precision_difference"] > 0
    assert two["rl", 40]["sft_loss"] == pytest.approx(one["rl", 40]["sft_loss"], abs=0.05)


@pytest.mark.parametrize(("way", "port"), [("data-parallel", 29611), ("FSDP", 29612)])
def test_two_processes_give_the_numbers_of_one(script, small, tmp_path, alone, way, port):
    folder = tmp_path / "run"
    process = launch(script, way, [*small, "--order", "sft-rl", "--out", str(folder)], port)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    together = metrics(folder)
    assert together.keys() == alone.keys()
    for place, line in alone.items():
        for name in ("sft_loss", "eps", "reward", "kl_to_ref", "kl_to_tilt", "p_other"):
            if line[name] is not None:
                assert together[place][name] == pytest.approx(line[name], abs=TOLERANCE)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["sessions"][0]["processes"] == f"2 processes, {way}"


def test_a_killed_process_ends_the_run_which_resumes(script, small, tmp_path, alone):
    folder = tmp_path / "run"
    options = [*small, "--order", "sft-rl", "--out", str(folder)]
    process = launch(script, "data-parallel", options, 29613)
    deadline = time.monotonic() + 200
    lines = folder / "metrics.jsonl"
    while '"stage": "sft", "step": 16' not in (lines.read_text() if lines.exists() else ""):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "qwen_validate.py" in " ".join(child.cmdline()) and child.environ().get("RANK") == "1"
    ]
    workers[-1].send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "process 0: lost the others" in output and "--resume" in output
    assert not (folder / "report.json").exists()

    process = launch(script, "data-parallel", [*options, "--resume"], 29614)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "Going on in" in output
    last = metrics(folder)["rl", 40]
    assert last["sft_loss"] == pytest.approx(alone["rl", 40]["sft_loss"], abs=TOLERANCE)


def test_more_processes_than_prompts_is_an_error(script, tmp_path):
    options = ["--prompts", "1", "--out", str(tmp_path / "run")]
    process = launch(script, "data-parallel", options, 29615)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "2 processes share 1 prompts" in output


@pytest.mark.parametrize(("order", "port"), [("joint", 29616), ("weighted-sft", 29620)])
def test_the_sampled_protocol_runs_in_two_processes(script, tmp_path, order, port):
    """Rollouts differ with the number of processes, so only their shape and the verdicts' soundness are compared."""
    # The last line of measurements has one prompt, which one of the processes has no share of.
    sizes = {"train-prompts": 200, "pilot-prompts": 20, "eval-prompts": 21, "responses": 4}
    sizes |= {"sft-steps": 10, "rl-steps": 4, "sft-batch": 16, "rl-prompts": 4, "generations": 4}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    folder = tmp_path / "run"
    options = ["--protocol", "sampled", "--order", order, *words, "--out", str(folder)]
    process = launch(script, "data-parallel", options, port)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "holds"
    lines = (folder / "measurements" / f"{order}.jsonl").read_text().splitlines()
    assert len(lines) == 3


def test_the_sampled_protocol_is_not_sharded(script, tmp_path):
    options = ["--protocol", "sampled", "--out", str(tmp_path / "run")]
    process = launch(script, "FSDP", options, 29617)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "the sampled protocol is data-parallel" in output
