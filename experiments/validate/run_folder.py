"""The files of a run, and how it survives being stopped.

    config.json        what was asked for: with the same code, data, reward and model the numbers are the same
    inputs.json        digests of data and of a reward that come from outside
    environment.json   versions, device, commit, threads, when each session started
    metrics.jsonl      enumerated: one line per checkpoint, with the exact law of the policy; sampled: training logs
    measurements/      sampled: what was measured of each policy (``sampled/measuring.py``)
    forecast-<ref>.json  what RL from a ref will do, written before its first step (``forecasts.py``)
    timing.jsonl       seconds per stage and session, and peak memory
    checkpoint.pt      enumerated: the newest training state, removed when the run is complete
    policies/          trained parameters at the end of each stage
    report.json, *.svg   functions of config.json and metrics.jsonl or measurements/ alone
    report.html          of these and of the versions in environment.json

A checkpoint is written to a temporary file, flushed to disk and renamed, so that there is always a whole one. It
records how long metrics.jsonl was; resuming cuts the file back to that length, so a line is never counted twice.
Floats are stored with all their digits. What a run reads again carries a checksum (``checksums``), and is checked as
it is read: a run goes on from what it wrote, or says what is damaged and how to go on from what is sound.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch

from nondecoupling.lm.language_model import State
from validate.checksums import (
    DamagedLine,
    append_sealed_line,
    load_sealed,
    read_sealed_json,
    read_sealed_lines,
    save_sealed,
    sealed,
)
from validate.configuration import Asked, RunConfiguration, for_protocol, from_json, option, said
from validate.disk import (
    LOCK,
    Line,
    append_line,
    is_leftover,
    lock,
    remove_leftovers,
    replace_file,
    whole_lines,
)
from validate.environment import environment
from validate.errors import InputError, RunFolderError
from validate.orders import BASE, plan

__all__ = ["FORECAST", "MEASUREMENTS", "PLAN", "TRAINING", "RunFolder"]

CONFIG, INPUTS, ENVIRONMENT, REPORT, CHECKPOINT = (
    "config.json",
    "inputs.json",
    "environment.json",
    "report.json",
    "checkpoint.pt",
)
# What a sampled run keeps of a stage: its measurements, the trainers' own checkpoints, plan-<stage>.json.
MEASUREMENTS, TRAINING, PLAN = "measurements", "training", "plan-"
FORECAST = "forecast-"
# A stage and a step in it.
Place = tuple[str, int]
ANEW = "start anew with another --out"


class RunFolder:
    """A run folder, which appears on disk with ``begin``.

    With several processes only the one with ``writes`` set changes anything on disk.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self._lock: TextIO | None = None

    # Whose folder it is.

    def must_be_free(self) -> None:
        """
        Raises:
            RunFolderError: there is something in it.
        """
        path = self.path
        if path.exists() and not (path.is_dir() and all(map(is_leftover, path.iterdir()))):
            raise RunFolderError(
                f"{path} exists already; add --resume to continue it, or choose another --out. "
                "Nothing was overwritten"
            )

    def must_have_begun(self) -> None:
        """
        Raises:
            RunFolderError: there is no run in it.
        """
        if not self.has_begun:
            raise RunFolderError(
                f"nothing to resume: {self.path} has no {CONFIG}; leave --resume away to start there"
            )

    def configuration(self, asked: Asked) -> RunConfiguration:
        """That of the run in the folder; ``asked`` holds the options given, which must agree with it.

        Raises:
            RunFolderError: its configuration is damaged, or an option says otherwise.
        """
        place = self.path / CONFIG
        try:
            config = from_json(read_sealed_json(place))
        except InputError as error:
            raise RunFolderError(f"{place} is damaged ({error}); {ANEW}") from None
        except RunFolderError as error:
            raise RunFolderError(f"{error}; bring it back as it was, or {ANEW}") from None
        for name, value in for_protocol(asked, config.protocol).items():
            if (own := getattr(config, name, None)) != value:
                raise RunFolderError(
                    f"{said(name, asked)}, but the run in {self.path} has "
                    f"{own!r}; resume with the same value, or {ANEW}"
                )
        return config

    @property
    def has_begun(self) -> bool:
        return (self.path / CONFIG).exists()

    def is_complete(self) -> bool:
        return (self.path / REPORT).exists()

    def lock(self) -> None:
        """Keep other runs out of the folder until ``release``, and remove what a killed one left half written.

        Raises:
            RunFolderError: another process works in it.
        """
        if self._lock is None:
            self._lock = lock(self.path)
            remove_leftovers(self.path)
            remove_leftovers(self.path / "policies")

    def release(self) -> None:
        """Let other runs in."""
        if self._lock is not None:
            (self.path / LOCK).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def begin(self, config: RunConfiguration, *, resumed: bool, processes: str, model: str) -> None:
        """Write config.json if the run is new, and add this session to environment.json."""
        if not self.writes:
            return
        self.lock()
        if not resumed:
            # Since the folder was chosen another run may have begun in it, and ended.
            self.must_be_free()
            self.write_json(CONFIG, config.as_json())
        sessions = self._sessions() if (self.path / ENVIRONMENT).exists() else []
        here = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "resumed": resumed,
            "processes": processes,
            "model": model,
            **environment(),
        }
        self.write_json(ENVIRONMENT, {"sessions": [*sessions, here]})

    def finish(self) -> None:
        """The run is complete: what only an unfinished one needs goes."""
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    # Its files.

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """An object that is read again, with its checksum."""
        self.replace(name, _indented(sealed(name, values)))

    def write_report(self, report: Mapping[str, Any]) -> None:
        """report.json, which is never read again: where it exists, the run is complete."""
        self.replace(REPORT, _indented(report))

    def replace(self, name: str, content: bytes) -> None:
        replace_file(self.path / name, content)

    def record_inputs(self, digests: Mapping[str, str]) -> None:
        """What the inputs from outside are as the run begins; what comes with this program is known by its commit."""
        if digests and self.writes and not (self.path / INPUTS).exists():
            self.write_json(INPUTS, digests)

    def must_have(self, digests: Mapping[str, str], config: RunConfiguration) -> None:
        """
        Raises:
            RunFolderError: the inputs are not those that the run began with, or inputs.json is damaged.
        """
        place = self.path / INPUTS
        try:
            begun = read_sealed_json(place) if place.exists() else {}
        except RunFolderError as error:
            raise RunFolderError(f"{error}; bring it back as it was, or {ANEW}") from None
        for name, then in begun.items():
            if digests.get(name) != then:
                raise RunFolderError(
                    f"{option(name)} {getattr(config, name)} is not what it was when the run in {self.path} began: "
                    f"bring that back, or {ANEW}"
                )

    def model_description(self) -> str:
        """
        Raises:
            RunFolderError: environment.json, which has it, is missing or damaged.
        """
        return self._sessions()[0]["model"]

    def origins(self) -> list[str]:
        """Commit and versions of each session, those of a later one only where they are others.

        Raises:
            RunFolderError: environment.json is missing or damaged.
        """
        found = []
        for session in self._sessions():
            versions = [
                f"{name} {version}" for name, version in session["versions"].items() if version
            ]
            place = f"Python {session['python']}, {session['system']}, {session['device']}"
            found.append(f"commit {session['commit'] or 'unknown'}; {', '.join(versions)}; {place}")
        return list(dict.fromkeys(found))

    def _sessions(self) -> list[dict[str, Any]]:
        try:
            return read_sealed_json(self.path / ENVIRONMENT)["sessions"]
        except RunFolderError as error:
            raise RunFolderError(
                f"{error}; bring it back as it was, or remove it and {REPORT}: --resume then writes both anew"
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

    # metrics.jsonl

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def record(self, line: Line) -> None:
        if self.writes:
            append_sealed_line(self._metrics, line)

    def records(self, planned: Sequence[Place]) -> list[Line]:
        """The lines so far; ``planned`` are the stages and steps of all lines of a complete run.

        Raises:
            RunFolderError: a line is damaged or not the planned one; the message offers the stage to train again.
        """
        try:
            found = read_sealed_lines(self._metrics)
        except DamagedLine as error:
            raise RunFolderError(f"{error}; {_go_on(planned, len(error.before))}") from None
        for number, line in enumerate(found):
            here = line["stage"], line["step"]
            there = planned[number] if number < len(planned) else None
            if here != there:
                raise RunFolderError(
                    f"{self._metrics}, line {number + 1} is {_named(here)}, where the plan of the run has "
                    f"{_named(there)}; {_go_on(planned, number)}"
                )
        return found

    def all_records(self, planned: Sequence[Place]) -> list[Line]:
        """The lines of a complete run.

        Raises:
            RunFolderError: as ``records``, or there are fewer than planned.
        """
        found = self.records(planned)
        if len(found) < len(planned):
            raise RunFolderError(
                f"{self._metrics} ends before {_named(planned[len(found)])}; {_go_on(planned, len(found))}"
            )
        return found

    @property
    def metrics_bytes(self) -> int:
        return self._metrics.stat().st_size if self._metrics.exists() else 0

    def cut_metrics(self, size: int, planned: Sequence[Place]) -> None:
        """Forget the lines after the first ``size`` bytes, which belong to training that is done again.

        Raises:
            RunFolderError: there are fewer bytes.
        """
        if not self.writes:
            return
        if self.metrics_bytes < size:
            go_on = _go_on(planned, whole_lines(self._metrics).count(b"\n"))
            raise RunFolderError(
                f"{self._metrics} is damaged ({self.metrics_bytes} bytes of at least {size} are left); {go_on}"
            )
        if size < self.metrics_bytes:
            os.truncate(self._metrics, size)

    def forget_records_from(self, stage: str, planned: Sequence[Place]) -> None:
        """Forget the lines of a stage that starts anew; they are the last ones.

        Raises:
            RunFolderError: there are not all lines of the stages before, or one is damaged.
        """
        if self.writes:
            before = planned[: [name for name, _ in planned].index(stage)]
            kept = self._sound(before, planned)
            if len(kept) < self.metrics_bytes:
                os.truncate(self._metrics, len(kept))

    # Policies and checkpoints.

    def _policy(self, name: str) -> Path:
        return self.path / "policies" / f"{name}.pt"

    def save_policy(self, name: str, state: State) -> None:
        """The trained parameters at the end of a stage, where later stages start."""
        if self.writes:
            save_sealed(self._policy(name), state)

    def has_policy(self, name: str) -> bool:
        return self._policy(name).exists()

    def load_policy(self, name: str) -> State:
        """
        Raises:
            RunFolderError: it is missing or damaged.
        """
        try:
            return load_sealed(self._policy(name))
        except RunFolderError as error:
            raise RunFolderError(f"{error}; {_go_on_before(name)}") from None

    def trained(self, config: RunConfiguration) -> int:
        """How many stages are trained, in the order of the plan.

        Raises:
            RunFolderError: one has begun, but the policy of an earlier one is not there.
        """
        names = [BASE, *(stage.name for stage in plan(config.order))]
        first = next((n for n, name in enumerate(names) if not self.has_policy(name)), len(names))
        if any(self.stage_has_begun(name) for name in names[first + 1 :]):
            raise RunFolderError(
                f"{self._policy(names[first])} is missing; {_go_on_before(names[first])}"
            )
        return max(0, first - 1)

    def stage_has_begun(self, stage: str) -> bool:
        """Whether a policy, a measurement or trainers' files of it are there."""
        measurement = self.path / MEASUREMENTS / f"{stage}.jsonl"
        training = self.path / TRAINING / stage
        return self.has_policy(stage) or measurement.exists() or training.exists()

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Training state, random number states and the length of metrics.jsonl."""
        if not self.writes:
            return
        state = {
            **state,
            "metrics_bytes": self._metrics.stat().st_size,
            "random": {
                "python": random.getstate(),
                "numpy": _numbers_of_numpy(),
                "torch": torch.get_rng_state(),
            },
        }
        save_sealed(self.path / CHECKPOINT, state)

    def load_checkpoint(self, planned: Sequence[Place]) -> Any:
        """The newest checkpoint, with metrics.jsonl cut back to it and the random numbers set; or None.

        Raises:
            RunFolderError: it is damaged, or metrics.jsonl is shorter than it was.
        """
        place = self.path / CHECKPOINT
        if not self.writes or not place.exists():
            return None
        try:
            state = load_sealed(place)
        except RunFolderError as error:
            raise RunFolderError(
                f"{error}; remove it: --resume then goes on from the end of the stage before, which is sound"
            ) from None
        self.cut_metrics(state["metrics_bytes"], planned)
        random.setstate(state["random"]["python"])
        np.random.set_state(state["random"]["numpy"])
        torch.set_rng_state(state["random"]["torch"])
        return state

    # Going on from what is sound.

    def restart_from(self, stage: str, config: RunConfiguration, planned: Sequence[Place]) -> None:
        """Forget a stage and all that were trained after it.

        Raises:
            RunFolderError: the run has no such stage, or an earlier one is damaged too.
        """
        names = [one.name for one in plan(config.order)]
        if stage not in names:
            raise RunFolderError(
                f"--restart-from is {stage!r}; the stages of this run are {', '.join(names)}"
            )
        forgotten = names[names.index(stage) :]
        kept = self._sound([place for place in planned if place[0] not in forgotten], planned)
        for name in (REPORT, CHECKPOINT):
            (self.path / name).unlink(missing_ok=True)
        for name in reversed(forgotten):
            self._policy(name).unlink(missing_ok=True)
            (self.path / MEASUREMENTS / f"{name}.jsonl").unlink(missing_ok=True)
            for before_rl in (PLAN, FORECAST):
                (self.path / f"{before_rl}{name}.json").unlink(missing_ok=True)
            shutil.rmtree(self.path / TRAINING / name, ignore_errors=True)
        self.replace(self._metrics.name, kept)

    def _sound(self, before: Sequence[Place], planned: Sequence[Place]) -> bytes:
        """The first lines of metrics.jsonl, which are ``before``, whatever comes after them.

        Raises:
            RunFolderError: one of them is damaged or missing.
        """
        try:
            found: Sequence[Line] = read_sealed_lines(self._metrics)
        except DamagedLine as error:
            found = error.before
        if [(line["stage"], line["step"]) for line in found[: len(before)]] != list(before):
            self.all_records(planned)
        return b"".join(whole_lines(self._metrics).splitlines(keepends=True)[: len(before)])


def _indented(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1) + "\n").encode()


def _numbers_of_numpy() -> tuple[Any, ...]:
    """Its random state, the keys as plain numbers."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, np.asarray(keys).tolist(), *rest)


def _named(place: Place | None) -> str:
    return "nothing more" if place is None else f"step {place[1]} of {place[0]}"


def _go_on(planned: Sequence[Place], number: int) -> str:
    return _go_on_before(planned[min(number, len(planned) - 1)][0])


def _go_on_before(stage: str) -> str:
    """What to do if something of a stage is damaged."""
    if stage == BASE:
        return f"nothing was trained before it: {ANEW}"
    return f"what was before the stage {stage} is kept: add --restart-from {stage} to --resume, or {ANEW}"
