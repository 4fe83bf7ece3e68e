"""The command ``compare``: two runs side by side, from their reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from nondecoupling.cli.exits import fail
from nondecoupling.cli.options import AsJson
from nondecoupling.cli.report import console, print_json
from nondecoupling.run_reports import TABLES, Comparison, compare, html, read_report


def compare_command(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, or its report.json.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="The other one.")],
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with a picture; extra plot.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Two runs of experiments/qwen_validate.py: settings, where stages landed, verdicts that differ."""
    try:
        found = compare(read_report(first), read_report(second))
    except (ValueError, OSError) as error:
        fail(str(error))
    if as_json:
        print_json({"tables": found.tables(), "unshared_rows": found.unshared})
    else:
        _print(found)
    if page is not None:
        try:
            page.write_text(html(found), encoding="utf-8")
        except (OSError, ImportError) as error:
            fail(f"--html {page}: {error}")


def _print(found: Comparison) -> None:
    out = console()
    for run in (found.first, found.second):
        out.print(f"{run.name}: {run.outcome}, {len(run.verdicts)} rows", markup=False)
    for name, rows in found.tables().items():
        heading, empty = TABLES[name]
        head, *body = rows
        if not body:
            out.print(f"{heading}: {empty}", markup=False)
            continue
        table = Table(*map(escape, head), title=heading)
        for row in body:
            table.add_row(*map(escape, row))
        out.print(table)
    out.print("Rows in one run only: {} and {}".format(*found.unshared))
