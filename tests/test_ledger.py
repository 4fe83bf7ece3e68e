"""The ledger is computed: rungs, failing dependencies, staleness. Each rule is broken once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
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


def test_a_guard_is_a_test_without_a_rung_in_which_something_was_refuted():
    found = entries(
        passed("A1"),
        TestResult("A1", "equal", None, "passed"),
        TestResult("A1", "saw it", None, "passed", refuted=("x",)),
        TestResult("A1", "with a rung", "attacked", "passed", refuted=("x",)),
    )
    assert found["A1"].guards == ["saw it"] and found["A1"].others == ["equal"]
    assert "1 guard seen to fail, 1 other test, 0 slow tests" in ledger.to_markdown(found)


def test_a_failing_dependency_shows_downstream():
    found = entries(TestResult("A1", "t", "sampled", "failed"), passed("A2"))
    assert found["A2"].rungs and not found["A2"].established
    assert "rests on A1" in found["A2"].why_not


def test_a_result_for_an_unknown_statement_is_an_error():
    with pytest.raises(ValueError, match="not in the catalogue"):
        entries(passed("A9"))


def test_staleness_compares_tests_and_not_figures():
    old = entries(passed("A1"), passed("A2"))
    figure = replace(passed("A1"), evidence=("0.123",))
    assert differences(old, entries(figure, passed("A2"))) == []
    assert any("established" in line for line in differences(old, entries(passed("A1"))))


FULL = (
    TestResult("A1", "a", "sampled", "passed", claims=("x", "y")),
    TestResult("A1", "b", "certified", "passed", claims=("x",), boxes=("x: t in [0, 1]",)),
    TestResult("A1", "c", "certified", "passed", claims=("x",)),
    TestResult("A1", "guard", None, "passed", refuted=("x",)),
    TestResult("A1", "large", None, "slow"),
    TestResult("A2", "m", "machine-checked", "passed", claims=("A2_theorem",)),
    TestResult("A1", "other", None, "passed"),
)


@pytest.mark.parametrize(
    ("index", "change", "expected"),
    [
        (0, dict(test="renamed"), "A1: sampled test vanished: a"),
        (0, dict(test="renamed"), "A1: sampled test not in the committed ledger: renamed"),
        (0, dict(outcome="skipped"), "A1: every sampled test was skipped"),
        (0, dict(rung="certified"), "A1: sampled test vanished: a"),
        (0, dict(claims=("x",)), "A1: sampled claim vanished: y"),
        (1, dict(outcome="skipped"), "A1: certified test vanished: b"),
        (1, dict(boxes=("x: t in [0, 1/2]",)), "A1: box vanished: x: t in [0, 1]"),
        (1, dict(boxes=()), "A1: box vanished: x: t in [0, 1]"),
        (3, dict(outcome="skipped"), "A1: guard vanished: guard"),
        (3, dict(test="renamed"), "A1: guard vanished: guard"),
        (3, dict(refuted=()), "A1: guard vanished: guard"),
        (3, dict(refuted=()), "A1: other test not in the committed ledger: guard"),
        (6, dict(test="renamed"), "A1: other test vanished: other"),
        (4, dict(test="renamed"), "A1: slow test vanished: large"),
        (5, dict(claims=("A2_other",)), "A2: machine-checked claim vanished: A2_theorem"),
    ],
)
def test_evidence_that_vanishes_is_told(index, change, expected):
    results = list(FULL)
    results[index] = replace(results[index], **change)
    assert expected in differences(entries(*FULL), entries(*results))


@pytest.mark.parametrize("index", range(len(FULL)))
def test_no_evidence_may_be_left_out_or_added(index):
    less = entries(*FULL[:index], *FULL[index + 1 :])
    assert any("vanished" in line for line in differences(entries(*FULL), less))
    assert any("not in the committed" in line for line in differences(less, entries(*FULL)))


def test_only_machine_checked_proofs_may_be_skipped_and_only_without_coqc():
    old = entries(*FULL)
    for index, excused in ((5, True), (0, False)):
        skipped = [*FULL]
        skipped[index] = replace(FULL[index], outcome="skipped")
        here = entries(*skipped)
        assert any("was skipped" in line for line in differences(old, here))
        found = differences(old, here, coqc_missing=True)
        assert (not any("was skipped" in line for line in found)) == excused
    assert ledger.NOT_CHECKED in ledger.table(here)[1]


CLAIMS = {"A1": {"x": ">=", "y": "==", "z": "<="}, "A2": {}}


def test_the_page_opens_with_what_is_not_covered():
    found = assemble(FULL, TITLES, DEPENDS, ["A1", "A2"], CLAIMS)
    assert found["A1"].undecided("sampled") == ["z"]
    assert found["A1"].undecided("symbolic") == []  # lacks the rung altogether
    attacked = replace(FULL[0], rung="attacked", claims=("x",))
    found_attacked = assemble([attacked], TITLES, DEPENDS, ["A1", "A2"], CLAIMS)
    assert found_attacked["A1"].undecided("attacked") == ["z"]  # y is an identity
    opening = ledger.to_markdown(found).split("## ")[1]
    assert opening.startswith("What is not covered")
    assert "- **Not sampled**: A2." in opening
    assert "- **Not symbolic**: A1, A2." in opening
    assert "<summary>Not sampled: 1 claim of 1 statement</summary>\n\n- A1: z\n" in opening
    assert "<summary>Not certified: 2 claims of 1 statement</summary>\n\n- A1: y; z\n" in opening
    assert "Not symbolic: none." in opening


def test_evidence_is_folded_and_its_counts_are_seen():
    page = ledger.to_markdown(entries(passed("A1"), passed("A2")))
    evidence = page[page.index("## Evidence") :]
    assert evidence.count("<details markdown") == evidence.count("</details>") == 2
    summary = evidence[evidence.index("<summary>") : evidence.index("</summary>")]
    assert "sampled: 1 test, 0 guards" in summary


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


PROOF = """\
import pytest
from fractions import Fraction
from hypothesis import given
from nondecoupling.deciding.certify import certify
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.f1_gibbs_inequality import GibbsInequality
from nondecoupling.theory.worlds import World
pytestmark = pytest.mark.statement("F1")

