"""The shape of a statement: hypotheses, claims, and the variants that tests derive from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Field
from nondecoupling.theory.worlds import WorldValues

Relation = Literal["==", ">=", "<=", ">"]


@dataclass(frozen=True)
class Claim:
    """``lhs relation rhs``, two sides of shape ``[..., 1]`` computed by different routes.

    ``">"`` serves conditions, which are strict so that a degenerate world falls outside, and claims that
    are refuted. No other claim may be strict: ``asserted`` refuses it, for where its sides are equal
    enclosures cannot tell that it fails.

    ``refuted`` marks a claim that the theory says is false as it stands (R5, R7): the library finds
    its counterexamples by search.
    """

    name: str
    lhs: Array
    relation: Relation
    rhs: Array
    refuted: bool = False

    def margin(self) -> Array:
        """How much room an inequality has; the difference of the sides of an identity."""
        return self.rhs - self.lhs if self.relation == "<=" else self.lhs - self.rhs


class Statement:
    """A statement of the theory. Subclasses live one per file in ``theorems/``.

    ``world`` declares what is quantified over, ``conditions`` the inequalities that must hold for
    the claims to apply, ``claims`` what is asserted.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    depends: ClassVar[tuple[str, ...]] = ()
    world: ClassVar[Mapping[str, Field]]

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        raise TypeError("a statement defines its claims")

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        return iter(())


StatementType = type[Statement]
# What a variant was derived from, under this name in its own dictionary: a subclass of it inherits nothing.
_ORIGIN = "_origin"


def asserted(statement: StatementType, xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
    """The claims of a statement; a strict one that the theory does not refute is a ``ValueError``."""
    for claim in statement.claims(xp, w):
        if claim.relation == ">" and not claim.refuted:
            raise ValueError(
                f"claim={claim.name!r}: {statement.id} claims a strict inequality, which rounding cannot tell "
                "from an equality; write >= or <=, or refuted=True if the theory says that it is false"
            )
        yield claim


def reduced_from(statement: StatementType) -> StatementType:
    """The statement that ``only`` reduced to this one, or the statement itself."""
    while origin := vars(statement).get(_ORIGIN):
        statement = origin
    return statement


def assumptions(statement: StatementType) -> list[str]:
    """The assumptions that are fields of the world, by the names that ``dropping`` takes."""
    found = (field.assumption(name) for name, field in statement.world.items())
    return [assumption for assumption in found if assumption is not None]


def dropping(statement: StatementType, assumption: str) -> StatementType:
    """The statement without one of its assumptions: usually false, which a test must find out.

    ``assumption`` is a name from ``assumptions`` or ``"conditions"`` for all side conditions.
    """
    if assumption == "conditions":
        return _variant(statement, f"without {assumption}", conditions=Statement.conditions)
    world = dict(statement.world)
    for name, field in statement.world.items():
        if field.assumption(name) == assumption:
            world[name] = field.relaxed()
            return _variant(statement, f"without {assumption}", world=world)
    raise ValueError(
        f"assumption={assumption!r}: {statement.id} has {assumptions(statement) or 'none'}"
    )


def tightened(statement: StatementType, claim: str, factor: float) -> StatementType:
    """The statement with one inequality's constant moved against it by ``factor`` > 1.

    ``lhs >= rhs`` becomes ``lhs >= factor * rhs`` and ``lhs <= rhs`` becomes
    ``lhs <= rhs / factor``, for sides that are nonnegative. Only that claim is kept.
    """
    if not 1 < factor < math.inf:
        raise ValueError(
            f"factor={factor}: a claim is tightened by a finite factor above 1; any other weakens it"
        )

    def move(c: Claim) -> Claim:
        if c.relation == "==":
            raise ValueError(f"claim={c.name!r}: an identity has no constant to move")
        return replace(c, rhs=c.rhs / factor if c.relation == "<=" else c.rhs * factor)

    return _only(statement, (claim,), move, f"{claim}, tightened by {factor}")


def only(statement: StatementType, *claims: str) -> StatementType:
    """The statement reduced to some of its claims."""
    kept = _only(statement, claims, lambda c: c, ", ".join(claims))
    setattr(kept, _ORIGIN, statement)
    return kept


def _only(
    statement: StatementType, kept: tuple[str, ...], change: Callable[[Claim], Claim], what: str
) -> StatementType:
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        names = []
        missing = set(kept)
        for found in statement.claims(xp, w):
            names.append(found.name)
            if found.name in missing:
                missing.remove(found.name)
                yield change(found)
            if not missing:
                return  # the claims after it are not computed
        raise ValueError(f"claim={min(missing)!r}: {statement.id} has {names}")

    return _variant(statement, what, claims=claims)


def _variant(statement: StatementType, what: str, **changes: Any) -> StatementType:
    changed = {k: staticmethod(v) if callable(v) else v for k, v in changes.items()}
    body = dict(title=f"{statement.title} ({what})", __doc__=statement.__doc__, **changed)
    return type(f"{statement.__name__}Variant", (statement,), body)
