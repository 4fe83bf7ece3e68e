"""What ``.ci/run`` does where a program is missing that tests would be skipped without."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"
NEEDED = ("coqc", "chromedriver", "chromium")
TARGETS = ["lint", "test-full", "lowest", "validate", "docs", "package"]
INSTALLS = 'for p in {}; do ln -s "$(command -v true)" "${{0%/*}}/$p"; done'


@pytest.fixture
def ci(tmp_path):
    """Runs a copy of it with nothing on PATH but the programs named and stand-ins that write down their calls."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(RUN, tmp_path / ".ci" / "run")
    bin_, made = tmp_path / "bin", tmp_path / "made"
    bin_.mkdir()
    made.touch()

    def program(name, script):
        (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_ / name).chmod(0o755)

    def run(programs=NEEDED, user=1000, apt_get=None, **environment):
        for name in ("dirname", "true", "ln"):
            (bin_ / name).symlink_to(shutil.which(name))
        for name in programs:
            program(name, "")
        program("id", f"echo {user}")
        program("make", f'echo "$1" >> {made}')
        if apt_get is not None:
            program(
                "apt-get", f'echo "apt-get $1" >> {made}\n[ "$1" = update ] || {{ {apt_get}; }}'
            )
        told = subprocess.run(
            [shutil.which("bash"), tmp_path / ".ci" / "run"],
            env={"PATH": str(bin_), **environment},
            capture_output=True,
            text=True,
        )
        return told.returncode, told.stderr, made.read_text().split("\n")[:-1]

    return run


@pytest.mark.parametrize("chromium", ["chromium", "google-chrome"])
def test_with_all_programs_everything_is_made(ci, chromium):
    programs = ("coqc", "chromedriver", chromium)
    assert ci(programs, user=0, apt_get="exit 9") == (0, "", TARGETS)


@pytest.mark.parametrize("name", NEEDED)
def test_without_a_program_nothing_is_made(ci, name):
    status, told, made = ci([other for other in NEEDED if other != name])
    assert (status, made) == (1, [])
    assert told.startswith(f"not on PATH: {name}; install coq ") and "ALLOW_MISSING=1" in told


def test_what_is_missing_may_be_allowed(ci):
    status, told, made = ci(["coqc"], ALLOW_MISSING="1")
    assert (status, made) == (0, TARGETS) and told.startswith(
        "not on PATH: chromedriver, chromium;"
    )


def test_another_value_allows_nothing(ci):
    assert ci(["coqc"], ALLOW_MISSING="0")[::2] == (1, [])


def test_root_installs_what_is_missing(ci):
    installs = INSTALLS.format("coqc chromium")
    expected = 0, "", ["apt-get update", "apt-get install", *TARGETS]
    assert ci(["chromedriver"], user=0, apt_get=installs) == expected


def test_an_installation_that_leaves_a_program_out_is_not_enough(ci):
    status, told, made = ci([], user=0, apt_get=INSTALLS.format("coqc chromium"))
    assert (status, made) == (1, ["apt-get update", "apt-get install"])
    assert told.startswith("not on PATH: chromedriver; install")
