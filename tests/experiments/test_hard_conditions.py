"""A full disk, too little memory, a missing package, a closed terminal, odd names: a message, and nothing is lost."""

import errno
import json
import os
import resource
import subprocess
import sys

import pytest
import qwen_validate
from validate.enumerated import report as enumerated_report
from validate.enumerated.training import Trainer
from validate.output import Output
from validate.requirements import LEAST_ADDRESS_SPACE

SMALL = ["--prompts", "2", "--sft-steps", "8", "--rl-steps", "8", "--checkpoint-every", "4"]
SMALL += ["--order", "sft-rl"]
ENDED = set(qwen_validate.OUTCOMES.values())


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr(enumerated_report, "plots", lambda *arguments: {})
    monkeypatch.setattr(enumerated_report, "_html", lambda *arguments: "")


def start(script, folder, *more, **options):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), *SMALL, "--out", str(folder), *more]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, **options)


# Disk and memory.


@pytest.mark.slow  # two processes
def test_a_limit_on_the_size_of_files_is_named_and_nothing_is_lost(script, tmp_path):
    """torch writes a policy larger than the limit, and stops in the middle of it."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    process = start(script, tmp_path / "run", stdout=subprocess.DEVNULL, preexec_fn=limit)
    _, message = process.communicate(timeout=200)
    assert process.returncode == qwen_validate.EXIT_USAGE, message
    assert "base.pt could not be written (File too large)" in message
    assert "Traceback" not in message
    assert not list((tmp_path / "run").rglob("*.partial"))
    process = start(script, tmp_path / "run", "--resume", stdout=subprocess.DEVNULL)
    _, message = process.communicate(timeout=200)
    assert process.returncode in ENDED, message


@pytest.mark.parametrize("gib", [0.3, 1, 1.49])
def test_too_little_address_space_is_said_before_torch_is_imported(script, tmp_path, gib):
    """torch crashes where an import of its own fails for memory: there is no message to be had then."""
    size = int(gib * 2**30)
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))  # noqa: E731
    process = start(script, tmp_path / "run", stdout=subprocess.DEVNULL, preexec_fn=limit)
    _, message = process.communicate(timeout=200)
    assert process.returncode == qwen_validate.EXIT_USAGE, message
    assert message.startswith("qwen_validate: ") and "Traceback" not in message
    assert f"{gib:.3g} GiB" in message and "ulimit -v 1572864 or more" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "axis"), [("compare.py", []), ("sweep.py", ["--seed", "0"])])
def test_the_other_scripts_that_train_say_so_too(script, tmp_path, name, axis):
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))  # noqa: E731
    command = [sys.executable, str(script.with_name(name)), "--out", str(tmp_path / "out"), *axis]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=limit, timeout=200
    )
    assert found.returncode == qwen_validate.EXIT_USAGE, found.stderr
    assert "the limit on address space is 1 GiB" in found.stderr and "Traceback" not in found.stderr


@pytest.mark.slow  # a whole run
def test_the_least_address_space_suffices_for_a_small_run(script, tmp_path):
    size = LEAST_ADDRESS_SPACE
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))  # noqa: E731
    process = start(script, tmp_path / "run", stdout=subprocess.DEVNULL, preexec_fn=limit)
    _, message = process.communicate(timeout=200)
    assert process.returncode in ENDED, message


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
    ids=["Python", "CPU", "GPU"],
)
def test_a_run_that_runs_out_of_memory_goes_on_later(
    tmp_path, monkeypatch, capsys, without_pictures, error
):
    advance, folder = Trainer.advance, tmp_path / "run"

    def exhausted(trainer):
        if trainer.goal.objective == "rl" and trainer.step == 6:
            raise error
        advance(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", exhausted)
        assert qwen_validate.main([*SMALL, "--out", str(folder)]) == qwen_validate.EXIT_USAGE
    message = capsys.readouterr().err
    assert "the memory did not suffice" in message and f"--out {folder} --resume" in message
    assert qwen_validate.main(["--out", str(folder), "--resume"]) in ENDED


def test_another_error_is_not_taken_for_one_of_memory(tmp_path, monkeypatch):
    def broken(trainer):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Trainer, "advance", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        qwen_validate.main([*SMALL, "--out", str(tmp_path / "run")])


# Packages.


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("matplotlib", []),
        ("jinja2", []),
        ("torch", []),
        ("trl", ["--protocol", "sampled"]),
    ],
)
def test_a_missing_package_is_named_before_anything_is_done(
    tmp_path, monkeypatch, capsys, name, given
):
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "run"
    assert qwen_validate.main([*given, "--out", str(out)]) == qwen_validate.EXIT_USAGE
    message = capsys.readouterr().err
    assert f"this needs {name}, which is not installed: pip install" in message
    assert not out.exists()


def test_only_the_sampled_protocol_needs_trl(tmp_path, monkeypatch, without_pictures):
    monkeypatch.setitem(sys.modules, "trl", None)
    assert qwen_validate.main([*SMALL, "--out", str(tmp_path / "run")]) in ENDED


# The terminal.


class Full:
    """As stdout behind a full disk, or a pipe that nobody reads."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def isatty(self):
        return False

    def fileno(self):
        raise OSError("none")


def test_output_that_cannot_be_written_is_swallowed():
    for use in (lambda output: output.write("text"), lambda output: output.flush()):
        output = Output(Full())
        assert output.problem is None
        use(output)
        assert output.problem in ("No space left on device", "Broken pipe")
        assert output.write("text") == 4
        output.flush()
    assert Output(None).problem == "it is closed" and Output(None).write("text") == 4


@pytest.mark.slow  # whole runs
def test_a_run_with_a_closed_stdout_keeps_its_report(
    tmp_path, monkeypatch, capsys, without_pictures
):
    monkeypatch.setattr(sys, "stdout", Full())
    folder = tmp_path / "run"
    assert qwen_validate.main([*SMALL, "--out", str(folder)]) in ENDED
    assert json.loads((folder / "report.json").read_text())["outcome"]
    message = capsys.readouterr().err
    assert (
        f"the output could not be written (No space left on device); the report is in {folder}"
        in (message)
    )


@pytest.mark.slow  # whole processes
@pytest.mark.parametrize("where", ["a closed pipe", "a full disk"])
def test_a_process_whose_output_is_lost_keeps_its_report(script, tmp_path, where):
    folder = tmp_path / "run"
    with open("/dev/full", "w") as full:
        process = start(script, folder, stdout=subprocess.PIPE if "pipe" in where else full)
        if process.stdout:
            process.stdout.close()
        message = process.stderr.read()
    assert process.wait(200) in ENDED, message
    assert (folder / "report.json").exists()
    assert "the output could not be written" in message and "Traceback" not in message


@pytest.mark.slow  # whole runs
def test_brackets_in_names_are_printed_as_they_are(tmp_path, capsys, without_pictures):
    folder = tmp_path / "[b]run[" / "b]:smile:"
    assert qwen_validate.main([*SMALL, "--out", str(folder)]) in ENDED
    assert qwen_validate.main(["--out", str(folder), "--resume"]) in ENDED
    printed = "".join(capsys.readouterr().out.split())
    assert f"{folder}iscomplete" in printed and f"Report:{folder}" in printed


def test_brackets_in_the_name_of_a_model_are_no_markup(tmp_path, capsys):
    given = ["--model", str(tmp_path / "[/b]"), "--out", str(tmp_path / "run")]
    assert qwen_validate.main(given) == qwen_validate.EXIT_USAGE
    assert "[/b]' is no folder here" in capsys.readouterr().err
