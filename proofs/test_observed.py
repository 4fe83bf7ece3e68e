"""The observed rung: what the committed runs on language models measured, worked out again.

Only rows about a trained policy count, those in which the experiment could have contradicted the statement:
from enumerated runs the rows of kind "trained policy", from sampled runs those of kind "theorem". Identities
fail only by a bug and are not evidence, and a "finding" of a sampled run is no statement of the theory.

A report is not believed. Which rows an enumerated run has, their relations, tolerances, missing assumptions and
sides follow from its configuration and from the laws that ``metrics.jsonl`` recorded during training, by the code
that checks them; the sides, once more, from the figures recorded next to the laws. The measurements of sampled runs
are not committed: which theorems there must be follows from the configuration, and that no row is missing from the
level of the intervals, which the rows share. Each row's status follows from its two sides and its tolerance
(sampled: from the ends of its interval). A report that says otherwise fails. A row earns nothing if its tolerance is
not below its margin, or if its inequality could not have failed whatever training did; a run with a failed row or
self-test earns nothing.
"""

from __future__ import annotations

import copy
import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from validate.configuration import EnumeratedConfiguration, RunConfiguration, from_json
from validate.enumerated.digest import Digest, digest
from validate.enumerated.inputs import inputs_of
from validate.enumerated.training import planned
from validate.orders import plan
from validate.sampled.claims import SELF_TEST as SAMPLED_SELF_TEST
from validate.sampled.claims import THEOREM

from nondecoupling.deciding.decisions import Decision, report
from nondecoupling.deciding.verdict import Status
from nondecoupling.theory.assurance import Assurance

RESULTS = Path(__file__).parents[1] / "experiments" / "results"
Row = dict[str, Any]

SAMPLED = {
    "confirmed": Status.HOLDS,
    "violated": Status.REFUTED,
    "inconclusive": Status.UNDECIDED,
}
# The stage whose last policy RL, or what follows it, started from.
REF = {
    "rl": "sft",
    "sft-again": "sft",
    "joint": "sft",
    "rl-first": "warm-up",
    "sft-after": "warm-up",
}
# The largest reward of a sampled task, by the name in its configuration; the smallest is 0.
MOST_REWARD = {"strict": 1.0}

PRICE, ANY_RL = "CE(d,p) - H(d) >= K_inf(d, J(p))", "DeltaL(p) >= K_inf(d, J(p)) - eps"
PINSKER = "J(d) + R sqrt((eps + DeltaL(p))/2) >= J(p)"
PRICE_OF_REF = "d := ref: CE(ref,p) - H(ref) >= K_inf(ref, J(p))"
NO_FREE_ORDER = "lambda (CE(d,p) - CE(d,joint)) >= J_b(p) - J_b(joint)"


class Run:
    """A committed run: its configuration, its report, and the policies that it recorded while training."""

    def __init__(
        self, config: dict[str, Any], report: dict[str, Any], metrics: list[dict[str, Any]]
    ) -> None:
        self.config, self.metrics = config, metrics
        self.report, self.rows, self.sampled = report, report["rows"], "protocol" in report
        self.policies = {f"{m['stage']} {m['step']}": m for m in metrics if "log_p" in m}
        self.last: dict[str, dict[str, Any]] = {}
        for policy in self.policies.values():
            self.last[policy["stage"]] = policy

    @classmethod
    def read(cls, folder: Path) -> Run:
        config, report = (
            json.loads((folder / f"{name}.json").read_text()) for name in ("config", "report")
        )
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return cls(
            {k: v for k, v in config.items() if k != "sha256"}, report, [*map(json.loads, lines)]
        )

    @property
    def configuration(self) -> RunConfiguration:
        return from_json(self.config)

    @property
    def places(self) -> list[tuple[str, int]]:
        return [(line["stage"], line["step"]) for line in self.metrics]

    @cached_property
    def worked_out(self) -> Digest:
        """What the report of an enumerated run must say, from the configuration and the recorded laws alone."""
        config = self.configuration
        assert isinstance(config, EnumeratedConfiguration)
        return digest(config, inputs_of(config).task, self.metrics)

    def trained(self) -> list[Row]:
        kind = "theorem" if self.sampled else "trained policy"
        return [row for row in self.rows if row["kind"] == kind]

    def failed(self) -> bool:
        """Whether any row, self-tests included, is violated."""
        return any(derived_status(row) is Status.REFUTED for row in self.rows) or any(
            row.get("outcome") == "violated" for row in self.rows
        )


