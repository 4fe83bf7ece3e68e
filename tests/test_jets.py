"""Jets: derivatives against sympy, enclosures against sampled points; boxes and what they print."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction as F
from typing import Any

import numpy as np
import pytest
import sympy as sp
from flint import arb as ball

from nondecoupling.deciding.boxes import (
    Box,
    BoxCertificate,
    _enclosures,
    certify_box,
    certify_convex,
)
from nondecoupling.deciding.verdict import Status
from nondecoupling.numbers.jets import Program, Recorder
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.theory.catalog import statement
from nondecoupling.theory.fields import Positive, Reward
from nondecoupling.theory.statement import Claim, Statement

# Formulas over a number system, on x in [1/4, 3/4] and y in [1, 2].
FORMULAS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "sum": lambda xp, x, y: 2 * x - (1 - y) + x,
    "product": lambda xp, x, y: x * y * x,
    "quotient": lambda xp, x, y: (x + 1) / (x * y) + 3 / y,
    "exp": lambda xp, x, y: xp.exp(x * y),
    "log": lambda xp, x, y: xp.log(x + y),
    "log1p": lambda xp, x, y: xp.log1p(x / y),
    "expm1": lambda xp, x, y: xp.expm1(-x * y),
    "sqrt": lambda xp, x, y: xp.sqrt(x * x + y),
    "square": lambda xp, x, y: xp.square(x - y / 4),
    "abs": lambda xp, x, y: xp.abs(x - y) * y,
    "maximum": lambda xp, x, y: xp.maximum(x * x, y) * x,
    "minimum": lambda xp, x, y: xp.minimum(x * x, y) * x,
    "excess": lambda xp, x, y: xp.excess(xp.log(y), x - y / 2),
    "wright_omega": lambda xp, x, y: xp.wright_omega(x * y),
    "where": lambda xp, x, y: xp.where(x < y, xp.exp(xp.log(x)) * y, y),
}
CELL = ((0.25, 0.75), (1.0, 2.0))
X, Y = sp.symbols("x y", positive=True)


def recorded(formula: Callable[[Any, Any, Any], Any], cell: Any = CELL) -> Program:
    recorder = Recorder()
    x, y = (recorder.parameter(around(*ends)) for ends in cell)
    xp = recorder.numbers()
    return Program([x, y], [formula(xp, xp.array([x]), xp.array([y])).flat[0]])


def around(low: float, high: float) -> Any:
    return ball(low) if low == high else ball(low).union(ball(high))


def jets(program: Program, cell: Any) -> tuple[Any, Any]:
    centre = [around((a + b) / 2, (a + b) / 2) for a, b in cell]
    (pair,) = program.replay([around(*ends) for ends in cell], centre)
    return pair


def derivatives(name: str) -> Callable[[float, float], tuple[Any, list[Any], list[Any]]]:
    """Value, gradient and Hessian from sympy, to 30 digits."""
    if name in ("maximum", "minimum", "where", "abs"):  # one side on the whole cell
        smooth = {"maximum": Y * X, "minimum": X**3, "where": X * Y, "abs": (Y - X) * Y}
        f = smooth[name]
    else:
        xp = sympy_numbers()
        f = FORMULAS[name](xp, xp.array([X]), xp.array([Y])).flat[0]
    first = [sp.diff(f, v) for v in (X, Y)]
    second = [sp.diff(g, v) for g in first for v in (X, Y)]

    def at(x: float, y: float) -> tuple[Any, list[Any], list[Any]]:
        numbers = {X: sp.Rational(x), Y: sp.Rational(y)}
        value, *rest = (ball(str(sp.N(e.subs(numbers), 30))) for e in (f, *first, *second))
        return value, rest[:2], rest[2:]

    return at


def points() -> list[tuple[float, float]]:
    grid = [np.linspace(a, b, 4) for a, b in CELL]
    return [(float(x), float(y)) for x, y in itertools.product(*grid)]


@pytest.mark.parametrize("name", FORMULAS)
def test_derivatives_agree_with_sympy(name):
    program, expected = recorded(FORMULAS[name]), derivatives(name)
    for x, y in points()[::5]:
        over, at = jets(program, ((x, x), (y, y)))
        value, first, second = expected(x, y)
        assert abs(over.value - value) < 1e-12
        assert abs(at.value - value) < 1e-12
        for got, true in zip(over.slopes.entries(), first, strict=True):
            assert abs(got - true) < 1e-11
        for got, true in zip(at.slopes.entries(), first, strict=True):
            assert abs(got - true) < 1e-11
        bends = [ball(0)] * 4 if over.bends is None else over.bends.entries()
        for got, true in zip(bends, second, strict=True):
            assert abs(got - true) < 1e-10


@pytest.mark.parametrize("name", FORMULAS)
def test_enclosures_contain_every_point(name):
    over, _ = jets(recorded(FORMULAS[name]), CELL)
    expected = derivatives(name)
    for x, y in points():
        value, first, second = expected(x, y)
        assert over.value.overlaps(value)
        assert all(a.overlaps(b) for a, b in zip(over.slopes.entries(), first, strict=True))
        bends = [ball(0)] * 4 if over.bends is None else over.bends.entries()
        assert all(a.overlaps(b) for a, b in zip(bends, second, strict=True))


@pytest.mark.parametrize("formula", [lambda xp, x, y: x * y, lambda xp, x, y: xp.square(x + y)])
def test_every_form_of_an_enclosure_reaches_the_corners(formula):
    """Where mixed second derivatives are all there is at the centre."""
    cell = ((-1.0, 1.0), (-1.0, 1.0))
    program = recorded(formula, cell)
    (whole,) = _enclosures(program, tuple((F(a), F(b)) for a, b in cell))
    for x, y in itertools.product((-1, 0, 1), repeat=2):
        value = x * y if formula(np, 2, 3) == 6 else (x + y) ** 2
        assert whole.low <= value <= whole.high


@pytest.mark.parametrize(
    ("formula", "slopes"),
    [
        (lambda xp, x, y: xp.maximum(x, y), [(0, 1), (0, 1)]),
        (lambda xp, x, y: xp.minimum(x, y), [(0, 1), (0, 1)]),
        (lambda xp, x, y: xp.abs(x - y), [(-1, 1), (-1, 1)]),
        (lambda xp, x, y: xp.maximum(x, 1) + y, [(0, 1), (1, 1)]),
    ],
)
def test_at_a_kink_the_slopes_are_the_hull_and_the_hessian_is_unknown(formula, slopes):
    cell = ((0.5, 1.5), (0.5, 1.5))
    over, _ = jets(recorded(formula, cell), cell)
    for got, (low, high) in zip(over.slopes.entries(), slopes, strict=True):
        assert got.contains(low)
        assert got.contains(high)
    assert over.bends.entries()[0].is_nan()


def test_a_formula_that_branches_inside_the_box_is_an_error():
    with pytest.raises(ValueError, match="branches inside the box"):
        recorded(lambda xp, x, y: xp.where(x < y, x, y), ((0.0, 1.0), (0.5, 2.0)))


def test_only_what_the_output_needs_is_kept():
    def formula(xp, x, y):
        xp.exp(y)  # not used
        return xp.exp(xp.log(x)) + (xp.exp(x) + xp.exp(x))

    assert len(recorded(formula)) == 3  # exp once, two additions; exp(log x) is x


# --- branch and bound ---------------------------------------------------------------------------


class Quadratic(Statement):
    """(x - 1)^2 + y >= 1 - y where y >= 1/2, with equality at x = 1, y = 1/2."""

    id = "Q"
    title = "A claim that holds with equality on the boundary of its condition"
    world = dict(x=Reward(), y=Positive())

    @staticmethod
    def claims(xp, w):
        yield Claim("bound", xp.square(w.x - 1) + w.y, ">=", 1 - w.y)
        yield Claim("same", w.x, "==", w.x)

    @staticmethod
    def conditions(xp, w):
        yield Claim("large y", w.y, ">=", xp.full_like(w.y, 0.5))


def plane(x: tuple[F, F], y: tuple[F, F]) -> Box:
    return Box({"x": x, "y": y}, lambda x, y: dict(x=[x], y=[y]))


def test_a_condition_enters_through_its_multiplier():
    """The claim holds with equality on the condition's boundary; few boxes settle the rest."""
    found = certify_box(
        Quadratic, "bound", plane((F(0), F(2)), (F(1, 4), F(1))), inside=1e-6, max_boxes=500
    )
    assert found.status is Status.HOLDS
    assert found.boxes < 100


