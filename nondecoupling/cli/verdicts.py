"""Commands that decide claims: ``check``, ``attack`` and ``certify``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import numpy as np
import typer

from nondecoupling.cli.exits import fail, need
from nondecoupling.cli.options import (
    AsJson,
    ClaimName,
    Responses,
    Seed,
    StatementId,
    at_least,
    claims_of,
    narrowed,
    statement_named,
)
from nondecoupling.cli.report import (
    NO_COUNTEREXAMPLE,
    Row,
    at_work,
    readable,
    report,
    status_text,
    with_progress,
)
from nondecoupling.cli.world_options import LAW, REALS, assigned, world_of
from nondecoupling.deciding.sampling import BatchResult, check_arguments
from nondecoupling.deciding.verdict import Status
from nondecoupling.theory.statement import Claim, StatementType
from nondecoupling.theory.worlds import sample_worlds

if TYPE_CHECKING:
    from nondecoupling.deciding.attack import AttackResult

CHUNK = 20_000  # worlds checked at once, between two steps of the progress bar


def check(
    statement_id: StatementId,
    worlds: Annotated[
        int, typer.Option(callback=at_least(1), help="How many random worlds.")
    ] = 100_000,
    responses: Responses = 4,
    seed: Seed = 0,
    claim: ClaimName = None,
    as_json: AsJson = False,
) -> None:
    """Check a statement on random worlds. Sampling refutes, it never proves."""
    statement = statement_named(statement_id)
    target = narrowed(statement, claim)
    rng = np.random.default_rng(seed)
    tallies: dict[str, Tally] = {}
    sizes = [min(CHUNK, worlds - start) for start in range(0, worlds, CHUNK)]
    for size in with_progress(sizes, f"{statement.id}: chunks of worlds", hidden=as_json):
        arguments = sample_worlds(target.world, rng, size, responses)
        for result in check_arguments(target, arguments):
            tallies.setdefault(result.claim, Tally()).add(result, arguments)
    rows = [tally.row(name) for name, tally in tallies.items()]
    settings = {"worlds": worlds, "responses": responses, "seed": seed}
    report("check", statement, settings, rows, as_json)


@dataclass
class Tally:
    """What the chunks of a check add up to, for one claim."""

    refuted_by_theory: bool = False
    applied: int = 0
    violated: int = 0
    undecided: int = 0
    room: float = math.inf
    margin: float = math.nan
    tolerance: float = math.nan
    world: dict[str, Any] | None = None

    def add(self, result: BatchResult, arguments: Mapping[str, np.ndarray]) -> None:
        decided = result.applies & ~result.undecided
        self.refuted_by_theory = result.refuted_by_theory
        self.applied += int(result.applies.sum())
        self.violated += int((result.violated & decided).sum())
        self.undecided += int(result.undecided.sum())
        margin = -np.abs(result.margin) if result.is_identity else result.margin
        with np.errstate(invalid="ignore"):  # inf - inf in a world that stays undecided
            room = np.where(decided, margin + result.error, np.inf)
        worst = int(np.argmin(room))
        if decided.any() and room[worst] < self.room:
            self.room = float(room[worst])
            self.margin = float(result.margin[worst])
            self.tolerance = float(result.error[worst])
            self.world = readable({name: a[worst] for name, a in arguments.items()})

    def row(self, claim: str) -> Row:
        reason = ""
        if self.violated:
            status = status_text(Status.REFUTED, self.refuted_by_theory)
            reason = f"{self.violated} of {self.applied} worlds violate it"
        elif not self.applied:
            status = Status.OUT_OF_SCOPE.value
            reason = "its conditions hold in none of the worlds"
        elif self.undecided == self.applied:
            status = Status.UNDECIDED.value
            reason = "the error bound is too large in every world"
        elif self.refuted_by_theory:
            status = NO_COUNTEREXAMPLE
            reason = "false by the theory; attack searches for its counterexample"
        else:
            status = Status.HOLDS.value
        numbers = {
            "worlds": self.applied,
            "undecided": self.undecided,
            "margin": self.margin,
            "tolerance": self.tolerance,
        }
        world = self.world if self.violated else None
        return Row(claim, self.refuted_by_theory, status, numbers, reason, world)


def attack(
    statement_id: StatementId,
    claim: ClaimName = None,
    responses: Responses = 3,
    restarts: Annotated[
        int, typer.Option(callback=at_least(1), help="Worlds descended from at once.")
    ] = 128,
    steps: Annotated[int, typer.Option(callback=at_least(1), help="Gradient steps.")] = 75,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Search for the world with the smallest margin; of a false claim, for the smallest witness.

    Tightness is 1 - margin/(the larger side): 1 where a bound is attained, above 1 where it fails. Margin and
    tightness are of the world where the descent ended; a witness is searched for separately, among small fractions.
    """
    statement = statement_named(statement_id)
    need("torch", "attack", "torch")
    need("flint", "attack", "proofs")
    found = [c for c in claims_of(narrowed(statement, claim)) if c.relation != "=="]
    if not found:
        what = (
            f"--claim {claim!r} is an identity" if claim else f"{statement.id} has identities only"
        )
        fail(f"{what}, with no margin to attack; use: nondecoupling check {statement.id}")
    settings = Search(responses=responses, restarts=restarts, steps=steps, seed=seed)
    from nondecoupling.deciding.attack import attacks

    with at_work(f"{statement.id}: {len(found)} claims attacked", hidden=as_json):
        results = attacks(statement, [c.name for c in found], **settings)
        rows = [_row_of_attack(statement, *pair) for pair in zip(found, results, strict=True)]
    report("attack", statement, settings, rows, as_json)