def runs() -> dict[str, Run]:
    return {
        path.parent.name: Run.read(path.parent) for path in sorted(RESULTS.glob("*/report.json"))
    }


# --- the status of a row, from its numbers ------------------------------------------------------


def derived_status(row: Row) -> Status:
    """What the numbers of a row say; an inequality within its tolerance is undecided."""
    if row.get("missing_assumption"):
        return Status.OUT_OF_SCOPE
    room = row["lhs"] - row["rhs"]
    if "outcome" in row:  # a sampled run: the simultaneous interval of the margin
        low, high = (float(row["margin"][end]) for end in ("low", "high"))  # "inf" is text in JSON
        return Status.HOLDS if low >= 0 else Status.REFUTED if high < 0 else Status.UNDECIDED
    if math.isnan(room) or not 0 <= row["tolerance"] < math.inf:
        return Status.UNDECIDED
    if row["relation"] == "==":
        return Status.HOLDS if abs(room) <= row["tolerance"] else Status.REFUTED
    if abs(room) <= row["tolerance"]:
        return Status.UNDECIDED
    return Status.HOLDS if room > 0 else Status.REFUTED


def contradiction(row: Row) -> str | None:
    """Where what a row claims is not what its numbers say."""
    derived = derived_status(row)
    what = f"{row['statement']} {row['claim']} ({row.get('place', row.get('policy'))})"
    if "outcome" in row:
        claimed = SAMPLED[row["outcome"]]
        if row["kind"] != "self-test":
            low, high = (float(row["margin"][end]) for end in ("low", "high"))
            estimate = row["margin"]["estimate"]
            if not (
                low <= estimate <= high
                and math.isclose(estimate, row["lhs"] - row["rhs"], rel_tol=1e-9, abs_tol=1e-9)
            ):
                return f"{what}: the margin is not that of the two sides"
            # Holm's procedure may decide by a sharper end than the simultaneous interval's
            signs = {Status.HOLDS: estimate > 0, Status.REFUTED: estimate < 0}
            if derived is not claimed and not (
                derived is Status.UNDECIDED and signs.get(claimed, False)
            ):
                return f"{what}: {claimed.name} claimed, the interval says {derived.name}"
        return None
    margin = row["lhs"] - row["rhs"]
    if row["relation"] == "==":
        margin = row["tolerance"] - abs(margin)
    if not math.isclose(margin, row["margin"], rel_tol=1e-9, abs_tol=1e-15):
        return f"{what}: the margin is not that of the two sides"
    # within the tolerance a row may be called an equality case: that claims nothing for it here
    equality = derived is Status.UNDECIDED and abs(margin) <= row["tolerance"] < math.inf
    if row["status"] != derived.name and not (equality and row["status"] == Status.HOLDS.name):
        return f"{what}: {row['status']} claimed, the numbers say {derived.name}"
    return None


def is_vacuous(run: Run, row: Row) -> bool:
    """Whether the inequality holds for every policy by a weaker fact, so that no run could break it."""
    if row["claim"] == PINSKER or "J(d) + R sqrt" in row["claim"]:
        if run.sampled:
            return row["lhs"] >= MOST_REWARD[run.report["config"]["reward"]]
        # no reward exceeds J(d) + R, and none that is below J(d) is restricted
        most = run.report["data_reward"] + run.report["reward_range"]
        return row["lhs"] >= most or row["rhs"] <= run.report["data_reward"]
    if row["claim"].startswith("R sqrt"):
        return row["lhs"] >= MOST_REWARD[run.report["config"]["reward"]]
    if row["claim"] == ANY_RL:
        return run.policies[row["place"]]["price_of_reward"] <= 0
    return row["statement"] in ("S5", "S7", "S9") and row["rhs"] <= 0  # KL >= 0 says as much


# --- the sides of an enumerated row, from what was recorded ---------------------------------------


