"""The ``nondecoupling`` command in the test's own process."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer.testing
from typer.main import get_command

from nondecoupling import cli

# To build the command anew takes longer than most commands run.
typer.testing._get_command = cache(get_command)


def invoke(*words: str) -> Any:
    """The result of ``nondecoupling WORDS``: its output, its exit status, and the exception that ended it."""
    return typer.testing.CliRunner().invoke(cli.app, list(words))
