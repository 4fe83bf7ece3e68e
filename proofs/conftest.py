"""Collects what the proofs established, prints the ledger, and guards the committed one.

Every test in ``proofs/`` belongs to a statement (module-level ``pytestmark = statement("S2")``) and
may carry one rung (``@pytest.mark.sampled`` and so on). A marked test must reach a decision of that kind
about its statement (``nondecoupling.deciding.decisions``), or it fails: the decision earns the rung, not the
mark. A test without a rung is a guard if a claim of its statement, or of a variant of it, was refuted in it: there
a check was seen to fail. Details go to the ledger through the ``evidence`` fixture.

The results travel with pytest's reports, so that the workers of ``pytest -n`` bring them to the process that
writes the ledger.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from nondecoupling.deciding.decisions import (
    Decision,
    Refutation,
    recording,
    recording_refutations,
)
from nondecoupling.theory import catalog, ledger
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import StatementType
from nondecoupling.theory.worlds import sample_worlds

HERE = Path(__file__).parent
COMMITTED = HERE.parent / "nondecoupling" / "theory" / "ledger.json"
PAGE = HERE.parent / "docs" / "ledger.md"
RUNG_MARKS = {a.value.replace("-", "_"): a.value for a in Assurance}
LEDGER = "ledger"  # the key of results in a report's user_properties, and of this plugin

IN_CI = "CI" in os.environ
settings.register_profile(
    "proofs",
    deadline=None,
    max_examples=100 if IN_CI else 25,
    derandomize=IN_CI,  # the same examples at every run of CI, others elsewhere
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("proofs")
collect_ignore = ["conftest.py"]  # by --doctest-modules: two suites have a module of this name

MADE = pytest.StashKey[list[Decision]]()
REFUTED = pytest.StashKey[list[Refutation]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-ledger", action="store_true", help="write the committed ledger and its docs page"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "statement(id): the statement that a test is about")
    for mark, rung in RUNG_MARKS.items():
        config.addinivalue_line("markers", f"{mark}: establishes the rung {rung!r}")
    config.pluginmanager.register(Collector(config), LEDGER)


@pytest.fixture
def evidence(request: pytest.FixtureRequest):
    """Record a line for the ledger: ``evidence("smallest ratio 0.9998")``."""

    def record(text: str) -> None:
        request.node.user_properties.append(("evidence", text))

    return record


@pytest.fixture
def evidence_for(request: pytest.FixtureRequest):
    """Record evidence for a statement that the test itself finds out: ``(id, line)``."""

    def record(statement: str, text: str) -> None:
        request.node.user_properties.append(("statement", (statement, text)))

    return record


def load_settings(config: pytest.Config) -> None:
    """This suite's, unless the command line has its own."""
    if not any(
        config.getoption(f"--hypothesis-{what}") for what in ("profile", "verbosity", "explain")
    ):
        settings.load_profile("proofs")


def pytest_make_collect_report(collector: pytest.Collector) -> None:
    """For the tests of a module; tests/ has other settings, and may be in the same session."""
    load_settings(collector.config)


# --- one test -----------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """For what a test itself decorates or finds."""
    load_settings(item.config)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with recording() as made, recording_refutations() as refuted:
        yield
    item.stash[MADE], item.stash[REFUTED] = made, refuted


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    outcome = yield
    report = outcome.get_result()
    if HERE not in item.path.parents or (report.when != "call" and report.passed):
        return
    made, refuted = item.stash.get(MADE, []), item.stash.get(REFUTED, [])
    results = list(results_of(item, made, refuted))
    if report.passed and (idle := [r for r in results if r.rung and not r.decisions]):
        report.outcome = "failed"
        report.longrepr = "\n".join(
            f"{r.name} is marked {r.rung}, but reached no {r.rung} decision about {r.statement}: "
            "see nondecoupling/deciding/decisions.py"
            for r in idle
        )
    report.user_properties.append((LEDGER, [r.plain(report.outcome) for r in results]))


class Result:
    """What one test says about one statement, on its way to the ledger."""

    def __init__(
        self,
        statement: str,
        name: str,
        rung: str | None,
        evidence: list[str],
        made: list[Decision],
        refuted: list[Refutation],
    ) -> None:
        self.statement, self.name, self.rung, self.evidence = statement, name, rung, evidence
        self.decisions = [
            d for d in made if d.rung.value == rung and d.statement in ("", statement)
        ]
        self.refuted = sorted({r.claim for r in refuted if r.statement == statement})

    def plain(self, outcome: str) -> dict[str, Any]:
        """The fields of a ``TestResult`` as plain data, which workers can send."""
        return dict(
            statement=self.statement,
            test=self.name,
            rung=self.rung,
            outcome=outcome,
            evidence=self.evidence,
            claims=sorted({d.claim for d in self.decisions if d.claim}),
            boxes=sorted({f"{d.claim}: {d.scope}" for d in self.decisions if d.scope}),
            refuted=self.refuted,
        )


