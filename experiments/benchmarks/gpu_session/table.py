"""Turn the rows of a GPU session into the committed table, and its summary into the docs' page.

    python -m benchmarks.gpu_session.table rows.jsonl            # Markdown on standard output
    python -m benchmarks.gpu_session.table rows.jsonl --commit   # into experiments/results/kernels and docs/kernels.md

What failed, was cut off or was not reached is in the table too. Only rows of a GPU can be committed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.gpu_session.record import machine_row, read_rows

__all__ = ["render", "summary"]

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "experiments/results/kernels"
PAGE = ROOT / "docs/kernels.md"
BLOCK = re.compile(r"(<!-- gpu-session -->\n).*?(<!-- /gpu-session -->)", re.DOTALL)
OURS = "token_stats, triton: logprob, logsumexp, entropy"
BARE = "bare products"
OURS_KL = "token_kl, triton"
# Set beforehand, for an H100: (width, pass, at most this ratio to the bare products, which are one forward and three
# backward); at most these bytes beyond inputs and gradients; and faster than every rival.
TARGETS = ((4096, "forward", 1.15), (1024, "forward", 1.5), (4096, "backward", 1.15))
EXTRA_BYTES = 0.5e9
PASSES = ("forward", "forward+backward")

Row = dict[str, Any]


def _table(header: str, lines: Iterable[Iterable[str]]) -> list[str]:
    """Markdown; the header's columns are separated by bars, those that start with > are numbers."""
    names = [name.strip() for name in header.split("|")]
    rule = ["---:" if name.startswith(">") else "---" for name in names]
    names = [name.lstrip("> ") for name in names]
    return [f"| {' | '.join(cells)} |" for cells in (names, rule, *lines)] + [""]


def _of(rows: list[Row], step: str, kind: str = "row") -> list[Row]:
    return [row for row in rows if row["step"] == step and row["kind"] == kind]


def _number(row: Row, field: str, form: str = ".2f", scale: float = 1.0) -> str:
    return format(row[field] * scale, form) if isinstance(row.get(field), (int, float)) else ""


def _tile(row: Row) -> str:
    rows, columns, depth, warps, stages, slices = row["tile"]
    return f"{rows}x{columns}x{depth} {warps}w{stages}s/{slices}"


def machine(rows: list[Row]) -> str:
    """One sentence: the device and the versions."""
    row = machine_row(rows)
    if row is None:
        return "unknown machine"
    versions = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
    return f"{row['device']}, {row['processors']} processors; {versions}"


def route_row(rows: list[Row], width: int, route: str, which: str) -> Row | None:
    """What was measured of a route's pass; None if nothing was."""
    for row in _of(rows, "rivals"):
        if (row.get("width"), row.get("route"), row.get("pass")) == (width, route, which):
            return row if "ms" in row else None
    return None


def bare_ms(rows: list[Row], width: int, which: str) -> float | None:
    row = route_row(rows, width, BARE, which)
    return None if row is None else float(row["ms"])


def _rival_lines(rows: list[Row]) -> Iterable[list[str]]:
    measured = [row for row in _of(rows, "rivals") if "route" in row]
    for row in sorted(measured, key=lambda r: (r["width"], r["pass"], r.get("ms", 1e9))):
        bare = bare_ms(rows, row["width"], row["pass"])
        ratio = row["ms"] / bare if bare and "ms" in row else None
        yield [
            str(row["width"]),
            row["route"],
            row["pass"],
            _number(row, "ms") or row.get("skipped", ""),
            "" if ratio is None else f"{ratio:.2f}",
            _number(row, "extra_bytes", scale=1e-9),
            _number(row, "error", ".1e"),
        ]


