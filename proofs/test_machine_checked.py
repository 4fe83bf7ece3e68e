"""The machine-checked rung: the Rocq development is built, audited, and credited by its theorem list.

Which statements are credited is read from the audited headline theorems, so nothing can be claimed
here that Rocq did not check. Without ``coqc`` the rung is recorded as not checked here.
"""

from collections import defaultdict

import pytest

from nondecoupling.theory import catalog
from proofs.rocq.audit import HERE, CoqMissing, audit


def headline_names() -> dict[str, list[str]]:
    """Statement id -> theorem names, from the list that the audit holds Main.v to."""
    names = defaultdict(list)
    for line in (HERE / "headline.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            names[line.split("_")[0]].append(line)
    return dict(names)


@pytest.mark.machine_checked
def test_rocq_development(evidence_for):
    expected = headline_names()
    try:
        report = audit()
    except CoqMissing as missing:
        for statement in expected:
            evidence_for(statement, "not checked here")
        pytest.skip(str(missing))
    assert report.theorems == expected
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
