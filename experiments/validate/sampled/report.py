"""Writes report.json, report.html and the plots of a sampled run, from the files of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nondecoupling.estimate import Interval, Outcome
from validate.checksums import read_sealed_json
from validate.configuration import ALTERNATE, OWN_RESPONSES, SampledConfiguration
from validate.errors import RunFolderError
from validate.html import render
from validate.orders import plan, policies_table
from validate.reports import write_files
from validate.run_folder import MEASUREMENTS, PLAN, RunFolder
from validate.sampled.digest import DecidedClaim, Plan, Result, digest
from validate.sampled.examples import examples
from validate.sampled.first_screen import first_screen
from validate.sampled.inputs import inputs_of
from validate.sampled.measuring import load_measurement
from validate.sampled.own_responses import minimised, objective_of
from validate.sampled.plots import plots
from validate.sampled.story import Answer, answers, what_it_does_not_show, what_was_found
from validate.sampled.tables import averages, changes, optimality_gaps, predictions, soft_values
from validate.sampled.training import OBJECTIVES, planned

__all__ = ["SampledReport", "write_report"]

TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class SampledReport:
    """What the terminal shows at the end."""

    folder: RunFolder
    result: Result

    @property
    def outcome(self) -> str:
        return self.result.outcome

    def print_summary(self, console: Console) -> None:
        table = Table(title="Statements on this run")
        for name in ("", "kind", *(outcome.value for outcome in Outcome), "smallest margin"):
            table.add_column(name)
        for (statement, kind), rows in _grouped(self.result.rows).items():
            counts = [sum(row.outcome is outcome for row in rows) for outcome in Outcome]
            least = min(rows, key=lambda row: float(row.interval.low))
            style = "bold red" if counts[list(Outcome).index(Outcome.VIOLATED)] else "default"
            table.add_row(
                statement,
                kind,
                *map(str, counts),
                f"{least.interval.low:.3g} to {least.interval.high:.3g} {least.claim.unit}",
                style=style,
            )
        console.print(table)
        console.print(_table_of(answers(self.result)))
        for line in what_was_found(self.result):
            console.print(f"* {line}", highlight=False)
        console.print(f"Report: {self.folder.path / 'report.html'}")


def _table_of(found: Sequence[Answer]) -> Table:
    table = Table(title="Findings, which may come out either way")
    for name in ("policy", "question", "answer", "sides", ""):
        table.add_column(name)
    for one in found:
        table.add_row(one.policy, one.question, one.answer, one.sides, one.statement)
    return table


def _grouped(rows: Sequence[DecidedClaim]) -> dict[tuple[str, str], list[DecidedClaim]]:
    groups: dict[tuple[str, str], list[DecidedClaim]] = {}
    for row in rows:
        groups.setdefault((row.claim.statement, row.claim.kind), []).append(row)
    return groups


def write_report(config: SampledConfiguration, folder: RunFolder) -> SampledReport:
    """The files of the report, from the configuration, its inputs and the measurements alone."""
    inputs = inputs_of(config, folder)
    stages, prompts = plan(config.order), len(inputs.task.evaluation)
    measurements = {
        stage.name: load_measurement(folder.path / MEASUREMENTS / f"{stage.name}.jsonl", prompts)
        for stage in stages
    }
    plans = {stage.name: load_plan(folder, stage.name) for stage in stages if stage.ref is None}
    result = digest(config, inputs.task, inputs.reward, measurements, plans)
    images = plots(result, folder.all_records(planned(config)))
    write_files(folder, images, _html(folder, result, images), _as_json(result))
    return SampledReport(folder, result)


def load_plan(folder: RunFolder, ref: str) -> list[Plan]:
    """What the pilot prompts of a ref suggested.

    Raises:
        RunFolderError: plan-<ref>.json is missing or damaged.
    """
    place = folder.path / f"{PLAN}{ref}.json"
    try:
        return [Plan(**line) for line in read_sealed_json(place)["plans"]]
    except RunFolderError as error:
        raise RunFolderError(
            f"{error}; remove it, and report.json if it is there: --resume then plans again, to the same numbers"
        ) from None


def _html(folder: RunFolder, result: Result, images: dict[str, str]) -> str:
    return render(
        TEMPLATE,
        folder,
        result.config,
        first_screen(result),
        {row.claim.statement for row in result.rows},
        images,
        result=result,
        model=folder.model_description(),
        objective=_objective(result.config),
        found=what_was_found(result),
        answers=answers(result),
        examples=examples(result),
        not_shown=what_it_does_not_show(result),
        policies=_policies(result.config),
        averages=averages(result),
        predictions=[pair for ref in result.refs for pair in predictions(result, ref)],
        gaps=list(optimality_gaps(result)),
        soft_values=list(soft_values(result)),
    )


def _objective(config: SampledConfiguration) -> str:
    if config.order in OWN_RESPONSES:
        return objective_of(config)
    if config.order == ALTERNATE:
        rl, sft = config.cycle()
        return (
            f"RL and SFT by turns: {rl} steps of RLOO without a leash, {sft} of SFT on as many experts' responses, by "
            "one AdamW at a constant rate, gradients not clipped. What cycles end at is predicted for short ones"
        )
    return f"RL objective: {OBJECTIVES[config.rl]}"


def _policies(config: SampledConfiguration) -> list[dict[str, str]]:
    if config.order in OWN_RESPONSES:
        return policies_table(config.order, config.data_law, distil=minimised(config))
    return policies_table(config.order, config.data_law)


def _as_json(result: Result) -> dict[str, Any]:
    def ends(interval: Interval) -> dict[str, Any]:
        return {
            "estimate": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "level": 1 - interval.delta,
            "method": interval.method,
            "approximate": interval.approximate,
        }

    return {
        "protocol": "sampled",
        "outcome": result.outcome,
        "summary": what_was_found(result),
        "not_shown": what_it_does_not_show(result),
        "config": result.config.as_json(),
        "policies": _policies(result.config),
        "averages": [asdict(line) for line in averages(result)],
        "rows": [
            {
                "statement": row.claim.statement,
                "claim": row.claim.claim,
                "policy": row.claim.policy,
                "kind": row.claim.kind,
                "unit": row.claim.unit,
                "lhs": row.claim.lhs,
                "relation": row.claim.relation,
                "rhs": row.claim.rhs,
                "margin": ends(row.interval),
                "resolution": row.resolution,
                "outcome": row.outcome.value,
                "by_bootstrap": row.by_bootstrap,
                "note": row.note,
            }
            for row in result.rows
        ],
        "changes": [change.as_json() for change in changes(result)],
        "predictions": [
            {
                "policy": title,
                "quantity": p.quantity,
                "statement": p.statement,
                "predicted": p.predicted,
                "observed": ends(p.observed),
                "unit": p.unit,
            }
            for ref in result.refs
            for title, some in predictions(result, ref)
            for p in some
        ],
        "optimality_gaps": [
            {"policy": title, "by": by, "gap": ends(gap)}
            for title, by, gap in optimality_gaps(result)
        ],
        "soft_values": [
            {
                "ref": title,
                "value": ends(soft.value),
                "bias_bound": soft.bias_bound,
                "effective_samples": soft.effective_samples,
            }
            for title, soft in soft_values(result)
        ],
        "plans": {
            ref: [
                {
                    "quantity": p.quantity,
                    "statement": p.statement,
                    "effect": p.effect,
                    "sd": p.sd,
                    "prompts_needed": p.needed,
                }
                for p in some
            ]
            for ref, some in result.plans.items()
        },
    }
