"""Speed of every public function of `nondecoupling.bounds` against that of an earlier commit, in one run.

    python experiments/benchmarks/versions.py --against 0d41ce9~1 --write

Two processes, one per version, get the same worlds and are asked in turn for one repetition each, so both see the same
machine; the figure is the median of the ratios of neighbours. Functions that the earlier version lacks, or that took
other arguments there, are named at the end. With `--only NAME ...` these functions alone are compared, and nothing
is written.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "experiments" / "results" / "bounds_versions.md"
WORLDS, RESPONSES = 200, 8
REPEATS = 31
# Slow functions are called less often.
LEAST_REPEATS, MOST_SECONDS = 3, 20.0
SLOWER = 1.25  # the ratio from which a function is listed as slower
LEAST_SECONDS = 0.02  # of one repetition; what is quicker is called several times


def values() -> dict[str, Any]:
    """A value for every name of an argument; the names mean the same in all versions."""
    rng = np.random.default_rng(0)

    def law() -> np.ndarray:
        logits = 2 * rng.standard_normal((WORLDS, RESPONSES))
        top = logits.max(axis=-1, keepdims=True)
        shifted = logits - top
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))

    log_d, log_ref, log_p, log_q = law(), law(), law(), law()
    reward = rng.standard_normal((WORLDS, RESPONSES))
    # Halfway between J(d) and the highest reward.
    free = (np.exp(log_d) * reward).sum(axis=-1)
    feature = rng.standard_normal((RESPONSES, RESPONSES))
    return {
        "log_d": log_d,
        "log_ref": log_ref,
        "log_p": log_p,
        "log_q": log_q,
        "log_sft": log_d,
        "log_rl": log_p,
        "log_tilt": log_q,
        "reward": reward,
        "gold": rng.standard_normal((WORLDS, RESPONSES)),
        "beta": 0.5,
        "weight": 0.1,
        "target": (free + reward.max(axis=-1)) / 2,
        "rate": 2.0,
        "excess": 0.3,
        "offset": np.full(WORLDS, 0.5),
        "theta": rng.standard_normal((WORLDS, RESPONSES)),
        "theta_prime": rng.standard_normal((WORLDS, RESPONSES)),
        "kernel": feature @ feature.T,
        "u": rng.standard_normal((WORLDS, RESPONSES)),
        "v": rng.standard_normal((WORLDS, RESPONSES)),
        "direction": rng.standard_normal((WORLDS, RESPONSES)),
        "step": 0.1,
        "k": 3,
        "kl": 0.2,
        "eps": 0.01,
        "z": 2.0,
    }


def worker() -> None:
    """Reads names from stdin, one a line, and answers each with the seconds of one call or null."""
    from nondecoupling import bounds

    given = values()
    names = getattr(bounds, "__all__", dir(bounds))
    calls: dict[str, Callable[[], Any]] = {}
    for name in names:
        function = getattr(bounds, name)
        if isinstance(function, type) or not callable(function) or name.startswith("_"):
            continue
        call = _call(function, given)
        if call is not None:
            calls[name] = call
    print(json.dumps(sorted(calls)), flush=True)
    for line in sys.stdin:
        name, times = line.split()
        print(json.dumps(_seconds(calls[name], int(times))), flush=True)


def _call(function: Callable[..., Any], given: dict[str, Any]) -> Callable[[], Any] | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    needed = [p.name for p in parameters if p.default is p.empty]
    if not needed or not set(needed) <= set(given):
        return None
    arguments = {name: given[name] for name in needed}
    call: Callable[[], Any] = lambda: function(**arguments)  # noqa: E731
    try:
        call()
    except Exception:  # other shapes or kinds than these worlds have: named as not compared
        return None
    return call


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times


class Version:
    """A process that imports the package from one folder and answers with seconds."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--worker"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names: list[str] = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a version could not be measured: its error is above")
        return json.loads(line)

    def seconds(self, name: str, times: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {times}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(now: Version, before: Version, name: str, repeats: int) -> tuple[float, float]:
    """The median seconds now, and the median of now/before over neighbouring repetitions."""
    once = max(now.seconds(name, 1), before.seconds(name, 1))
    times = max(1, int(LEAST_SECONDS / once))
    repeats = min(repeats, max(LEAST_REPEATS, int(MOST_SECONDS / (2 * once))))
    print(f"{name}: {once:.3g} s a call, {repeats} pairs", file=sys.stderr, flush=True)
    ratios, seconds = [], []
    for _ in range(repeats):
        after, earlier = now.seconds(name, times), before.seconds(name, times)
        seconds.append(after)
        ratios.append(after / earlier)
    return statistics.median(seconds), statistics.median(ratios)


def render(
    rows: list[tuple[str, float, float]], left_out: list[str], commit: str, repeats: int
) -> str:
    load = os.getloadavg()[0]
    slower = [name for name, _, ratio in rows if ratio > SLOWER]
    lines = [
        "# Speed of the bounds against an earlier version",
        "",
        f"{WORLDS:,} worlds of {RESPONSES} responses, float64, NumPy; median of {repeats} pairs, "
        f"{LEAST_REPEATS} at least where calls are slow, each in turn, one thread. Earlier version: `{commit}`. "
        f"One-minute load average {load:.1f} at the end, on {os.cpu_count()} CPU "
        f"cores. Python {platform.python_version()}, numpy {np.__version__}.",
        "",
        f"Slower by more than {SLOWER - 1:.0%}: {', '.join(f'`{n}`' for n in slower) or 'none'}.",
        "",
        "| function | now | now / before |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| `{n}` | {1e3 * s:.3g} ms | {r:.2f} |"
        for n, s, r in sorted(rows, key=lambda row: -row[2])
    ]
    lines += [
        "",
        "Not compared (new, or with other arguments): "
        + ", ".join(f"`{n}`" for n in left_out)
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="COMMIT", help="the earlier version, as git names it")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="compare these functions, write nothing"
    )
    parser.add_argument(
        "--write", action="store_true", help="write " + RESULT.relative_to(ROOT).as_posix()
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        worker()
        return 0
    if not args.against:
        parser.error("--against is needed: a commit, such as HEAD~20")
    if args.only and args.write:
        parser.error("--write is for the table of all functions: leave out --only")
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", args.against, "nondecoupling"],
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        if archive.returncode:
            parser.error(f"--against {args.against}: {archive.stderr.decode().strip()}")
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        now, before = Version(ROOT), Version(Path(folder))
        common = [name for name in now.names if name in before.names]
        unknown = sorted({*(args.only or ())} - {*common})
        if unknown:
            parser.error(
                f"--only {' '.join(unknown)}: not compared; choose from {', '.join(common)}"
            )
        rows = [(name, *compare(now, before, name, args.repeats)) for name in args.only or common]
        now.close()
        before.close()
    from nondecoupling import bounds

    public = [n for n in bounds.__all__ if not isinstance(getattr(bounds, n), type)]
    text = render(rows, [n for n in public if n not in common], args.against, args.repeats)
    print(text)
    if args.write:
        RESULT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
