"""The ``nondecoupling`` command: list, show, check, attack and certify statements from a shell.

Exit status: 0 what was asked holds, 1 a claim is refuted (or the ledger has a statement that is not
established), 2 the command was misused, 3 nothing could be decided. A claim that the theory itself
calls false counts as holding when its counterexample is found.
"""

from __future__ import annotations

from typing import Annotated

import typer

from nondecoupling import __version__
from nondecoupling.cli import frontier, statements, verdicts
from nondecoupling.cli.exits import ExitStatus
from nondecoupling.theory import catalog

app = typer.Typer(
    name="nondecoupling",
    help="State, check, attack and certify the theorems on the non-decoupling of SFT and RL.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 holds, 1 refuted, 2 misused, 3 undecided.",
)
app.command("list")(statements.list_statements)
app.command("show")(statements.show)
app.command("ledger")(statements.show_ledger)
app.command("check")(verdicts.check)
app.command("attack")(verdicts.attack)
app.command("certify")(verdicts.certify)
app.command("frontier")(frontier.frontier)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version")] = False) -> None:
    if version:
        print(f"nondecoupling {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point of the console script."""
    try:
        catalog.statements()
    except ValueError as error:  # a file in theorems/ that is no statement yet
        typer.echo(f"Error: {error}", err=True)
        raise SystemExit(ExitStatus.MISUSED) from None
    app()
