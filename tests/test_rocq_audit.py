"""The audit of the machine-checked proofs accepts a sound development and refuses every forgery.

The development here is a tiny one, so that each test compiles in a few seconds. The real one is audited by
the test that records it in the ledger. What the sources alone give away is refused without ``coqc``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from proofs.rocq import audit as rocq
from proofs.rocq import sources
from proofs.rocq.audit import CoqMissing, audit, check_sources
from proofs.rocq.kept import Kept, libraries
from proofs.rocq.sources import AuditError

needs_coqc = pytest.mark.skipif(
    shutil.which("coqc") is None, reason=f"coqc is not on PATH (Debian: {rocq.DEBIAN_PACKAGES})"
)

STATEMENTS = """\
(** What is stated. *)
Set Implicit Arguments.

(** S1. Two facts are one pair. *)
Definition S1_pair : Prop := forall A B : Prop, A -> B -> A /\\ B.

(** S1 (turned). The same with the facts exchanged: A | B. *)
Definition S1_pair_turned : Prop := forall A B : Prop, B -> A -> A /\\ B.

(** R2. Excluded middle. *)
Definition R2_excluded_middle : Prop := forall A : Prop, A \\/ ~ A.
"""

LEMMAS = """\
(** Lemmas. *)
From Coq Require Import Classical_Prop.
Section Pairs.
Variable A B : Prop.
Hypothesis a : A.
Lemma pair_with (b : B) : A /\\ B.
Proof. exact (conj a b). Qed.
End Pairs.
Lemma excluded_middle (A : Prop) : A \\/ ~ A.
Proof. exact (classic A). Qed.
"""

MAIN = """\
(** The headline theorems. *)
From Tiny Require Statements Lemmas.

Theorem S1_pair : Statements.S1_pair.
Proof. exact (fun A B a b => @Lemmas.pair_with A B a b). Qed.

Theorem S1_pair_turned : Statements.S1_pair_turned.
Proof. exact (fun A B b a => @Lemmas.pair_with A B a b). Qed.

