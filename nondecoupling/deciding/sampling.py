"""Checking a statement on batches of float64 worlds, with derived tolerances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.deciding.decisions import report_verdict
from nondecoupling.deciding.verdict import Status, Verdict
from nondecoupling.numbers.roundoff import ROUNDOFF, Bounded, law, lift
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.statement import Claim, Relation, StatementType, asserted
from nondecoupling.theory.worlds import WorldValues, sample_worlds

# In parts of 1 + |lhs| + |rhs|: a margin that is within a larger error says nothing about the claim.
COARSE = 1e-6


@dataclass(frozen=True)
class BatchResult:
    """One claim over a batch of worlds; arrays of shape ``[worlds]``.

    A world is violated when its margin is below minus the bound on its error. It is undecided when the
    bound is infinite (overflow), or when the margin is within it and it exceeds ``COARSE`` of ``size``,
    1 + |lhs| + |rhs|. A strict inequality needs a margin beyond the error.
    """

    claim: str
    refuted_by_theory: bool
    margin: np.ndarray
    error: np.ndarray
    size: np.ndarray
    applies: np.ndarray
    relation: Relation

    @property
    def is_identity(self) -> bool:
        return self.relation == "=="

    @property
    def violated(self) -> np.ndarray:
        excess = np.abs(self.margin) if self.is_identity else -self.margin
        equal = (self.margin == 0) & (self.error == 0) & (self.relation == ">")
        return self.applies & ((excess > self.error) | equal)

    @property
    def undecided(self) -> np.ndarray:
        within = np.abs(self.margin) <= self.error
        vague = within & (self.error > COARSE * self.size)
        if self.relation == ">":
            vague = within & ~self.violated
        return self.applies & (np.isnan(self.margin) | ~np.isfinite(self.error) | vague)

    def verdict(self, statement: StatementType) -> Verdict:
        """REFUTED by one violated world; HOLDS only if every world in scope is decided."""
        relevant = self.applies & ~self.undecided
        room = -np.abs(self.margin) if self.is_identity else self.margin
        with np.errstate(invalid="ignore"):
            worst = int(np.argmin(np.where(relevant, room + self.error, np.inf)))
        worlds, violated, undecided = (
            int(x.sum()) for x in (self.applies, self.violated, self.undecided)
        )
        if not worlds:
            status, reason = Status.OUT_OF_SCOPE, "the conditions hold in none of the worlds"
        elif violated:
            status, reason = Status.REFUTED, f"{violated} of {worlds} worlds violate it"
        elif undecided:
            status, reason = Status.UNDECIDED, f"{undecided} of {worlds} worlds stayed undecided"
        else:
            status, reason = Status.HOLDS, ""
        return Verdict(
            statement.id,
            self.claim,
            status,
            float(self.margin[worst]),
            float(self.error[worst]),
            reason=reason,
            refuted=self.refuted_by_theory,
        )


def _evaluate(claim: Claim, applies: np.ndarray) -> BatchResult:
    lhs, rhs, margin = lift(claim.lhs), lift(claim.rhs), lift(claim.margin())
    exact = (lhs.error == 0) & (rhs.error == 0)
    same_infinity = exact & (lhs.value == rhs.value) & np.isinf(lhs.value)
    value = np.where(same_infinity, 0.0, margin.value)
    error = np.where(same_infinity, 0.0, margin.error)
    size = 1 + np.abs(lhs.value) + np.abs(rhs.value)
    value, error, size, applies = np.broadcast_arrays(value, error, size, applies)
    return BatchResult(
        claim.name,
        claim.refuted,
        value[..., 0],
        error[..., 0],
        size[..., 0],
        applies[..., 0],
        claim.relation,
    )


def _with_error(name: str, value: Any) -> Bounded:
    if isinstance(value, Bounded):
        return value
    return law(value) if name.startswith("log_") else Bounded(value)


def check_arguments(statement: StatementType, arguments: Mapping[str, Any]) -> list[BatchResult]:
    """Evaluate all claims on float64 arguments (plain arrays, or ``Bounded`` with input errors)."""
    w = WorldValues({name: _with_error(name, value) for name, value in arguments.items()})
    applies = np.ones((1, 1), dtype=bool)
    for condition in statement.conditions(ROUNDOFF, w):
        margin = lift(condition.margin())
        # Strictly inside: at the edge of a condition rounding decides, so those worlds are left out
        applies = applies & (margin.value > margin.error)
    return [_evaluate(claim, applies) for claim in asserted(statement, ROUNDOFF, w)]


def check_random_worlds(
    statement: StatementType, *, worlds: int, responses: int = 4, seed: int = 0
) -> list[BatchResult]:
    """Evaluate all claims on random worlds drawn from the statement's own declaration."""
    rng = np.random.default_rng(seed)
    results = check_arguments(statement, sample_worlds(statement.world, rng, worlds, responses))
    for result in results:
        status = result.verdict(statement).status
        report_verdict(Assurance.SAMPLED, statement, result.claim, status)
    return results
