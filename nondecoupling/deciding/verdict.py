"""What a check answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Status(Enum):
    """The outcome of one check of one claim."""

    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    OUT_OF_SCOPE = "out of scope"


@dataclass(frozen=True)
class Verdict:
    """One claim of one statement, checked on one world (or on a box of worlds).

    ``margin`` is how much room the claim has (negative: violated), ``tolerance`` the bound on the
    error of the computation that produced it. ``witness`` is the world of a refutation, ``reason``
    names the assumption that fails or why the check stayed undecided.
    """

    statement: str
    claim: str
    status: Status
    margin: float
    tolerance: float
    lhs: float = float("nan")
    rhs: float = float("nan")
    reason: str = ""
    witness: dict[str, Any] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        text = f"{self.statement} {self.claim}: {self.status.value}"
        text += f" (margin {self.margin:.3g}, tolerance {self.tolerance:.1g})"
        if self.reason:
            text += f"; {self.reason}"
        return text if self.witness is None else f"{text}; world {self.witness}"
