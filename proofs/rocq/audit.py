"""Build and audit the machine-checked proofs of this folder.

    python -m proofs.rocq.audit             theorems by statement id, axioms, time
    python -m proofs.rocq.audit --coqchk    also re-check the compiled proofs with the independent checker
    python -m proofs.rocq.audit --keep      keep what is compiled for ``pytest proofs``, as ``make setup`` does
    python -m proofs.rocq.audit --json      the same report for programs
    python -m proofs.rocq.audit --markdown  the table of docs/rocq.md (needs no coqc)

What is trusted: this file and ``sources.py``, the propositions of ``Statements.v``, the names of
``headline.txt`` and the axioms of ``axioms.txt``. Everything else may be written by an adversary. The audit
compiles a copy of the sources in a temporary directory and accepts only if
- every file keeps to the commands that ``sources.py`` allows it (no assumption, no open proof),
- ``headline.txt``, ``Statements.v`` and ``Main.v`` list the same names in the same order,
- ``Statements.v`` compiles alone, before any other file of the development exists,
- every other file compiles, and each theorem of ``Main.v`` has its trusted proposition as its type,
- everything in all files, used by a theorem or not, rests on no axiom other than those of ``axioms.txt``,
  compared by full name and type.

Which statement a theorem proves is read off its name: ``S2_coupling_gap`` belongs to ``S2``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

from nondecoupling.deciding.decisions import Decision, report
from nondecoupling.theory.assurance import Assurance
from proofs.rocq import sources
from proofs.rocq.kept import Kept, libraries
from proofs.rocq.sources import MAIN, STATEMENTS, AuditError, Headline

HERE = Path(__file__).resolve().parent
KEPT = HERE.parents[1] / "build" / "rocq"
DEBIAN_PACKAGES = "coq libcoq-mathcomp-ssreflect libcoq-coquelicot"

CHECK, QUESTIONS = "Check.v", "Audit.v"  # the audit's own files, written next to the development
_FILE = re.compile(r"[A-Z]\w*\.v")
_AXIOM_LINE = re.compile(r"^([A-Za-z_][\w.']*) : (.*)$")


class CoqMissing(AuditError):
    """There is no ``coqc`` on PATH, so nothing was checked."""


@dataclass(frozen=True)
class AuditReport:
    """What an accepted audit established."""

    theorems: dict[str, list[str]]  #: statement id -> Rocq theorem names
    axioms: list[str]  #: everything the development rests on beyond the logic itself, by full name
    seconds: float  #: wall time of the build and the audit
    coq_version: str


@dataclass(frozen=True)
class Project:
    """What ``_CoqProject`` says: the library's name, the options of coqc, the files in order."""

    library: str
    options: list[str]
    files: list[str]

    @property
    def lemma_files(self) -> list[str]:
        return [file for file in self.files if file not in (STATEMENTS, MAIN)]


def audit(
    source: Path = HERE, *, coqchk: bool = False, timeout: float = 600, kept: Path | None = None
) -> AuditReport:
    """Compile a copy of the development in ``source`` and audit it.

    ``timeout`` (seconds) bounds the whole audit; ``coqchk`` also runs Coq's independent checker over the
    compiled proofs and all the libraries that they use, which takes minutes. With ``kept``, a folder, files that
    were compiled before from the same input are taken from there; the rest of the audit is made all the same.

    Raises ``CoqMissing`` if ``coqc`` is not on PATH and ``AuditError`` if anything is wrong.
    """
    started = time.monotonic()
    deadline = started + timeout
    project = read_project(source)
    listed = check_sources(source)
    golden = dict(_split_axiom(line) for line in _read_list(source / "axioms.txt"))
    if shutil.which("coqc") is None:
        raise CoqMissing(f"coqc is not on PATH; on Debian: apt-get install {DEBIAN_PACKAGES}")
    version = _run(["coqc", "--print-version"], source, deadline, "coqc has no version")
    where = Path(_run(["coqc", "-where"], source, deadline, "coqc -where fails").strip())
    _refuse_standard_names(project.files, where)
    prover = [version, str(where), project.library, *project.options]
    store = None if kept is None else Kept(kept, [*prover, libraries(where)])

    with tempfile.TemporaryDirectory(prefix="rocq-audit-") as folder:
        build = Path(folder)
        # The trusted statements first, where nothing else exists that could change their meaning.
        shutil.copy(source / STATEMENTS, build)
        failure = f"{STATEMENTS} does not compile on its own"
        _compile_file(build, project, STATEMENTS, (), store, deadline, failure)
        for file in project.files:
            if file != STATEMENTS:
                shutil.copy(source / file, build)
        _compile(build, project, store, deadline)
        _check_theorems(build, project, [headline.name for headline in listed], deadline)
        axioms = _axioms(build, project, deadline)
        if foreign := [f"{a} : {t}" for a, t in axioms.items() if golden.get(a) != t]:
            raise AuditError(f"axioms outside axioms.txt: {'; '.join(foreign)}")
        if coqchk:
            command = ["coqchk", "-silent", "-Q", ".", project.library, f"{project.library}.Main"]
            _run(command, build, deadline, "coqchk rejects the compiled proofs")

    theorems: dict[str, list[str]] = {}
    for headline in listed:
        theorems.setdefault(headline.statement, []).append(headline.name)
        report(Decision(Assurance.MACHINE_CHECKED, headline.statement, headline.name))
    return AuditReport(theorems, sorted(axioms), time.monotonic() - started, version.split()[0])


