"""Interval certificates: what Arb balls decide on exact rational worlds.

Both sides of a claim are enclosed, so a verdict is a theorem about that world: the precision is
doubled until the enclosures decide, or the budget is spent and the verdict is ``UNDECIDED``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from nondecoupling.deciding.decisions import report_verdict
from nondecoupling.deciding.verdict import Status, Verdict
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.exact import the_number
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import Claim, StatementType, asserted
from nondecoupling.theory.worlds import World

PRECISIONS = (128, 256, 512, 1024)
# An identity is confirmed when the two enclosures overlap and are this narrow relative to 1 + |side|
IDENTITY_WIDTH = 2.0**-80


def certify(
    statement: StatementType, world: World, precisions: tuple[int, ...] = PRECISIONS
) -> list[Verdict]:
    """Verdicts of all claims of a statement on one rational world, decided in ball arithmetic.

    Raises ``ValueError`` for a world with values that the fields of the statement do not take.
    """
    import flint

    world.require(statement.world)
    verdicts: list[Verdict] = []
    saved = flint.ctx.prec
    try:
        for precision in precisions:
            flint.ctx.prec = precision
            verdicts = list(_at_current_precision(statement, world))
            if all(v.status is not Status.UNDECIDED for v in verdicts):
                break
    finally:
        flint.ctx.prec = saved
    for verdict in verdicts:
        status = Status.HOLDS if is_equality_case(verdict) else verdict.status
        report_verdict(Assurance.CERTIFIED, statement, verdict.claim, status)
    return verdicts


def _at_current_precision(statement: StatementType, world: World) -> Iterator[Verdict]:
    xp = arb()
    w = world.exact(statement.world, xp)
    for condition in statement.conditions(xp, w):
        verdict = decide(statement.id, condition)
        if verdict.status in (Status.REFUTED, Status.UNDECIDED):
            outside, boundary = verdict.status is Status.REFUTED, sides_agree(verdict)
            status = Status.OUT_OF_SCOPE if outside else Status.UNDECIDED
            reason = f"condition {condition.name!r} {'fails' if outside else 'undecided'}"
            if boundary:
                reason += ": its sides agree to 25 digits"
            for claim in asserted(statement, xp, w):
                yield Verdict(
                    statement.id,
                    claim.name,
                    status,
                    verdict.margin,
                    verdict.tolerance,
                    reason=reason,
                    refuted=claim.refuted,
                    on_boundary=boundary,
                )
            return
    for claim in asserted(statement, xp, w):
        verdict = decide(statement.id, claim)
        if verdict.status is Status.REFUTED:
            verdict = replace(verdict, witness=dict(world.values))
        yield verdict


def decide(statement_id: str, claim: Claim) -> Verdict:
    """Verdict on one claim whose sides are balls."""
    lhs, rhs, margin = map(the_number, (claim.lhs, claim.rhs, claim.margin()))
    strict = claim.relation == ">"
    both_infinite = _is_infinite(lhs) and _is_infinite(rhs)
    if both_infinite:
        status, middle, radius = (Status.REFUTED if strict else Status.HOLDS), 0.0, 0.0
    else:
        status = _status(claim, margin, lhs, rhs)
        middle, radius = float(margin.mid()), float(margin.rad())
    reason = "" if status is not Status.UNDECIDED else f"margin within {radius:.1g} of {middle:.1g}"
    return Verdict(
        statement_id,
        claim.name,
        status,
        middle,
        radius,
        float(lhs),
        float(rhs),
        reason,
        refuted=claim.refuted,
        strict=strict,
    )


def _is_infinite(ball: Any) -> bool:
    import flint

    return bool(ball == flint.arb("inf"))


def _status(claim: Claim, margin: Any, lhs: Any, rhs: Any) -> Status:
    if margin.is_nan():
        return Status.UNDECIDED
    if claim.relation == "==":
        if margin != 0:  # certainly different: the balls are disjoint
            return Status.REFUTED
        narrow = margin.rad() <= IDENTITY_WIDTH * (1 + abs(lhs) + abs(rhs)).mid()
        return Status.HOLDS if narrow else Status.UNDECIDED
    if margin > 0 or (margin >= 0 and claim.relation != ">"):
        return Status.HOLDS
    certainly_not = margin < 0 or (margin <= 0 and claim.relation == ">")
    return Status.REFUTED if certainly_not else Status.UNDECIDED


def is_equality_case(verdict: Verdict) -> bool:
    """Whether an inequality stayed undecided because its sides agree to over 25 digits.

    A strict one may fail by equality: it has no such case.
    """
    return not verdict.strict and sides_agree(verdict)


def sides_agree(verdict: Verdict) -> bool:
    """Whether a comparison stayed undecided because its sides agree to over 25 digits."""
    size = 1 + abs(verdict.lhs) + abs(verdict.rhs)
    return (
        verdict.status is Status.UNDECIDED
        and abs(verdict.margin) + verdict.tolerance < 1e-25 * size
    )
