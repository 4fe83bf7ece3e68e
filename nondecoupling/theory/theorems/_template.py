"""ID: Title. Copy this file to <id>_<name>.py, and proofs/test_<id>_<name>.py beside it."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class NameOfTheStatement(Statement):
    """Title.

    Statement: the formula, in words and symbols.

    Assumptions: what must hold; each is a field of ``world`` or a claim in ``conditions``.

    Side: identity, lower bound, upper bound.

    Equality when: the equality case.

    Units: nats per response, or reward units.

    Source: where it is from, and what is ours.

    Proof idea: one line.

    Example:
    >>> 1 + 1
    2
    """

    id = "X1"
    title = "Title"
    depends = ("F1",)
    world = dict(log_p=Law(), log_q=Law(full_support=True))

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        # One side from the definition, the other from the closed form.
        divergence = kl_by_definition(xp, w.log_p, w.log_q)
        yield Claim("what is asserted", divergence, ">=", xp.full_like(divergence, 0.0))