Theorem R2_excluded_middle : Statements.R2_excluded_middle.
Proof. exact Lemmas.excluded_middle. Qed.
"""

CLASSIC = "Coq.Logic.Classical_Prop.classic"


@pytest.fixture
def development(tmp_path: Path) -> Path:
    """A development of three files that passes the audit; the tests below spoil it."""
    files = "Statements.v\nLemmas.v\nMain.v\n"
    (tmp_path / "_CoqProject").write_text(f"-Q . Tiny\n-arg -w\n-arg none\n{files}")
    (tmp_path / "headline.txt").write_text("# names\nS1_pair\nS1_pair_turned\nR2_excluded_middle\n")
    (tmp_path / "axioms.txt").write_text(
        f"# classical logic\n{CLASSIC} : forall P : Prop, P \\/ ~ P\n"
    )
    (tmp_path / "Statements.v").write_text(STATEMENTS)
    (tmp_path / "Lemmas.v").write_text(LEMMAS)
    (tmp_path / "Main.v").write_text(MAIN)
    return tmp_path


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def add_file(development: Path, name: str, text: str) -> None:
    (development / name).write_text(text)
    spoil(development / "_CoqProject", "Lemmas.v", f"{name}\nLemmas.v")


@needs_coqc
def test_a_sound_development_is_accepted_and_left_alone(development: Path) -> None:
    before = sorted(path.name for path in development.iterdir())
    report = audit(development)
    assert report.theorems == {"S1": ["S1_pair", "S1_pair_turned"], "R2": ["R2_excluded_middle"]}
    assert report.axioms == [CLASSIC]
    assert report.seconds > 0
    assert report.coq_version[0].isdigit()
    assert sorted(path.name for path in development.iterdir()) == before


# --- what no file of lemmas may say -------------------------------------------------------------

PROVED = "Proof. exact (classic A). Qed."
BEFORE = "Lemma excluded_middle"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (PROVED, "Proof. Admitted.", "Admitted"),
        (PROVED, "Proof. admit. Qed.", "admit"),
        (PROVED, "Proof. give_up. Qed.", "give_up"),
        (PROVED, "Proof. Abort. Definition excluded_middle := I.", "Abort"),
        (BEFORE, f"Axiom stray : False.\n{BEFORE}", "Axiom"),
        (BEFORE, f"Axiom (**) stray : False.\n{BEFORE}", "Axiom"),
        (BEFORE, f"(**)Axiom stray : False.\n{BEFORE}", "Axiom"),
        (BEFORE, f"Unset Guard (**) Checking.\n{BEFORE}", r"Guard\s+Checking"),
        (BEFORE, f"Unset (* *) Universe (* *) Checking.\n{BEFORE}", "Universe"),
        (BEFORE, f"Unset Guard Checking.\n{BEFORE}", "Guard Checking"),
        (BEFORE, f"Set Universe Polymorphism.\n{BEFORE}", "option"),
        (BEFORE, f"#[bypass_check(guard)] Fixpoint f (n : nat) : False := f n.\n{BEFORE}", "bypass"),
        (BEFORE, f"#[program] Definition one := 1.\n{BEFORE}", r"command #\[program\]"),
        (BEFORE, f"Local Parameter stray : False.\n{BEFORE}", "Parameter"),
        (BEFORE, f"#[local] Conjecture stray : False.\n{BEFORE}", "Conjecture"),
        (BEFORE, f"Hypothesis stray : False.\n{BEFORE}", "Hypothesis outside"),
        (BEFORE, f"Variable stray : False.\n{BEFORE}", "Variable outside"),
        (BEFORE, f"Section S.\nEnd S.\nVariables stray : False.\n{BEFORE}", "Variables outside"),
        (BEFORE, f"#[global] Context (stray : False).\n{BEFORE}", "Context outside"),
        (BEFORE, f"Time Variable stray : False.\n{BEFORE}", "Time"),
        (BEFORE, f"Timeout 9 Variable stray : False.\n{BEFORE}", "command Timeout"),
        (BEFORE, f"Succeed Variable stray : False.\n{BEFORE}", "command Succeed"),
        (BEFORE, f"Declare Instance stray : False.\n{BEFORE}", "Declare"),
        (BEFORE, f"Existing Class False.\n{BEFORE}", "command Existing"),
        (BEFORE, f"Module M.\nVariable stray : False.\nEnd M.\n{BEFORE}", "Module"),
        (BEFORE, f"Module (**) Type M.\nEnd M.\n{BEFORE}", "Module"),
        (BEFORE, f"Inductive False := I.\n{BEFORE}", "command Inductive"),
        (BEFORE, f'Extraction "Statements" nat.\n{BEFORE}', "Extraction"),
        (BEFORE, f"Require Import Lia.\n{BEFORE}", "command Require"),
        (BEFORE, f"From Elsewhere Require Import Lia.\n{BEFORE}", "Elsewhere"),
        (PROVED, "Proof.\n- Hypothesis stray : False.\nQed.", "Hypothesis outside"),
        (PROVED, "Proof. 1: { Hypothesis stray : False. }\nQed.", "Hypothesis outside"),
        ("(** Lemmas. *)", "(* (* *) *) Axiom stray : False.", "Axiom"),
        ("(** Lemmas. *)", '(* "*)" *) Axiom stray : False.', "Axiom"),
        ("(** Lemmas. *)", "(* never closed", "comment is not closed"),
        ("(** Lemmas. *)", '(* " *)', "string is not closed"),
        (BEFORE, f"Definition one := 1.(* *)\n{BEFORE}", "a space between '.'"),
        (BEFORE, f"Definition one := <(* 1. *)\n{BEFORE}", "a space between '<'"),
        (BEFORE, f"Definition one := `(**) 1.\n{BEFORE}", "a space between '`'"),
        (BEFORE, f"Axiom(**)stray : False.\n{BEFORE}", "a space between 'm'"),
        (BEFORE, f'Definition one := <" 1. Fail one. "\n{BEFORE}', "a space between '<'"),
        (BEFORE, f'Notation "x <"" y" := x.\n{BEFORE}', """a space between '"'"""),
        (BEFORE, f'Notation "<( x" := x.\n{BEFORE}', r"put spaces around .* in '<\( x'"),
        (BEFORE, f'Notation "<(* x" := x.\n{BEFORE}', "put spaces around"),
        (BEFORE, f'Notation "*) x" := x.\n{BEFORE}', "put spaces around"),
        (BEFORE, f'Notation "(* x" := x.\n{BEFORE}', "put spaces around"),
        (BEFORE, f'Notation "<. x" := x.\n{BEFORE}', "put spaces around"),
        (PROVED, "Proof. 1: Print False. exact (classic A). Qed.", "command Print"),
        (PROVED, "Proof. all: Print False. exact (classic A). Qed.", "command Print"),
        (PROVED, "Proof. 1, 1-1: Print False. exact (classic A). Qed.", "command Print"),
        (PROVED, "Proof. !: Print False. exact (classic A). Qed.", "command Print"),
        (BEFORE, f"Axiom\u00a0stray : False.\n{BEFORE}", "plain spaces"),
        (BEFORE, f"Section S.\rVariable stray : False.\n{BEFORE}", "plain spaces"),
    ],
)  # fmt: skip
def test_holes_in_a_source_are_refused(development: Path, old: str, new: str, message: str) -> None:
    spoil(development / "Lemmas.v", old, new)
    with pytest.raises(AuditError, match=message):
        check_sources(development)


def test_words_in_comments_and_strings_are_not_holes(development: Path) -> None:
    spoil(development / "Lemmas.v", "(** Lemmas. *)", '(* Admitted (* Axiom *) "*)" Parameter *)')
    assert len(check_sources(development)) == 3


def test_notations_with_their_symbols_apart_are_fine(development: Path) -> None:
    notations = [f'Notation "{x}" := (x) (only parsing).' for x in ("<| x", "\\s_ ( x )", "* x")]
    spoil(development / "Lemmas.v", BEFORE, "\n".join([*notations, BEFORE]))
    assert len(check_sources(development)) == 3


@needs_coqc
def test_behind_a_blank_a_comment_is_one_whatever_the_tokens(development: Path) -> None:
    """The rule by which the sources are read: the prover sees these comments as the audit does."""
    hidden = 'Definition one := <| (* 1. Fail nothing. *) (1) (* "*)" *) . (* 2. *)'
    spoil(
        development / "Lemmas.v",
        BEFORE,
        f'Notation "<| x" := (x) (at level 9).\n{hidden}\n{BEFORE}',
    )
    assert audit(development).axioms == [CLASSIC]


def test_the_list_of_axioms_is_read_before_anything_is_compiled(
    development: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compiled could write to it."""
    commands: list[Sequence[str]] = []
    monkeypatch.setattr(rocq, "_run", lambda command, *_: commands.append(command))
    (development / "axioms.txt").write_text("no type")
    with pytest.raises(AuditError, match=r"axioms\.txt: 'no type'"):
        audit(development)
    assert commands == []


