"""The audit of the machine-checked proofs accepts a sound development and rejects every kind of hole.

The development here is a tiny one, so that each test compiles in about a second. The real one is audited by
the test that records it in the ledger.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from proofs.rocq import audit as rocq
from proofs.rocq.audit import AuditError, CoqMissing, audit

needs_coqc = pytest.mark.skipif(
    shutil.which("coqc") is None, reason=f"coqc is not on PATH (Debian: {rocq.DEBIAN_PACKAGES})"
)

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
From Tiny Require Lemmas.

(** S1. Two facts are one pair. *)
Theorem S1_pair (A B : Prop) : A -> B -> A /\\ B.
Proof. exact (fun a b => @Lemmas.pair_with A B a b). Qed.

(** S1 (turned). The same with the facts exchanged: A | B. *)
Theorem S1_pair_turned (A B : Prop) : B -> A -> A /\\ B.
Proof. exact (fun b a => @Lemmas.pair_with A B a b). Qed.

(** R2. Excluded middle. *)
Theorem R2_excluded_middle (A : Prop) : A \\/ ~ A.
Proof. exact (Lemmas.excluded_middle A). Qed.
"""


@pytest.fixture
def development(tmp_path: Path) -> Path:
    """A development of two files that passes the audit; the tests below spoil it."""
    (tmp_path / "_CoqProject").write_text("-Q . Tiny\n-arg -w\n-arg none\nLemmas.v\nMain.v\n")
    (tmp_path / "headline.txt").write_text("# names\nS1_pair\nS1_pair_turned\nR2_excluded_middle\n")
    (tmp_path / "axioms.txt").write_text("# classical logic\nClassical_Prop.classic\n")
    (tmp_path / "Lemmas.v").write_text(LEMMAS)
    (tmp_path / "Main.v").write_text(MAIN)
    return tmp_path


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@needs_coqc
def test_a_sound_development_is_accepted(development: Path) -> None:
    report = audit(development)
    assert report.theorems == {"S1": ["S1_pair", "S1_pair_turned"], "R2": ["R2_excluded_middle"]}
    assert report.axioms == ["Classical_Prop.classic"]
    assert report.seconds > 0
    assert report.coq_version[0].isdigit()


@needs_coqc
def test_the_sources_are_left_alone(development: Path) -> None:
    before = sorted(path.name for path in development.iterdir())
    audit(development)
    assert sorted(path.name for path in development.iterdir()) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Proof. exact (classic A). Qed.", "Proof. Admitted.", "Admitted"),
        ("Proof. exact (classic A). Qed.", "Proof. admit. Qed.", "admit"),
        ("Proof. exact (classic A). Qed.", "Proof. give_up. Qed.", "give_up"),
        ("Lemma excluded_middle", "Axiom stray : False.\nLemma excluded_middle", "Axiom"),
        (
            "Lemma excluded_middle",
            "Local Parameter stray : False.\nLemma excluded_middle",
            "Parameter",
        ),
        (
            "Lemma excluded_middle",
            "#[local] Conjecture stray : False.\nLemma excluded_middle",
            "Conjecture",
        ),
        (
            "Lemma excluded_middle",
            "Hypothesis stray : False.\nLemma excluded_middle",
            "Hypothesis outside",
        ),
        (
            "Lemma excluded_middle",
            "Variable stray : False.\nLemma excluded_middle",
            "Variable outside",
        ),
        (
            "Lemma excluded_middle",
            "#[global] Context (stray : False).\nLemma excluded_middle",
            "Context outside",
        ),
        (
            "Lemma excluded_middle",
            "Module M.\nVariable stray : False.\nEnd M.\nLemma excluded_middle",
            "Variable",
        ),
        ("Lemma excluded_middle", "Unset Guard Checking.\nLemma excluded_middle", "Guard Checking"),
        ("(** Lemmas. *)", "(* (* *) *) Axiom stray : False.", "Axiom"),
    ],
)
def test_holes_in_a_source_are_rejected(
    development: Path, old: str, new: str, message: str
) -> None:
    spoil(development / "Lemmas.v", old, new)
    with pytest.raises(AuditError, match=message):
        audit(development)


@needs_coqc
def test_words_in_comments_and_strings_are_not_holes(development: Path) -> None:
    spoil(development / "Lemmas.v", "(** Lemmas. *)", '(* Admitted (* Axiom *) "*)" Parameter *)')
    assert audit(development).axioms == ["Classical_Prop.classic"]


@needs_coqc
def test_an_axiom_that_no_source_declares_is_rejected(development: Path) -> None:
    """The standard library has axioms too; the compiled theorems are what counts."""
    spoil(development / "Lemmas.v", "Classical_Prop.", "Classical_Prop IndefiniteDescription.")
    spoil(
        development / "Lemmas.v",
        "exact (classic A)",
        "destruct (constructive_indefinite_description "
        "(fun n : nat => n = n) (ex_intro _ 0 eq_refl)); exact (classic A)",
    )
    with pytest.raises(
        AuditError, match=r"outside axioms\.txt.*constructive_indefinite_description"
    ):
        audit(development)


