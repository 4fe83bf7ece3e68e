"""Error bounds of single operations, and derivatives of single functions, against what they bound and compute."""

from __future__ import annotations

import numpy as np
import pytest
from flint import arb as ball
from flint import ctx

from nondecoupling.numbers.duals import Dual, Duals
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.roundoff import ROUNDOFF, Bounded, law


@pytest.fixture(autouse=True)
def precision():
    saved, ctx.prec = ctx.prec, 256
    yield
    ctx.prec = saved


VALUES, ERRORS = (0.3, 1.0, 7.5), (0.0, 1e-12, 1e-3, 0.2)
UNARY = {
    "exp": (ROUNDOFF.exp, lambda x: x.exp()),
    "expm1": (ROUNDOFF.expm1, lambda x: x.expm1()),
    "log": (ROUNDOFF.log, lambda x: x.log()),
    "log1p": (ROUNDOFF.log1p, lambda x: x.log1p()),
    "sqrt": (ROUNDOFF.sqrt, lambda x: x.sqrt()),
    "square": (ROUNDOFF.square, lambda x: x * x),
    "excess": (
        lambda x: ROUNDOFF.excess(Bounded(np.zeros(1)), x),
        lambda x: x.exp() - 1 - x,
    ),
    "omega": (ROUNDOFF.wright_omega, lambda x: x.exp().lambertw()),
}
BINARY = {
    "sum": (lambda x, y: x + y, lambda x, y: x + y),
    "difference": (lambda x, y: x - y, lambda x, y: x - y),
    "product": (lambda x, y: x * y, lambda x, y: x * y),
    "quotient": (lambda x, y: x / y, lambda x, y: x / y),
    "sum of a row": (
        lambda x, y: ROUNDOFF.sum(Bounded([x.value[0], y.value[0]], [x.error[0], y.error[0]])),
        lambda x, y: x + y,
    ),
}


def corners(value, error):
    return [ball(value) + ball(sign) * ball(error) for sign in (-1, 0, 1)]


def assert_encloses(found, exact):
    for value in exact:
        distance = abs(ball(float(found.value[0])) - value)
        # The bound is a float itself.
        assert distance <= ball(float(found.error[0])) * (1 + ball("1e-15")) + ball("1e-300")
    if np.isfinite(found.error[0]):  # and not by far
        most = max(float(abs(ball(float(found.value[0])) - value)) for value in exact)
        assert found.error[0] <= 3 * most + 1e-13 * (1 + abs(found.value[0]))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("error", ERRORS)
def test_a_function_moves_by_no_more_than_its_bound(name, value, error):
    function, reference = UNARY[name]
    found = function(Bounded(np.array([value]), error))
    assert_encloses(found, [reference(x) for x in corners(value, error)])


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("errors", [(0.0, 0.0), (1e-3, 0.0), (0.0, 1e-3), (0.1, 0.2)])
def test_an_operation_moves_by_no_more_than_its_bound(name, errors):
    function, reference = BINARY[name]
    found = function(*(Bounded(np.array([v]), e) for v, e in zip((1.7, 0.6), errors, strict=True)))
    exact = [reference(x, y) for x in corners(1.7, errors[0]) for y in corners(0.6, errors[1])]
    assert_encloses(found, exact)


# --- underflow and overflow --------------------------------------------------------------------

