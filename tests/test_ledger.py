"""The ledger is computed: rungs, failing dependencies, staleness. Each rule is broken once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nondecoupling.theory import catalog, ledger
from nondecoupling.theory.ledger import TestResult, assemble, differences, from_json, to_json

ROOT = Path(__file__).parents[1]
TITLES = {"A1": "base", "A2": "built on it"}
DEPENDS = {"A1": (), "A2": ("A1",)}


def entries(*results):
    return assemble(results, TITLES, DEPENDS, ["A1", "A2"])


def passed(id_, rung="sampled"):
    return TestResult(id_, f"test_{id_}.py::test", rung, "passed")


def test_a_rung_is_earned_by_a_passing_test_only():
    found = entries(passed("A1"), TestResult("A2", "t", "symbolic", "skipped"))
    assert found["A1"].established and list(found["A1"].rungs) == ["sampled"]
    assert found["A2"].not_checked == ["symbolic"] and not found["A2"].established
    assert found["A2"].why_not == "no test establishes it"


def test_one_failure_takes_the_rung_away():
    found = entries(passed("A1"), TestResult("A1", "t2", "sampled", "failed"))
    assert not found["A1"].rungs


def test_a_failing_guard_takes_the_statement_down():
    found = entries(passed("A1"), TestResult("A1", "guard", None, "failed"), passed("A2"))
    assert not found["A1"].established and "guard" in found["A1"].why_not


def test_a_failing_dependency_shows_downstream():
    found = entries(TestResult("A1", "t", "sampled", "failed"), passed("A2"))
    assert found["A2"].rungs and not found["A2"].established
    assert "rests on A1" in found["A2"].why_not


def test_a_result_for_an_unknown_statement_is_an_error():
    with pytest.raises(ValueError, match="not in the catalogue"):
        entries(passed("A9"))


def test_staleness_compares_rungs_and_not_figures():
    old = entries(passed("A1"), passed("A2"))
    figure = TestResult("A1", "t", "sampled", "passed", ("0.123",))
    assert differences(old, entries(figure, passed("A2"))) == []
    more = entries(passed("A1"), passed("A1", "symbolic"), passed("A2"))
    assert any("A1: rungs" in line for line in differences(old, more))
    assert any("established" in line for line in differences(old, entries(passed("A1"))))


def test_what_this_machine_cannot_check_is_not_stale():
    old = entries(passed("A1"), passed("A1", "machine-checked"), passed("A2"))
    here = entries(passed("A1"), TestResult("A1", "t", "machine-checked", "skipped"), passed("A2"))
    assert differences(old, here) == []
    assert ledger.NOT_CHECKED in ledger.table(here)[1]


def test_a_docs_page_that_is_not_the_ledgers_is_stale():
    found = entries(passed("A1"), passed("A2"))
    page = ledger.to_markdown(found)
    assert ledger.staleness(to_json(found), page, found) == []
    assert (
        "docs/ledger.md is not the page" in ledger.staleness(to_json(found), page + "x", found)[0]
    )
    assert "no committed ledger" in ledger.staleness(None, page, found)[0]


def test_json_round_trip():
    found = entries(passed("A1"), passed("A2"))
    assert from_json(to_json(found)) == found


def test_graph_has_no_cycle_and_no_gap():
    order = catalog.dependency_order(catalog.dependencies())
    assert set(order) == set(catalog.statements())
    with pytest.raises(ValueError, match="circle"):
        catalog.dependency_order({"A1": ("A2",), "A2": ("A1",)})
    with pytest.raises(ValueError, match="not in the catalogue"):
        catalog.dependency_order({"A1": ("A9",)})


def test_no_orphan_proof_file():
    stems = {f"test_{catalog.stem(s)}.py" for s in catalog.statements().values()}
    others = {"test_machine_checked.py", "test_observed.py", "test_boxes.py"}
    found = {p.name for p in (ROOT / "proofs").glob("test_*.py")}
    assert found <= stems | others, found - stems - others


@pytest.fixture
def small_project(tmp_path):
    """proofs/ with one statement's tests only, and an empty ledger."""
    for name in ("conftest.py", "__init__.py", "symbolic.py", "elementary.py", "checks.py"):
        source = ROOT / "proofs" / name
        if source.exists():
            (tmp_path / "proofs").mkdir(exist_ok=True)
            (tmp_path / "proofs" / name).write_text(source.read_text())
    (tmp_path / "proofs" / "test_f1_gibbs_inequality.py").write_text(
        "import pytest\npytestmark = pytest.mark.statement('F1')\n"
        "@pytest.mark.sampled\ndef test_it():\n    assert True\n"
    )
    (tmp_path / "nondecoupling").mkdir()
    (tmp_path / "docs").mkdir()
    return tmp_path


def run_proofs(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "proofs", "-p", "no:cacheprovider", "-q", *arguments]
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_run_without_all_proof_files_fails(small_project):
    run = run_proofs(small_project)
    assert run.returncode == 1, run.stdout
    assert "missing proof file proofs/test_f2_cross_entropy_decomposition.py" in run.stdout
    assert "no committed ledger" in run.stdout


def test_a_partial_run_assembles_no_ledger(small_project):
    run = run_proofs(small_project, "-k", "test_it")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "covers only a part" in run.stdout


def test_the_readme_gives_the_ledgers_summary():
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"The ledger of this release: {ledger.summary(ledger.load())}." in text