def targets(rows: list[Row]) -> list[str]:
    """The targets set beforehand, each met, missed or not measured."""
    lines = []
    for width, which, limit in TARGETS:
        ours = route_row(rows, width, OURS, which)
        bare = bare_ms(rows, width, which)
        name = f"D = {width}, {which}: at most {limit} x the bare products"
        if ours is None or bare is None:
            lines.append(f"- {name}: not measured")
            continue
        ratio = ours["ms"] / bare
        lines.append(f"- {name}: {ratio:.2f}, {'met' if ratio <= limit else 'MISSED'}")
    for width in sorted({width for width, _, _ in TARGETS}, reverse=True):
        for which in PASSES:
            lines.append(_memory(rows, width, which))
            lines += [_against_rivals(rows, width, which, ours) for ours in (OURS, OURS_KL)]
    return lines


def _memory(rows: list[Row], width: int, which: str) -> str:
    name = f"- D = {width}, {which}: at most 0.5 GB beyond inputs and gradients"
    extra = (route_row(rows, width, OURS, which) or {}).get("extra_bytes")
    if extra is None:
        return f"{name}: not measured"
    return f"{name}: {extra / 1e9:.2f} GB, {'met' if extra <= EXTRA_BYTES else 'MISSED'}"


def _against_rivals(rows: list[Row], width: int, which: str, route: str) -> str:
    """Whether ``route`` takes less time than every rival that was measured, and which were not."""
    name = f"- D = {width}, {which}: {route.partition(':')[0]} faster than every rival"
    rivals = [
        row
        for row in _of(rows, "rivals")
        if (row.get("width"), row.get("pass")) == (width, which)
        and row.get("divergence") == (route == OURS_KL)
        and not row["route"].startswith((OURS, OURS_KL))
    ]
    ours, timed = route_row(rows, width, route, which), [row for row in rivals if "ms" in row]
    if ours is None or not timed:
        return f"{name}: not measured"
    times = ", ".join(
        f"{row['route']} takes {row['ms'] / ours['ms']:.2f} of its time"
        for row in sorted(timed, key=lambda row: row["ms"])
    )
    met = all(row["ms"] > ours["ms"] for row in timed)
    skipped = [row["route"] for row in rivals if "ms" not in row]
    # A route that failed altogether has no row of a pass; its case has its name.
    prefix = f"D = {width}, "
    skipped += [
        row["case"].removeprefix(prefix)
        for row in _of(rows, "rivals", "failed")
        if row["case"].startswith(prefix)
    ]
    without = f"; without {', '.join(skipped)}" if skipped else ""
    return f"{name}: {'met' if met else 'MISSED'} ({times}{without})"


def troubles(rows: list[Row]) -> list[str]:
    """Everything that failed, was cut off or was not reached."""
    lines = []
    for row in rows:
        kind, what = row["kind"], f"{row['step']} {row.get('case', '')}".strip()
        if kind in ("failed", "anew"):
            lines.append(f"- {what}: {row['why']}")
        elif kind == "skipped":
            lines.append(f"- {what}: {', '.join(row['cases'])} not run: {row['why']}")
        elif kind == "test" and row["outcome"] not in ("passed", "skipped"):
            last = row.get("why", "").strip().splitlines()[-1:] or [""]
            lines.append(f"- {what}: {row['outcome']}: {last[0]}")
        elif kind in ("out of time", "no time left"):
            lines.append(f"- {what}: {kind}")
        elif kind == "ended" and row["code"]:
            lines.append(f"- {what}: exit code {row['code']}")
    return lines


def _outcomes(rows: list[Row]) -> list[str]:
    tests = _of(rows, "tests", "test")
    count = {o: sum(row["outcome"] == o for row in tests) for o in ("passed", "failed", "skipped")}
    lines = [
        "- the kernels' tests: "
        + (", ".join(f"{n} {o}" for o, n in count.items()) if tests else "not run")
    ]
    for step in ("smoke", "shapes"):
        done = len(_of(rows, step, "finished"))
        failed = len(_of(rows, step, "failed"))
        lines.append(f"- {step}: {done} passed, {failed} failed")
    for row in (row for row in _of(rows, "training") if "tolerance" in row):
        off = f"off by {row['error']:.1e} nats of {row['tolerance']:.1e} that rounding may do"
        lines.append(f"- {row['case']}: {off}")
    for step in ("memcheck", "racecheck"):
        codes = [row["code"] for row in _of(rows, step, "ended")]
        done, failed = (len(_of(rows, step, kind)) for kind in ("finished", "failed"))
        verdict = "clean" if codes == [0] and done and not failed else "NOT clean"
        verdict += f": {done} cases passed, {failed} failed, exit code {codes[-1] if codes else ''}"
        lines.append(f"- {step}: {verdict if codes else 'not run'}")
    return lines


