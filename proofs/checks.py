"""Checks that proof files share: tightness by attack, and that a weakened statement is refuted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nondecoupling.deciding.attack import AttackResult, attack, attacks, smallest_witness
from nondecoupling.deciding.certify import certify, decide, is_equality_case
from nondecoupling.deciding.decisions import (
    Decision,
    Refutation,
    report,
    report_refutation,
)
from nondecoupling.deciding.verdict import Status, Verdict
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import Claim, StatementType, dropping, tightened
from nondecoupling.theory.worlds import World


def exact_world(**values: Iterable[object]) -> World:
    """A rational world from readable values: ``exact_world(log_d="1/4 3/4", beta="1/2")``."""
    from fractions import Fraction

    return World({k: tuple(Fraction(x) for x in str(v).split()) for k, v in values.items()})


def assert_survives(
    statement: StatementType, *claims: str, responses: int = 3
) -> list[AttackResult]:
    """The attack finds no violation of any of the claims; returns how tight each got."""
    assert claims, f"{statement.id}: nothing to attack"
    results = attacks(statement, claims, responses=responses)
    for result in results:
        assert not result.violation, f"{statement.id} {result.claim}: {result}"
    return results


def assert_tightened_fails(
    statement: StatementType, claim: str, factor: float, *, responses: int = 2
) -> AttackResult:
    """With the constant moved by ``factor`` the attack finds a violation: the check can fail."""
    moved = tightened(statement, claim, factor)
    result = attack(moved, claim, responses=responses, first_violation=True)
    assert result.violation, f"{statement.id} {claim} x {factor} survived: {result}"
    return result


def assert_needs(statement: StatementType, assumption: str, claim: str) -> World:
    """Without the assumption some rational world provably violates the claim."""
    witness = smallest_witness(dropping(statement, assumption), claim)
    assert witness is not None, f"{statement.id} {claim}: holds without {assumption!r}?"
    return witness


def assert_refuted(id_: str, wrong: Claim) -> None:
    """Balls decide that a claim is false that the statement ``id_`` does not make: the check can fail."""
    verdict = decide(id_, wrong)
    assert verdict.status is Status.REFUTED, f"{id_} {wrong.name}: {verdict}"
    report_refutation(Refutation(id_, wrong.name))


def assert_attained(statement: StatementType, claim: str, world: World) -> Verdict:
    """On this world the two sides of the inequality agree to over 25 digits."""
    (verdict,) = [v for v in certify(statement, world) if v.claim == claim]
    exact = verdict.status is Status.HOLDS and verdict.margin == 0
    assert exact or is_equality_case(verdict), f"{verdict}\nworld: {world}"
    return verdict


def assert_in_all(holds: Any, claim: str) -> None:
    """The claim, as an array of truth values, holds in every one of a positive number of drawn worlds."""
    values = np.asarray(holds)
    assert values.dtype == bool and values.size > 0, f"{claim}: no drawn world is in scope"
    assert values.all(), f"{claim}: fails in {int((~values).sum())} of {values.size} drawn worlds"
    report(Decision(Assurance.SAMPLED, claim=claim))


def assert_positive(*balls: Any, claim: str) -> None:
    """Every ball lies to the right of zero: interval arithmetic has decided it."""
    import flint

    assert balls and all(isinstance(ball, flint.arb) for ball in balls), "needs balls"
    for ball in balls:
        assert ball > 0, f"{claim}: {ball} is not certainly positive"
    report(Decision(Assurance.CERTIFIED, claim=claim))


def tightness_line(result: AttackResult) -> str:
    """The ledger's line for an attack."""
    return f"{result.claim}: tightness reached {result.tightness:.4f}"
