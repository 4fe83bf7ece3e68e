"""Build and audit the machine-checked proofs of this folder.

    python proofs/rocq/audit.py             theorems by statement id, axioms, time
    python proofs/rocq/audit.py --coqchk    also re-check the compiled proofs with the independent checker
    python proofs/rocq/audit.py --json      the same report for programs
    python proofs/rocq/audit.py --markdown  the table of docs/rocq.md (needs no coqc)

The audit compiles a copy of the sources in a temporary directory and accepts only if
- no source leaves a proof open or assumes something (``Admitted``, ``Axiom``, ``Parameter``, ...),
- the theorems of ``Main.v`` are exactly those listed in ``headline.txt``,
- every file compiles (``Main.v`` restates each theorem, so a statement that drifted stops here),
- all headline theorems together rest on no axiom outside ``axioms.txt``.

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
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEBIAN_PACKAGES = "coq libcoq-mathcomp-ssreflect libcoq-coquelicot"

_STATEMENT_ID = re.compile(r"^([A-Z]\d+)_")
_THEOREM = re.compile(r"\b(?:Theorem|Lemma|Corollary|Proposition|Fact|Remark)\s+([\w']+)")
_DOCUMENTED_THEOREM = re.compile(
    r"\(\*\*\s(?P<words>(?:(?!\*\)).)*?)\s*\*\)\s*Theorem\s+(?P<name>[\w']+)\b"
    r"(?P<body>.*?)\bQed\.",
    re.DOTALL,
)
_FORBIDDEN = re.compile(
    r"\b(Admitted|admit|give_up|Admit\s+Obligations|Axioms?|Parameters?|Conjectures?|Primitive"
    r"|bypass_check|exact_no_check|vm_cast_no_check|native_cast_no_check"
    r"|(?:Guard|Positivity|Universe)\s+Checking|Declare\s+ML\s+Module|Declare\s+Module|Load)\b"
)
_SECTION_ONLY = {"Variable", "Variables", "Hypothesis", "Hypotheses", "Context"}
_COMMAND_PREFIX = re.compile(r"^(?:\s|#\[[^\]]*\]|[-+*{}]|\b(?:Local|Global|Polymorphic)\b)*")
_AXIOM_LINE = re.compile(r"^([A-Za-z_][\w.']*)(?:\s*:.*)?$")


class AuditError(Exception):
    """The proofs do not compile, are incomplete, or assume more than they may."""


class CoqMissing(AuditError):
    """There is no ``coqc`` on PATH, so nothing was checked."""


@dataclass(frozen=True)
class Headline:
    """One theorem of ``Main.v``."""

    name: str  #: its Rocq name, for example ``S2_coupling_gap``
    statement: str  #: the id of the statement that it proves, ``S2``
    words: str  #: what is proved, from the comment above it
    proved_in: str  #: the file that holds the proof, ``SftThenRl.v``


@dataclass(frozen=True)
class AuditReport:
    """What an accepted audit established."""

    theorems: dict[str, list[str]]  #: statement id -> Rocq theorem names
    axioms: list[str]  #: everything the theorems rest on beyond the logic itself
    seconds: float  #: wall time of the build and the audit
    coq_version: str


def audit(source: Path = HERE, *, coqchk: bool = False, timeout: float = 600) -> AuditReport:
    """Compile a copy of the development in ``source`` and audit it.

    ``timeout`` (seconds) bounds the whole audit; ``coqchk`` also runs Coq's independent checker over the
    compiled proofs and all the libraries that they use, which takes minutes.

    Raises ``CoqMissing`` if ``coqc`` is not on PATH and ``AuditError`` if anything is wrong.
    """
    deadline = time.monotonic() + timeout
    started = time.monotonic()
    options, files = _read_project(source)
    for file in files:
        _reject_assumptions(file, (source / file).read_text(encoding="utf-8"))
    names = [headline.name for headline in headlines(source)]
    _compare_with_golden_list(names, _read_list(source / "headline.txt"))
    if shutil.which("coqc") is None:
        raise CoqMissing(f"coqc is not on PATH; on Debian: apt-get install {DEBIAN_PACKAGES}")

    with tempfile.TemporaryDirectory(prefix="rocq-audit-") as folder:
        build = Path(folder)
        for file in files:
            shutil.copy(source / file, build / file)
        _compile(build, files, options, deadline)
        library = _library_name(options)
        (build / "Audit.v").write_text(_audit_source(library, names), encoding="utf-8")
        output = _run(
            ["coqc", *options, "Audit.v"], build, deadline, "the audit file does not compile"
        )
        axioms = _parse_assumptions(output)
        if foreign := sorted(set(axioms) - set(_read_list(source / "axioms.txt"))):
            raise AuditError(f"axioms outside axioms.txt: {', '.join(foreign)}")
        if coqchk:
            command = ["coqchk", "-silent", *_paths_only(options), f"{library}.Main"]
            _run(command, build, deadline, "coqchk rejects the compiled proofs")

    version = _run(
        ["coqc", "--print-version"], source, deadline + 60, "coqc has no version"
    ).split()[0]
    theorems: dict[str, list[str]] = {}
    for headline in headlines(source):
        theorems.setdefault(headline.statement, []).append(headline.name)
    return AuditReport(theorems, axioms, time.monotonic() - started, version)


def headlines(source: Path = HERE) -> list[Headline]:
    """The theorems of ``Main.v`` in order, with their statement ids and words. Needs no ``coqc``."""
    text = (source / "Main.v").read_text(encoding="utf-8")
    documented = {match["name"]: match for match in _DOCUMENTED_THEOREM.finditer(text)}
    found = []
    for name in _THEOREM.findall(_strip_comments_and_strings(text)):
        statement = _STATEMENT_ID.match(name)
        if statement is None:
            raise AuditError(
                f"Main.v: the name {name} does not begin with a statement id such as S2_"
            )
        match = documented.get(name)
        if match is None or not re.match(rf"{statement[1]}\b", match["words"]):
            raise AuditError(
                f"Main.v: {name} needs a comment above it that begins with {statement[1]}"
            )
        words = re.sub(rf"^{statement[1]}\.?\s*", "", " ".join(match["words"].split()))
        files = re.findall(r"\b([A-Z]\w*)\.\w", match["body"].rpartition("Proof.")[2])
        found.append(Headline(name, statement[1], words, f"{files[0]}.v" if files else "Main.v"))
    return found


def theorem_table(source: Path = HERE) -> str:
    """A Markdown table of the headline theorems, for the documentation. Needs no ``coqc``."""
    rows = [
        "| Statement | Rocq theorem in `Main.v` | What is proved | Proof |",
        "|---|---|---|---|",
    ]
    for headline in headlines(source):
        words = re.sub(r"([|*_<>\\])", r"\\\1", headline.words)
        rows.append(
            f"| {headline.statement} | `{headline.name}` | {words} | `{headline.proved_in}` |"
        )
    return "\n".join(rows) + "\n"


def _read_project(source: Path) -> tuple[list[str], list[str]]:
    """The coqc options and the files, in dependency order, of ``_CoqProject``."""
    options: list[str] = []
    files: list[str] = []
    for line in _read_list(source / "_CoqProject"):
        if line.startswith("-arg "):
            options.append(line.removeprefix("-arg ").strip())
        elif line.startswith("-"):
            options.extend(line.split())
        else:
            files.append(line)
    present = {path.name for path in source.glob("*.v")}
    if unlisted := sorted(present - set(files)):
        raise AuditError(f"_CoqProject does not list {', '.join(unlisted)}")
    if absent := sorted(set(files) - present):
        raise AuditError(f"_CoqProject lists files that do not exist: {', '.join(absent)}")
    if "Main.v" not in files:
        raise AuditError("_CoqProject does not list Main.v")
    if "-type-in-type" in options or "-impredicative-set" in options:
        raise AuditError("_CoqProject weakens the logic")
    return options, files


def _read_list(path: Path) -> list[str]:
    """The lines of a file, without blank lines and ``#`` comments."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _library_name(options: Sequence[str]) -> str:
    return options[options.index("-Q") + 2]


