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


def hoeffding_by_curvature(responses: int = 3) -> str:
    """psi(t) = log E e^{t (f - E f)} <= t^2 R^2/8 for m <= f <= M, R = M - m.

    psi vanishes with its slope at t = 0, psi'' is the variance of f under the law tilted by t f, and
    R^2/4 - Var f = E (M - f)(f - m) + (E f - (m + M)/2)^2 under any law.
    """
    t, low, high = sp.symbols("t m M", real=True)
    q, f = sp.symbols(f"q1:{responses + 1}", positive=True), sp.symbols(f"f1:{responses + 1}")
    weights = [x * sp.exp(t * y) for x, y in zip(q, f, strict=True)]
    total = sum(weights)

    def mean(values):
        return sum(w * v for w, v in zip(weights, values, strict=True)) / total

    psi = sp.log(total / sum(q)) - t * mean(f).subs(t, 0)
    assert sp.simplify(psi.subs(t, 0)) == 0 and sp.simplify(sp.diff(psi, t).subs(t, 0)) == 0
    variance = mean([y**2 for y in f]) - mean(f) ** 2
    assert sp.cancel(sp.together(sp.diff(psi, t, 2) - variance)) == 0
    inside = mean([(high - y) * (y - low) for y in f])
    room = (high - low) ** 2 / 4 - variance - inside - (mean(f) - (low + high) / 2) ** 2
    assert sp.cancel(sp.together(sp.expand(room))) == 0
    return "log E e^(t (f - E f)) <= t^2 R^2/8"


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


def distance_from_midrange() -> str:
    """|f - (m + M)/2| <= (M - m)/2 for m <= f <= M.

    Hence the variance of f is at most (M - m)^2/4, and E_p f - E_q f, which does not change when a
    constant is taken from f, is at most (M - m)/2 times sum |p - q|.
    """
    f, low, high = sp.symbols("f m M", real=True)
    room = ((high - low) / 2) ** 2 - (f - (low + high) / 2) ** 2
    assert sp.expand(room - (f - low) * (high - f)) == 0  # a product of two nonnegative factors
    return "(f - m)(M - f) >= 0"


def bretagnolle_huber_by_overlap() -> str:
    """TV(p, q)^2 <= 1 - e^{-KL(p||q)}: e^{-KL} <= (sum sqrt(pq))^2 <= sum min sum max = (1 - TV)(1 + TV)."""
    least, gap, tv = sp.symbols("a g TV", positive=True)
    # -KL/2 = E_p log sqrt(q/p) <= E_p [sqrt(q/p)/m - 1] + log m = log m, m = sum sqrt(pq)
    low, high = least, least + gap
    for p, q in ((low, high), (high, low)):
        assert low * high - p * q == 0 and low + high - p - q == 0
        assert high - low - sp.Abs(p - q) == 0
    # sum min = 1 - TV and sum max = 1 + TV, since p and q sum to one.
    assert sp.expand((1 - tv) * (1 + tv) - (1 - tv**2)) == 0
    return (
        f"TV^2 <= 1 - e^-KL by {logarithm_below_tangent()} at sqrt(q/p)/sum sqrt(pq) and "
        f"{lagrange_identity()} for sqrt(min), sqrt(max)"
    )


def best_time_for_hoeffding() -> str:
    """If t x <= A + t^2 R^2/8 for every t > 0 then x <= R sqrt(A/2): the best t is sqrt(8 A)/R."""
    t, spread, distance = sp.symbols("t R A", positive=True)
    room = (distance + t**2 * spread**2 / 8) / t - spread * sp.sqrt(distance / 2)
    square = (sp.sqrt(distance / t) - spread * sp.sqrt(t / 8)) ** 2
    assert sp.simplify(room - square) == 0
    assert sp.simplify(square.subs(t, sp.sqrt(8 * distance) / spread)) == 0
    return "(sqrt(A/t) - R sqrt(t/8))^2 >= 0, zero at the best t"


def best_time_for_bernstein() -> str:
    """If t x <= A + t^2 V/(2 w), w = 1 - b t/3 > 0, for every such t: x <= sqrt(2 A V) + b A/3."""
    t, b, variance, distance, w = sp.symbols("t b V A w", positive=True)
    bound = (distance + t**2 * variance / (2 * w)) / t
    room = bound - sp.sqrt(2 * distance * variance) - b * distance / 3
    square = (sp.sqrt(distance * w / t) - sp.sqrt(variance * t / (2 * w))) ** 2
    assert sp.simplify((room - square).subs(b, 3 * (1 - w) / t)) == 0
    # w runs from 1 to 0 as t runs from 0 to 3/b, so some t has w/t = sqrt(V/(2 A)): zero there.
    assert sp.simplify(square.subs(w, t * sp.sqrt(variance / (2 * distance)))) == 0
    return "(sqrt(A w/t) - sqrt(V t/(2w)))^2 >= 0, zero at the best t"


