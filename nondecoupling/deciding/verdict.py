"""What a check answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from nondecoupling.theory.fields import Fractions


class Status(Enum):
    """The outcome of one check of one claim."""

    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    OUT_OF_SCOPE = "out of scope"


@dataclass(frozen=True)
class Verdict:
    """One claim of one statement, checked on one world (or on a batch or a box of worlds).

    ``margin`` is how much room the claim has (negative: violated), ``tolerance`` the bound on the
    error of the computation that produced it. ``witness`` is the world of a refutation, ``reason``
    names the assumption that fails or why the check stayed undecided. ``refuted`` marks a claim that
    the theory itself says is false: a counterexample to it is what is looked for. ``strict`` marks a
    strict inequality. ``on_boundary`` says that the sides of a condition agree to over 25 digits, so that
    it stayed open whether the world is in scope.
    """

    statement: str
    claim: str
    status: Status
    margin: float
    tolerance: float
    lhs: float = float("nan")
    rhs: float = float("nan")
    reason: str = ""
    witness: Mapping[str, Fractions] | None = field(default=None, compare=False)
    refuted: bool = False
    strict: bool = False
    on_boundary: bool = False

    def __str__(self) -> str:
        text = f"{self.statement} {self.claim}: {self.status.value}"
        text += f" (margin {self.margin:.3g}, tolerance {self.tolerance:.1g})"
        if self.reason:
            text += f"; {self.reason}"
        return text if self.witness is None else f"{text}; world {self.witness}"
