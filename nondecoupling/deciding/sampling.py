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
from nondecoupling.theory.statement import Claim, StatementType
from nondecoupling.theory.worlds import WorldValues, sample_worlds


@dataclass(frozen=True)
class BatchResult:
    """One claim over a batch of worlds; arrays of shape ``[worlds]``.

    A world is violated when its margin is below minus the bound on its error, and decided when
    the error bound is small enough to tell (an infinite bound means overflow).
    """

    claim: str
    refuted_by_theory: bool
    margin: np.ndarray
    error: np.ndarray
    applies: np.ndarray
    is_identity: bool

    @property
    def violated(self) -> np.ndarray:
        size = np.abs(self.margin) if self.is_identity else -self.margin
        return self.applies & (size > self.error)

    @property
    def undecided(self) -> np.ndarray:
        return self.applies & (np.isnan(self.margin) | ~np.isfinite(self.error))

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
    same_infinity = (lhs.value == rhs.value) & np.isinf(lhs.value)
    value = np.where(same_infinity, 0.0, margin.value)
    error = np.where(same_infinity, 0.0, margin.error)
    value, error, applies = np.broadcast_arrays(value, error, applies)
    return BatchResult(
        claim.name,
        claim.refuted,
        value[..., 0],
        error[..., 0],
        applies[..., 0],
        claim.relation == "==",
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
    return [_evaluate(claim, applies) for claim in statement.claims(ROUNDOFF, w)]


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
