"""What has been decided, reported as it happens.

``certify``, ``attack`` and their kin report each decision that they reach; whoever wants to know opens
``recording()`` around the work. The ledger does so around every test in ``proofs/``: what a test decided
earns a rung of assurance there, not what it is called or how it is marked.

>>> from fractions import Fraction
>>> from nondecoupling.deciding.certify import certify
>>> from nondecoupling.theory import catalog
>>> from nondecoupling.theory.worlds import World
>>> world = World({"log_p": (Fraction(1, 2),) * 2, "log_q": (Fraction(1, 3), Fraction(2, 3))})
>>> with recording() as made:
...     verdicts = certify(catalog.statement("F1"), world)
>>> for decision in made:
...     print(decision.rung.value, decision.statement, decision.claim)
certified F1 stable form
certified F1 KL is nonnegative
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from nondecoupling.deciding.verdict import Status
from nondecoupling.theory import catalog
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import StatementType, reduced_from

Reported = TypeVar("Reported")


@dataclass(frozen=True)
class Decision:
    """One thing decided about a statement, of the kind that a rung of assurance stands for.

    ``claim`` names the claim decided, empty for a step of a derivation; ``statement`` is empty where only
    the caller knows which statement it is about. ``scope`` says what a decision about many worlds covers:
    the box of a certificate.
    """

    rung: Assurance
    statement: str = ""
    claim: str = ""
    scope: str = ""


@dataclass(frozen=True)
class Refutation:
    """A claim proved false, of a statement or of a variant of it: here a check was seen to fail."""

    statement: str
    claim: str


_decisions: list[list[Decision]] = []
_refutations: list[list[Refutation]] = []


def report(decision: Decision) -> None:
    """Tell every open recording of a decision."""
    for made in _decisions:
        made.append(decision)


def report_refutation(refutation: Refutation) -> None:
    """Tell every open recording of refutations of one."""
    for seen in _refutations:
        seen.append(refutation)


def report_verdict(
    rung: Assurance, statement: StatementType, claim: str, status: Status, scope: str = ""
) -> None:
    """Report what a check of one claim decided, if it decided anything about a statement of the catalogue.

    That is the catalogue's own class, or what ``only`` reduced it to. A variant (a tightened constant, a
    dropped assumption, a class of a test's own) decides nothing about the statement, whatever the outcome:
    its refutation shows that the check can fail (``recording_refutations`` has it); where it holds, its
    world need be none of the statement's, and a moved constant tightens only sides that are nonnegative. Derivations
    by sympy do not come here: where one ends only in a class of a test's own, which fixes or orders the world, that the
    class says the same is the test's to see.
    """
    if status is Status.REFUTED:
        report_refutation(Refutation(statement.id, claim))
    decided = status in (Status.HOLDS, Status.REFUTED)
    if decided and catalog.statements().get(statement.id) is reduced_from(statement):
        report(Decision(rung, statement.id, claim, scope))


def recording() -> AbstractContextManager[list[Decision]]:
    """Collect the decisions that are reported inside the ``with`` block."""
    return _collecting(_decisions)


def recording_refutations() -> AbstractContextManager[list[Refutation]]:
    """Collect the refutations inside the ``with`` block, those of variants included."""
    return _collecting(_refutations)


@contextmanager
def _collecting(recordings: list[list[Reported]]) -> Iterator[list[Reported]]:
    own: list[Reported] = []
    recordings.append(own)
    try:
        yield own
    finally:
        # By identity: two recordings of the same are equal as lists.
        recordings[:] = [other for other in recordings if other is not own]
