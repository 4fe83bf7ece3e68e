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