@pytest.mark.parametrize("word", ["Axiom (**)x", "Axiom (* a (* b *) *)x", "Axiom x"])
def test_a_comment_separates_words(word: str) -> None:
    assert sources.strip("A.v", word).split() == ["Axiom", "x"]


# --- what Main.v may say ------------------------------------------------------------------------

R2 = "Theorem R2_excluded_middle"
R2_PROVED = f"{R2} : Statements.R2_excluded_middle.\nProof. exact Lemmas.excluded_middle. Qed."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            R2_PROVED,
            f"{R2} : Statements.R2_excluded_middle.\nAbort.\nDefinition R2_excluded_middle := I.",
            "Abort",
        ),
        (R2_PROVED, "Definition R2_excluded_middle := I.", "command Definition"),
        (R2, f"Module M.\n{R2}", "Module"),
        (R2, f"Section S.\nHypothesis stray : False.\n{R2}", "command Section"),
        (R2, f"Hypothesis stray : False.\n{R2}", "command Hypothesis"),
        (R2, f"Variable stray : False.\n{R2}", "command Variable"),
        (R2, f"Inductive False := I.\n{R2}", "command Inductive"),
        (R2, f"Definition not (A : Prop) := A.\n{R2}", "command Definition"),
        (R2, f'Notation "A /\\ B" := True.\n{R2}', "command Notation"),
        (R2, f'Local Notation "~ A" := True.\n{R2}', "command Notation"),
        (R2, f'Local Notation "a <= b" := True.\n{R2}', "command Notation"),
        (R2, f"Set Universe Polymorphism.\n{R2}", "command Set"),
        (R2, f"From Tiny Require Import Lemmas.\n{R2}", "not of the form"),
        ("From Tiny Require Statements", "From Tiny Require Import Statements", "without importing"),
        (" : Statements.R2_excluded_middle", " : True", "not of the form"),
        (" : Statements.R2_excluded_middle", " : Statements.S1_pair", "not of the form"),
        (" : Statements.R2_excluded_middle", " : Lemmas.R2_excluded_middle", "not of the form"),
        (" : Statements.R2_excluded_middle", " (f : False) : Statements.R2_excluded_middle", "form"),
        ("exact Lemmas.excluded_middle.", "auto. exact Lemmas.excluded_middle.", "not of the form"),
        ("Proof. exact Lemmas.excluded_middle. Qed.", "Proof. exact Lemmas.excluded_middle.", "Qed"),
        (R2, f"Theorem S1_pair : Statements.S1_pair.\nProof. exact I. Qed.\n{R2}", "there twice"),
        (R2_PROVED, "", r"missing from Main\.v: R2_excluded_middle"),
        (R2_PROVED, f"(* {R2_PROVED} *)", r"missing from Main\.v: R2_excluded_middle"),
        ("R2_excluded_middle", "R2_renamed", r"missing from Main\.v: R2_excluded_middle"),
    ],
)  # fmt: skip
def test_main_holds_theorems_of_one_form_only(
    development: Path, old: str, new: str, message: str
) -> None:
    spoil(development / "Main.v", old, new)
    with pytest.raises(AuditError, match=message):
        check_sources(development)


