"""The numeric API is light: importing it brings in no heavy package."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"flint", "hypothesis", "matplotlib", "sympy", "torch", "transformers", "triton"}


def brought_in_by(import_line: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after one import."""
    code = f"import sys\n{import_line}\nprint(*(m.partition('.')[0] for m in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return HEAVY & set(found.stdout.split())


@pytest.mark.slow  # a process for each module
@pytest.mark.parametrize(
    "module",
    ["bounds", "forecast", "monitor", "plot", "theory.catalog", "theory.ledger", "cli"],
)
def test_import_is_light(module):
    assert brought_in_by(f"import nondecoupling.{module}") == set()


@pytest.mark.slow  # a process for each module
def test_the_check_sees_a_heavy_import():
    assert brought_in_by("import nondecoupling.bounds, hypothesis") == {"hypothesis"}