def test_no_bound_is_better_than_the_smallest_margin():
    found = certify_box(Quadratic, "bound", plane((F(3, 2), F(2)), (F(1), F(2))))
    assert found.status is Status.HOLDS
    assert 0 <= found.smallest <= 1.25


def test_a_violation_gives_a_sub_box():
    class Unconditional(Quadratic):
        conditions = Statement.conditions

    found = certify_box(Unconditional, "bound", plane((F(0), F(2)), (F(1, 4), F(1))))
    assert found.status is Status.REFUTED
    x, y = (sum(found.open[name]) / 2 for name in ("x", "y"))
    assert (x - 1) ** 2 + y < 1 - y


def test_outside_the_conditions_nothing_is_claimed():
    found = certify_box(Quadratic, "bound", plane((F(0), F(2)), (F(1, 8), F(1, 4))))
    assert (found.status, found.boxes, found.skipped) == (Status.OUT_OF_SCOPE, 1, 1)


def test_the_budget_ends_in_undecided():
    found = certify_box(Quadratic, "bound", plane((F(0), F(3)), (F(1, 2), F(1))), max_boxes=2)
    assert found.status is Status.UNDECIDED
    assert found.open is not None


class Tangent(Statement):
    """y (x - 1)^2 + shift + slope (x - 1) against 0: convex in x, tangent at x = 1 where both are zero."""

    id = "Q"
    title = "A claim that holds with equality at x = 1"
    world = dict(x=Reward(), y=Positive())

    @staticmethod
    def claims(xp, w):
        bowl, moved = w.y * xp.square(w.x - 1), w.x - 1
        yield Claim("attained", bowl, ">=", 0 * w.y)
        yield Claim("below", bowl - 1, ">=", 0 * w.y)
        yield Claim("above", bowl + 1, ">=", 0 * w.y)
        yield Claim("sloping", bowl + moved, ">=", 0 * w.y)
        yield Claim("downward", -bowl, ">=", 0 * w.y)
        yield Claim("kinked", xp.abs(moved), ">=", 0 * w.y)


