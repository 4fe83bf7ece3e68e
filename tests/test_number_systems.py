"""One formula, many number systems: each primitive and the derived tolerances against Arb."""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest
import torch
from flint import arb as ball
from flint import ctx
from hypothesis import given

from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.roundoff import ROUNDOFF, Bounded, law
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import worlds
from nondecoupling.theory.theorems.s2_coupling_at_sft_optimality import CouplingAtSftOptimality
from nondecoupling.theory.worlds import WorldValues

POINTS = np.concatenate(
    [s * 10.0 ** np.arange(-300, 3, 0.25) for s in (1.0, -1.0)]
    + [[0.0, 0.49999, 0.5, 0.50001, 700.0]]
)


@pytest.fixture(autouse=True)
def precision():
    saved = ctx.prec
    ctx.prec = 4096
    yield
    ctx.prec = saved


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("log_w", [0.0, -1.0, -300.0])
def test_excess_conforms_to_arb(library, log_w):
    points = torch.tensor(POINTS) if library == "torch" else POINTS
    xp = floats_of(points)
    got = np.asarray(xp.excess(points * 0 + log_w, points))
    for u, value in zip(POINTS, got, strict=True):
        exact = ball(log_w).exp() * (ball(u).exp() - 1 - ball(u))
        error = abs(float(ball(float(value)) - exact))
        size = 1 + abs(log_w) + abs(u)
        assert error <= 8 * 2.0**-52 * size * float(exact) + 2.3e-308, u


def test_excess_in_floats_is_nonnegative_everywhere():
    values = floats_of(POINTS).excess(np.zeros_like(POINTS), POINTS)
    assert (values >= 0).all()


def test_excess_ball_contains_the_value_near_zero():
    xp = arb()
    for u in (ball(1) / 10, -ball(1) / 5, ball(10) ** -50):
        got = xp.excess(xp.array([0]), xp.array([u])).flat[0]
        assert got.overlaps(u.exp() - 1 - u)
    wide = xp.excess(xp.array([0]), np.array([ball(0, 0.1)], dtype=object)).flat[0]
    assert wide.contains(ball(0.05).exp() - 1 - ball(0.05))
    assert wide.lower() > -1e-8  # a ball's radius has 30 bits: it ends just below zero


@pytest.mark.parametrize("precision", [64, 128, 300])
def test_excess_balls_near_zero_are_as_small_as_the_precision(precision):
    """Against e^u - 1 - u at many times the precision, where it does not cancel.

    At most 64 terms round twice each, and u, its square and the factor a few times: below 2^8 roundings.
    """
    with flint.ctx.workprec(precision):
        points = [flint.arb(-7) / 29, flint.arb(1) / 5, flint.arb(1) / 3**20, -flint.arb(1) / 7**90]
        xp = arb()
        balls = xp.excess(xp.array([0] * len(points)), xp.array(points))
    with flint.ctx.workprec(8 * precision + 2000):
        for u, found in zip(points, balls, strict=True):
            assert found.contains(u.mid().expm1() - u.mid())
            assert found.rad() < abs(found) * flint.arb(2) ** (8 - precision)


def test_square_of_a_ball_around_zero_stays_above_zero():
    assert arb().square(np.array([ball(0, 1)], dtype=object)).flat[0].lower() > -1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ("array", 7.0, [1.0, 7.0, 3.0]),
        (7.0, "array", [7.0, 2.0, 7.0]),
        ("array", -math.inf, [1.0, -math.inf, 3.0]),
        ("array", "others", [1.0, 20.0, 3.0]),
    ],
)
def test_where_takes_numbers_and_patterns_as_each_library_does(dtype, x, y, expected):
    pattern = np.array([True, False, True])
    given = {"array": torch.tensor([1.0, 2.0, 3.0], dtype=dtype, requires_grad=True)}
    given["others"] = torch.tensor([10.0, 20.0, 30.0], dtype=dtype)
    sides = [given.get(side, side) for side in (x, y)]
    xp = floats_of(given["others"])
    for condition in (pattern, torch.tensor(pattern)):
        found = xp.where(condition, *sides)
        assert found.dtype == dtype and found.tolist() == expected
    (slope,) = torch.autograd.grad(found.sum(), given["array"])
    assert slope.tolist() == (pattern if x == "array" else ~pattern).astype(float).tolist()
    arrays = [side.detach().numpy() if hasattr(side, "detach") else side for side in sides]
    there = floats_of(given["others"].numpy()).where(pattern, *arrays)
    assert there.dtype == given["others"].numpy().dtype and there.tolist() == expected


def test_systems_agree_on_a_formula():
    from nondecoupling.formulas.sft_then_rl import coupling_gap

    exact = coupling_gap(
        arb(), arb().log(arb().array([0.25, 0.75])), arb().array([0, 1]), arb().array([1])
    )
    floats = coupling_gap(
        floats_of(np.ones(1)), np.log([[0.25, 0.75]]), np.array([[0.0, 1.0]]), np.ones((1, 1))
    )
    xp = sympy_numbers()
    from sympy import Rational

    symbols = coupling_gap(
        xp, xp.log(xp.array([Rational(1, 4), Rational(3, 4)])), xp.array([0, 1]), xp.array([1])
    )
    assert float(exact.flat[0]) == pytest.approx(float(floats[0, 0]), rel=1e-15)
    assert float(symbols.flat[0].evalf(30)) == pytest.approx(float(floats[0, 0]), rel=1e-14)


@given(worlds(CouplingAtSftOptimality))
def test_roundoff_bounds_enclose_the_exact_value(world):
    """Running error bounds are bounds: the float result is never farther from the true value."""
    statement = CouplingAtSftOptimality
    xp = arb()
    exact = list(statement.claims(xp, world.exact(statement.world, xp)))
    floats = {}
    for name, value in world.floats(statement.world).items():
        rounded = 2.0**-53 * np.abs(value)
        floats[name] = law(value) if name.startswith("log_") else Bounded(value, rounded)
    tracked = list(statement.claims(ROUNDOFF, WorldValues(floats)))
    for truth, got in zip(exact, tracked, strict=True):
        for side in ("lhs", "rhs"):
            value, found = getattr(truth, side).flat[0], getattr(got, side)
            if not isinstance(found, Bounded) or not math.isfinite(float(found.error.flat[0])):
                continue
            distance = abs(float(ball(float(found.value.flat[0])) - value))
            assert distance <= float(found.error.flat[0]) + 1e-307, f"{truth.name} {side}: {world}"


def test_roundoff_bounds_are_not_vacuous():
    from nondecoupling.deciding.sampling import check_random_worlds

    for result in check_random_worlds(CouplingAtSftOptimality, worlds=2000, responses=4):
        assert np.median(result.error) < 1e-12


def test_a_bound_that_ignores_rounding_is_caught():
    """With zero input error an unnormalised law shows: the guard is able to fail."""
    from nondecoupling.deciding.sampling import check_arguments
    from nondecoupling.theory.theorems.f1_gibbs_inequality import GibbsInequality

    off = np.log([[0.5, 0.5 + 1e-9]])
    exact = {"log_p": Bounded(off), "log_q": Bounded(np.log([[0.5, 0.5]]))}
    stable, _ = check_arguments(GibbsInequality, exact)
    assert stable.violated.any()