class Search(TypedDict):
    """The options of a search, as given and as reported."""

    responses: int
    restarts: int
    steps: int
    seed: int


def _row_of_attack(statement: StatementType, claim: Claim, result: AttackResult) -> Row:
    from nondecoupling.deciding.attack import smallest_witness

    world = readable(result.world) if result.violation else None
    status = result.status
    if claim.refuted:
        witness = smallest_witness(statement, claim.name)
        status = Status.REFUTED if witness or result.violation else Status.UNDECIDED
        reason = f"smallest witness: {witness}" if witness else "no small rational witness found"
        world = None if witness else world
    else:
        reason = {
            Status.REFUTED: "violated",
            Status.HOLDS: "no violation found",
            Status.UNDECIDED: "its sides vanish or overflow in all worlds that were met",
            Status.OUT_OF_SCOPE: "no world met the conditions",
        }[status]
    numbers = {"margin": result.margin, "tolerance": result.error, "tightness": result.tightness}
    text = status_text(status, claim.refuted)
    return Row(claim.name, claim.refuted, text, numbers, reason, world)


def certify(
    statement_id: StatementId,
    data: Annotated[str | None, typer.Option(metavar=LAW, help="The data law d.")] = None,
    ref: Annotated[str | None, typer.Option(metavar=LAW, help="The policy RL starts from.")] = None,
    policy: Annotated[str | None, typer.Option(metavar=LAW, help="Any policy p.")] = None,
    reward: Annotated[str | None, typer.Option(metavar=REALS, help="One per response.")] = None,
    beta: Annotated[str | None, typer.Option(metavar="X", help="Strength of the leash.")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--set", metavar=f"FIELD={REALS}", help="Any other field of the world."),
    ] = None,
    claim: ClaimName = None,
    as_json: AsJson = False,
) -> None:
    """Decide a statement on one rational world by interval arithmetic: a theorem about that world.

    Numbers are fractions or decimals, taken exactly: --data 1/4,3/4 --reward 0,1 --beta 1/2.
    """
    statement = statement_named(statement_id)
    target = narrowed(statement, claim)
    given = {"log_d": data, "log_ref": ref, "log_p": policy, "reward": reward, "beta": beta}
    texts = {name: text for name, text in given.items() if text is not None}
    world = world_of(target, texts | assigned(others or []))
    need("flint", "certify", "proofs")
    from nondecoupling.deciding.certify import certify as certified
    from nondecoupling.deciding.certify import is_equality_case

    refuted = {c.name: c.refuted for c in claims_of(target)}
    rows = []
    for v in certified(target, world):
        reason = v.reason
        if is_equality_case(v):
            reason = "the two sides agree to more than 25 digits, where balls cannot decide"
        numbers = {"lhs": v.lhs, "rhs": v.rhs, "margin": v.margin, "radius": v.tolerance}
        text = status_text(v.status, refuted[v.claim])
        rows.append(Row(v.claim, refuted[v.claim], text, numbers, reason))
    report("certify", statement, {"world": str(world)}, rows, as_json)