# --- what Statements.v may say, and the golden list ---------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Set Implicit Arguments.", "From Tiny Require Lemmas.", "Tiny"),
        ("Set Implicit Arguments.", "Axiom stray : False.", "Axiom"),
        ("Set Implicit Arguments.", "Variable stray : False.", "outside a section"),
        ("Set Implicit Arguments.", "Lemma stray : True.\nProof. exact I. Qed.", "command Lemma"),
        ("S1_pair : Prop :=", "S1_pair (A : Prop) : Prop :=", "without arguments"),
        ("S1_pair : Prop :=", "S1_pair :=", "without arguments"),
        ("Definition S1_pair_turned", "Definition S1_pair", "S1_pair is there twice"),
        ("(** R2. Excluded middle. *)", "(** S2. Excluded middle. *)", "begins with R2"),
        ("(** R2. Excluded middle. *)", "", "comment above it that begins with R2"),
        ("Definition R2_excluded", "Definition excluded", r"missing from Statements\.v: R2"),
    ],
)
def test_trusted_statements_are_plain_documented_propositions(
    development: Path, old: str, new: str, message: str
) -> None:
    spoil(development / "Statements.v", old, new)
    with pytest.raises(AuditError, match=message):
        check_sources(development)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("R2_excluded_middle\n", "", r"not listed in headline\.txt: R2_excluded_middle"),
        ("# names", "P6_more", r"missing from Statements\.v: P6_more"),
        ("# names", "S1_pair", "in another order or twice"),
        ("S1_pair\nS1_pair_turned\n", "S1_pair_turned\nS1_pair\n", "in another order or twice"),
        ("# names", "everything", "does not begin with a statement id"),
    ],
)
def test_the_golden_list_is_the_list_of_theorems(
    development: Path, old: str, new: str, message: str
) -> None:
    spoil(development / "headline.txt", old, new)
    with pytest.raises(AuditError, match=message):
        check_sources(development)


def test_a_theorem_of_main_without_a_trusted_statement_is_refused(development: Path) -> None:
    """One more line in the golden list and one more theorem credit nothing."""
    spoil(development / "headline.txt", "# names\n", "P6_more\n")
    more = "Theorem P6_more : Statements.P6_more.\nProof. exact I. Qed.\n"
    spoil(development / "Main.v", "Theorem S1_pair :", f"{more}Theorem S1_pair :")
    with pytest.raises(AuditError, match=r"missing from Statements\.v: P6_more"):
        check_sources(development)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-arg none", "-arg none\n-arg -type-in-type", "not '-w none -type-in-type'"),
        ("-arg -w\n-arg none", "-arg -impredicative-set", "not '-impredicative-set'"),
        ("-arg -w\n-arg none", "-R elsewhere Coq", "not '-R elsewhere Coq'"),
        ("-Q . Tiny", "-Q . Coq", "must map this folder once"),
        ("-Q . Tiny", "-Q . Tiny\n-Q more More", "must map this folder once"),
        ("Lemmas.v", "Lemmas.v\nLemmas.v", "lists a file twice"),
        ("Lemmas.v", "../Lemmas.v", "choose another name"),
        ("Lemmas.v", "Check.v", "choose another name"),
        ("Lemmas.v", "Audit.v", "choose another name"),
        ("Lemmas.v\n", "", r"does not list Lemmas\.v"),
        ("Main.v", "Main.v\nMore.v", r"files that do not exist: More\.v"),
    ],
)
def test_the_project_file_weakens_nothing(
    development: Path, old: str, new: str, message: str
) -> None:
    spoil(development / "_CoqProject", old, new)
    with pytest.raises(AuditError, match=message):
        check_sources(development)