def excess_increases() -> str:
    """phi(u) = (e^u - 1 - u)/u^2 increases: u^3 phi' = (u - 2) e^u + u + 2 has the sign of u."""
    u = sp.Symbol("u", real=True)
    phi = (sp.exp(u) - 1 - u) / u**2
    slope = (u - 2) * sp.exp(u) + u + 2
    assert sp.simplify(u**3 * sp.diff(phi, u) - slope) == 0
    assert slope.subs(u, 0) == 0 and sp.diff(slope, u).subs(u, 0) == 0
    assert sp.simplify(sp.diff(slope, u, 2) - u * sp.exp(u)) == 0  # so slope' >= slope'(0) = 0
    return "(e^u - 1 - u)/u^2 increases"


def excess_below_bernstein() -> str:
    """phi(u) <= 1/(2(1 - u/3)) for 0 <= u < 3: the difference starts at 0, twice, and is convex."""
    u = sp.Symbol("u", nonnegative=True)
    room = u**2 / 2 - (1 - u / 3) * (sp.exp(u) - 1 - u)
    assert room.subs(u, 0) == 0 and sp.diff(room, u).subs(u, 0) == 0
    curvature = sp.simplify(3 * sp.diff(room, u, 2))
    assert sp.simplify(curvature - (1 + (u - 1) * sp.exp(u))) == 0
    assert curvature.subs(u, 0) == 0
    assert sp.simplify(sp.diff(curvature, u) - u * sp.exp(u)) == 0  # nonnegative
    return "(e^u - 1 - u)/u^2 <= 1/(2(1 - u/3)) on [0, 3)"


def lagrange_identity(terms: int = 3) -> str:
    """(sum a b)^2 <= sum a^2 sum b^2: the difference is a sum of squares."""
    a, b = sp.symbols(f"a:{terms}", real=True), sp.symbols(f"b:{terms}", real=True)
    inner = sum(x * y for x, y in zip(a, b, strict=True))
    room = sum(x**2 for x in a) * sum(y**2 for y in b) - inner**2
    pairs = [(i, j) for i in range(terms) for j in range(i)]
    assert sp.expand(room - sum((a[i] * b[j] - a[j] * b[i]) ** 2 for i, j in pairs)) == 0
    return "Lagrange's identity"


def variance_above_least_mass(responses: int = 3) -> str:
    """Var_p v >= m ||v_c||^2 for p >= m: with p = m + e the difference is a sum of squares.

    Var_p v = sum p (v - mu)^2, mu the mean under p, and ||v_c||^2 = sum (v - a)^2, a the plain mean.
    """
    v = sp.symbols(f"v:{responses}", real=True)
    extra = sp.symbols(f"e:{responses}", nonnegative=True)
    m, mean = sp.symbols("m mu", real=True)
    plain = sum(v) / responses
    variance = sum((m + e) * (x - mean) ** 2 for e, x in zip(extra, v, strict=True))
    room = variance - m * sum((x - plain) ** 2 for x in v)
    squares = sum(e * (x - mean) ** 2 for e, x in zip(extra, v, strict=True))
    assert sp.expand(room - squares - responses * m * (plain - mean) ** 2) == 0
    return "Var_p v >= min p ||v_c||^2"


def variance_below_half_norm(responses: int = 3) -> str:
    """Var_p v <= ||v_c||^2/2, by Bhatia-Davis, (A - mu)(mu - B) <= (A - B)^2/4 and A, B centred."""
    probability = sp.symbols(f"p1:{responses}", positive=True)
    p = [1 - sum(probability), *probability]
    v = sp.symbols(f"v:{responses}", real=True)
    top, bottom = sp.symbols("A B", real=True)
    mean = sum(q * x for q, x in zip(p, v, strict=True))
    variance = sum(q * (x - mean) ** 2 for q, x in zip(p, v, strict=True))
    inside = sum(q * (top - x) * (x - bottom) for q, x in zip(p, v, strict=True))
    product = (top - mean) * (mean - bottom)
    assert sp.expand(product - variance - inside) == 0  # inside >= 0: Bhatia-Davis
    square = (mean - (top + bottom) / 2) ** 2
    assert sp.expand((top - bottom) ** 2 / 4 - product - square) == 0
    # top and bottom are two of the centred entries: (A - B)^2 <= 2 (A^2 + B^2) <= 2 ||v_c||^2
    assert sp.expand(2 * (top**2 + bottom**2) - (top - bottom) ** 2 - (top + bottom) ** 2) == 0
    return "Var_p v <= ||v_c||^2/2"


def mean_minimises_squares(responses: int = 3) -> str:
    """sum m (v - a)^2 >= sum m (v - c)^2 for the weighted mean c: the difference is (sum m)(a - c)^2."""
    v = sp.symbols(f"v:{responses}", real=True)
    m = sp.symbols(f"m:{responses}", positive=True)
    a = sp.Symbol("a", real=True)
    total = sum(m)
    c = sum(x * y for x, y in zip(m, v, strict=True)) / total
    spread = [sum(x * (y - at) ** 2 for x, y in zip(m, v, strict=True)) for at in (a, c)]
    assert sp.simplify(spread[0] - spread[1] - total * (a - c) ** 2) == 0
    return "the mean minimises weighted squares"