TINIEST = 2.0**-1074
LOW = {
    "exp of what underflows": (ROUNDOFF.exp(Bounded([-740.3, -746.0])), ["-740.3", "-746"], lambda x: x.exp()),
    "exp of a wide ball": (ROUNDOFF.exp(Bounded([-760.0], 50.0)), ["-710"], lambda x: x.exp()),
    "expm1": (ROUNDOFF.expm1(Bounded([3e-320])), ["3e-320"], lambda x: x.expm1()),
    "log1p": (ROUNDOFF.log1p(Bounded([3e-320])), ["3e-320"], lambda x: x.log1p()),
    "product": (Bounded([1e-200]) * Bounded([1e-200]), ["1e-200"], lambda x: x * x),
    "square": (ROUNDOFF.square(Bounded([1.3e-161])), ["1.3e-161"], lambda x: x * x),
    "quotient": (Bounded([1e-200]) / 1e150, ["1e-200"], lambda x: x / ball("1e150")),
    "omega": (ROUNDOFF.wright_omega(Bounded([-741.2])), ["-741.2"], lambda x: x.exp().lambertw()),
    "excess": (
        ROUNDOFF.excess(Bounded([-744.0]), Bounded([300.0])),
        ["300"],
        lambda x: ball(-744).exp() * (x.exp() - 1 - x),
    ),
    "excess, far below": (
        ROUNDOFF.excess(Bounded([-742.0]), Bounded([-1e20])),
        ["-1e20"],
        lambda x: ball(-742).exp() * (x.exp() - 1 - x),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOW)
def test_what_underflows_is_within_its_error(name):
    found, arguments, reference = LOW[name]
    for value, error, argument in zip(found.value, found.error, arguments, strict=True):
        distance = abs(ball(float(value)) - reference(ball(argument)))
        assert error > 0 and distance <= ball(float(error)) * (1 + ball("1e-12"))


def test_the_error_of_a_product_that_underflows_grows_with_what_follows():
    lost = Bounded([1e-200]) * Bounded([1e-200])
    assert (lost * 1e300).error[0] >= 1e300 * TINIEST
    assert (lost / 1e-300).error[0] >= 1e300 * TINIEST
    assert (1.0 / lost).error[0] == np.inf


@pytest.mark.parametrize(
    "zero",
    [
        Bounded([0.0]) * 3.0,
        Bounded([0.0]) / 7.0,
        ROUNDOFF.exp(Bounded([-np.inf])),
        ROUNDOFF.expm1(Bounded([0.0])),
        ROUNDOFF.wright_omega(Bounded([-np.inf])),
        1.0 / Bounded([np.inf]),
    ],
)
def test_an_exact_zero_has_no_error(zero):
    assert (zero.value[0], zero.error[0]) == (0.0, 0.0)


@pytest.mark.parametrize(
    "overflown",
    [
        ROUNDOFF.exp(Bounded([800.0])),
        ROUNDOFF.exp(Bounded([800.0], 1e-13)) * 2.0,
        1.0 - ROUNDOFF.exp(Bounded([800.0], 1e-13)) * 2.0,
        ROUNDOFF.expm1(Bounded([800.0])),
        Bounded([1e200]) * 1e200,
        Bounded([1e200]) / 1e-200,
        Bounded([1.5e308]) + 1.5e308,
        ROUNDOFF.sum(Bounded([1.5e308, 1.5e308])),
        ROUNDOFF.maximum(ROUNDOFF.exp(Bounded([800.0])), 1.0),
        ROUNDOFF.log(Bounded([1e-200]) * 1e-200),
        Bounded([np.inf], [np.nan]),
        Bounded([np.inf], [1e-3]),
        Bounded([np.inf]) - np.inf,
        Bounded([np.inf]) * Bounded([1e-5], [1.0]),
        Bounded([np.inf]) * 0.0,
    ],
)
def test_an_overflow_is_not_an_exact_infinity(overflown):
    assert overflown.error[0] == np.inf


@pytest.mark.parametrize(
    "infinite",
    [
        ROUNDOFF.log(Bounded([0.0])),
        ROUNDOFF.log1p(Bounded([-1.0])),
        ROUNDOFF.log(Bounded([0.0])) + Bounded([7.0], [1e-3]),
        -ROUNDOFF.log(Bounded([0.0])) * Bounded([7.0], [1e-3]),
        ROUNDOFF.exp(Bounded([np.inf])),
        ROUNDOFF.sqrt(Bounded([np.inf])),
        ROUNDOFF.sum(Bounded([np.inf, 1.0], [0.0, 1e-3])),
        ROUNDOFF.max(Bounded([np.inf, 1.0], [0.0, 1e-3])),
        ROUNDOFF.maximum(Bounded([np.inf]), Bounded([1.0], [1e-3])),
        law([0.0, -np.inf])[1:],
        ROUNDOFF.excess(law([-0.5]), Bounded([-np.inf])),
    ],
)
def test_a_true_infinity_has_no_error(infinite):
    assert np.isinf(infinite.value[0]) and infinite.error[0] == 0


def test_what_may_have_mass_or_be_positive_takes_no_branch_of_a_degenerate_world():
    maybe, exact = Bounded([1e-200]) * 1e-200, Bounded([0.0])
    assert ROUNDOFF.positive(maybe)[0] and not ROUNDOFF.positive(exact)[0]
    assert ROUNDOFF.support(ROUNDOFF.log(maybe))[0] and not ROUNDOFF.support(ROUNDOFF.log(exact))[0]
    assert not ROUNDOFF.positive(Bounded([-1.0], [0.5]))[0]


def test_the_errors_of_both_arguments_of_an_excess_multiply():
    found = ROUNDOFF.excess(Bounded([0.0], 1.0), Bounded([0.5], 1.0))
    assert_encloses(found, [ball(1).exp() * (ball(1.5).exp() - 1 - ball(1.5))])


# --- where nothing is bounded ------------------------------------------------------------------


@pytest.mark.parametrize("function", [ROUNDOFF.log, lambda x: 1.0 / x])
def test_what_may_be_zero_has_no_logarithm_and_no_inverse(function):
    assert function(Bounded(np.array([1.0]), 1.0)).error[0] == np.inf
    assert np.isfinite(function(Bounded(np.array([1.0]), 0.9)).error[0])


def test_omega_inverts_its_equation():
    z = np.concatenate([np.linspace(-700, 50, 400), np.linspace(-2, 3, 400), [1e6]])
    omega = floats_of(z).wright_omega(z)
    for point, value in zip(z, omega, strict=True):
        exact = ball(float(point)).exp().lambertw() if point < 600 else ball(float(point))
        while point >= 600 and abs(exact + exact.log() - ball(float(point))) > ball("1e-30"):
            exact = ball((ball(float(point)) - exact.log()).mid())
        assert abs(ball(float(value)) / exact - 1) < 1e-13 * (1 + abs(min(point, 0.0)))


# --- derivatives along a direction -------------------------------------------------------------

OF_ONE = {
    "exp": lambda xp, x: xp.exp(x),
    "log": lambda xp, x: xp.log(x),
    "log1p": lambda xp, x: xp.log1p(x),
    "expm1": lambda xp, x: xp.expm1(x),
    "sqrt": lambda xp, x: xp.sqrt(x),
    "square": lambda xp, x: xp.square(x),
    "omega": lambda xp, x: xp.wright_omega(x),
    "excess in u": lambda xp, x: xp.excess(0.0 * x, x),
    "excess in its weight": lambda xp, x: xp.excess(x, 0.0 * x + 0.7),
    "excess in both": lambda xp, x: xp.excess(x, x * x),
    "product": lambda xp, x: x * x * 3.0,
    "quotient": lambda xp, x: (x + 1.0) / (x * x),
    "inverse": lambda xp, x: 2.0 / x,
    "difference": lambda xp, x: 1.0 - x * x,
}


@pytest.mark.parametrize("name", OF_ONE)
def test_a_slope_is_the_limit_of_differences(name):
    x = np.array([0.4, 1.3, 2.2])
    xp, step = floats_of(x), 1e-6
    slope = OF_ONE[name](Duals(xp), Dual(x, np.full(3, 2.0))).slope
    ends = [OF_ONE[name](xp, x + 2.0 * sign * step) for sign in (-1, 1)]
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / (2 * step), rtol=1e-7)