def check_sources(source: Path = HERE) -> list[Headline]:
    """What the sources say, checked as far as that needs no ``coqc``; returns the headline theorems."""
    project = read_project(source)
    for file in project.lemma_files:
        sources.check_lemmas(file, _read(source / file), project.library)
    return headlines(source)


def headlines(source: Path = HERE) -> list[Headline]:
    """The headline theorems in order: the same in the golden list, ``Statements.v`` and ``Main.v``."""
    library = read_project(source).library
    stated = sources.trusted_statements(_read(source / STATEMENTS), library)
    proved = sources.proved_theorems(_read(source / MAIN), library)
    golden = _read_list(source / "headline.txt")
    for name in golden:
        sources.statement_id(name)
    for file, names in ((STATEMENTS, list(stated)), (MAIN, list(proved))):
        _compare_with_golden_list(file, names, golden)
    return [
        Headline(name, sources.statement_id(name), stated[name], proved[name]) for name in golden
    ]


def theorem_table(source: Path = HERE) -> str:
    """A Markdown table of the headline theorems, for the documentation. Needs no ``coqc``."""
    rows = [
        "| Statement | Rocq theorem | What is proved | Proof |",
        "|---|---|---|---|",
    ]
    for headline in headlines(source):
        words = re.sub(r"([|*_>\\])", r"\\\1", headline.words).replace("<", "&lt;")
        rows.append(
            f"| {headline.statement} | `{headline.name}` | {words} | `{headline.proved_in}` |"
        )
    return "\n".join(rows) + "\n"


def read_project(source: Path = HERE) -> Project:
    """What ``_CoqProject`` says; it may map this folder to one name and choose warnings, no more."""
    lines = _read_list(source / "_CoqProject")
    files = [line for line in lines if not line.startswith("-")]
    maps = [line for line in lines if line.startswith("-Q")]
    mapped = re.fullmatch(r"-Q \. ([A-Z]\w*)", maps[0]) if len(maps) == 1 else None
    if mapped is None or mapped[1] in sources.STANDARD_LIBRARIES:
        raise AuditError(f"_CoqProject must map this folder once, by '-Q . NAME', not {maps}")
    library = mapped[1]
    arguments = [
        line.removeprefix("-arg ").strip()
        for line in lines
        if line.startswith("-") and line not in maps
    ]
    warnings = len(arguments) == 2 and re.fullmatch(r"-w [-+a-z,]+", " ".join(arguments))
    if arguments and not warnings:
        raise AuditError(
            f"_CoqProject may pass '-arg -w' and '-arg WARNINGS' only, not {' '.join(arguments)!r}"
        )
    options = ["-Q", ".", library, *arguments]
    present = {path.name for path in source.glob("*.v")}
    if odd := [file for file in files if not _FILE.fullmatch(file) or file in (CHECK, QUESTIONS)]:
        raise AuditError(f"_CoqProject lists {', '.join(odd)}: choose another name, like Sums.v")
    if len(set(files)) != len(files):
        raise AuditError("_CoqProject lists a file twice")
    if unlisted := sorted(present - set(files)):
        raise AuditError(f"_CoqProject does not list {', '.join(unlisted)}")
    if absent := sorted(set(files) - present):
        raise AuditError(f"_CoqProject lists files that do not exist: {', '.join(absent)}")
    for needed in (STATEMENTS, MAIN):
        if needed not in files:
            raise AuditError(f"_CoqProject does not list {needed}")
    return Project(library, options, files)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8")  # line ends as they are: the prover sees them too