def mean_kl(log_p: Any, log_q: Any) -> float:
    p, q = np.array(log_p), np.array(log_q)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def sides(run: Run, row: Row) -> tuple[float | None, float | None]:
    """The two sides from ``metrics.jsonl``; None where they need the task, which is not recorded."""
    policy = run.policies[row["place"]]
    if row["claim"] == PRICE:
        return policy["sft_loss"] - run.report["data_entropy"], policy["price_of_reward"]
    ref = run.last[REF[policy["stage"]]]
    if row["claim"] == ANY_RL:
        return policy["sft_loss"] - ref["sft_loss"], policy["price_of_reward"] - ref["eps"]
    if row["claim"] == PINSKER:
        most = run.report["data_reward"] + run.report["reward_range"] * math.sqrt(policy["eps"] / 2)
        return most, policy["reward"]
    if row["claim"] == PRICE_OF_REF:
        return mean_kl(ref["log_p"], policy["log_p"]), None
    assert row["claim"] == NO_FREE_ORDER, f"no recomputation of {row['claim']!r}"
    loss, reward = joint_optimum(run, f"{ref['stage']} {ref['step']}", ref)
    weight, beta = run.report["config"]["weight"], run.report["config"]["beta"]
    regularised = policy["reward"] - beta * mean_kl(policy["log_p"], ref["log_p"])
    return weight * (policy["sft_loss"] - loss), regularised - reward


def joint_optimum(run: Run, place: str, ref: dict[str, Any]) -> tuple[float, float]:
    """CE(d, joint) and J_b(joint), from the rows about the exact optima of the same ref."""

    def side(statement: str, where: str, claim: str, which: str) -> float:
        (found,) = [
            row[which]
            for row in run.rows
            if (row["statement"], row["place"], row["claim"]) == (statement, where, claim)
        ]
        return found

    tilt, joint = f"tilt of {place}", f"joint optimum of {place}"
    rise = side("S1", tilt, "DeltaL(tilt) = log Z - E_d r/beta", "rhs")
    saved = side("J3", joint, "CE(d,tilt) - CE(d,joint) >= lower bound", "lhs")
    best = side("F3", tilt, "J_b(tilt) = beta log Z", "rhs")
    cost = side("J3", joint, "J_b(tilt) - J_b(joint) >= lambda/2 times the lower bound", "lhs")
    return ref["sft_loss"] + rise - saved, best - cost


def forged(run: Run, row: Row) -> str | None:
    """Where a side is not what the recorded policies give."""
    for name, expected in zip(("lhs", "rhs"), sides(run, row), strict=True):
        allowed = 1e-9 * (1 + abs(row[name])) + min(row["tolerance"], 1e-6)
        if expected is not None and abs(expected - row[name]) > allowed:
            return f"{row['statement']} {row['claim']} ({row['place']}): {name} is {expected!r}"
    if (
        row["claim"] == PRICE_OF_REF
    ):  # the price itself needs the rewards; Pinsker's bound on it does not
        policy = run.policies[row["place"]]
        gain = max(0.0, policy["reward"] - run.last[REF[policy["stage"]]]["reward"])
        if row["rhs"] < 2 * (gain / run.report["reward_range"]) ** 2 - row["tolerance"]:
            return f"{row['statement']} {row['claim']} ({row['place']}): rhs is no price"
    return None


# --- the rows that there must be ------------------------------------------------------------------

WHAT = ("statement", "claim", "place", "kind", "relation", "unit", "missing_assumption")
# Of a law alone, whatever is ref.
FIGURES = ("sft_loss", "eps", "reward", "price_of_reward")
OF_THE_DATA = {
    "data_entropy": "data_entropy",
    "data_reward": "data_reward",
    "reward_range": "range",
}


