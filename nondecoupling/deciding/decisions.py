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
from contextlib import contextmanager
from dataclasses import dataclass

from nondecoupling.deciding.verdict import Status
from nondecoupling.theory import theorems
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import StatementType


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


_recordings: list[list[Decision]] = []


def report(decision: Decision) -> None:
    """Tell every open recording of a decision."""
    for recording_ in _recordings:
        recording_.append(decision)


def report_verdict(
    rung: Assurance, statement: StatementType, claim: str, status: Status, scope: str = ""
) -> None:
    """Report what a check of one claim decided, if it decided anything about the statement.

    A refutation of a variant (a tightened constant, a dropped assumption, a class of a test's own) shows
    that the check can fail and says nothing about the statement; that a variant holds says all the more.
    """
    of_the_catalogue = statement.__module__.startswith(f"{theorems.__name__}.")
    if status is Status.HOLDS or (status is Status.REFUTED and of_the_catalogue):
        report(Decision(rung, statement.id, claim, scope))


@contextmanager
def recording() -> Iterator[list[Decision]]:
    """Collect the decisions that are reported inside the ``with`` block."""
    made: list[Decision] = []
    _recordings.append(made)
    try:
        yield made
    finally:
        # By identity: two recordings with the same decisions are equal as lists.
        _recordings[:] = [other for other in _recordings if other is not made]
