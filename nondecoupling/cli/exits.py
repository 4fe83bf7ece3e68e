"""How a command ends: its exit status, and the message where it was misused."""

from __future__ import annotations

from enum import IntEnum
from importlib import import_module
from typing import NoReturn

import typer


class ExitStatus(IntEnum):
    HOLDS = 0
    REFUTED = 1
    MISUSED = 2
    UNDECIDED = 3
    CRASHED = 70  # sysexits.h: an internal error, which must not look like a verdict


def fail(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(ExitStatus.MISUSED)


def need(module: str, what: str, extra: str) -> None:
    """Fail with the remedy if an optional package is not installed."""
    try:
        import_module(module)
    except ImportError:
        fail(f"{what} needs {module}: pip install 'nondecoupling[{extra}]'")
