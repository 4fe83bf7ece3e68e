"""Rules of the repository, as tests. Each rule is also shown to fail where it is broken.

A rule takes the root of a checkout and the paths of its files, and returns what is wrong.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FOLDERS = {".ci", "docs", "experiments", "nondecoupling", "proofs", "tests"}
LARGEST = 2 * 2**20
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|opt|root|Users|work)/\w+")
# What torch brings for GPUs on some platforms; torch pins it itself.
PINNED_BY_TORCH = re.compile(r"^(cuda|nvidia)-")

# Not installed at its floor: the runner of tests, and torch, whose older builds bring gigabytes of GPU libraries:
# docs/install.md says what ran with torch 2.11.
NOT_AT_ITS_FLOOR = {"pytest-xdist", "torch"}
# What make lowest installs.
LOWEST_EXTRAS = ("plot", "proofs")

Rule = Callable[[Path, list[str]], list[str]]


def tracked_files() -> list[str]:
    """What is committed, or would be: git's list without the ignored files."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]


# --- the rules --------------------------------------------------------------------------------


def files_are_small(root: Path, files: list[str]) -> list[str]:
    sizes = {name: (root / name).stat().st_size for name in files}
    return [f"{name}: {size} bytes" for name, size in sizes.items() if size > LARGEST]


def top_level_folders_are_known(root: Path, files: list[str]) -> list[str]:
    return sorted({name.split("/")[0] for name in files if "/" in name} - FOLDERS)


def the_package_is_typed(root: Path, files: list[str]) -> list[str]:
    name = "nondecoupling/py.typed"
    return [] if name in files else [f"{name} is missing"]


def no_machine_paths(root: Path, files: list[str]) -> list[str]:
    problems = []
    for name in files:
        content = (root / name).read_bytes()
        if b"\0" not in content:
            found = MACHINE_PATH.findall(content.decode(errors="replace"))
            problems += [f"{name}: {path}" for path in sorted(set(found))]
    return problems


def pins(root: Path, file: str = "constraints.txt") -> dict[str, str]:
    lines = (root / file).read_text().splitlines()
    kept = (line.strip() for line in lines if line.strip() and not line.startswith("#"))
    return {canonicalize_name(re.split(r"[^\w.-]", line)[0]): line for line in kept}


def constraints_are_exact(root: Path, files: list[str]) -> list[str]:
    exact = re.compile(r"[\w.-]+==[\w.]+")
    return [line for line in pins(root).values() if not exact.fullmatch(line)]


def constraints_are_complete(root: Path, files: list[str]) -> list[str]:
    """Everything that the project and its extras need, as far as it is installed here."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    waiting = [Requirement(r) for group in (project["dependencies"], *extras) for r in group]
    pinned, seen, missing = pins(root), {(project["name"], "")}, set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in pinned and name != project["name"] and not PINNED_BY_TORCH.match(name):
            missing.add(name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                further = map(Requirement, metadata.requires(name) or [])
            except metadata.PackageNotFoundError:
                continue
            waiting += [r for r in further if not r.marker or r.marker.evaluate({"extra": extra})]
    return sorted(missing)


def lowest_versions_are_tested(root: Path, files: list[str]) -> list[str]:
    """``make lowest`` uses the very floors of pyproject.toml, for all that it installs."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {})
    listed = [
        *project["dependencies"],
        *(r for name in LOWEST_EXTRAS for r in extras.get(name, [])),
    ]
    pinned, problems = pins(root, "constraints-lowest.txt"), []
    for requirement in map(Requirement, listed):
        floors = [s.version for s in requirement.specifier if s.operator == ">="]
        line = pinned.get(canonicalize_name(requirement.name), "")
        if requirement.name not in NOT_AT_ITS_FLOOR and not (
            line and floors and Requirement(line).specifier.contains(floors[0])
        ):
            problems.append(f"{requirement}: {line or 'missing'}")
    return problems


