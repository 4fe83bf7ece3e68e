"""Trials on Ray: started, watched, and recorded; what is done is never done again.

    sweep.json       the axes and options of the sweep
    results.jsonl    one line per attempt: trial, status, exit code, seconds, the end of its messages
    trials/NAME/     the run folder of a trial, as ``qwen_validate.py`` writes it

A trial is one process of ``qwen_validate.py`` on one Ray worker, which must have this program at the same path. Where
workers do not share the run folder (a cluster without a common disk) a trial runs in a temporary folder there, its
report comes back through Ray, and a trial that was cut off starts anew.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from validate.disk import Line, append_line, read_json, read_lines, replace_file
from validate.errors import RunFolderError

from sweeps.grid import Trial

__all__ = ["FAILED", "OK", "Runner", "report_of"]

SCRIPT = Path(__file__).parents[1] / "qwen_validate.py"
OK, FAILED = "ok", "failed"
# Exit codes of a run that measured what it was asked to; whether the statements held is in its report.
MEASURED = {0, 3, 5}
MESSAGES_KEPT = 2000


def report_of(folder: Path, trial: Trial) -> dict[str, Any] | None:
    """The report of a trial; None if there is none, or a damaged one, which the trial writes again."""
    place = folder / "trials" / trial.name / "report.json"
    if not place.exists():
        return None
    try:
        return read_json(place)
    except RunFolderError:
        return None


def run_trial(options: Sequence[str], folder: str) -> dict[str, Any]:
    """On a worker: run or go on with one trial; its exit code, its last messages and its report."""
    place = Path(folder)
    if place.parent.exists():
        return _run_in(place, options)
    with tempfile.TemporaryDirectory() as elsewhere:
        return _run_in(Path(elsewhere) / place.name, options)


def _run_in(place: Path, options: Sequence[str]) -> dict[str, Any]:
    started = time.monotonic()
    resume = ["--resume"] if (place / "config.json").exists() else []
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--out", str(place), *resume],
        capture_output=True,
        text=True,
        env=environment,
    )
    report = place / "report.json"
    return {
        "exit": done.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "messages": (done.stderr or done.stdout)[-MESSAGES_KEPT:],
        "report": report.read_text() if report.exists() else None,
    }


class Runner:
    """Runs the trials that have no report yet, as many at once as Ray has room for."""

    def __init__(self, folder: Path, address: str | None, cpus: float, gpus: float) -> None:
        import ray

        # Workers have working directories of their own.
        self.folder, self.ray = folder.resolve(), ray
        ray.init(
            address=address,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
        )
        self._remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=2)(run_trial)

    def run(
        self, trials: Sequence[Trial], on_result: Callable[[Trial, dict[str, Any]], None]
    ) -> None:
        """Calls ``on_result`` for each trial as it ends; a worker that is lost is a failed trial."""
        (self.folder / "trials").mkdir(parents=True, exist_ok=True)
        waiting = {
            self._remote.remote(trial.options, str(self.folder / "trials" / trial.name)): trial
            for trial in trials
        }
        while waiting:
            (ready,), _ = self.ray.wait(list(waiting), num_returns=1)
            trial = waiting.pop(ready)
            try:
                result = self.ray.get(ready)
            except self.ray.exceptions.RayError as error:
                result = {
                    "exit": None,
                    "seconds": None,
                    "messages": str(error)[-MESSAGES_KEPT:],
                    "report": None,
                }
            self._keep(trial, result)
            on_result(trial, result)

    def _keep(self, trial: Trial, result: dict[str, Any]) -> None:
        report = result.pop("report")
        place = self.folder / "trials" / trial.name / "report.json"
        if report is not None and not place.exists():
            replace_file(place, report.encode())
        result["status"] = OK if result["exit"] in MEASURED and report is not None else FAILED
        append_line(self.folder / "results.jsonl", {"trial": trial.name, **result})

    def stop(self) -> None:
        self.ray.shutdown()


def last_attempts(folder: Path) -> dict[str, Line]:
    """The newest line of each trial.

    Raises:
        RunFolderError: a line is damaged.
    """
    try:
        return {line["trial"]: line for line in read_lines(folder / "results.jsonl")}
    except RunFolderError as error:
        raise RunFolderError(
            f"{error}; remove the line, which only says how a trial ended, and give --out {folder} alone"
        ) from None
