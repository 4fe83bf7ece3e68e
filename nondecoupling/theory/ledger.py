"""What is assured, how, and by which tests: assembled from what tests decided, never typed in.

A rung is earned when at least one test of its kind decided something (``deciding.decisions``) and no test
of that rung failed. A statement is established when all its tests passed and everything it depends on is
established. The committed ledger remembers the tests, claims and boxes that it saw; a run that sees others
is told so, whether evidence vanished or is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from typing import Any

from nondecoupling.theory import catalog
from nondecoupling.theory.assurance import Assurance

NOT_CHECKED = "not checked here"
# Theorem names start with the id of their statement.
_ROCQ = re.compile(r"\b([A-Z]\d+_\w+)")
# The one rung that a machine may lack the means to check: it needs coqc.
MAY_BE_MISSING = Assurance.MACHINE_CHECKED.value


@dataclass(frozen=True)
class TestResult:
    """One test of one statement: what it would establish, whether it did, and what it decided.

    ``claims`` are the claims decided, ``refuted`` those proved false, of the statement or of a variant of it;
    ``boxes`` say what box certificates covered. A ``slow`` test is known
    from collection: an ordinary run remembers that it exists and leaves it to ``make test-full``.
    """

    __test__ = False  # not a test class, whatever its name starts with

    statement: str
    test: str
    rung: str | None
    outcome: str  # "passed", "failed", "skipped" or "slow"
    evidence: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()
    refuted: tuple[str, ...] = ()


@dataclass
class Entry:
    """The ledger's row for one statement."""

    statement: str
    title: str
    depends: tuple[str, ...]
    established: bool = False
    why_not: str = ""
    claims: dict[str, str] = field(default_factory=dict)  #: what it claims, with each relation
    rungs: dict[str, list[str]] = field(default_factory=dict)  #: rung -> evidence, line by line
    tests: dict[str, list[str]] = field(default_factory=dict)  #: rung -> the tests that earned it
    decided: dict[str, list[str]] = field(default_factory=dict)  #: rung -> the claims decided
    boxes: list[str] = field(default_factory=list)  #: what box certificates covered
    guards: list[str] = field(default_factory=list)  #: tests without a rung that saw a refutation
    others: list[str] = field(default_factory=list)  #: the other tests without a rung
    slow: list[str] = field(default_factory=list)  #: tests that make test-full runs
    not_checked: list[str] = field(default_factory=list)

    def undecided(self, rung: str) -> list[str]:
        """The claims that no test of this rung decided, where the rung is earned at all.

        An identity has no margin that an attack could make small: it is none of the attacked rung's gaps.
        """
        decided = list(self.decided.get(rung, []))
        if rung == Assurance.ATTACKED.value:
            decided += [claim for claim, relation in self.claims.items() if relation == "=="]
        return (
            [claim for claim in self.claims if claim not in decided] if rung in self.rungs else []
        )


