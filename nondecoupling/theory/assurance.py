"""Rungs of assurance: the kinds of evidence behind a statement."""

from __future__ import annotations

from enum import Enum


class Assurance(Enum):
    """Rungs of assurance: kinds of evidence, not a ranking."""

    SAMPLED = "sampled"
    ATTACKED = "attacked"
    CERTIFIED = "certified"
    SYMBOLIC = "symbolic"
    MACHINE_CHECKED = "machine-checked"
    OBSERVED = "observed"

    @property
    def meaning(self) -> str:
        return _MEANING[self]


_MEANING = {
    Assurance.SAMPLED: "property tests on drawn worlds found no counterexample",
    Assurance.ATTACKED: "an optimiser looked for the smallest margin and found none below zero",
    Assurance.CERTIFIED: "interval enclosure decided it on stated rational worlds or a whole box",
    Assurance.SYMBOLIC: "derived with sympy, for the number of responses that the test states",
    Assurance.MACHINE_CHECKED: "proved in Rocq for every number of responses",
    Assurance.OBSERVED: "an inequality about policies that training produced, in a committed run on a language "
    "model; identities and computed optima do not count",
}
