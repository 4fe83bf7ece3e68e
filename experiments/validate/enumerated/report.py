"""Writes report.json, report.html and the plots of a run folder, from its configuration and metrics alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nondecoupling.deciding.verdict import Status
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.checks import SELF_TEST, Check
from validate.enumerated.digest import Digest, changes, digest
from validate.enumerated.first_screen import first_screen
from validate.enumerated.head_precision import about_precision
from validate.enumerated.inputs import inputs_of
from validate.enumerated.plots import plots
from validate.enumerated.story import what_held, what_it_does_not_show
from validate.enumerated.training import planned
from validate.html import render
from validate.reports import write_files
from validate.run_folder import RunFolder

__all__ = ["EnumeratedReport", "write_report"]

TEMPLATE = Path(__file__).with_name("report.html.j2")
STYLES = {
    Status.HOLDS: "green",
    Status.REFUTED: "bold red",
    Status.UNDECIDED: "yellow",
    Status.OUT_OF_SCOPE: "dim",
}


@dataclass(frozen=True)
class EnumeratedReport:
    """What the terminal shows at the end."""

    folder: RunFolder
    result: Digest

    @property
    def outcome(self) -> str:
        return self.result.outcome

    def print_summary(self, console: Console) -> None:
        table = Table(title="Statements on this run")
        for name, side in (
            ("", "left"),
            ("verdict", "left"),
            ("identities, consequences", "right"),
            ("inequalities", "right"),
            ("smallest margin", "right"),
            ("out of scope", "right"),
        ):
            table.add_column(name, justify="right" if side == "right" else "left")
        for s in self.result.statements:
            tight = s.tightest
            table.add_row(
                s.statement,
                Text(s.status.value, style=STYLES[s.status]),
                str(len(s.identities) + len(s.consequences)),
                str(len(s.inequalities)),
                f"{tight.margin:.2g} {tight.unit}" if tight else "",
                str(len(s.out_of_scope)),
            )
        console.print(table)
        for line in what_held(self.result):
            console.print(f"* {line}", highlight=False)
        console.print(f"Report: {self.folder.path / 'report.html'}")


def write_report(config: EnumeratedConfiguration, folder: RunFolder) -> EnumeratedReport:
    """The files of the report, from the configuration, its task and metrics.jsonl alone."""
    inputs = inputs_of(config)
    folder.must_have(inputs.digests, config)
    result = digest(config, inputs.task, folder.all_records(planned(config)))
    images = plots(result)
    write_files(folder, images, _html(folder, result, images), as_json(result))
    return EnumeratedReport(folder, result)


def _html(folder: RunFolder, result: Digest, images: dict[str, str]) -> str:
    return render(
        TEMPLATE,
        folder,
        result.config,
        first_screen(result),
        {s.statement for s in result.statements},
        images,
        result=result,
        held=what_held(result),
        not_shown=what_it_does_not_show(result),
        self_test=_self_test(result.rows),
        Status=Status,
    )


def _self_test(rows: list[Check]) -> Check:
    """The largest |sum p - 1| of the run."""
    return max((row for row in rows if row.statement == SELF_TEST), key=lambda row: row.lhs)


def as_json(result: Digest) -> dict[str, Any]:
    """report.json"""
    return {
        "outcome": result.outcome,
        "summary": what_held(result),
        "not_shown": what_it_does_not_show(result),
        "config": result.config.as_json(),
        "model": result.model,
        "layout": result.layout,
        "enumeration_difference": result.enumeration[0],
        "enumeration_tolerance": result.enumeration[1],
        **about_precision(result.precision),
        "data_entropy": result.experts.data_entropy,
        "data_reward": result.experts.data_reward,
        "reward_range": result.experts.range,
        "counts": {status.name: result.count(status) for status in Status},
        "never_applied": result.never_applied,
        "policies": result.policies,
        "statements": [
            {
                "statement": s.statement,
                "title": s.title,
                "status": s.status.name,
                "identities": len(s.identities),
                "consequences": len(s.consequences),
                "inequalities": len(s.inequalities),
                "out_of_scope": len(s.out_of_scope),
                "worst_identity": s.worst_identity and s.worst_identity.as_json(),
                "tightest_inequality": s.tightest and s.tightest.as_json(),
            }
            for s in result.statements
        ],
        "predictions": [
            {
                "episode": title,
                "quantity": p.quantity,
                "statement": p.statement,
                "predicted": p.predicted,
                "observed": p.observed,
                "unit": p.unit,
            }
            for title, predictions in result.predictions
            for p in predictions
        ],
        "changes": [change.as_json() for change in changes(result)],
        "checkpoints": [line.as_json() for line in result.checkpoints],
        "rows": [row.as_json() for row in result.rows],
    }
