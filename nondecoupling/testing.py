"""Hypothesis strategies for worlds, public: test your own inequality on the worlds that ours survive.

``worlds(statement)`` draws exact rational worlds of a statement, extremes included: near-
deterministic laws, probabilities down to 1e-30, zero mass, tiny and huge beta, ties, wide rewards
and large offsets.
"""

from __future__ import annotations

from hypothesis import currently_in_test_context
from hypothesis import strategies as st

from nondecoupling.deciding.certify import certify, is_equality_case
from nondecoupling.deciding.decisions import report_verdict
from nondecoupling.deciding.verdict import Status, Verdict
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.fields import Field, Fractions, free_fields
from nondecoupling.theory.statement import StatementType
from nondecoupling.theory.worlds import World


@st.composite
def values(draw: st.DrawFn, field: Field, n: int) -> Fractions:
    """Rational values of one field of a world with n responses: ``values(Law(full_support=True), 3)``."""
    return field.draw(draw, n)


@st.composite
def worlds(draw: st.DrawFn, statement: StatementType, *, max_responses: int = 4) -> World:
    """Exact rational worlds of a statement, with 2 to ``max_responses`` responses."""
    n = draw(st.integers(2, max_responses))
    return World(
        {name: field.draw(draw, n) for name, field in free_fields(statement.world).items()}
    )


def verdicts_of_true_claims(statement: StatementType, world: World) -> list[Verdict]:
    """Certified verdicts on one world, without the claims that the theory itself refutes."""
    return [verdict for verdict in certify(statement, world) if not verdict.refuted]


def assert_holds(statement: StatementType, world: World) -> list[Verdict]:
    """Every claim is certified on this world, or is an equality to more than 25 digits.

    Returns the verdicts; all ``OUT_OF_SCOPE`` if the statement's conditions fail on this world, and all
    ``on_boundary`` if the sides of a condition agree to more than 25 digits.
    """
    verdicts = verdicts_of_true_claims(statement, world)
    for verdict in verdicts:
        held = verdict.status is Status.HOLDS or is_equality_case(verdict)
        outside = verdict.status is Status.OUT_OF_SCOPE or verdict.on_boundary
        assert held or outside, f"{verdict}\nworld: {world}"
        if currently_in_test_context() and held:
            report_verdict(Assurance.SAMPLED, statement, verdict.claim, Status.HOLDS)
    return verdicts