@pytest.mark.sampled
@given(worlds(GibbsInequality))
def test_drawn_worlds(world):
    assert_holds(GibbsInequality, world)

class Wrong(GibbsInequality):
    @staticmethod
    def claims(xp, w):
        for claim in GibbsInequality.claims(xp, w):
            yield claim if claim.relation == "==" else type(claim)("KL >= 1", claim.lhs, ">=", claim.rhs + 1)

def test_guard():
    half = (Fraction(1, 2), Fraction(1, 2))
    assert certify(Wrong, World(dict(log_p=half, log_q=half)))

def test_sum():
    assert 1 + 1 == 2

@pytest.mark.slow
@pytest.mark.sampled
def test_large():
    raise AssertionError("slow tests are remembered, not run")
"""


@pytest.fixture
def small_project(tmp_path):
    """proofs/ with tests of one statement only, an empty file for each of the others, and no ledger."""
    for folder in ("proofs", "docs", "nondecoupling/theory"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "proofs" / "conftest.py", tmp_path / "proofs")
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers -m 'not slow'\n"
        "markers =\n  slow: not run here\n  packaging: none of these\n"
    )
    for statement in catalog.statements().values():
        text = PROOF if statement.id == "F1" else ""
        (tmp_path / "proofs" / f"test_{catalog.stem(statement)}.py").write_text(text)
    return tmp_path


def run_proofs(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "proofs", "-p", "no:cacheprovider", "-q", *arguments]
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow  # a test run of its own
def test_a_run_without_all_proof_files_fails(small_project):
    (small_project / "proofs" / "test_f2_cross_entropy_decomposition.py").unlink()
    run = run_proofs(small_project)
    assert run.returncode == 1, run.stdout
    assert "missing proof file proofs/test_f2_cross_entropy_decomposition.py" in run.stdout
    assert "no committed ledger" in run.stdout


@pytest.mark.slow  # a test run of its own
def test_a_partial_run_assembles_no_ledger(small_project):
    run = run_proofs(small_project, "-k", "test_guard")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "covers only a part" in run.stdout


@pytest.mark.slow  # test runs of their own
def test_what_the_makefile_runs_assembles_a_ledger(small_project):
    """The marks that its commands choose by leave no proof out; others do."""
    makefile = (ROOT / "Makefile").read_text()
    marks = set(re.findall(r'-m "([^"]*)".* \$\(SUITES\)', makefile))
    assert marks == {"not packaging"}
    for mark in marks:
        assert "covers only a part" not in run_proofs(small_project, "-m", mark).stdout
    assert "covers only a part" in run_proofs(small_project, "-m", "sampled").stdout


@pytest.mark.slow  # a test run of its own
def test_a_marked_test_must_decide_something(small_project):
    """The mark earns nothing, nor does a decision about another statement or of another kind."""
    one = "Fraction(1, 2), Fraction(1, 2)"
    tests = {
        "nothing": "assert True",
        "kind": f"certify(catalog.statement('F1'), World(dict(log_p=({one}), log_q=({one}))))",
        "other": "report(Decision(Assurance.SAMPLED, 'F2', 'decomposition'))",
        "empty": "checks.assert_in_all(np.ones(0, dtype=bool), 'no world')",
        "real": "checks.assert_in_all(np.ones(3, dtype=bool), 'three worlds')",
    }
    imports = [
        "import numpy as np",
        "from fractions import Fraction",
        "from nondecoupling.deciding.certify import certify",
        "from nondecoupling.deciding.decisions import Decision, report",
        "from nondecoupling.theory import catalog",
        "from nondecoupling.theory.assurance import Assurance",
        "from nondecoupling.theory.worlds import World",
        "from proofs import checks",
    ]
    shutil.copy(ROOT / "proofs" / "checks.py", small_project / "proofs")
    bodies = [
        f"@pytest.mark.sampled\ndef test_{name}():\n    {body}\n" for name, body in tests.items()
    ]
    both = "@pytest.mark.certified\n@pytest.mark.sampled\ndef test_both():\n    pass\n"
    path = small_project / "proofs" / "test_f1_gibbs_inequality.py"
    path.write_text("\n".join([*imports, PROOF, *bodies]))
    run = run_proofs(small_project, "-rf", "-k", "not drawn_worlds")
    assert run.returncode == 1
    for name in ("nothing", "kind", "other"):
        assert (
            f"::test_{name} is marked sampled, but reached no sampled decision about F1"
            in run.stdout
        )
    assert "no drawn world is in scope" in run.stdout
    assert "4 failed, 3 passed" in run.stdout, run.stdout
    path.write_text(PROOF + both)
    assert "choose one rung" in run_proofs(small_project, "-k", "both").stdout


@pytest.mark.slow  # a suite in a suite, twice
def test_workers_bring_their_results_and_the_ledger_is_the_same(small_project):
    """Written by two processes and by one: the same bytes; and what vanishes is told."""
    written = [small_project / "nondecoupling/theory/ledger.json", small_project / "docs/ledger.md"]
    run = run_proofs(small_project, "--update-ledger", "-n", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "The ledger of this release: 1 of" in run.stdout
    by_workers = [path.read_text() for path in written]
    entry = from_json(by_workers[0])["F1"]
    assert entry.tests == {"sampled": ["test_f1_gibbs_inequality.py::test_drawn_worlds"]}
    assert entry.decided == {"sampled": ["KL is nonnegative", "stable form"]}
    assert entry.guards == ["test_f1_gibbs_inequality.py::test_guard"]
    assert entry.others == ["test_f1_gibbs_inequality.py::test_sum"]
    assert entry.slow == ["test_f1_gibbs_inequality.py::test_large"]
    run_proofs(small_project, "--update-ledger")
    assert [path.read_text() for path in written] == by_workers

    path = small_project / "proofs" / "test_f1_gibbs_inequality.py"
    spoilt = PROOF.replace("def test_guard", "def renamed_guard")
    path.write_text(spoilt.replace("@pytest.mark.sampled\n@given", "@pytest.mark.skip\n@given"))
    run = run_proofs(small_project, "-n", "2")
    assert run.returncode == 1
    assert "STALE LEDGER: F1: guard vanished: test_f1_gibbs_inequality.py::test_guard" in run.stdout
    assert "STALE LEDGER: F1: sampled test vanished" in run.stdout
    path.write_text(PROOF)
    run = run_proofs(small_project)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_readme_gives_the_ledgers_summary():
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"The ledger of this release: {ledger.summary(ledger.load())}." in text
