"""The machine-checked rung: the Rocq development is built, audited, and credited by its theorem list.

The audit itself reports what it established, so nothing can be claimed here that Rocq did not check. Files that have
not changed since they were compiled are not compiled again, except by the independent checker's test.
Without ``coqc`` the rung is recorded as not checked here.
"""

import pytest

from nondecoupling.theory import catalog, ledger
from proofs.rocq.audit import KEPT, CoqMissing, audit, headlines


@pytest.mark.machine_checked
def test_rocq_development(evidence_for):
    try:
        report = audit(kept=KEPT)
    except CoqMissing as missing:
        for statement in {headline.statement for headline in headlines()}:
            evidence_for(statement, ledger.NOT_CHECKED)
        pytest.skip(str(missing))
    unknown = set(report.theorems) - set(catalog.statements())
    assert not unknown, f"Rocq theorems about statements that the catalogue lacks: {unknown}"
    for statement, theorems in report.theorems.items():
        evidence_for(statement, f"Rocq: {', '.join(theorems)}")


@pytest.mark.slow
def test_independent_checker_accepts_the_compiled_proofs():
    try:
        audit(coqchk=True)
    except CoqMissing as missing:
        pytest.skip(str(missing))
