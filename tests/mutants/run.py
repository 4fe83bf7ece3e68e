"""Deliberate faults, and whether the tests that must see each of them do.

    python -m tests.mutants.run                   all of them
    python -m tests.mutants.run chi-squared J3    those whose name or file has one of the words

The files ``*.toml`` beside this one list the faults: a piece of text that occurs once in a source file, what
replaces it, and the tests that must then fail. Only tests that assert mathematics are named; no doctest is
run. Faults are made in copies of the tree, the tree itself stays as it is. A fault counts as killed if one of
its tests fails; one that keeps the code from being imported, or the tests from ending, shows nothing and is
an error. ``survives`` gives the reason of a fault that no test sees.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import monotonic

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent
PROCESSES = 2
SECONDS = 300
LEAST_SCORE = 0.95
NOT_COPIED = (".git", ".venv", "build", "dist", "runs", "__pycache__", ".*_cache", ".hypothesis")
KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"


@dataclass(frozen=True)
class Fault:
    """``old`` becomes ``new`` in ``file``, and one of ``tests`` must fail, unless there is a reason why not."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    survives: str = ""


@dataclass(frozen=True)
class Finding:
    """What became of a fault; ``detail`` is the test that failed, or why nothing was shown."""

    fault: Fault
    outcome: str
    detail: str

    @property
    def is_as_listed(self) -> bool:
        return self.outcome == (SURVIVED if self.fault.survives else KILLED)


def listed() -> list[Fault]:
    """All faults, list by list."""
    tables = (tomllib.loads(file.read_text())["fault"] for file in sorted(LISTS.glob("*.toml")))
    return [Fault(**{**f, "tests": tuple(f["tests"])}) for table in tables for f in table]


def staleness(root: Path, fault: Fault) -> list[str]:
    """Why a fault can no longer be made, or its tests no longer be run."""
    source = root / fault.file
    times = source.read_text().count(fault.old) if source.is_file() else 0
    problems = [] if times == 1 else [f"{fault.file} has its old text {times} times"]
    problems += ["it changes nothing"] if fault.old == fault.new else []
    gone = [name for name in fault.tests if not (root / name.split("::")[0]).is_file()]
    problems += [f"{name} is gone" for name in gone]
    return [f"{fault.name}: {problem}: bring the list up to date" for problem in problems]


def copy(root: Path, place: Path) -> Path:
    return shutil.copytree(root, place, ignore=shutil.ignore_patterns(*NOT_COPIED))


def run_tests(tree: Path, tests: Iterable[str], *options: str) -> tuple[int, str]:
    """The exit status of pytest in a tree, and its output."""
    # No byte code: a file that changes twice in a second, at the same size, would be read from its cache.
    settings = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *options, *tests],
        cwd=tree,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=None if options else SECONDS,
    )
    return done.returncode, done.stdout + done.stderr


def try_out(tree: Path, fault: Fault) -> Finding:
    """Make the fault in a copy of the tree, run its tests there, undo it."""
    source = tree / fault.file
    right = source.read_text()
    source.write_text(right.replace(fault.old, fault.new))
    try:
        status, output = run_tests(tree, fault.tests)
    except subprocess.TimeoutExpired:
        return Finding(fault, BROKEN, f"its tests did not end within {SECONDS} s")
    finally:
        source.write_text(right)
    failed = re.search(r"^FAILED (\S+)", output, flags=re.MULTILINE)
    if status == 0:
        return Finding(fault, SURVIVED, fault.survives or "add the test that sees it")
    if status == 1 and failed:
        return Finding(fault, KILLED, failed[1])
    return Finding(fault, BROKEN, f"pytest ended with {status}: {output.strip()[-300:]}")


def try_all(root: Path, faults: Sequence[Fault]) -> list[Finding]:
    """Every fault in turn, in a few copies at a time; each finding is printed as it comes."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(PROCESSES) as workers:
        trees: SimpleQueue[Path] = SimpleQueue()
        for k in range(PROCESSES):
            trees.put(copy(root, Path(place) / str(k)))

        def one(fault: Fault) -> Finding:
            tree, start = trees.get(), monotonic()
            try:
                found = try_out(tree, fault)
            finally:
                trees.put(tree)
            seconds = monotonic() - start
            print(f"{found.outcome:8} {seconds:4.0f} s  {fault.name}: {found.detail}", flush=True)
            return found

        return list(workers.map(one, faults))


def main(words: Sequence[str]) -> int:
    faults = [f for f in listed() if not words or any(w in f.name + f.file for w in words)]
    if not faults:
        print(f"no fault has {' or '.join(words)} in its name or file")
        return 2
    if problems := [problem for fault in faults for problem in staleness(ROOT, fault)]:
        print("\n".join(problems))
        return 2
    tests = sorted({test for fault in faults for test in fault.tests})
    with tempfile.TemporaryDirectory() as place:
        status, output = run_tests(copy(ROOT, Path(place) / "as it is"), tests, "-n", f"{PROCESSES}")
    if status:
        print(output, "without any fault the tests must pass", sep="\n")
        return 2
    found = try_all(ROOT, faults)
    killed = sum(one.outcome == KILLED for one in found)
    print(f"score: {killed} of {len(found)} faults killed, {killed / len(found):.1%}")
    wrong = [one.fault.name for one in found if not one.is_as_listed]
    if wrong:
        print("not as listed:", *wrong, sep="\n  ")
    return int(bool(wrong) or killed < LEAST_SCORE * len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