WIDE_PLANE = plane((F(0), F(2)), (F(1, 4), F(1)))


def test_a_convex_margin_holds_from_where_it_is_tangent():
    found = certify_convex(Tangent, "attained", WIDE_PLANE, "x", 1)
    assert found.status is Status.HOLDS
    assert found.smallest == pytest.approx(0.5) and found.smallest < 0.5
    assert str(found) == (
        "attained: holds on the box, tangent at x = 1, second derivative in x >= 4.9e-1 (1 sub-boxes)"
    )


@pytest.mark.parametrize(
    ("claim", "at", "message"),
    [
        ("below", 1, "not known to vanish at x = 1"),
        ("above", 1, "not known to vanish at x = 1"),
        ("sloping", 1, "not known to vanish at x = 1"),
        ("attained", F(1, 2), "not known to vanish at x = 1/2"),
        ("downward", 1, "not known to be convex in x"),
        ("kinked", 1, "not known to be convex in x"),
    ],
)
def test_neither_a_convex_margin_nor_a_tangent_one_decides_by_itself(claim, at, message):
    found = certify_convex(Tangent, claim, WIDE_PLANE, "x", at, max_boxes=20)
    assert found.status is Status.UNDECIDED
    assert message in found.reason and found.reason in str(found)
    assert (found.open is None) == ("vanish" in message)


@pytest.mark.parametrize(
    ("parameter", "at", "message"),
    [("g", 1, "parameter='g': the box has x, y"), ("x", 3, "at=3: x runs from 0 to 2")],
)
def test_a_tangent_needs_a_parameter_of_the_box_and_a_place_in_it(parameter, at, message):
    with pytest.raises(ValueError, match=message):
        certify_convex(Tangent, "attained", WIDE_PLANE, parameter, at)


def test_a_certificate_says_how_far_inside_the_conditions_it_reaches():
    """x >= 1/20 fails where x > 0, and holds where x > 1/10: the certificate says which of the two it is about."""

    class Line(Statement):
        id, title, world = "Q", "A line", dict(x=Reward())

        @staticmethod
        def claims(xp, w):
            yield Claim("far enough", w.x, ">=", xp.full_like(w.x, 0.05))

        @staticmethod
        def conditions(xp, w):
            yield Claim("positive", w.x, ">", 0 * w.x)

    box = Box({"t": (F(-1), F(1))}, lambda t: dict(x=[t]))
    assert certify_box(Line, "far enough", box).status is Status.REFUTED
    found = certify_box(Line, "far enough", box, inside=0.1)
    assert found.status is Status.HOLDS and found.inside == 0.1
    assert "holds on the box where every condition has room >= 0.1, margin >= " in str(found)
    for inside in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="inside="):
            certify_box(Line, "far enough", box, inside=inside)


def test_identities_are_refused():
    with pytest.raises(ValueError, match="no inequality"):
        certify_box(Quadratic, "same", plane((F(0), F(2)), (F(1, 4), F(1))))


def test_a_positive_field_must_be_positive_on_the_box():
    with pytest.raises(ValueError, match="y: leaves its range"):
        certify_box(Quadratic, "bound", plane((F(0), F(2)), (F(0), F(1))))


def test_the_printed_margin_is_rounded_down():
    found = BoxCertificate("S3", "claim", Status.HOLDS, 5, 0, 1.29e-7)
    assert str(found) == "claim: holds on the box, margin >= 1.2e-7 (5 sub-boxes)"


def test_the_margin_of_a_statement_is_enclosed():
    """S3's Hoeffding margin at sampled worlds of a box is never below the certified one."""
    box = Box(
        {"t": (F(1, 5), F(4, 5)), "g": (F(1), F(3))},
        lambda t, g: dict(log_d=[t, 1 - t], reward=[0, g], beta=[1]),
    )
    found = certify_box(statement("S3"), "Hoeffding upper bound", box)
    rng = np.random.default_rng(0)
    t, g = rng.uniform(0.2, 0.8, 1000), rng.uniform(1, 3, 1000)
    gap = np.log(t + (1 - t) * np.exp(g)) - (1 - t) * g
    assert found.status is Status.HOLDS
    assert found.smallest <= (g * g / 8 - gap).min()
