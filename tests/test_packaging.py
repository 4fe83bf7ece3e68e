"""Wheel and sdist: they build, install in a clean environment, and carry the ledger of the release."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import nondecoupling

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
pytestmark = [pytest.mark.slow, pytest.mark.packaging]


def run(*command: object, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built() -> dict[str, Path]:
    """Both archives, made from this checkout."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, ROOT)
    version = nondecoupling.__version__
    return {
        "wheel": DIST / f"nondecoupling-{version}-py3-none-any.whl",
        "sdist": DIST / f"nondecoupling-{version}.tar.gz",
    }


def test_the_archives_hold_what_they_should(built):
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    assert {"nondecoupling/theory/ledger.json", "nondecoupling/py.typed"} <= names
    assert any(name.startswith("nondecoupling/theory/theorems/") for name in names)
    assert not any(
        name.split("/")[0] in {"tests", "proofs", "experiments", "docs"} for name in names
    )
    with tarfile.open(built["sdist"]) as archive:
        inside = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "nondecoupling/theory/ledger.json"} <= inside


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_installs_in_a_clean_environment_and_prints_its_ledger(built, kind, tmp_path):
    place = tmp_path / "clean"
    venv.create(place, with_pip=True)
    python, constraints = place / "bin" / "python", ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, built[kind])
    # Away from the checkout, whose own package would be found first.
    printed = json.loads(run(place / "bin" / "nondecoupling", "ledger", "--json", cwd=tmp_path))
    committed = json.loads((ROOT / "nondecoupling" / "theory" / "ledger.json").read_text())
    assert printed == committed
    version = (
        "import nondecoupling.bounds as b, nondecoupling as n; print(n.__version__, b.__file__)"
    )
    found, file = run(python, "-I", "-c", version, cwd=tmp_path).split()
    assert found == nondecoupling.__version__
    assert str(place) in file
    table = run(place / "bin" / "nondecoupling", "ledger", cwd=tmp_path)
    assert "S2" in table and "R5" in table
