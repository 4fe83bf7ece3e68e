"""Collects what the proofs established, prints the ledger, and guards the committed one.

Every test in ``proofs/`` belongs to a statement (module-level ``pytestmark = statement("S2")``) and
may carry one rung (``@pytest.mark.sampled`` and so on). Tests without a rung are guards: they show
that a check can fail. Details go to the ledger through the ``evidence`` fixture.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from nondecoupling.theory import catalog, ledger
from nondecoupling.theory.assurance import Assurance

HERE = Path(__file__).parent
COMMITTED = HERE.parent / "nondecoupling" / "theory" / "ledger.json"
PAGE = HERE.parent / "docs" / "ledger.md"
RUNG_MARKS = {a.value.replace("-", "_"): a.value for a in Assurance}

settings.register_profile(
    "proofs",
    deadline=None,
    max_examples=100,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("proofs")

RESULTS = pytest.StashKey[list[ledger.TestResult]]()
STALE = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-ledger", action="store_true", help="write the committed ledger and its docs page"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []
    config.addinivalue_line("markers", "statement(id): the statement that a test is about")
    for mark, rung in RUNG_MARKS.items():
        config.addinivalue_line("markers", f"{mark}: establishes the rung {rung!r}")


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    outcome = yield
    report = outcome.get_result()
    if HERE not in item.path.parents or (report.when != "call" and report.passed):
        return
    rungs = [rung for mark, rung in RUNG_MARKS.items() if item.get_closest_marker(mark)]
    rung = rungs[0] if rungs else None
    name = item.nodeid.removeprefix("proofs/")
    found = item.config.stash[RESULTS]
    marker = item.get_closest_marker("statement")
    lines = tuple(text for key, text in item.user_properties if key == "evidence")
    if marker is not None:
        found.append(ledger.TestResult(marker.args[0], name, rung, report.outcome, lines))
    for key, value in item.user_properties:
        if key == "statement":
            found.append(ledger.TestResult(value[0], name, rung, report.outcome, (value[1],)))


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
    without_fast_tests = config.getoption("markexpr") not in ("", "not slow")
    return bool(arguments & whole) and not (narrowed or without_fast_tests)


def read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if not is_complete(config) or config.option.collectonly:
        return
    fresh = assemble(config)
    problems = [f"missing proof file {name}" for name in missing_proof_files()]
    if config.getoption("--update-ledger"):
        if session.exitstatus == 0 and not problems:
            COMMITTED.write_text(ledger.to_json(fresh))
            PAGE.write_text(ledger.to_markdown(fresh))
    else:
        problems += ledger.staleness(read(COMMITTED), read(PAGE), fresh)
    config.stash[STALE] = problems
    if problems and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def assemble(config: pytest.Config) -> dict[str, ledger.Entry]:
    titles = {id_: s.title for id_, s in catalog.statements().items()}
    graph = catalog.dependencies()
    return ledger.assemble(config.stash[RESULTS], titles, graph, catalog.dependency_order(graph))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    if not is_complete(config) or not config.stash[RESULTS]:
        terminalreporter.write_line(
            "ledger: not assembled, since this run covers only a part of proofs/"
        )
        return
    terminalreporter.section("ledger")
    rows = ledger.table(assemble(config))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
    for problem in config.stash.get(STALE, []):
        terminalreporter.write_line(f"STALE LEDGER: {problem}", red=True)