# --- what only the prover can tell --------------------------------------------------------------


@pytest.mark.slow  # the prover compiles
@needs_coqc
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(A : Prop) : A \\/ ~ A.\nProof. exact (classic A).", "(A : Prop) : True.\nProof. exact I."),
        (
            f"{BEFORE} (A : Prop) : A \\/ ~ A.\nProof. exact (classic A).",
            f'Notation "A \\/ B" := True : type_scope.\n{BEFORE} (A : Prop) : A \\/ ~ A.\nProof. exact I.',
        ),
        (
            f"{BEFORE} (A : Prop) : A \\/ ~ A.\nProof. exact (classic A).",
            "Definition not (A : Prop) := A -> True.\n"
            f"{BEFORE} (A : Prop) : A \\/ not A.\nProof. exact (or_intror (fun _ => I)).",
        ),
        (
            f"{BEFORE} (A : Prop) : A \\/ ~ A.\nProof. exact (classic A).",
            "Definition False := True.\n"
            f"{BEFORE} (A : Prop) : A \\/ (A -> False).\nProof. exact (or_intror (fun _ => I)).",
        ),
        (
            f"{BEFORE} (A : Prop) : A \\/ ~ A.\nProof. exact (classic A). Qed.",
            f"Section S.\nHypothesis h : False.\n{BEFORE} (A : Prop) : A \\/ ~ A.\n"
            "Proof. exact (False_ind _ h). Qed.\nEnd S.",
        ),
    ],
    ids=["weaker lemma", "or redefined", "not redefined", "False redefined", "hypothesis around"],
)  # fmt: skip
def test_what_a_lemma_file_redefines_proves_no_trusted_statement(
    development: Path, old: str, new: str
) -> None:
    spoil(development / "Lemmas.v", old, new)
    with pytest.raises(AuditError, match=r"Main\.v does not compile"):
        audit(development)


@pytest.mark.slow  # the prover compiles
@needs_coqc
@pytest.mark.parametrize(
    "main",
    [
        "Theorem T : True.\nProof. exact I. Qed.",
        'Notation "A /\\ B" := True : type_scope.\n'
        "Theorem T : forall A B : Prop, A -> B -> A /\\ B.\nProof. exact (fun _ _ _ _ => I). Qed.",
        "Section S.\nHypothesis h : False.\nTheorem T : Statements.S1_pair.\n"
        "Proof. exact (False_ind _ h). Qed.\nEnd S.",
        "Theorem T : False.\nAbort.\nDefinition T := I.",
        "Module Statements.\nDefinition S1_pair := True.\nEnd Statements.\n"
        "Theorem T : Statements.S1_pair.\nProof. exact I. Qed.",
    ],
    ids=["other type", "and redefined", "hypothesis", "abort", "module"],
)
def test_each_theorem_is_held_against_the_trusted_statement(
    development: Path, monkeypatch: pytest.MonkeyPatch, main: str
) -> None:
    """The second lock: the same forgeries of Main.v, with the reading of its source switched off."""
    monkeypatch.setattr(sources, "proved_theorems", lambda *_: {"S1_pair": "Main.v"})
    (development / "headline.txt").write_text("S1_pair\n")
    (development / "Statements.v").write_text(STATEMENTS.split("(** S1 (turned)")[0])
    renamed = main.replace("Theorem T", "Theorem S1_pair").replace(
        "Definition T", "Definition S1_pair"
    )
    (development / "Main.v").write_text(f"From Tiny Require Statements.\n{renamed}\n")
    with pytest.raises(AuditError, match="not its trusted statement"):
        audit(development)