def hidden(run: Run) -> Iterator[str]:
    """Where an enumerated report is not what its configuration and the recorded laws give."""
    measured = {(c.stage, c.step): c.measures for c in run.worked_out.checkpoints}
    for line in run.metrics:
        for name in FIGURES:
            if not _close(line[name], getattr(measured[line["stage"], line["step"]], name)):
                yield f"{line['stage']} {line['step']}: {name} is not that of its law"
    for name, of_experts in OF_THE_DATA.items():
        if not _close(run.report[name], getattr(run.worked_out.experts, of_experts)):
            yield f"{name} is not that of the task"
    if run.report["outcome"] != run.worked_out.outcome:
        yield f"the outcome is {run.worked_out.outcome!r}"
    expected = [check.as_json() for check in run.worked_out.rows]
    have, need = (Counter(tuple(r[k] for k in WHAT) for r in rows) for rows in (run.rows, expected))
    if have != need:
        yield from (f"missing: {' | '.join(row)}" for row in need - have)
        yield from (f"not a row of this run: {' | '.join(row)}" for row in have - need)
        return
    for row, right in zip(run.rows, expected, strict=True):
        what = f"{right['statement']} {right['claim']} ({right['place']})"
        if not math.isclose(row["tolerance"], right["tolerance"], rel_tol=1e-6):
            yield f"{what}: the tolerance is {right['tolerance']!r}"
        for name in ("lhs", "rhs"):
            if not abs(row[name] - right[name]) <= right["tolerance"]:
                yield f"{what}: {name} is {right[name]!r}"


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def left_out(run: Run) -> Iterator[str]:
    """Where a sampled report lacks a row, or has one that no run makes."""
    levels = [run.config["delta"] / (1 - row["margin"]["level"]) for row in run.rows]
    if not np.allclose(levels, len(run.rows), rtol=1e-6):
        yield f"{len(run.rows)} rows, but the levels are those of {sorted({round(x) for x in levels})}"
    for row in run.rows:
        if row["relation"] != ">=" or "missing_assumption" in row:
            yield f"{row['statement']} {row['claim']} ({row['policy']}): no row of a sampled run"
    self_distilled = run.configuration.self_distilled
    # The price of reward by a line and by Pinsker; the line needs experts that are not always right.
    always = Counter(["F3", "J2", "R4", "S7", "S5" if self_distilled else "S7"])
    always += Counter([] if self_distilled else ["S9"])
    for policy in [stage.name for stage in plan(run.configuration.order) if stage.ref]:
        of_policy = [row for row in run.rows if row["policy"] == policy]
        of_kind = {
            kind: Counter(row["statement"] for row in of_policy if row["kind"] == kind)
            for kind in (THEOREM, SAMPLED_SELF_TEST)
        }
        of_kind[THEOREM].pop("G1", None)  # with some rewards, in later versions
        if of_kind != {THEOREM: always, SAMPLED_SELF_TEST: Counter(F4=2)}:
            yield f"{policy} has not the rows that every policy has: {of_kind}"


def problems(run: Run) -> list[str]:
    """Everything that a run's report claims and its numbers do not give."""
    config = run.configuration
    if run.report["config"] != run.config:
        return ["the report is about another configuration"]
    if isinstance(config, EnumeratedConfiguration) and run.places != planned(config):
        return ["metrics.jsonl has not the checkpoints of the configuration"]
    found = list((left_out if run.sampled else hidden)(run))
    found += [problem for row in run.rows if (problem := contradiction(row))]
    if not run.sampled and not found:
        found += [problem for row in run.trained() if (problem := forged(run, row))]
    if (run.report["outcome"] == "violated") != run.failed():
        found.append(f"the outcome {run.report['outcome']!r} is not that of the rows")
    return found


def earned(run: Run) -> dict[str, tuple[int, int]]:
    """Statement -> rows that hold beyond their tolerance and could have failed, and all rows in scope."""
    held: Counter[str] = Counter()
    scope: Counter[str] = Counter()
    for row in [] if run.failed() else run.trained():
        status = derived_status(row)
        scope[row["statement"]] += status is not Status.OUT_OF_SCOPE
        held[row["statement"]] += status is Status.HOLDS and not is_vacuous(run, row)
    return {statement: (held[statement], scope[statement]) for statement in scope}


def in_words(held: int, scope: int) -> str:
    """What a run is evidence of, for the ledger."""
    if held == scope:
        return f"all {scope} rows hold, and each could have failed"
    return f"{held} of {scope} rows hold and could have failed, the rest decide nothing"


@pytest.fixture(scope="module")
def committed() -> dict[str, Run]:
    return runs()


@pytest.mark.observed
def test_committed_runs(committed, evidence_for):
    assert committed, "no committed run under experiments/results"
    for name, run in committed.items():
        assert problems(run) == [], name
        for statement, (held, scope) in earned(run).items():
            if held:
                report(Decision(Assurance.OBSERVED, statement, f"rows of {name}"))
                evidence_for(statement, f"{name}: {in_words(held, scope)}")


# --- forged reports are refused -----------------------------------------------------------------


