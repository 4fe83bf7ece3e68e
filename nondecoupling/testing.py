"""Hypothesis strategies for worlds, public: test your own inequality on the worlds that ours survive.

``worlds(statement)`` draws exact rational worlds of a statement, extremes included: near-
deterministic laws, probabilities down to 1e-30, zero mass, tiny and huge beta, ties, wide rewards
and large offsets.
"""

from __future__ import annotations

from fractions import Fraction
from functools import singledispatch

from hypothesis import currently_in_test_context
from hypothesis import strategies as st

from nondecoupling.deciding.certify import certify, is_equality_case
from nondecoupling.deciding.decisions import report_verdict
from nondecoupling.deciding.verdict import Status, Verdict
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.fields import Field, Fractions, Law, Logits, Positive, Reward, Same, Unit
from nondecoupling.theory.statement import StatementType
from nondecoupling.theory.worlds import World


@st.composite
def probabilities(draw: st.DrawFn, n: int, *, full_support: bool = False) -> Fractions:
    """A rational law on n responses: even, spread over up to 30 decades, or with zeros."""
    kind = draw(st.sampled_from(("even", "decades", "near-deterministic")))
    if kind == "even":
        weights = draw(st.lists(st.integers(1, 12), min_size=n, max_size=n))
    elif kind == "decades":
        weights = [10**k for k in draw(st.lists(st.integers(0, 30), min_size=n, max_size=n))]
    else:
        weights = [1] * n
        weights[draw(st.integers(0, n - 1))] = 10 ** draw(st.integers(3, 30))
    if not full_support and draw(st.integers(0, 5)) == 0:
        kept = draw(st.integers(0, n - 1))
        drop = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        weights = [w if i == kept or not drop[i] else 0 for i, w in enumerate(weights)]
    total = sum(weights)
    return tuple(Fraction(w, total) for w in weights)


@st.composite
def rewards(draw: st.DrawFn, n: int) -> Fractions:
    """Rational rewards: with ties, real-valued, wide, or with a large common offset."""
    kind = draw(st.sampled_from(("levels", "fractions", "wide", "offset")))
    if kind == "levels":
        values = [Fraction(k) for k in draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))]
    else:
        numerators = draw(st.lists(st.integers(-1000, 1000), min_size=n, max_size=n))
        scale = Fraction(1000) if kind == "wide" else Fraction(1, 250)
        offset = 10**6 if kind == "offset" else 0
        values = [k * scale + offset for k in numerators]
    if len(set(values)) == 1:  # a ball cannot tell 1/250 - 1/250 from a small range: a whole number
        values = [Fraction(round(value)) for value in values]
    return tuple(values)


@st.composite
def positive_numbers(draw: st.DrawFn) -> Fractions:
    """A positive rational between 1e-6 and 1e6."""
    if draw(st.booleans()):
        return (Fraction(draw(st.integers(1, 40)), 10),)
    return (Fraction(10) ** draw(st.integers(-6, 6)),)


@st.composite
def unit_numbers(draw: st.DrawFn) -> Fractions:
    """A rational in (0, 1), also within 1e-12 of either end."""
    small = Fraction(1, 10 ** draw(st.integers(2, 12)))
    middle = Fraction(draw(st.integers(1, 19)), 20)
    return (draw(st.sampled_from((middle, small, 1 - small))),)


@singledispatch
def _values(field: Field, n: int) -> st.SearchStrategy[Fractions]:
    raise TypeError(f"no strategy for the world field {type(field).__name__}")


@_values.register
def _(field: Law, n: int) -> st.SearchStrategy[Fractions]:
    return probabilities(n, full_support=field.full_support)


@_values.register
def _(field: Reward, n: int) -> st.SearchStrategy[Fractions]:
    return rewards(n)


@_values.register
def _(field: Logits, n: int) -> st.SearchStrategy[Fractions]:
    return st.lists(st.integers(-60, 60), min_size=n, max_size=n).map(
        lambda ks: tuple(Fraction(k, 6) for k in ks)
    )


@_values.register
def _(field: Positive, n: int) -> st.SearchStrategy[Fractions]:
    return positive_numbers()


@_values.register
def _(field: Unit, n: int) -> st.SearchStrategy[Fractions]:
    return unit_numbers()


@st.composite
def worlds(draw: st.DrawFn, statement: StatementType, *, max_responses: int = 4) -> World:
    """Exact rational worlds of a statement, with 2 to ``max_responses`` responses."""
    n = draw(st.integers(2, max_responses))
    return World(
        {
            name: draw(_values(field, n))
            for name, field in statement.world.items()
            if not isinstance(field, Same)
        }
    )


def verdicts_of_true_claims(statement: StatementType, world: World) -> list[Verdict]:
    """Certified verdicts on one world, without the claims that the theory itself refutes."""
    from nondecoupling.numbers.arb import arb
    from nondecoupling.theory.statement import Arguments

    w = Arguments(world.arguments(statement.world, arb()))
    false_claims = {claim.name for claim in statement.claims(arb(), w) if claim.refuted}
    return [v for v in certify(statement, world) if v.claim not in false_claims]


def assert_holds(statement: StatementType, world: World) -> list[Verdict]:
    """Every claim is certified on this world, or is an equality to more than 25 digits.

    Returns the verdicts; all ``OUT_OF_SCOPE`` if the statement's conditions fail on this world.
    """
    verdicts = verdicts_of_true_claims(statement, world)
    for verdict in verdicts:
        decided = verdict.status in (Status.HOLDS, Status.OUT_OF_SCOPE)
        assert decided or is_equality_case(verdict), f"{verdict}\nworld: {world}"
        if currently_in_test_context() and verdict.status is not Status.OUT_OF_SCOPE:
            report_verdict(Assurance.SAMPLED, statement, verdict.claim, Status.HOLDS)
    return verdicts
