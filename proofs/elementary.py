"""The elementary inequalities to which the derivations reduce, each proved with sympy.

Each function asserts its proof and returns the inequality's name for the ledger.
"""

from __future__ import annotations

import sympy as sp


def tangent_of_exp() -> str:
    """e^u >= 1 + u: the difference vanishes with its slope at 0 and is convex."""
    u = sp.Symbol("u", real=True)
    difference = sp.exp(u) - 1 - u
    assert difference.subs(u, 0) == 0
    assert sp.diff(difference, u).subs(u, 0) == 0
    assert sp.diff(difference, u, 2).is_positive
    return "e^u >= 1 + u"


def hoeffding_curvature() -> str:
    """(d/dh)^2 log(1 - m + m e^h) <= 1/4, so the coupling gap is at most h^2/8 for range h."""
    h = sp.Symbol("h", real=True)
    m = sp.Symbol("m", positive=True)
    curvature = sp.diff(sp.log(1 - m + m * sp.exp(h)), h, 2)
    t = m * sp.exp(h) / (1 - m + m * sp.exp(h))
    room = sp.factor(sp.simplify(sp.Rational(1, 4) - curvature))
    assert sp.simplify(room - (t - sp.Rational(1, 2)) ** 2) == 0
    return "t(1 - t) <= 1/4"


def logarithm_below_tangent() -> str:
    """log t <= t - 1: the difference vanishes with its slope at 1 and is convex."""
    t = sp.Symbol("t", positive=True)
    difference = t - 1 - sp.log(t)
    assert difference.subs(t, 1) == 0
    assert sp.diff(difference, t).subs(t, 1) == 0
    assert sp.diff(difference, t, 2).is_positive
    return "log t <= t - 1"


def bennett_interpolation() -> str:
    """e^x lies below the quadratic that touches it at -w and meets it at b > 0, for x <= b.

    The error of that interpolation is e^xi (x + w)^2 (x - b)/6 for some xi, of the sign of x - b; for
    the lower bound the quadratic meets e^x at -a and touches it above, and the sign is reversed.
    Taking E_d of the quadratic gives the two-point value: it depends on the law only through mean
    and variance.
    """
    x, w, b, xi = sp.symbols("x w b xi", real=True)
    c0, c1, c2 = sp.symbols("c0 c1 c2")
    quadratic = c0 + c1 * x + c2 * x**2
    solution = sp.solve(
        [
            quadratic.subs(x, -w) - sp.exp(-w),
            sp.diff(quadratic, x).subs(x, -w) - sp.exp(-w),
            quadratic.subs(x, b) - sp.exp(b),
        ],
        [c0, c1, c2],
        dict=True,
    )
    assert len(solution) == 1
    assert sp.exp(xi).is_positive
    fitted = quadratic.subs(solution[0])
    # E of the quadratic under mean 0, variance w b equals its value under the two-point law, where
    # it agrees with exp: masses w/(b+w) at b and b/(b+w) at -w.
    moment = fitted.subs(x, 0) + sp.diff(fitted, x, 2) / 2 * (w * b)
    two_point = (w * sp.exp(b) + b * sp.exp(-w)) / (b + w)
    assert sp.simplify(moment - two_point) == 0
    return "the quadratic interpolating e^x at -v/b (twice) and b"