def spoilt(run: Run, claim: str, **changes: Any) -> tuple[Run, Row]:
    """A copy of the run with one trained row of this claim changed."""
    copied = copy.deepcopy(run)
    row = next(r for r in copied.trained() if claim in r["claim"] and r["lhs"] and r["rhs"])
    row.update({k: row[k] | v if isinstance(v, dict) else v for k, v in changes.items()})
    return copied, row


CLAIMS = (PRICE, ANY_RL, PINSKER, PRICE_OF_REF, NO_FREE_ORDER)


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("side", ["lhs", "rhs"])
def test_a_side_that_the_policies_do_not_give_is_told(committed, claim, side):
    """Both sides may be moved together, so that margin and status agree: the recorded policies do not."""
    run, row = spoilt(committed["tiny-qwen3"], claim)
    shift = 1e-3 if side == "lhs" else -0.5 * abs(row["rhs"]) - 1e-3
    if claim == PRICE_OF_REF and side == "rhs":
        shift = -row["rhs"]  # to zero, below Pinsker's bound
    row[side] += shift
    row["margin"] = row["lhs"] - row["rhs"]
    row["status"] = derived_status(row).name
    assert any(claim in problem for problem in problems(run))


@pytest.mark.parametrize(
    "changes",
    [
        dict(margin=-1.0),
        dict(lhs=-1.0, margin=-1.0),
        dict(tolerance=math.inf),
        dict(tolerance=math.nan),
        dict(status=Status.UNDECIDED.name),
        dict(status=Status.REFUTED.name),
        dict(status=Status.OUT_OF_SCOPE.name),
    ],
)
def test_a_status_that_the_numbers_do_not_give_is_told(committed, changes):
    run, row = spoilt(committed["smollm2-135m"], PRICE, **changes)
    assert contradiction(row) and problems(run)


def follow_suit(row: Row) -> None:
    """Margin and status as the sides, the relation and the tolerance of an enumerated row give them."""
    room = row["lhs"] - row["rhs"]
    row["margin"] = row["tolerance"] - abs(room) if row["relation"] == "==" else room
    status = derived_status(row)
    row["status"] = (Status.HOLDS if status is Status.UNDECIDED else status).name
    assert contradiction(row) is None


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize(
    "changes",
    [
        dict(tolerance=1.0),
        dict(tolerance=10.0),
        dict(tolerance=0.0),
        dict(relation="==", tolerance=10.0),
        dict(missing_assumption="the run is short"),
        dict(kind="exact optimum"),
        dict(statement="S9"),
        dict(claim="another claim"),
        dict(place="sft 30"),
    ],
)
def test_a_row_that_decides_something_else_is_told(committed, claim, changes):
    """In each of these ways a violation would no longer be one, and the row would agree with itself."""
    run, row = spoilt(committed["tiny-qwen3"], claim)
    row.update(changes)
    follow_suit(row)
    assert problems(run)


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen3-sampled"])
def test_no_row_can_be_left_out_or_added(committed, name):
    for kind in {row["kind"] for row in committed[name].rows}:
        for change in ("left out", "twice"):
            run = copy.deepcopy(committed[name])
            index = next(k for k, row in enumerate(run.rows) if row["kind"] == kind)
            if change == "twice":
                run.rows.insert(index, copy.deepcopy(run.rows[index]))
            else:
                del run.rows[index]
            assert problems(run), (kind, change)


def test_no_theorem_of_a_sampled_run_can_be_left_out_with_its_level(committed):
    whole = committed["tiny-qwen3-sampled"]
    for index, row in enumerate(whole.rows):
        if row["kind"] == "finding":
            continue
        run = copy.deepcopy(whole)
        del run.rows[index]
        for other in run.rows:
            other["margin"]["level"] = 1 - run.config["delta"] / len(run.rows)
        (problem,) = problems(run)
        assert row["policy"] in problem and "every policy" in problem


@pytest.mark.parametrize(
    "changes", [dict(relation="=="), dict(missing_assumption="few prompts"), dict(kind="finding")]
)
def test_a_theorem_of_a_sampled_run_cannot_be_excused(committed, changes):
    run, _ = spoilt(committed["tiny-qwen3-sampled"], "the price of reward", **changes)
    assert problems(run)