@pytest.mark.slow  # the prover compiles
@needs_coqc
def test_trusted_statements_compile_alone(development: Path) -> None:
    """Even if its source were not read: nothing of the development exists when it is compiled."""
    spoil(development / "Statements.v", "A -> B -> A /\\ B", "A -> B -> A /\\ B /\\ Lemmas.more")
    with pytest.raises(AuditError, match=r"Statements\.v does not compile on its own"):
        audit(development)


@pytest.mark.slow  # the prover compiles
@needs_coqc
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_an_axiom_that_no_source_declares_is_refused(development: Path, used: bool) -> None:
    """The standard library has axioms too; whether a headline theorem needs one does not matter."""
    spoil(development / "Lemmas.v", "Classical_Prop.", "Classical_Prop IndefiniteDescription.")
    choice = (
        "destruct (constructive_indefinite_description "
        "(fun n : nat => n = n) (ex_intro _ 0 eq_refl))"
    )
    if used:
        spoil(development / "Lemmas.v", "exact (classic A)", f"{choice}; exact (classic A)")
    else:
        spoil(
            development / "Lemmas.v",
            BEFORE,
            f"Lemma unused : True.\nProof. {choice}; exact I. Qed.\n{BEFORE}",
        )
    with pytest.raises(
        AuditError, match=r"outside axioms\.txt.*constructive_indefinite_description"
    ):
        audit(development)


@pytest.mark.slow  # the prover compiles
@needs_coqc
@pytest.mark.parametrize(
    "golden",
    [
        "",
        "Classical_Prop.classic : forall P : Prop, P \\/ ~ P\n",
        f"{CLASSIC} : forall P : Prop, P\n",
    ],
    ids=["not listed", "short name", "another type"],
)
def test_axioms_are_compared_by_full_name_and_type(development: Path, golden: str) -> None:
    (development / "axioms.txt").write_text(golden)
    with pytest.raises(AuditError, match=rf"outside axioms\.txt: {CLASSIC} : forall P"):
        audit(development)


@needs_coqc
@pytest.mark.parametrize("name", ["Classical_Prop.v", "Reals.v", "ssreflect.v"])
def test_no_file_is_named_like_a_standard_one(development: Path, name: str) -> None:
    add_file(development, name, "Lemma classic (P : Prop) : True.\nProof. exact I. Qed.\n")
    with pytest.raises(AuditError, match=r"named like a file of the standard|another name"):
        audit(development)