def _paths_only(options: Sequence[str]) -> list[str]:
    """The options that coqchk shares with coqc."""
    start = options.index("-Q")
    return list(options[start : start + 3])


def _strip_comments_and_strings(text: str) -> str:
    """Coq source without its (nested) comments and with empty strings."""
    kept: list[str] = []
    depth = position = 0
    while position < len(text):
        two = text[position : position + 2]
        if two == "(*":
            depth, position = depth + 1, position + 2
        elif two == "*)" and depth:
            depth, position = depth - 1, position + 2
        elif text[position] == '"':
            end = text.find('"', position + 1)
            position = len(text) if end < 0 else end + 1
            kept.append('""' if not depth else "")
        else:
            kept.append(text[position] if not depth else "")
            position += 1
    return "".join(kept)


def _sentences(text: str) -> Iterator[str]:
    """The commands of stripped Coq source, without bullets, attributes and locality."""
    for sentence in re.split(r"\.(?=\s|$)", text):
        yield _COMMAND_PREFIX.sub("", sentence).strip()


def _reject_assumptions(file: str, text: str) -> None:
    """Raise if the source leaves a proof open or postulates something."""
    stripped = _strip_comments_and_strings(text)
    if found := _FORBIDDEN.search(stripped):
        raise AuditError(f"{file}: {found[0]} is not allowed")
    open_blocks: list[tuple[str, str]] = []
    for sentence in _sentences(stripped):
        words = sentence.split(maxsplit=2)
        if len(words) < 2:
            continue
        if words[0] in ("Section", "Module"):
            open_blocks.append((words[0], words[1]))
        elif words[0] == "End" and open_blocks and open_blocks[-1][1] == words[1]:
            open_blocks.pop()
        elif words[0] in _SECTION_ONLY and not any(kind == "Section" for kind, _ in open_blocks):
            raise AuditError(f"{file}: {words[0]} outside a section is an axiom: {sentence!r}")