def test_what_was_recorded_must_be_what_the_laws_give(committed):
    """A law that breaks a theorem there is not; a figure beside it that says so is told."""
    run = copy.deepcopy(committed["smollm2-135m"])
    for name in FIGURES:
        run.metrics[3][name] += 1e-3
    assert problems(run) == [f"sft 30: {name} is not that of its law" for name in FIGURES]
    metrics = copy.deepcopy(committed["smollm2-135m"].metrics)
    metrics[3]["log_p"] = metrics[4]["log_p"]
    assert len(problems(Run(run.config, run.report, metrics))) > len(FIGURES)


def test_every_checkpoint_of_the_configuration_must_be_there(committed):
    whole = committed["tiny-qwen3"]
    for metrics in (whole.metrics[:-1], whole.metrics[:3] + whole.metrics[4:]):
        found = problems(Run(whole.config, whole.report, metrics))
        assert found == ["metrics.jsonl has not the checkpoints of the configuration"]


@pytest.mark.parametrize("name", ["tiny-qwen3", "tiny-qwen3-sampled"])
def test_the_report_is_about_the_configuration_of_the_run(committed, name):
    run = copy.deepcopy(committed[name])
    run.report["config"]["beta"] = 1.0
    assert problems(run) == ["the report is about another configuration"]


@pytest.mark.parametrize("name", [*OF_THE_DATA, "outcome"])
def test_what_the_report_says_of_its_task_is_worked_out_again(committed, name):
    run = copy.deepcopy(committed["tiny-qwen3"])
    run.report[name] = "undecided" if name == "outcome" else run.report[name] + 0.1
    assert any(name.replace("_", " ") in found.replace("_", " ") for found in problems(run))


def test_a_row_without_content_earns_nothing(committed):
    run = copy.deepcopy(committed["tiny-qwen3"])
    before = earned(run)["S5"][0]
    price_rows = [row for row in run.trained() if row["claim"] == PRICE]
    vacuous = [row for row in price_rows if row["rhs"] == 0]
    assert vacuous and 0 < before < earned(run)["S5"][1]
    holding = next(
        row for row in price_rows if derived_status(row) is Status.HOLDS and row["rhs"] > 0
    )
    holding["tolerance"] = math.inf
    assert earned(run)["S5"][0] == before - 1
    wide = next(row for row in run.trained() if row["claim"] == PINSKER)
    wide["lhs"] = run.report["data_reward"] + run.report["reward_range"]
    assert is_vacuous(run, wide)


def test_a_run_with_a_failed_row_or_self_test_earns_nothing(committed):
    failed = copy.deepcopy(committed["tiny-qwen3-sampled"])
    assert not failed.failed() and earned(failed)
    alarm = next(row for row in failed.rows if row["kind"] == "self-test")
    alarm["outcome"] = failed.report["outcome"] = "violated"
    assert failed.failed() and earned(failed) == {} and problems(failed) == []
    run, row = spoilt(committed["tiny-qwen3"], ANY_RL)
    row["lhs"] = row["rhs"] - 1
    assert earned(run) == {}
    hidden = copy.deepcopy(failed)
    hidden.report["outcome"] = "holds"
    assert any("outcome" in problem for problem in problems(hidden))


@pytest.mark.parametrize(
    "changes",
    [
        dict(outcome="violated"),
        dict(lhs=-1.0),
        dict(margin=dict(estimate=-0.1, low=-0.2, high=0.1)),
        dict(margin=dict(estimate=1.9648327445437723, low=2.0, high=3.0)),
    ],
)
def test_a_sampled_outcome_that_the_interval_does_not_give_is_told(committed, changes):
    run, row = spoilt(committed["tiny-qwen3-sampled"], "the price of reward", **changes)
    assert contradiction(row) and problems(run)


def test_an_end_that_no_sample_gives_is_read_from_its_text(committed):
    """JSON has no infinity: a bootstrap that says nothing is written down as "-inf" and "inf"."""
    _, row = spoilt(committed["tiny-qwen3-sampled"], "the price of reward")
    row["margin"] |= dict(low="-inf", high="inf")
    row["outcome"] = "inconclusive"
    assert contradiction(row) is None and derived_status(row) is Status.UNDECIDED
    row["outcome"] = "violated"
    assert contradiction(row) is not None


def test_findings_and_identities_do_not_count(committed):
    for run in committed.values():
        kinds = {row["kind"] for row in run.trained()}
        assert kinds == {"theorem" if run.sampled else "trained policy"}
    assert "F2" not in earned(committed["tiny-qwen3"])