@pytest.mark.slow  # the prover compiles
@needs_coqc
def test_what_has_not_changed_is_not_compiled_again(
    development: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path_factory.mktemp("kept")
    compiled: list[str] = []
    run = rocq._run

    def watched(command: Sequence[str], *rest: Any) -> str:
        compiled.append(command[-1])
        return run(command, *rest)

    def files() -> list[str]:
        found = [name for name in compiled if name in ("Statements.v", "Lemmas.v", "Main.v")]
        compiled.clear()
        return found

    monkeypatch.setattr(rocq, "_run", watched)
    first = audit(development, kept=kept)
    assert files() == ["Statements.v", "Lemmas.v", "Main.v"]
    again = audit(development, kept=kept)
    assert files() == []
    assert (again.theorems, again.axioms) == (first.theorems, first.axioms)

    spoil(development / "Lemmas.v", "(** Lemmas. *)", "(** Others. *)")
    audit(development, kept=kept)
    assert files() == ["Lemmas.v", "Main.v"]
    spoil(development / "Lemmas.v", "exact (conj a b)", "exact (conj b a)")
    with pytest.raises(AuditError, match=r"Lemmas.v does not compile"):
        audit(development, kept=kept)


def test_a_compiled_file_is_kept_for_one_input_only(tmp_path: Path) -> None:
    build, folder = tmp_path / "build", tmp_path / "kept"
    build.mkdir()
    for name in ("A", "B"):
        (build / f"{name}.v").write_text(f"(* {name} *)")
        (build / f"{name}.vo").write_text("compiled")

    def has_b(prover: list[str]) -> bool:
        kept = Kept(folder, prover)
        kept.take(build, "A.v", [])
        return kept.take(build, "B.v", ["A.v"])

    assert not has_b(["8.16"])
    kept = Kept(folder, ["8.16"])
    kept.take(build, "A.v", [])
    kept.take(build, "B.v", ["A.v"])
    kept.keep(build, "B.v")
    assert has_b(["8.16"])
    assert not has_b(["8.17"])
    (build / "A.v").write_text("(* another A *)")
    assert not has_b(["8.16"])


def test_other_libraries_are_another_input(tmp_path: Path) -> None:
    (tmp_path / "theories").mkdir()
    library = tmp_path / "theories" / "Reals.vo"
    library.write_text("one")
    before = libraries(tmp_path)
    assert libraries(tmp_path) == before
    library.write_text("another")
    assert libraries(tmp_path) != before


@pytest.mark.slow  # the prover compiles
@needs_coqc
def test_an_unfinished_proof_breaks_the_build(development: Path) -> None:
    spoil(development / "Lemmas.v", "Proof. exact (classic A). Qed.", "Proof. Qed.")
    with pytest.raises(AuditError, match=r"Lemmas\.v does not compile"):
        audit(development)


def test_a_file_outside_the_project_is_refused(development: Path) -> None:
    (development / "Extra.v").write_text("Axiom stray : False.\n")
    with pytest.raises(AuditError, match=r"_CoqProject does not list Extra\.v"):
        audit(development)


@needs_coqc
def test_running_out_of_time_is_a_failure(development: Path) -> None:
    with pytest.raises(AuditError, match="out of time"):
        audit(development, timeout=0.0)


def test_without_coqc_nothing_is_accepted(
    development: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CoqMissing, match="libcoq-mathcomp-ssreflect libcoq-coquelicot"):
        audit(development)


def test_unreadable_answers_of_the_prover_are_refused() -> None:
    assert rocq._parse_assumptions("Closed under the global context\n") == {}
    printed = "Axioms:\nB.b : nat\nA.a : forall n, n = n\n"
    assert rocq._parse_assumptions(printed) == {"A.a": "forall n, n = n", "B.b": "nat"}
    with pytest.raises(AuditError, match="unexpected assumption"):
        rocq._parse_assumptions("Axioms:\nf is assumed to be guarded.\n")
    with pytest.raises(AuditError, match="cannot read"):
        rocq._parse_assumptions("")
    listing = "Module A := Struct Parameter x Definition y End\n"
    assert rocq._constants(listing, ["T.A"]) == ["T.A.x", "T.A.y"]
    with pytest.raises(AuditError, match="unexpected Module M"):
        rocq._constants("Module A := Struct Module M End\n", ["T.A"])
    with pytest.raises(AuditError, match="cannot read what the files hold"):
        rocq._constants(listing, ["T.A", "T.B"])


def test_the_command_line_reports_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert rocq.main([]) == 1
    assert "audit failed: coqc is not on PATH" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "folder"), [(["--keep"], rocq.KEPT), ([], None)])
def test_files_are_kept_where_the_proofs_look_for_them_if_asked(
    given: list[str], folder: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def refused(*, kept: Path | None, **_: Any) -> None:
        asked.append(kept)
        raise AuditError("enough")

    monkeypatch.setattr(rocq, "audit", refused)
    assert rocq.main(given) == 1
    assert asked == [folder]


def test_the_table_reads_the_words_of_the_statements(development: Path) -> None:
    table = rocq.theorem_table(development)
    assert "| S1 | `S1_pair` | Two facts are one pair. | `Lemmas.v` |" in table
    assert (
        r"| S1 | `S1_pair_turned` | (turned). The same with the facts exchanged: A \| B. | `Lemmas.v` |"
        in table
    )


def test_the_documentation_lists_the_theorems() -> None:
    """After a change to Statements.v: paste the output of ``python -m proofs.rocq.audit --markdown``."""
    page = (rocq.HERE.parents[1] / "docs" / "rocq.md").read_text(encoding="utf-8")
    block = page.split("<!-- rocq-theorems:begin -->\n")[1].split("<!-- rocq-theorems:end -->")[0]
    assert block == rocq.theorem_table()


def test_the_real_sources_have_no_holes() -> None:
    """Without coqc: every file keeps to its commands, and the three lists of theorems agree."""
    assert len(check_sources()) > 100