def results_of(
    item: pytest.Item, made: list[Decision], refuted: list[Refutation]
) -> Iterator[Result]:
    rungs = [rung for mark, rung in RUNG_MARKS.items() if item.get_closest_marker(mark)]
    if len(rungs) > 1:
        raise pytest.UsageError(f"{item.nodeid} is marked {' and '.join(rungs)}: choose one rung")
    rung = rungs[0] if rungs else None
    name = item.nodeid.removeprefix("proofs/")
    if marker := item.get_closest_marker("statement"):
        lines = [text for key, text in item.user_properties if key == "evidence"]
        yield Result(marker.args[0], name, rung, lines, made, refuted)
    for key, value in item.user_properties:
        if key == "statement":
            yield Result(value[0], name, rung, [value[1]], made, refuted)


# --- the run ------------------------------------------------------------------------------------


class Collector:
    """Gathers the results of a run, here or from the workers of ``pytest -n``; holds the ledger's verdict."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: list[ledger.TestResult] = []
        self.slow: list[tuple[str, str, str]] = []  # statement, name and box of slow tests
        self.problems: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Before slow tests are deselected: the ledger remembers that they exist."""
        for item in items:
            marker = item.get_closest_marker("statement")
            if marker and item.get_closest_marker("slow") and HERE in item.path.parents:
                case = getattr(item, "callspec", None) and item.callspec.params.get("case")
                box = f": {case.box}" if case else ""
                self.slow.append((marker.args[0], item.nodeid.removeprefix("proofs/"), box))
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["slow"] = self.slow

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """A worker of ``pytest -n`` has ended; every worker collects the same tests."""
        self.slow = [
            tuple(pair) for pair in getattr(node, "workeroutput", {}).get("slow", self.slow)
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for key, results in report.user_properties:
            if key == LEDGER:
                self.results += [ledger.TestResult(**tuples(result)) for result in results]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        config = self.config
        if hasattr(config, "workerinput") or config.option.collectonly or not is_complete(config):
            return
        fresh = self.assemble()
        skipped = sorted(id_ for id_, e in fresh.items() if e.not_checked)
        self.problems = [f"missing proof file {name}" for name in missing_proof_files()]
        if config.getoption("--update-ledger"):
            if skipped:
                self.problems.append(f"not written, since tests were skipped: {', '.join(skipped)}")
            if session.exitstatus == 0 and not self.problems:
                COMMITTED.write_text(ledger.to_json(fresh))
                PAGE.write_text(ledger.to_markdown(fresh))
        else:
            self.problems += ledger.staleness(
                read(COMMITTED), read(PAGE), fresh, coqc_missing=coqc_missing()
            )
        if self.problems and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def assemble(self) -> dict[str, ledger.Entry]:
        titles = {id_: s.title for id_, s in catalog.statements().items()}
        graph = catalog.dependencies()
        slow = {name for _, name, _ in self.slow}
        results = [r for r in self.results if r.test not in slow or r.outcome == "failed"]
        results += [ledger.TestResult(i, name + box, None, "slow") for i, name, box in self.slow]
        claims = {id_: relations_of_claims(s) for id_, s in catalog.statements().items()}
        order = catalog.dependency_order(graph)
        return ledger.assemble(results, titles, graph, order, claims)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        config, write = self.config, terminalreporter.write_line
        if not is_complete(config) or not self.results:
            write("ledger: not assembled, since this run covers only a part of proofs/")
            return
        entries = self.assemble()
        terminalreporter.section("ledger")
        rows = ledger.table(entries)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        for row in rows:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            write(line.rstrip())
        if coqc_missing():
            write("coqc is missing: the machine-checked proofs were not checked here", yellow=True)
        if config.getoption("--update-ledger") and not self.problems:
            write(f"for the README: The ledger of this release: {ledger.summary(entries)}.")
        for problem in self.problems:
            write(f"STALE LEDGER: {problem}", red=True)


def tuples(result: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in result.items()}


def relations_of_claims(statement: StatementType) -> dict[str, str]:
    """What a statement claims, with the relation of each, but for claims that the theory refutes."""
    from nondecoupling.numbers.floats import floats_of

    w = sample_worlds(statement.world, np.random.default_rng(0), 1, 4)
    with np.errstate(all="ignore"):
        found = list(statement.claims(floats_of(*w.values()), w))
    return {claim.name: claim.relation for claim in found if not claim.refuted}


def coqc_missing() -> bool:
    return shutil.which("coqc") is None


def missing_proof_files() -> list[str]:
    return [
        f"proofs/test_{catalog.stem(s)}.py"
        for s in catalog.statements().values()
        if not (HERE / f"test_{catalog.stem(s)}.py").exists()
    ]


def is_complete(config: pytest.Config) -> bool:
    """Whether the run covers all of proofs/ but slow tests: not narrowed by path, keyword or mark."""
    arguments = {str(Path(a.split("::")[0]).resolve()) for a in config.args if "::" not in a}
    whole = {str(HERE), str(HERE.parent)}
    narrowed = config.getoption("keyword") or config.getoption("lf", False)
    whole_suites = ("", "not slow", "not packaging")  # no proof packs anything
    without_fast_tests = config.getoption("markexpr") not in whole_suites
    return bool(arguments & whole) and not (narrowed or without_fast_tests)


def read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