def _read_list(path: Path) -> list[str]:
    """The lines of a file, without blank lines and ``#`` comments."""
    lines = (line.strip() for line in _read(path).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _split_axiom(line: str) -> tuple[str, str]:
    name, separator, type_ = line.partition(" : ")
    if not separator:
        raise AuditError(f"axioms.txt: {line!r} is not 'FULL.NAME : TYPE'")
    return name, type_


def _compare_with_golden_list(file: str, names: Sequence[str], golden: Sequence[str]) -> None:
    if missing := [name for name in golden if name not in names]:
        raise AuditError(f"headline theorems missing from {file}: {', '.join(missing)}")
    if unlisted := [name for name in names if name not in golden]:
        raise AuditError(f"theorems of {file} not listed in headline.txt: {', '.join(unlisted)}")
    if not names:
        raise AuditError(f"{file} has no theorem")
    if list(names) != list(golden):
        raise AuditError(
            f"headline.txt and {file} list the same theorems in another order or twice"
        )


def _refuse_standard_names(files: Iterable[str], where: Path) -> None:
    """Axioms and imports are named by file: a local Classical_Prop.v could stand in for Coq's."""
    standard = {path.stem for path in where.rglob("*.vo")}
    if not standard:
        raise AuditError(f"no standard library under {where}")
    if taken := [file for file in files if Path(file).stem in standard]:
        raise AuditError(f"named like a file of the standard libraries: {', '.join(taken)}")


def _compile(build: Path, project: Project, store: Kept | None, deadline: float) -> None:
    """Compile all but the statements, several at a time, each after the files that it requires."""
    named = re.compile(rf"From {project.library} Require\s+(?:Import\s+|Export\s+)?([^.]*)\.")
    required: dict[str, set[str]] = {STATEMENTS: set()}
    for file in project.files:
        if file == STATEMENTS:
            continue
        text = sources.strip(file, _read(build / file))
        names = {f"{name}.v" for match in named.finditer(text) for name in match[1].split()}
        required[file] = names & set(required)
    waiting = {file: names for file, names in required.items() if file != STATEMENTS}
    compiled = {STATEMENTS}
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as workers:
        while waiting or running:
            for file in [file for file, names in waiting.items() if names <= compiled]:
                task = (build, project, file, waiting.pop(file), store, deadline)
                running[workers.submit(_compile_file, *task, f"{file} does not compile")] = file
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                done.result()
                compiled.add(running.pop(done))


def _compile_file(
    build: Path,
    project: Project,
    file: str,
    required: Iterable[str],
    store: Kept | None,
    deadline: float,
    failure: str,
) -> None:
    """Compile one file, or take what coqc made of the same before."""
    if store is not None and store.take(build, file, required):
        return
    _run(["coqc", *project.options, file], build, deadline, failure)
    if store is not None:
        store.keep(build, file)


def _check_theorems(build: Path, project: Project, names: Sequence[str], deadline: float) -> None:
    """Each theorem of Main.v, taken by its full name, has its trusted proposition as its type."""
    library = project.library
    lines = [f"From {library} Require Statements Main."]
    lines += [
        f"Definition checked_{name} : {library}.Statements.{name} := @{library}.Main.{name}."
        for name in names
    ]
    _run_source(build, project, CHECK, lines, deadline, "a theorem is not its trusted statement")


def _axioms(build: Path, project: Project, deadline: float) -> dict[str, str]:
    """Full name -> type of every axiom under anything in the files, whether a theorem uses it or not."""
    modules = [f"{project.library}.{Path(file).stem}" for file in project.files]
    require = f"From {project.library} Require {' '.join(Path(f).stem for f in project.files)}."
    width = "Set Printing Width 100000."

    def ask(*questions: str) -> str:
        failure = "the audit's own questions do not compile"
        return _run_source(
            build, project, QUESTIONS, [require, width, *questions], deadline, failure
        )

    listing = ask("Set Short Module Printing.", *(f"Print Module {module}." for module in modules))
    everything = _constants(listing, modules)
    # Not a tuple, whose type would be written out again at each of its pairs: a thousand of them take 40 s.
    bindings = " ".join(f"let _ := @{name} in" for name in everything)
    printed = _parse_assumptions(
        ask(f"Definition everything := {bindings} tt.", "Print Assumptions everything.")
    )
    if not printed:
        return {}
    about = ask(*(f"About {name}." for name in printed))
    full = re.findall(r"^Expands to: Constant ([\w.']+)$", about, re.MULTILINE)
    if len(full) != len(printed):
        raise AuditError(f"cannot read the full names of {', '.join(printed)}")
    return dict(zip(full, printed.values(), strict=True))


def _constants(listing: str, modules: Sequence[str]) -> list[str]:
    """The full names of what modules hold, from the output of ``Print Module``."""
    bodies = re.findall(
        r"^Module \S+\s*:=\s*Struct\s(.*?)\s?End$", listing, re.MULTILINE | re.DOTALL
    )
    if len(bodies) != len(modules):
        raise AuditError(f"cannot read what the files hold: {listing[-500:]!r}")
    found = []
    for module, body in zip(modules, bodies, strict=True):
        words = body.split()
        for kind, name in zip(words[::2], words[1::2], strict=True):
            if kind not in ("Parameter", "Definition", "Theorem"):
                raise AuditError(f"{module}: unexpected {kind} {name}")
            found.append(f"{module}.{name}")
    return found


def _parse_assumptions(output: str) -> dict[str, str]:
    """Name -> type of the axioms in the output of ``Print Assumptions``, printed without line breaks."""
    lines = [line for line in output.splitlines() if line.strip()]
    if any(line.startswith("Closed under the global context") for line in lines):
        return {}
    if "Axioms:" not in lines:
        raise AuditError(f"cannot read the assumptions in: {output[-500:]!r}")
    axioms = {}
    for line in lines[lines.index("Axioms:") + 1 :]:
        match = _AXIOM_LINE.match(line)
        if match is None:
            raise AuditError(f"unexpected assumption: {line}")
        axioms[match[1]] = match[2]
    return axioms


def _run_source(
    build: Path,
    project: Project,
    file: str,
    lines: Sequence[str],
    deadline: float,
    failure: str,
) -> str:
    """Compile lines of the audit's own next to the development and return what is printed."""
    (build / file).write_text("\n".join([*lines, ""]), encoding="utf-8")
    return _run(["coqc", *project.options, file], build, deadline, failure)


def _run(command: Sequence[str], folder: Path, deadline: float, failure: str) -> str:
    """Run a command in ``folder`` and return its output; raise with its last lines if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=max(0.01, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AuditError(f"{' '.join(command)}: out of time") from error
    except FileNotFoundError as error:
        raise CoqMissing(
            f"{command[0]} is not on PATH; on Debian: apt-get install {DEBIAN_PACKAGES}"
        ) from error
    if done.returncode != 0:
        raise AuditError(f"{failure}:\n{done.stdout[-3000:]}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build and audit the machine-checked proofs.")
    parser.add_argument(
        "--coqchk", action="store_true", help="also run the independent checker (minutes)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="take compiled files that were kept, and keep the others"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table of docs/rocq.md and stop"
    )
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for the whole audit")
    options = parser.parse_args(arguments)
    try:
        if options.markdown:
            print(theorem_table(), end="")
            return 0
        kept = KEPT if options.keep else None
        found = audit(coqchk=options.coqchk, timeout=options.timeout, kept=kept)
    except AuditError as error:
        print(f"audit failed: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(asdict(found), indent=2))
        return 0
    for statement, names in found.theorems.items():
        print(f"{statement:4}", *names)
    print("axioms:", *found.axioms)
    count = sum(map(len, found.theorems.values()))
    print(
        f"{count} theorems for {len(found.theorems)} statements, {found.seconds:.1f} s, Coq {found.coq_version}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