def summary(rows: list[Row]) -> str:
    """What the docs' page shows: machine, outcomes, targets and the routes."""
    lines = [f"Measured on {machine(rows)}.", "", *_outcomes(rows), *targets(rows), ""]
    header = "D | route | pass | > ms | > x bare products | > extra GB | > error"
    return "\n".join(lines + _table(header, _rival_lines(rows)))


def render(rows: list[Row], spoilt: int = 0) -> str:
    """The whole table."""
    lines = ["# A GPU session", "", summary(rows), "## Ceilings", ""]
    lines += _table(
        "what | > ms | > TFLOP/s | > TB/s | clock, limit, power, temperature",
        (
            [
                row["case"],
                _number(row, "ms"),
                _number(row, "tflops", ".0f"),
                _number(row, "tb_per_s"),
                row.get("clock", ""),
            ]
            for row in _of(rows, "ceilings")
            if "ms" in row
        ),
    )
    lines += ["## Configurations", ""]
    swept = [row for row in _of(rows, "sweep") if "ms" in row]
    lines += _table(
        "D | kernel | configuration | > ms | > error | > change of gradients | shipped",
        (
            [
                str(row["width"]),
                row["kernel"],
                _tile(row),
                _number(row, "ms", ".3f"),
                _number(row, "error", ".1e"),
                _number(row, "gradient_change", ".1e"),
                ("yes" if row["descriptors"] else "yes, by pointers") if row["shipped"] else "",
            ]
            for row in sorted(swept, key=lambda r: (r["width"], r["kernel"], r["ms"]))
        ),
    )
    lines += ["## Training steps of Qwen3-0.6B's shape", ""]
    lines += _table(
        "head | dtype | > seconds per step | > tokens per second | > extra GB",
        (
            [
                row["head"],
                row["dtype"],
                _number(row, "ms", ".3f", 1e-3),
                f"{1e3 * row['tokens'] / row['ms']:.0f}",
                _number(row, "extra_bytes", scale=1e-9),
            ]
            for row in _of(rows, "training")
            if "ms" in row
        ),
    )
    lines += ["## What failed or was not reached", "", *(troubles(rows) or ["Nothing."])]
    if spoilt:
        lines.append(f"- {spoilt} lines of the file were cut off and could not be read")
    return "\n".join(lines) + "\n"


def commit(source: Path, rows: list[Row], spoilt: int) -> None:
    """Write the table, keep its rows beside it, and put the summary into the docs' page.

    Raises:
        ValueError: the rows are not those of a GPU, or the page has no place for them.
    """
    row = machine_row(rows)
    if row is None or not row["processors"]:
        raise ValueError(f"{source} has no rows of a GPU; run gpu_session.sh where there is one")
    page = PAGE.read_text()
    if not BLOCK.search(page):
        raise ValueError(f"{PAGE} has no <!-- gpu-session --> block to put the summary into")
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, RESULTS / "gpu.jsonl")
    (RESULTS / "gpu.md").write_text(render(rows, spoilt))
    PAGE.write_text(BLOCK.sub(lambda match: f"{match[1]}{summary(rows)}\n{match[2]}", page))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--commit", action="store_true", help="into the repository")
    arguments = parser.parse_args()
    rows, spoilt = read_rows(arguments.rows)
    if arguments.commit:
        commit(arguments.rows, rows, spoilt)
    else:
        print(render(rows, spoilt), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
