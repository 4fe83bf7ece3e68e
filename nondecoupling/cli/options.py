"""The options that commands share, and the statement and claims that they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer

from nondecoupling.cli.exits import fail
from nondecoupling.estimate.arguments import LARGEST
from nondecoupling.numbers.floats import floats_of
from nondecoupling.theory import catalog
from nondecoupling.theory.statement import Claim, StatementType, only
from nondecoupling.theory.worlds import sample_worlds


def at_least(least: int) -> Callable[[typer.CallbackParam, int], int]:
    """A callback that checks an option's value."""
    return between(least, None)


def between(least: int, most: int | None) -> Callable[[typer.CallbackParam, int], int]:
    """A callback that checks an option's value against both ends."""

    def checked(param: typer.CallbackParam, value: int) -> int:
        if value < least:
            fail(f"{param.opts[0]} {value}: must be at least {least}")
        if most is not None and value > most:
            fail(f"{param.opts[0]} {value}: must be at most {most}")
        return value

    return checked


StatementId = Annotated[str, typer.Argument(metavar="ID", help="A statement, for example S2.")]
ClaimName = Annotated[str | None, typer.Option("--claim", help="Only this claim, by its name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(callback=at_least(0), help="Seed of the random numbers.")]
Responses = Annotated[int, typer.Option(callback=at_least(2), help="Responses in each world.")]
RewardWeights = Annotated[
    str | None,
    typer.Option(metavar="W,W", help="The trainer's reward_weights, one for each --reward."),
]


def weights_in(text: str) -> list[float]:
    """Of an option ``--reward-weights``."""
    try:
        weights = [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--reward-weights {text}: give a number for each --reward, as 1,0.5"
        ) from None
    if not all(abs(weight) <= LARGEST for weight in weights):
        raise ValueError(
            f"--reward-weights {text}: give finite numbers, at most {LARGEST:g} in size, as 1,0.5"
        )
    return weights


def statement_named(statement_id: str) -> StatementType:
    try:
        return catalog.statement(statement_id.upper())
    except KeyError as error:
        fail(error.args[0])


def claims_of(statement: StatementType) -> list[Claim]:
    """The claims of a statement, on one random world: their sides mean nothing."""
    world = sample_worlds(statement.world, np.random.default_rng(0), 1, 3)
    xp = floats_of(*world.values())
    with np.errstate(all="ignore"):
        return list(statement.claims(xp, world))


def narrowed(statement: StatementType, claim: str | None) -> StatementType:
    """The statement with this claim only; with all of them if none is given."""
    if claim is None:
        return statement
    names = [c.name for c in claims_of(statement)]
    if claim not in names:
        fail(f"--claim {claim!r}: {statement.id} claims {', '.join(map(repr, names))}")
    return only(statement, claim)
