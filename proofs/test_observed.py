"""The observed rung: what the committed runs on language models measured.

Only rows about a trained policy count, those in which the experiment could have contradicted the
statement: from enumerated runs the rows of kind "trained policy", from sampled runs those of kind
"theorem". Identities fail only by a bug and are not evidence, and a "finding" of a sampled run is no
statement of the theory. One violated row takes the rung away.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from nondecoupling.deciding.decisions import Decision, report
from nondecoupling.deciding.verdict import Status
from nondecoupling.theory.assurance import Assurance

RESULTS = Path(__file__).parents[1] / "experiments" / "results"

SAMPLED = {
    "confirmed": Status.HOLDS,
    "violated": Status.REFUTED,
    "inconclusive": Status.UNDECIDED,
}


def reports() -> dict[str, dict]:
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted(RESULTS.glob("*/report.json"))
    }


def findings(report: dict) -> dict[str, list[str]]:
    """Statement id -> statuses of the rows about trained policies, by the row's leading id."""
    found = defaultdict(list)
    for row in report["rows"]:
        if row["kind"] == "trained policy":
            found[row["statement"]].append(row["status"])
        elif row["kind"] == "theorem":
            found[row["statement"]].append(SAMPLED[row["outcome"]].name)
    return dict(found)


@pytest.mark.observed
def test_committed_runs(evidence_for):
    assert reports(), "no committed run under experiments/results"
    for name, run in reports().items():
        for statement, statuses in findings(run).items():
            applied = [s for s in statuses if s != Status.OUT_OF_SCOPE.name]
            assert Status.REFUTED.name not in applied, f"{name}: {statement} is violated"
            held = applied.count(Status.HOLDS.name)
            if held:
                report(Decision(Assurance.OBSERVED, statement, f"{name}: rows hold"))
                evidence_for(statement, f"{name}: {held} of {len(applied)} rows hold")


def test_a_violated_row_is_not_counted_as_observed():
    row = {"statement": "S5", "kind": "trained policy", "status": Status.REFUTED.name}
    assert findings({"rows": [row]}) == {"S5": [Status.REFUTED.name]}
    row = {"statement": "S7", "kind": "theorem", "outcome": "violated"}
    assert findings({"rows": [row]}) == {"S7": [Status.REFUTED.name]}
    row = {"statement": "S2", "kind": "finding", "outcome": "violated"}
    assert findings({"rows": [row]}) == {}
