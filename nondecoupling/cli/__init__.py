"""The ``nondecoupling`` command: statements checked, attacked, certified; trainers priced; runs forecast and watched.

Exit status: 0 what was asked holds, 1 a claim is refuted (or the ledger has a statement that is not
established), 2 the command was misused or its output could not be written, 3 nothing could be decided,
70 the program itself failed. A claim that the theory itself calls false counts as holding when its
counterexample is found.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer
from typer.main import get_command

from nondecoupling import __version__
from nondecoupling.cli import frontier, recipe, statements, verdicts
from nondecoupling.cli.cite import cite
from nondecoupling.cli.collect import collect_command, score_command
from nondecoupling.cli.compare import compare_command
from nondecoupling.cli.exits import ExitStatus
from nondecoupling.cli.forecast import forecast_command
from nondecoupling.cli.monitor import monitor_command
from nondecoupling.theory import catalog

app = typer.Typer(
    name="nondecoupling",
    help="State, check, attack and certify the theorems on the non-decoupling of SFT and RL.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 holds, 1 refuted, 2 misused, 3 undecided, 70 a failure of the program.",
)
app.command("list")(statements.list_statements)
app.command("show")(statements.show)
app.command("ledger")(statements.show_ledger)
app.command("check")(verdicts.check)
app.command("attack")(verdicts.attack)
app.command("certify")(verdicts.certify)
app.command("frontier")(frontier.frontier)
app.command("recipe")(recipe.recipe)
app.command("collect")(collect_command)
app.command("forecast")(forecast_command)
app.command("score")(score_command)
app.command("monitor")(monitor_command)
app.command("compare")(compare_command)
app.command("cite")(cite)


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
    raise SystemExit(_run())


def _run() -> int:
    """The exit status of the command. Python's own for a crash would be that of a refutation."""
    try:
        status = get_command(app).main(standalone_mode=False)
        sys.stdout.flush()
    except typer.Abort:
        typer.echo("Aborted.", err=True)
        return 130
    except (OSError, SystemExit) as error:  # click leaves with SystemExit where a pipe was closed
        if (
            isinstance(error, SystemExit) and not error.code
        ):  # and after completing a word for a shell
            return ExitStatus.HOLDS
        _discard_output()
        if isinstance(error, OSError):
            typer.echo(f"Error: the output cannot be written: {error}", err=True)
        return ExitStatus.MISUSED
    except Exception as error:
        if hasattr(error, "show") and hasattr(
            error, "exit_code"
        ):  # a misuse, of a class private to typer
            error.show()
            return error.exit_code
        traceback.print_exc()
        return ExitStatus.CRASHED
    return status if isinstance(status, int) else ExitStatus.HOLDS


def _discard_output() -> None:
    """What is still in the buffer of stdout must not be tried again when Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
