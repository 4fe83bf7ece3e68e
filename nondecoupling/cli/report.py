"""What commands print: a verdict per claim, as a table or as JSON, and the status they sum up to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from nondecoupling.cli.exits import ExitStatus
from nondecoupling.deciding.verdict import Status
from nondecoupling.theory.statement import StatementType

AS_THE_THEORY_SAYS = "refuted, as the theory says"
NO_COUNTEREXAMPLE = "no counterexample"  # to a claim that the theory calls false, in a sample
STYLE = {
    Status.HOLDS.value: "green",
    AS_THE_THEORY_SAYS: "green",
    Status.REFUTED.value: "bold red",
}


@dataclass
class Row:
    """One claim as the command reports it."""

    claim: str
    refuted_by_theory: bool
    status: str
    numbers: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    world: dict[str, Any] | None = None

    def exit_status(self) -> ExitStatus:
        if self.status in (Status.HOLDS.value, AS_THE_THEORY_SAYS, NO_COUNTEREXAMPLE):
            return ExitStatus.HOLDS
        refuted = self.status == Status.REFUTED.value
        return ExitStatus.REFUTED if refuted else ExitStatus.UNDECIDED


def status_text(status: Status, refuted_by_theory: bool) -> str:
    as_it_should = refuted_by_theory and status is Status.REFUTED
    return AS_THE_THEORY_SAYS if as_it_should else status.value


def readable(arguments: Mapping[str, Any]) -> dict[str, list[float]]:
    """A world as a reader wants it: laws as probabilities."""
    return {
        name.removeprefix("log_"): (np.exp(value) if name.startswith("log_") else value).tolist()
        for name, value in ((name, np.asarray(value)) for name, value in arguments.items())
    }


def report(
    command: str,
    statement: StatementType,
    settings: Mapping[str, Any],
    rows: list[Row],
    as_json: bool,
) -> NoReturn:
    """Print the rows and leave with the status that sums them up."""
    statuses = {row.exit_status() for row in rows}
    worst = ExitStatus.HOLDS
    for status in (ExitStatus.UNDECIDED, ExitStatus.REFUTED):
        worst = status if status in statuses else worst
    if as_json:
        claims = [
            {
                "claim": row.claim,
                "status": row.status,
                "refuted_by_theory": row.refuted_by_theory,
                **row.numbers,
                "reason": row.reason,
                "world": row.world,
            }
            for row in rows
        ]
        answer = {"command": command, "statement": statement.id, **settings}
        print_json({**answer, "claims": claims, "exit_status": int(worst)})
    else:
        _print_rows(f"{statement.id}  {statement.title}", settings, rows)
    raise typer.Exit(worst)


def _print_rows(title: str, settings: Mapping[str, Any], rows: list[Row]) -> None:
    said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "world")
    title = f"{title}\n{said}" if said else title
    table = Table("claim", "status", *rows[0].numbers, "remark", title=escape(title))
    for row in rows:
        style = STYLE.get(row.status, "yellow")
        cells = map(number, row.numbers.values())
        table.add_row(escape(row.claim), f"[{style}]{row.status}[/]", *cells, escape(row.reason))
    out = console()
    if "world" in settings:
        out.print(f"world: {settings['world']}", markup=False)
    out.print(table)
    for row in rows:
        if row.world:
            out.print(f"{row.claim}: world {row.world}", markup=False)


# --- parts that other commands use too ---------------------------------------------------------


def console() -> Console:
    found = Console(highlight=False)
    # A pipe or a file has no width: let lines be as long as they need.
    return found if found.is_terminal else Console(highlight=False, width=200)


def number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.6g}"


def print_json(answer: Any) -> None:
    print(json.dumps(_finite(answer), indent=2))


def _finite(value: Any) -> Any:
    """JSON has no infinities: they become the strings "inf", "-inf" and "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


@contextmanager
def at_work(description: str, *, hidden: bool) -> Iterator[None]:
    """A sign of life on standard error while something of unknown length is worked on."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        progress.add_task(description, total=None)
        yield


def with_progress(items: list[Any], description: str, *, hidden: bool) -> Iterator[Any]:
    """The items, with a bar on standard error while they are worked on."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=hidden,
    )
    with bar as progress:
        yield from progress.track(items, description=description)