def make_targets_exist(root: Path, files: list[str]) -> list[str]:
    """Every ``make`` command that the documents and CI name."""
    makefile = (root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    problems = []
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        named = re.findall(r"(?:^|`)make ([a-z-]+)", (root / name).read_text(), flags=re.MULTILINE)
        problems += [f"{name}: make {target}" for target in sorted(set(named) - targets)]
    return problems


# Files whose place and meaning Python or packaging tools fix.
UNLISTED = {"__init__.py", "__main__.py", "py.typed"}


def contributing_lists_the_package(root: Path, files: list[str]) -> list[str]:
    """CONTRIBUTING.md has one line per file and folder of the package, and no line too many."""
    text = (root / "CONTRIBUTING.md").read_text()
    block = re.search(r"^nondecoupling/\n((?:  .*\n)+)", text, flags=re.MULTILINE)
    assert block, "CONTRIBUTING.md has no layout"
    listed = {line.split()[0] for line in block[1].splitlines() if not line.startswith("   ")}
    parts = [name.split("/")[1:] for name in files if name.startswith("nondecoupling/")]
    there = {part[0] + ("/" if part[1:] else "") for part in parts} - UNLISTED
    return sorted(there ^ listed)


def packages_list_their_modules(root: Path, files: list[str]) -> list[str]:
    """The docstring of a package of the experiments has one line per module and folder in it."""
    problems = []
    for index in (name for name in files if re.match(r"experiments/.+/__init__\.py$", name)):
        folder = index.removesuffix("__init__.py")
        inside = {name.removeprefix(folder) for name in files if name.startswith(folder)}
        modules = {name.removesuffix(".py") for name in inside if re.fullmatch(r"\w+\.py", name)}
        folders = {name.split("/")[0] + "/" for name in inside if "/" in name}
        there = (modules | folders) - {"__init__"}
        text = (root / index).read_text()
        listed = set(re.findall(r"^([a-z_]+/?) +\S", text, flags=re.MULTILINE))
        problems += [f"{index}: {name}" for name in sorted(there ^ listed)]
    return problems


def versions_agree(root: Path, files: list[str]) -> list[str]:
    version = re.search(r'__version__ = "(.+)"', (root / "nondecoupling/__init__.py").read_text())
    assert version, "nondecoupling/__init__.py has no version"
    expected = {"CITATION.cff": f"version: {version[1]}\n", "CHANGELOG.md": f"## {version[1]}"}
    return [name for name, line in expected.items() if line not in (root / name).read_text()]


def ci_is_executable(root: Path, files: list[str]) -> list[str]:
    return [] if os.access(root / ".ci/run", os.X_OK) else [".ci/run is not executable"]


RULES: list[Rule] = [
    files_are_small,
    top_level_folders_are_known,
    the_package_is_typed,
    no_machine_paths,
    constraints_are_exact,
    constraints_are_complete,
    lowest_versions_are_tested,
    make_targets_exist,
    contributing_lists_the_package,
    packages_list_their_modules,
    versions_agree,
    ci_is_executable,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps(rule):
    assert rule(ROOT, tracked_files()) == []


# --- each rule can fail -----------------------------------------------------------------------

SOUND = {
    ".ci/run": "make test\n",
    "CHANGELOG.md": "## 1.2.3\n",
    "CITATION.cff": "version: 1.2.3\n",
    "CONTRIBUTING.md": "nondecoupling/\n  cli.py    the command\n             and more of it\n"
    "  kernels/  fast\n\n`make test`\n",
    "Makefile": "test:\n",
    "README.md": "    make test\nmake test\n",
    "constraints.txt": "# exact\npytest==9.0\niniconfig==2.0\npackaging==1.0\npluggy==1.0\n"
    "pygments==2.0\n",
    "constraints-lowest.txt": "# floors\npytest==8.0\n",
    "experiments/parts/__init__.py": '"""Parts.\n\nfirst   one\nmore/   others\n"""\n',
    "experiments/parts/first.py": "",
    "experiments/parts/more/deep.py": "",
    "nondecoupling/__init__.py": '__version__ = "1.2.3"\n',
    "nondecoupling/cli.py": "",
    "nondecoupling/kernels/fast.py": "",
    "nondecoupling/py.typed": "",
    "pyproject.toml": '[project]\nname = "sound"\ndependencies = ["pytest>=8"]\n',
}
BROKEN: list[tuple[Rule, dict[str, str], str]] = [
    (files_are_small, {"docs/big.bin": "x" * (LARGEST + 1)}, "docs/big.bin"),
    (top_level_folders_are_known, {"scripts/a.py": ""}, "scripts"),
    (no_machine_paths, {"docs/a.md": "see " + "/home" + "/someone/a"}, "docs/a.md"),
    (constraints_are_exact, {"constraints.txt": "torch>=2\n"}, "torch>=2"),
    (constraints_are_exact, {"constraints.txt": "torch==2.0+cpu\n"}, "+cpu"),
    (constraints_are_complete, {"constraints.txt": "pytest==9.0\n"}, "pluggy"),
    (lowest_versions_are_tested, {"constraints-lowest.txt": "pytest==8.1\n"}, "pytest==8.1"),
    (lowest_versions_are_tested, {"constraints-lowest.txt": "# none\n"}, "pytest>=8: missing"),
    (make_targets_exist, {"README.md": "run `make nonsense`\n"}, "make nonsense"),
    (contributing_lists_the_package, {"nondecoupling/new.py": ""}, "new.py"),
    (contributing_lists_the_package, {"CONTRIBUTING.md": "nondecoupling/\n  gone.py  x\n"}, "gone"),
    (packages_list_their_modules, {"experiments/parts/new.py": ""}, "parts/__init__.py: new"),
    (
        packages_list_their_modules,
        {"experiments/parts/__init__.py": '"""Parts.\n\nfirst  x\ngone   x\nmore/  x\n"""'},
        "gone",
    ),
    (versions_agree, {"CITATION.cff": "version: 1.2.30\n"}, "CITATION.cff"),
    (versions_agree, {"CHANGELOG.md": "## 1.2.2\n"}, "CHANGELOG.md"),
]


@pytest.fixture
def checkout(tmp_path):
    """Writes a small checkout that keeps every rule, changed as asked; returns root and files."""

    def write(changes: dict[str, str]) -> tuple[Path, list[str]]:
        contents = SOUND | changes
        for name, text in contents.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        (tmp_path / ".ci/run").chmod(0o755)
        return tmp_path, list(contents)

    return write


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_checkout_passes(rule, checkout):
    assert rule(*checkout({})) == []


@pytest.mark.parametrize(("rule", "changes", "named"), BROKEN)
def test_a_broken_rule_is_seen(rule, changes, named, checkout):
    assert any(named in problem for problem in rule(*checkout(changes)))


def test_a_missing_type_marker_is_seen(checkout):
    root, files = checkout({})
    assert the_package_is_typed(root, [name for name in files if not name.endswith("py.typed")])


def test_a_ci_script_that_cannot_run_is_seen(checkout):
    root, files = checkout({})
    (root / ".ci/run").chmod(0o644)
    assert ci_is_executable(root, files)


def test_every_rule_is_shown_to_fail():
    elsewhere = {the_package_is_typed, ci_is_executable}
    assert {rule for rule, _, _ in BROKEN} | elsewhere == set(RULES)


def test_the_python_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})
