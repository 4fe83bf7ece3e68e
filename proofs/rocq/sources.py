"""What the source files of this folder may say. Needs no ``coqc``.

Three kinds of files, from the freest to the strictest:
- files of lemmas: the commands of ``LEMMA_COMMANDS``, assumptions only inside a section;
- ``Statements.v``: definitions and local notations over the standard libraries, no proofs;
- ``Main.v``: imports, and for each name ``Theorem NAME : Statements.NAME. Proof. exact TERM. Qed.``

A command that is not listed is refused, whatever it does: whoever needs one adds it here, in view.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

STANDARD_LIBRARIES = {"Coq", "mathcomp", "Coquelicot"}
STATEMENTS, MAIN = "Statements.v", "Main.v"

_SECTION_ONLY = {"Variable", "Variables", "Hypothesis", "Hypotheses", "Context"}
_SHARED = {"From", "Set", "Unset", "Open", "Notation", "Section", "End", "Definition", "Fixpoint"}
STATEMENT_COMMANDS = _SHARED | {"Variable", "Variables"}
LEMMA_COMMANDS = (
    _SHARED
    | _SECTION_ONLY
    | {"Implicit", "Let", "Lemma", "Theorem", "Corollary", "Proposition", "Fact", "Remark"}
    | {"Canonical", "Arguments", "Hint", "Ltac", "Proof", "Qed", "Defined"}
)
OPTIONS = {
    "Set Implicit Arguments",
    "Unset Strict Implicit",
    "Unset Printing Implicit Defensive",
}
# Refused wherever it stands, also where a sentence was not recognised as a command.
_FORBIDDEN = re.compile(
    r"\b(Admitted|admit|give_up|Abort|Admit\s+Obligations|Axioms?|Parameters?|Conjectures?|Primitive"
    r"|bypass_check|exact_no_check|vm_cast_no_check|native_cast_no_check"
    r"|(?:Guard|Positivity|Universe)\s+Checking|Declare|Module|Load|Extraction|Redirect|Time)\b"
)
# A notation makes tokens of its symbols. Of these none may hide a comment, a string or the end of a sentence.
_SYMBOLS = re.compile(r"(?:[^(*.]|(?<!\S)[(*](?!\S))*")
# What may stand before a command: bullets, braces, goal selectors, locality.
_PREFIX = re.compile(
    r"^(?:\s|[-+*{}]|(?:[\d\s,-]+|\[\w+\]|!|all|par)\s*:|#\[\s*(?:local|global|export)\s*\]"
    r"|\b(?:Local|Global)\b)*"
)
_IMPORT = re.compile(r"From (\S+) Require(?: (Import|Export))?((?: [A-Z]\w*| [a-z]\w*)+)")
_HEADLINE = re.compile(r"([A-Z]\d+)_[\w']+")
_DOCUMENTED = re.compile(
    r"\(\*\*\s(?P<words>(?:(?!\*\)).)*?)\s*\*\)\s*Definition\s+(?P<name>[\w']+)\b", re.DOTALL
)


class AuditError(Exception):
    """The proofs do not compile, are incomplete, or assume more than they may."""


@dataclass(frozen=True)
class Headline:
    """One trusted statement and the theorem of the same name that proves it."""

    name: str  #: its Rocq name, for example ``S2_coupling_gap``
    statement: str  #: the id of the statement of the catalogue, ``S2``
    words: str  #: what is stated, from the comment above it in ``Statements.v``
    proved_in: str  #: the file that holds the proof, ``SftThenRl.v``


@functools.cache
def strip(file: str, text: str) -> str:
    """Source without its (nested) comments, each replaced by a space, and with empty strings.

    What is a comment or a string for the prover depends on the tokens that notations and libraries have made: "<(*"
    is none after ``Notation "<( x"``. Behind a blank it does not.
    """
    if odd := re.search(r"[^\S \n]|[\u200b-\u200f\u2028-\u202e\ufeff]", text):
        raise AuditError(f"{file}: use plain spaces and line ends, not {odd[0]!r}")
    kept: list[str] = []
    depth = position = 0
    while position < len(text):
        two = text[position : position + 2]
        before = text[position - 1 : position]
        if depth == 0 and (two == "(*" or two[0] == '"') and before.strip():
            raise AuditError(f"{file}: put a space between {before!r} and {two!r}")
        if two == "(*":
            depth, position = depth + 1, position + 2
        elif two == "*)" and depth:
            depth, position = depth - 1, position + 2
            kept.append("" if depth else " ")
        elif text[position] == '"':
            end = text.find('"', position + 1)
            if end < 0:
                raise AuditError(f"{file}: a string is not closed")
            string = text[position + 1 : end]
            if depth == 0 and _SYMBOLS.fullmatch(string) is None:
                raise AuditError(f"{file}: put spaces around '(' and '*' in {string!r}, and no '.'")
            position = end + 1
            kept.append("" if depth else '""')
        else:
            kept.append("" if depth else text[position])
            position += 1
    if depth:
        raise AuditError(f"{file}: a comment is not closed")
    return "".join(kept)


def sentences(stripped: str) -> Iterator[str]:
    """The sentences of stripped source, words one space apart, without bullets and locality."""
    for sentence in re.split(r"\.(?=\s|$)", stripped):
        if plain := " ".join(_PREFIX.sub("", sentence).split()):
            yield plain


def _commands(file: str, text: str, allowed: set[str], library: str) -> Iterator[str]:
    """The sentences of a file; raises at what no file may contain and at commands not allowed here."""
    stripped = strip(file, text)
    if found := _FORBIDDEN.search(stripped):
        raise AuditError(f"{file}: {found[0]} is not allowed")
    open_sections: list[str] = []
    for sentence in sentences(stripped):
        words = sentence.split()
        command = words[0]
        if not (command[0].isupper() or command[0] == "#"):
            yield sentence  # a tactic
            continue
        if command not in allowed:
            raise AuditError(
                f"{file}: the command {command} is not allowed here: {sentence[:80]!r}"
            )
        if command == "From":
            _check_import(file, sentence, library)
        elif command in ("Set", "Unset") and sentence not in OPTIONS:
            raise AuditError(f"{file}: the option {sentence!r} is not allowed")
        elif command == "Section":
            open_sections.append(words[1])
        elif command == "End" and open_sections and open_sections[-1] == words[1]:
            open_sections.pop()
        elif command in _SECTION_ONLY and not open_sections:
            raise AuditError(f"{file}: {command} outside a section is an axiom: {sentence!r}")
        yield sentence


def _check_import(file: str, sentence: str, library: str) -> None:
    found = _IMPORT.fullmatch(sentence)
    known = STANDARD_LIBRARIES | ({library} if file != STATEMENTS else set())
    if found is None or found[1] not in known:
        raise AuditError(
            f"{file}: {sentence!r} is not 'From LIBRARY Require FILES' of {', '.join(sorted(known))}"
        )


def check_lemmas(file: str, text: str, library: str) -> None:
    """Raise if a file of lemmas leaves a proof open, postulates something or runs an odd command."""
    for _ in _commands(file, text, LEMMA_COMMANDS, library):
        pass


def trusted_statements(text: str, library: str) -> dict[str, str]:
    """Name -> words of the headline statements in the text of ``Statements.v``."""
    documented = {match["name"]: match["words"] for match in _DOCUMENTED.finditer(text)}
    found: dict[str, str] = {}
    for sentence in _commands(STATEMENTS, text, STATEMENT_COMMANDS, library):
        words = sentence.split()
        if words[0] != "Definition" or _HEADLINE.fullmatch(name := words[1]) is None:
            continue
        if words[2:5] != [":", "Prop", ":="]:
            raise AuditError(
                f"{STATEMENTS}: write 'Definition {name} : Prop := ...', without arguments"
            )
        if name in found:
            raise AuditError(f"{STATEMENTS}: {name} is there twice")
        id_ = statement_id(name)
        if not re.match(rf"{id_}\b", documented.get(name, "")):
            raise AuditError(
                f"{STATEMENTS}: {name} needs a comment above it that begins with {id_}"
            )
        found[name] = re.sub(rf"^{id_}\.?\s*", "", " ".join(documented[name].split()))
    return found


def proved_theorems(text: str, library: str) -> dict[str, str]:
    """Name -> file of the proof of the theorems in the text of ``Main.v``."""
    proved: dict[str, str] = {}
    pending: list[str] = []
    for sentence in _commands(MAIN, text, {"From", "Theorem", "Proof", "Qed"}, library):
        if sentence.startswith("From ") and not proved and not pending:
            imported = _IMPORT.fullmatch(sentence)
            if imported is None or imported[2]:
                raise AuditError(f"{MAIN}: require without importing: {sentence!r}")
            continue
        pending.append(sentence)
        if sentence != "Qed":
            continue
        form = re.fullmatch(
            r"Theorem (?P<name>[\w']+) : Statements\.(?P=name)\nProof\nexact (?P<term>.*)\nQed",
            "\n".join(pending),
        )
        if form is None:
            raise AuditError(
                f"{MAIN}: {'. '.join(pending)!r} is not of the form "
                "'Theorem NAME : Statements.NAME. Proof. exact TERM. Qed.'"
            )
        if form["name"] in proved:
            raise AuditError(f"{MAIN}: {form['name']} is there twice")
        files = re.findall(r"\b([A-Z]\w*)\.\w", form["term"])
        proved[form["name"]] = f"{files[0]}.v" if files else MAIN
        pending = []
    if pending:
        raise AuditError(f"{MAIN}: {'. '.join(pending)!r} does not end in Qed")
    return proved


def statement_id(name: str) -> str:
    """The id that a theorem's name begins with."""
    found = _HEADLINE.fullmatch(name)
    if found is None:
        raise AuditError(f"the name {name} does not begin with a statement id such as S2_")
    return found[1]
