"""What is assured, how, and by which tests: assembled from test results, never typed in.

A rung is earned when at least one test records it and no test of that rung failed. A statement is
established when all its tests passed and everything it depends on is established.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

from nondecoupling.theory import catalog
from nondecoupling.theory.assurance import Assurance

NOT_CHECKED = "not checked here"


@dataclass(frozen=True)
class TestResult:
    """One test of one statement: what it would establish, and whether it did."""

    __test__ = False  # not a test class, whatever its name starts with

    statement: str
    test: str
    rung: str | None
    outcome: str  # "passed", "failed" or "skipped"
    evidence: tuple[str, ...] = ()


@dataclass
class Entry:
    """The ledger's row for one statement."""

    statement: str
    title: str
    depends: tuple[str, ...]
    established: bool = False
    why_not: str = ""
    rungs: dict[str, list[str]] = field(default_factory=dict)
    not_checked: list[str] = field(default_factory=list)


def assemble(
    results: Iterable[TestResult],
    titles: Mapping[str, str],
    depends: Mapping[str, tuple[str, ...]],
    order: Iterable[str],
) -> dict[str, Entry]:
    """The ledger of a complete run. ``order`` lists dependencies before what rests on them."""
    by_statement: dict[str, list[TestResult]] = {id_: [] for id_ in titles}
    for result in results:
        if result.statement not in by_statement:
            raise ValueError(
                f"{result.test}: statement {result.statement!r} is not in the catalogue"
            )
        by_statement[result.statement].append(result)
    entries: dict[str, Entry] = {}
    for id_ in order:
        entry = Entry(id_, titles[id_], tuple(depends[id_]))
        own = by_statement[id_]
        _fill_rungs(entry, own)
        failed = [r.test for r in own if r.outcome == "failed"]
        broken = [d for d in entry.depends if not entries[d].established]
        if not entry.rungs:
            entry.why_not = "no test establishes it"
        elif failed:
            entry.why_not = f"failed: {', '.join(failed)}"
        elif broken:
            entry.why_not = f"rests on {', '.join(broken)}, not established"
        entry.established = not entry.why_not
        entries[id_] = entry
    return {id_: entries[id_] for id_ in titles}


def _fill_rungs(entry: Entry, own: list[TestResult]) -> None:
    for rung in (assurance.value for assurance in Assurance):
        of_rung = [r for r in own if r.rung == rung]
        passed = [r for r in of_rung if r.outcome == "passed"]
        if any(r.outcome == "failed" for r in of_rung):
            continue
        if passed:
            lines = [line for r in passed for line in (r.evidence or (r.test.split("::")[-1],))]
            entry.rungs[rung] = sorted(set(lines))
        elif of_rung:
            entry.not_checked.append(rung)


def differences(committed: Mapping[str, Entry], fresh: Mapping[str, Entry]) -> list[str]:
    """Where two ledgers disagree in what is established and on which rungs; figures may differ."""
    out = []
    for id_ in sorted(set(committed) | set(fresh)):
        if id_ not in committed or id_ not in fresh:
            out.append(f"{id_}: only in the {'committed' if id_ in committed else 'fresh'} ledger")
            continue
        old, new = committed[id_], fresh[id_]
        ignored = set(new.not_checked)
        if set(old.rungs) - ignored != set(new.rungs) - ignored:
            out.append(f"{id_}: rungs {sorted(old.rungs)} committed, {sorted(new.rungs)} found")
        if old.established != new.established:
            out.append(f"{id_}: established {old.established} committed, {new.established} found")
        if (old.title, old.depends) != (new.title, new.depends):
            out.append(f"{id_}: title or dependencies changed")
    return out


def staleness(committed: str | None, page: str | None, fresh: Mapping[str, Entry]) -> list[str]:
    """What is wrong with the committed ledger (its JSON) and its docs page; None where missing."""
    if committed is None or page is None:
        return ["no committed ledger: run pytest proofs/ --update-ledger"]
    entries = from_json(committed)
    problems = differences(entries, fresh)
    if page != to_markdown(entries):
        problems.append("docs/ledger.md is not the page of the committed ledger")
    return problems


def to_json(entries: Mapping[str, Entry]) -> str:
    return json.dumps([asdict(e) for e in entries.values()], indent=1) + "\n"


def from_json(text: str) -> dict[str, Entry]:
    rows: list[dict[str, Any]] = json.loads(text)
    return {row["statement"]: Entry(**{**row, "depends": tuple(row["depends"])}) for row in rows}


def load() -> dict[str, Entry]:
    """The ledger of this release, carried as package data."""
    return from_json(resources.files("nondecoupling.theory").joinpath("ledger.json").read_text())


def table(entries: Mapping[str, Entry]) -> list[list[str]]:
    """Header and rows: statement, title, one cell per rung, whether established."""
    header = ["", "statement", *(a.value for a in Assurance), "established"]
    rows = [header]
    for entry in entries.values():
        cells = [
            "yes"
            if a.value in entry.rungs
            else NOT_CHECKED
            if a.value in entry.not_checked
            else "-"
            for a in Assurance
        ]
        status = "yes" if entry.established else f"no: {entry.why_not}"
        rows.append([entry.statement, entry.title, *cells, status])
    return rows


def summary(entries: Mapping[str, Entry]) -> str:
    """One line: how many statements are established, and how many stand on each rung."""
    held = sum(entry.established for entry in entries.values())
    rungs = (f"{sum(a.value in e.rungs for e in entries.values())} {a.value}" for a in Assurance)
    return f"{held} of {len(entries)} statements established: {', '.join(rungs)}"


def to_markdown(entries: Mapping[str, Entry]) -> str:
    """The ledger as a page: the table, what each rung means, and the evidence line by line."""
    header, *rows = table(entries)
    linked = [
        [f"[{id_}](#{_anchor(f'{id_} {title}')})", title, *cells] for id_, title, *cells in rows
    ]
    lines = ["# The ledger", "", "Written by `pytest proofs/ --update-ledger`; do not edit.", ""]
    lines += [f"- **{a.value}**: {a.meaning}." for a in Assurance]
    lines += ["", _row(header), _row(["---"] * len(header)), *map(_row, linked)]
    lines += ["", "## Evidence", ""]
    for entry in entries.values():
        lines += [f"### {entry.statement} {entry.title}", ""]
        about = [_links(entry.statement)] if entry.statement in catalog.statements() else []
        if entry.depends:
            about.append(f"Rests on {', '.join(entry.depends)}.")
        lines += [" ".join(about), ""] if about else []
        lines += [f"- *{rung}*: {_evidence(rung, found)}" for rung, found in entry.rungs.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _links(id_: str) -> str:
    """Where a statement of the catalogue is explained, written and tested, from docs/."""
    stem = catalog.stem(catalog.statement(id_))
    return (
        f"[Theory](theory/{stem}.md), [code](../nondecoupling/theory/theorems/{stem}.py), "
        f"[proof file](../proofs/test_{stem}.py)."
    )


def _evidence(rung: str, lines: Iterable[str]) -> str:
    text = "; ".join(lines)
    if rung != Assurance.MACHINE_CHECKED.value:
        return text
    # Theorem names start with the id of their statement.
    return re.sub(r"\b([A-Z]\d+_\w+)", r"[`\1`](../proofs/rocq/Main.v)", text)


def _anchor(heading: str) -> str:
    """The anchor that Markdown gives to a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
