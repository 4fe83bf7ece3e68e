"""Cases of a step, run one after another in a child process that may die.

A kernel that reads outside its arrays ends the CUDA context of its process, and a compilation may hang. So the cases
of a step run in a child; the parent watches what the child has written, kills it where a case takes too long, and
starts another that goes on behind the case that failed. What failed is a row like any other.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from benchmarks.gpu_session.record import RowFile, read_rows

__all__ = ["Case", "run_here", "supervise"]

# Exit codes of a child: its CUDA context is lost, so that what is left is for another child; and all cases were run,
# but not all of them passed.
LOST = 3
FAILED = 4
POLL_SECONDS = 0.1


class Case(NamedTuple):
    """A named piece of work that yields the fields of its rows; killed after ``seconds``."""

    name: str
    run: Callable[[], Iterator[dict[str, Any]]]
    seconds: float = 60.0


def _context_is_lost() -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return True
    return False


def run_here(cases: Sequence[Case], file: RowFile, skip: Sequence[str]) -> int:
    """Run the cases not in ``skip`` in this process; the exit code, 0 only where none of them failed."""
    failed = False
    for case in cases:
        if case.name in skip:
            continue
        file.write("started", case=case.name, limit=case.seconds)
        start = time.perf_counter()
        try:
            for fields in case.run():
                file.write("row", case=case.name, **fields)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error}"
            where = f"{place.filename.rsplit('/', 1)[-1]}:{place.lineno}"
            file.write("failed", case=case.name, why=message[:600], where=where)
            traceback.print_exc()
            if _context_is_lost():
                return LOST
            failed = True
            continue
        file.write("finished", case=case.name, seconds=round(time.perf_counter() - start, 2))
    return FAILED if failed else 0


def supervise(command: Sequence[str], file: RowFile, until: float) -> None:
    """Run ``command``, a child that calls ``run_here``, until no case is left or ``time.time()`` is ``until``.

    ``command`` gets ``--skip NAME`` for every case that has been started before, also by an earlier call: then a row
    says which.
    """
    if earlier := sorted(_progress(file)[0]):
        file.write("skipped", cases=earlier, why="started by an earlier call with the same rows")
    deadline = time.monotonic() + until - time.time()
    while True:
        before = set(_progress(file)[0])
        skip = [word for name in sorted(before) for word in ("--skip", name)]
        # A group of its own: whoever the child has started ends with it, also when this process is told to end.
        child = subprocess.Popen([*command, *skip], process_group=0)
        try:
            why = _watch(child, file, deadline)
        finally:
            _end_group(child)
        started, done = _progress(file)
        for name in sorted(set(started) - done):
            file.write("failed", case=name, why=why)
        if child.returncode in (0, FAILED):
            return
        if time.monotonic() >= deadline:
            file.write("out of time")
            return
        if not set(started) - before:
            file.write(
                "failed", case="", why=f"the step did not start: exit code {child.returncode}"
            )
            return


def _progress(file: RowFile) -> tuple[dict[str, float], set[str]]:
    """(limit in seconds of each case started, the cases that have ended)."""
    rows = [row for row in read_rows(file.path)[0] if row["step"] == file.step]
    started = {row["case"]: float(row["limit"]) for row in rows if row["kind"] == "started"}
    ended = {row["case"] for row in rows if row["kind"] in ("finished", "failed")}
    return started, ended


def _watch(child: subprocess.Popen[bytes], file: RowFile, deadline: float) -> str:
    """Wait for ``child`` until it ends, or is to be ended: at ``deadline``, or when its case is over time. Why."""
    current, since = "", time.monotonic()
    while child.poll() is None:
        now = time.monotonic()
        started, ended = _progress(file)
        running = next((name for name in started if name not in ended), "")
        if running != current:
            current, since = running, now
        late = running and now - since > started[running]
        if late or now > deadline:
            return f"over {started[running]:g} s" if late else "the step's time was over"
        time.sleep(POLL_SECONDS)
    return "ended" if child.returncode == 0 else f"exit code {child.returncode}"


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End ``child`` and the processes that it has started and left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def python_module(*arguments: str) -> list[str]:
    """The command of a child."""
    return [sys.executable, "-m", "benchmarks.gpu_session", *arguments]
