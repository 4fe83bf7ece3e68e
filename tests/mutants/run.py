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

import compileall
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue
from time import monotonic

import pytest

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent
PROCESSES = 2
SECONDS = 300
LEAST_SCORE = 0.95
NOT_COPIED = (".git", ".venv", "build", "dist", "runs", "__pycache__", ".*_cache", ".hypothesis")
# Runs are forked from a process that has imported what is slow to import and is not tested.
SERVER = multiprocessing.get_context("forkserver")
SLOW_TO_IMPORT = ["flint", "matplotlib", "peft", "pytest", "scipy.stats", "sympy", "torch"]
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
    problems += [f"{name} is gone" for name in fault.tests if not _is_there(root, name)]
    return [f"{fault.name}: {problem}: bring the list up to date" for problem in problems]


def _is_there(root: Path, test: str) -> bool:
    """Whether a file has a test of this name, or is there at all where the whole file is named."""
    file, _, name = test.partition("::")
    place = root / file
    return place.is_file() and (not name or f"\ndef {name}(" in place.read_text())


def copy(root: Path, place: Path) -> Path:
    """A copy to make faults in. Its byte code goes by the hash of the source: times and sizes may repeat."""
    shutil.copytree(root, place, ignore=shutil.ignore_patterns(*NOT_COPIED))
    compileall.compile_dir(place, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return place


def run_tests(tree: Path, tests: Sequence[str], *options: str) -> tuple[int | None, str]:
    """The exit status of pytest in a tree, None if it did not end, and its output."""
    with tempfile.NamedTemporaryFile(mode="r") as output:
        run = SERVER.Process(target=_in_tree, args=(tree, output.name, [*options, *tests]))
        run.start()
        run.join(SECONDS)
        if run.is_alive():
            run.kill()
            run.join()
            return None, f"no end within {SECONDS} s"
        return run.exitcode, output.read()


def _in_tree(tree: Path, output: str, arguments: list[str]) -> None:
    descriptor = os.open(output, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)  # of programs that a test starts
    os.environ["CI"] = "1"  # Hypothesis draws the same examples with the fault and without
    sys.dont_write_bytecode = True
    status = pytest.main(["-q", "-x", "--tb=line", "-p", "no:cacheprovider", *arguments])
    sys.stdout.flush()
    os._exit(status)


def try_out(tree: Path, fault: Fault, sound: set[tuple[str, ...]]) -> Finding:
    """Run the tests in a copy of the tree, make the fault there, run them again, undo it.

    ``sound`` remembers the tests that passed without a fault.
    """
    if fault.tests not in sound:
        status, output = run_tests(tree, fault.tests)
        if status:
            return Finding(fault, BROKEN, f"its tests fail without it: {output.strip()[-300:]}")
        sound.add(fault.tests)
    source = tree / fault.file
    right = source.read_text()
    source.write_text(right.replace(fault.old, fault.new))
    try:
        status, output = run_tests(tree, fault.tests)
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
        sound: set[tuple[str, ...]] = set()
        for k in range(PROCESSES):
            trees.put(copy(root, Path(place) / str(k)))

        def one(fault: Fault) -> Finding:
            tree, start = trees.get(), monotonic()
            try:
                found = try_out(tree, fault, sound)
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
    SERVER.set_forkserver_preload(SLOW_TO_IMPORT)
    found = try_all(ROOT, faults)
    killed = sum(one.outcome == KILLED for one in found)
    print(f"score: {killed} of {len(found)} faults killed, {killed / len(found):.1%}")
    wrong = [one.fault.name for one in found if not one.is_as_listed]
    if wrong:
        print("not as listed:", *wrong, sep="\n  ")
    return int(bool(wrong) or killed < LEAST_SCORE * len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