def assemble(
    results: Iterable[TestResult],
    titles: Mapping[str, str],
    depends: Mapping[str, tuple[str, ...]],
    order: Iterable[str],
    claims: Mapping[str, dict[str, str]] | None = None,
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
        entry = Entry(
            id_, titles[id_], tuple(depends[id_]), claims=dict((claims or {}).get(id_, {}))
        )
        own = by_statement[id_]
        _fill_rungs(entry, own)
        failed = sorted(r.test for r in own if r.outcome == "failed")
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
        of_rung = [r for r in own if r.rung == rung and r.outcome != "slow"]
        passed = [r for r in of_rung if r.outcome == "passed"]
        if any(r.outcome == "failed" for r in of_rung):
            continue
        if passed:
            lines = [line for r in passed for line in (r.evidence or (r.test.split("::")[-1],))]
            entry.rungs[rung] = sorted(set(lines))
            entry.tests[rung] = sorted({r.test for r in passed})
            entry.decided[rung] = sorted({claim for r in passed for claim in r.claims})
            entry.boxes += [box for r in passed for box in r.boxes]
        elif of_rung:
            entry.not_checked.append(rung)
    entry.boxes = sorted(set(entry.boxes))
    without_rung = [r for r in own if r.rung is None and r.outcome == "passed"]
    entry.guards = sorted({r.test for r in without_rung if r.refuted})
    entry.others = sorted({r.test for r in without_rung} - set(entry.guards))
    entry.slow = sorted({r.test for r in own if r.outcome == "slow"})


def differences(
    committed: Mapping[str, Entry], fresh: Mapping[str, Entry], *, coqc_missing: bool = False
) -> list[str]:
    """Where two ledgers disagree in what is established, how and by what; figures may differ.

    With ``coqc_missing`` the machine-checked rung may have been skipped; no other rung may.
    """
    out = []
    for id_ in sorted(set(committed) | set(fresh)):
        if id_ not in committed or id_ not in fresh:
            out.append(f"{id_}: only in the {'committed' if id_ in committed else 'fresh'} ledger")
            continue
        old, new = committed[id_], fresh[id_]
        excused = {MAY_BE_MISSING} & set(new.not_checked) if coqc_missing else set()
        for rung in sorted((set(old.tests) | set(new.tests) | set(new.not_checked)) - excused):
            if rung in new.not_checked:
                out.append(f"{id_}: every {rung} test was skipped")
            out += _compare(id_, f"{rung} test", old.tests.get(rung), new.tests.get(rung))
            out += _compare(id_, f"{rung} claim", old.decided.get(rung), new.decided.get(rung))
        out += _compare(id_, "box", old.boxes, new.boxes)
        out += _compare(id_, "guard", old.guards, new.guards)
        out += _compare(id_, "other test", old.others, new.others)
        out += _compare(id_, "slow test", old.slow, new.slow)
        if old.established != new.established:
            out.append(f"{id_}: established {old.established} committed, {new.established} found")
        if (old.title, old.depends, old.claims) != (new.title, new.depends, new.claims):
            out.append(f"{id_}: title, dependencies or claims changed")
    return out


def _compare(id_: str, what: str, old: list[str] | None, new: list[str] | None) -> list[str]:
    before, now = set(old or ()), set(new or ())
    return [
        *(f"{id_}: {what} vanished: {name}" for name in sorted(before - now)),
        *(f"{id_}: {what} not in the committed ledger: {name}" for name in sorted(now - before)),
    ]


def staleness(
    committed: str | None,
    page: str | None,
    fresh: Mapping[str, Entry],
    *,
    coqc_missing: bool = False,
) -> list[str]:
    """What is wrong with the committed ledger (its JSON) and its docs page; None where missing."""
    if committed is None or page is None:
        return ["no committed ledger: run pytest proofs/ --update-ledger"]
    entries = from_json(committed)
    problems = differences(entries, fresh, coqc_missing=coqc_missing)
    if page != to_markdown(entries):
        problems.append("docs/ledger.md is not the page of the committed ledger")
    return problems


def to_json(entries: Mapping[str, Entry]) -> str:
    return json.dumps([asdict(e) for e in entries.values()], indent=1) + "\n"


def from_json(text: str) -> dict[str, Entry]:
    rows: list[dict[str, Any]] = json.loads(text)
    known = {f.name for f in fields(Entry)}
    for row in rows:
        if set(row) != known:
            raise ValueError(
                f"ledger: the entry {row.get('statement')!r} has other fields than {sorted(known)}; "
                "write the ledger again: pytest proofs/ --update-ledger"
            )
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
    """The ledger as a page: what is not covered, the table, and the evidence line by line."""
    header, *rows = table(entries)
    linked = [
        [f"[{id_}](#{_anchor(f'{id_} {title}')})", title, *cells] for id_, title, *cells in rows
    ]
    lines = ["# The ledger", "", "Written by `pytest proofs/ --update-ledger`; do not edit.", ""]
    lines += _not_covered(entries)
    lines += ["## What each rung means", ""]
    lines += [f"- **{a.value}**: {a.meaning}." for a in Assurance]
    lines += ["", "## Which statement stands on which rung", ""]
    lines += [_row(header), _row(["---"] * len(header)), *map(_row, linked)]
    lines += ["", "## Evidence", ""]
    for entry in entries.values():
        lines += [f"### {entry.statement} {entry.title}", ""]
        about = [_links(entry.statement)] if entry.statement in catalog.statements() else []
        if entry.depends:
            about.append(f"Rests on {', '.join(entry.depends)}.")
        lines += [" ".join(about), ""] if about else []
        tests = len({test for names in entry.tests.values() for test in names})
        counts = (
            f"{', '.join(entry.rungs) or 'no rung'}: {_count(tests, 'test')}, {_count(len(entry.guards), 'guard')} "
            f"seen to fail, {_count(len(entry.others), 'other test')}, "
            f"{_count(len(entry.slow), 'slow test')} (<code>make test-full</code>)"
        )
        found = [f"- *{rung}*: {_evidence(rung, found)}" for rung, found in entry.rungs.items()]
        lines += _folded(counts, found or ["- nothing yet"])
    return "\n".join(lines).rstrip() + "\n"


# The rungs whose tests are about one claim each; the others are about a statement as a whole.
BY_CLAIM = (Assurance.SAMPLED, Assurance.ATTACKED, Assurance.CERTIFIED, Assurance.SYMBOLIC)


def _not_covered(entries: Mapping[str, Entry]) -> list[str]:
    """The gaps, which open the page: statements without a rung, and claims that a rung passes over."""
    lines = ["## What is not covered", ""]
    broken = [f"{e.statement} ({e.why_not})" for e in entries.values() if not e.established]
    lines += [f"- **Not established**: {', '.join(broken)}."] if broken else []
    for a in Assurance:
        lacking = [e.statement for e in entries.values() if a.value not in e.rungs]
        if lacking:
            lines.append(f"- **Not {a.value}**: {', '.join(lacking)}.")
    lines += [
        "",
        "A rung is earned by a statement as soon as one of its claims is decided in that way. These claims "
        "are not, though their statement has the rung; a derivation may settle a claim by another statement, "
        "as the [theory pages](theory/index.md) say:",
        "",
    ]
    for a in BY_CLAIM:
        gaps = {e.statement: u for e in entries.values() if (u := e.undecided(a.value))}
        claims = sum(map(len, gaps.values()))
        counts = f"Not {a.value}: {_count(claims, 'claim')} of {_count(len(gaps), 'statement')}"
        listed = [f"- {id_}: {'; '.join(undecided)}" for id_, undecided in gaps.items()]
        lines += _folded(counts, listed) if gaps else [f"Not {a.value}: none.", ""]
    lines += [
        "Nothing here is about floating-point code beyond the worlds tested, about infinite sets of "
        "responses, or about language models beyond the committed runs; how the Rocq theorems differ from "
        "the statements is on [their page](rocq.md).",
        "",
    ]
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _folded(summary: str, lines: list[str]) -> list[str]:
    """Lines that a reader opens; the site needs the attribute to read them as Markdown."""
    opening = f'<details markdown="1"><summary>{summary}</summary>'
    return [opening, "", *lines, "", "</details>", ""]


def _links(id_: str) -> str:
    """Where a statement of the catalogue is explained, written and tested, from docs/."""
    places = catalog.places(catalog.statement(id_))
    links = {what: path.removeprefix("docs/") for what, path in places.items()}
    return (
        f"[Theory]({links['theory']}), [code](../{links['code']}), "
        f"[proof file](../{links['proof file']})."
    )


def _evidence(rung: str, lines: Iterable[str]) -> str:
    text = "; ".join(lines)
    if rung != Assurance.MACHINE_CHECKED.value:
        return text
    return _ROCQ.sub(r"[`\1`](../proofs/rocq/Statements.v)", text)


def rocq_theorems(entry: Entry) -> list[str]:
    """The Rocq theorems in the evidence of a statement."""
    lines = entry.rungs.get(Assurance.MACHINE_CHECKED.value, [])
    return [name for line in lines for name in _ROCQ.findall(line)]


def _anchor(heading: str) -> str:
    """The anchor that Markdown gives to a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