@needs_coqc
def test_a_golden_axiom_must_be_listed(development: Path) -> None:
    (development / "axioms.txt").write_text("")
    with pytest.raises(AuditError, match=r"outside axioms\.txt: Classical_Prop\.classic"):
        audit(development)


def test_a_missing_headline_theorem_is_rejected(development: Path) -> None:
    spoil(development / "Main.v", "R2_excluded_middle", "R2_renamed")
    with pytest.raises(AuditError, match=r"missing from Main\.v: R2_excluded_middle"):
        audit(development)


def test_a_headline_theorem_inside_a_comment_is_missing(development: Path) -> None:
    spoil(development / "Main.v", "(** R2. Excluded middle. *)", "(* (** R2. Excluded middle. *)")
    spoil(
        development / "Main.v",
        "(Lemmas.excluded_middle A). Qed.",
        "(Lemmas.excluded_middle A). Qed. *)",
    )
    with pytest.raises(AuditError, match=r"missing from Main\.v: R2_excluded_middle"):
        audit(development)


def test_a_theorem_outside_the_golden_list_is_rejected(development: Path) -> None:
    spoil(development / "headline.txt", "R2_excluded_middle\n", "")
    with pytest.raises(AuditError, match=r"not listed in headline\.txt: R2_excluded_middle"):
        audit(development)


@needs_coqc
def test_a_headline_statement_that_drifted_breaks_the_build(development: Path) -> None:
    spoil(development / "Lemmas.v", "(A : Prop) : A \\/ ~ A.", "(A : Prop) : A \\/ ~ A \\/ False.")
    spoil(development / "Lemmas.v", "exact (classic A)", "destruct (classic A); auto")
    with pytest.raises(AuditError, match=r"Main\.v does not compile"):
        audit(development)


@needs_coqc
def test_an_unfinished_proof_breaks_the_build(development: Path) -> None:
    spoil(development / "Lemmas.v", "Proof. exact (classic A). Qed.", "Proof. Qed.")
    with pytest.raises(AuditError, match=r"Lemmas\.v does not compile"):
        audit(development)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Theorem R2_excluded_middle",
            "Theorem excluded_middle",
            "does not begin with a statement id",
        ),
        (
            "(** R2. Excluded middle. *)",
            "(** S2. Excluded middle. *)",
            "comment above it that begins with R2",
        ),
        ("(** R2. Excluded middle. *)", "", "comment above it that begins with R2"),
    ],
)
def test_a_headline_must_name_and_quote_its_statement(
    development: Path, old: str, new: str, message: str
) -> None:
    spoil(development / "Main.v", old, new)
    with pytest.raises(AuditError, match=message):
        rocq.headlines(development)


def test_a_file_outside_the_project_is_rejected(development: Path) -> None:
    (development / "Extra.v").write_text("Axiom stray : False.\n")
    with pytest.raises(AuditError, match=r"_CoqProject does not list Extra\.v"):
        audit(development)


def test_a_weaker_logic_is_rejected(development: Path) -> None:
    spoil(development / "_CoqProject", "-arg none", "-arg none\n-arg -type-in-type")
    with pytest.raises(AuditError, match="weakens the logic"):
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


def test_unreadable_assumptions_are_rejected() -> None:
    assert rocq._parse_assumptions("Closed under the global context\n") == []
    assert rocq._parse_assumptions("Axioms:\nB.b : nat\nA.a\n  : forall n,\n  n = n\n") == [
        "A.a",
        "B.b",
    ]
    with pytest.raises(AuditError, match="unexpected assumption"):
        rocq._parse_assumptions("Axioms:\nf is assumed to be guarded.\n")
    with pytest.raises(AuditError, match="cannot read"):
        rocq._parse_assumptions("")


def test_the_command_line_reports_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert rocq.main([]) == 1
    assert "audit failed: coqc is not on PATH" in capsys.readouterr().err


def test_the_table_reads_the_words_of_main(development: Path) -> None:
    table = rocq.theorem_table(development)
    assert "| S1 | `S1_pair` | Two facts are one pair. | `Lemmas.v` |" in table
    assert (
        r"| S1 | `S1_pair_turned` | (turned). The same with the facts exchanged: A \| B. | `Lemmas.v` |"
        in table
    )


def test_the_documentation_lists_the_theorems_of_main() -> None:
    """After a change to Main.v: paste the output of ``python proofs/rocq/audit.py --markdown``."""
    page = (rocq.HERE.parents[1] / "docs" / "rocq.md").read_text(encoding="utf-8")
    block = page.split("<!-- rocq-theorems:begin -->\n")[1].split("<!-- rocq-theorems:end -->")[0]
    assert block == rocq.theorem_table()


def test_the_real_sources_have_no_holes() -> None:
    """Without coqc: the sources of the real development postulate nothing and match the golden list."""
    _, files = rocq._read_project(rocq.HERE)
    for file in files:
        rocq._reject_assumptions(file, (rocq.HERE / file).read_text(encoding="utf-8"))
    names = [headline.name for headline in rocq.headlines()]
    rocq._compare_with_golden_list(names, rocq._read_list(rocq.HERE / "headline.txt"))
