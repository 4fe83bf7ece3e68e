"""A pytest plugin: the outcome of every test as a row, as soon as it is known.

python -m pytest -p benchmarks.gpu_session.pytest_rows     with SESSION_ROWS=rows.jsonl in the environment
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.gpu_session.record import RowFile

TAIL = 600


def pytest_runtest_logreport(report: Any) -> None:
    """Called in the process that collects reports, also under pytest-xdist."""
    if "PYTEST_XDIST_WORKER" in os.environ or (report.when != "call" and report.passed):
        return
    fields = {
        "case": report.nodeid,
        "outcome": report.outcome,
        "seconds": round(report.duration, 3),
    }
    if report.failed:
        fields["why"] = str(report.longrepr)[-TAIL:]
    RowFile(Path(os.environ["SESSION_ROWS"]), "tests").write("test", **fields)


def pytest_collectreport(report: Any) -> None:
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        why = str(report.longrepr)[-TAIL:]
        RowFile(Path(os.environ["SESSION_ROWS"]), "tests").write(
            "test", case=report.nodeid, outcome="not collected", why=why
        )