def _compare_with_golden_list(names: Sequence[str], golden: Sequence[str]) -> None:
    if missing := [name for name in golden if name not in names]:
        raise AuditError(f"headline theorems missing from Main.v: {', '.join(missing)}")
    if unlisted := [name for name in names if name not in golden]:
        raise AuditError(f"theorems of Main.v not listed in headline.txt: {', '.join(unlisted)}")
    if not names:
        raise AuditError("Main.v has no theorem")


def _compile(build: Path, files: Sequence[str], options: Sequence[str], deadline: float) -> None:
    """Compile the files, several at a time, each after the earlier files that it requires."""
    required = re.compile(
        rf"From {_library_name(options)} Require\s+(?:Import\s+|Export\s+)?([^.]*)\."
    )
    waiting: dict[str, set[str]] = {}
    for file in files:
        text = _strip_comments_and_strings((build / file).read_text(encoding="utf-8"))
        names = {f"{name}.v" for match in required.finditer(text) for name in match[1].split()}
        waiting[file] = names & set(waiting)
    compiled: set[str] = set()
    running: dict[Future[str], str] = {}
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as workers:
        while waiting or running:
            for file in [file for file, names in waiting.items() if names <= compiled]:
                command = ["coqc", *options, file]
                failure = f"{file} does not compile"
                running[workers.submit(_run, command, build, deadline, failure)] = file
                del waiting[file]
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                done.result()
                compiled.add(running.pop(done))


def _audit_source(library: str, names: Sequence[str]) -> str:
    """A Coq file that prints the assumptions of all headline theorems together."""
    everything = ", ".join(f"@Main.{name}" for name in names)
    return f"From {library} Require Main.\nDefinition headline := ({everything}, tt).\nPrint Assumptions headline.\n"


def _parse_assumptions(output: str) -> list[str]:
    """The axiom names in the output of ``Print Assumptions``."""
    lines = [line for line in output.splitlines() if line.strip()]
    if any(line.startswith("Closed under the global context") for line in lines):
        return []
    if "Axioms:" not in lines:
        raise AuditError(f"cannot read the assumptions in: {output[-500:]!r}")
    axioms = []
    for line in lines[lines.index("Axioms:") + 1 :]:
        if line[0].isspace():  # the continuation of a type
            continue
        match = _AXIOM_LINE.match(line)
        if match is None:
            raise AuditError(f"unexpected assumption: {line}")
        axioms.append(match[1])
    return sorted(axioms)


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
        report = audit(coqchk=options.coqchk, timeout=options.timeout)
    except AuditError as error:
        print(f"audit failed: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(asdict(report), indent=2))
        return 0
    for statement, names in report.theorems.items():
        print(f"{statement:4}", *names)
    print("axioms:", *report.axioms)
    count = sum(map(len, report.theorems.values()))
    print(
        f"{count} theorems for {len(report.theorems)} statements, {report.seconds:.1f} s, Coq {report.coq_version}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
