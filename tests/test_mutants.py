"""The list of deliberate faults is up to date, and its runner says of a fault what became of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.run import (
    BROKEN,
    KILLED,
    ROOT,
    SURVIVED,
    Fault,
    Finding,
    listed,
    staleness,
    try_all,
)

FAULTS = listed()


def test_no_fault_of_the_list_is_stale():
    assert [problem for fault in FAULTS for problem in staleness(ROOT, fault)] == []


def test_the_list_covers_what_it_should_and_names_each_fault_once():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 60
    folders = {"/".join(fault.file.split("/")[:2]) for fault in FAULTS}
    tested = ("formulas", "bounds", "estimate", "forecast", "deciding", "lm", "monitor", "plot")
    others = ("numbers", "cli", "collected.py", "run_reports.py", "theory", "recipes")
    parts = {f"nondecoupling/{part}" for part in (*tested, *others)}
    scripts = {
        "experiments/compare.py",
        "experiments/comparison_of_models.py",
        "experiments/paper_figures.py",
        "experiments/sampled_recipes.py",
    }
    proofs = {"proofs/symbolic.py", "proofs/rocq"}
    runs = {"experiments/validate", "experiments/comparisons"} | scripts
    assert folders == parts | runs | proofs


def test_faults_are_killed_by_tests_and_not_by_doctests():
    for fault in FAULTS:
        assert fault.tests, fault.name
        for test in fault.tests:
            assert test.startswith(("tests/", "proofs/")), f"{fault.name}: {test}"


SQUARE = Fault("a square", "squares.py", "x * x", "x * abs(x)", ("tests/test_code.py",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "squares.py": "def square(x):\n    return x * x\n",
        "tests/test_code.py": "from squares import square\n\n\ndef test_at_two():\n    assert square(2) == 4\n",
        "tests/test_wrong.py": "def test_false():\n    assert False\n",
        "tests/test_negative.py": "from squares import square\n\n\ndef test_at_minus_two():\n"
        "    assert square(-2) == 4\n",
        "pyproject.toml": "[tool.pytest.ini_options]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow  # a suite in a suite
def test_the_runner_tells_a_survivor_from_what_is_killed_and_from_what_is_broken(tree, capsys):
    negative = replace(SQUARE, name="seen", tests=("tests/test_negative.py",))
    no_code = replace(SQUARE, name="no code", new="x *")
    wrong = replace(SQUARE, name="wrong before", tests=("tests/test_wrong.py",))
    again = replace(SQUARE, name="survives again")  # in a copy that had other faults before
    found = try_all(tree, [negative, SQUARE, no_code, wrong, again])
    outcomes = [one.outcome for one in found]
    assert outcomes == [KILLED, SURVIVED, BROKEN, BROKEN, SURVIVED]
    assert found[0].detail == "tests/test_negative.py::test_at_minus_two"
    assert "fail without it" in found[3].detail
    assert capsys.readouterr().out.count(SURVIVED) == 2
    assert "x * x" in (tree / "squares.py").read_text()  # the tree itself stays as it is


def test_a_survivor_needs_a_reason_and_a_reason_a_survivor():
    excused = replace(SQUARE, survives="nobody squares negative numbers")
    assert not Finding(SQUARE, SURVIVED, "").is_as_listed
    assert Finding(excused, SURVIVED, "").is_as_listed
    assert Finding(SQUARE, KILLED, "").is_as_listed
    assert not Finding(excused, KILLED, "").is_as_listed
    assert not Finding(SQUARE, BROKEN, "").is_as_listed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"old": "y * y"}, "has its old text 0 times"),
        ({"old": "x"}, "has its old text 3 times"),
        ({"new": "x * x"}, "changes nothing"),
        ({"file": "gone.py"}, "has its old text 0 times"),
        ({"tests": ("tests/test_gone.py",)}, "tests/test_gone.py is gone"),
        ({"tests": ("tests/test_code.py::test_a",)}, "tests/test_code.py::test_a is gone"),
    ],
)
def test_a_stale_fault_is_told(tree, change, words):
    assert staleness(tree, SQUARE) == []
    (problem,) = staleness(tree, replace(SQUARE, **change))
    assert words in problem
