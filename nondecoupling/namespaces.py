"""The number systems in which every formula of ``quantities`` can be evaluated.

A formula is written once as ``f(xp, ...)``. ``xp`` is one of

* ``floats_of(array)``: NumPy or torch, batched, differentiable in torch;
* ``ARB``: arrays of Arb balls; every result encloses the true value;
* ``SYMPY``: arrays of sympy expressions.

(``roundoff.ROUNDOFF`` is the fourth: float64 values that carry a bound on their own error.)

Arrays have the responses on the last axis and per-world scalars keep that axis with length one,
so nothing ever collapses to a 0-d array. The primitives ``excess``, ``pivot`` and ``support`` hide
every branch and series: in exact systems they are what the formula says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

Array = Any

# 2/(k+2)!, k = 0..15: the Taylor coefficients of 2 (e^u - 1 - u)/u^2. The first term left out is
# below 2e-19 on |u| < 1/2, under the rounding of float64.
_EXCESS_SERIES = tuple(2.0 / math.factorial(k + 2) for k in range(16))
_EXCESS_SERIES_RADIUS = 0.5
# Quadratic convergence from within 0.6 of the root in log omega: 5 steps reach float64.
_OMEGA_STEPS = 6


# Balls with a larger radius are enclosed by monotonicity instead of term by term.
WIDE = 1e-9


class Floats:
    """NumPy or torch, through the array API standard."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.exp: Callable[[Array], Array] = module.exp
        self.log1p: Callable[[Array], Array] = module.log1p
        self.expm1: Callable[[Array], Array] = module.expm1
        self.sqrt: Callable[[Array], Array] = module.sqrt
        self.abs: Callable[[Array], Array] = module.abs

    def log(self, x: Array) -> Array:
        """Natural logarithm, with log 0 = -inf and no warning."""
        if self.module.__name__.endswith("numpy"):
            with np.errstate(divide="ignore"):
                return np.log(x)
        return self.module.log(x)

    def sum(self, x: Array) -> Array:
        return self.module.sum(x, axis=-1, keepdims=True)

    def max(self, x: Array) -> Array:
        return self.module.max(x, axis=-1, keepdims=True)

    def min(self, x: Array) -> Array:
        return self.module.min(x, axis=-1, keepdims=True)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        like = x if hasattr(x, "dtype") else y
        return self.module.where(condition, self._like(x, like), self._like(y, like))

    def minimum(self, x: Array, y: Array) -> Array:
        return self.module.minimum(x, self._like(y, x))

    def maximum(self, x: Array, y: Array) -> Array:
        return self.module.maximum(x, self._like(y, x))

    def square(self, x: Array) -> Array:
        return x * x

    def positive(self, x: Array) -> Array:
        """Where x > 0; in exact systems, where x is not certainly <= 0."""
        return x > 0

    def full_like(self, x: Array, value: float) -> Array:
        return self.module.full_like(x, value)

    def gather(self, x: Array, index: Array) -> Array:
        """The entry of each row of ``x`` at the row's ``index`` (kept as a last axis of one)."""
        if self.module.__name__.endswith("numpy"):
            return np.take_along_axis(x, index, axis=-1)
        index = self.module.asarray(index, device=array_api_compat.device(x))
        return self.module.take_along_dim(x, index, dim=-1)

    def mode(self, log_p: Array) -> Array:
        """Index of the most probable response of each row."""
        return self.module.argmax(log_p, axis=-1, keepdims=True)

    def support(self, log_p: Array) -> Array:
        """Where the law has mass."""
        return log_p > -math.inf

    def pivot(self, x: Array) -> Array:
        """What to subtract before exponentiating: the row maximum (0 where it is infinite)."""
        top = self.max(x)
        if hasattr(top, "detach"):
            top = top.detach()
        return self.where(self.module.isfinite(top), top, 0.0)

    def excess(self, log_w: Array, u: Array) -> Array:
        """w (e^u - 1 - u) >= 0 for w = e^log_w, accurate for u near 0 and in both tails.

        This one primitive carries KL, the coupling gap and the two-point bounds.
        """
        near = self.abs(u) < _EXCESS_SERIES_RADIUS
        small = self.where(near, u, 0.0)
        large = self.where(near, 1.0, u)
        weight = self.exp(log_w)
        series = small * _EXCESS_SERIES[-1] + _EXCESS_SERIES[-2]
        for coefficient in _EXCESS_SERIES[-3::-1]:
            series = series * small + coefficient
        return self.where(
            near,
            weight * small * small * (series * 0.5),
            self.exp(log_w + large) - weight * (1.0 + large),
        )

    def wright_omega(self, z: Array) -> Array:
        """omega > 0 with omega + log omega = z, that is W(e^z); 0 at z = -inf.

        Newton for l = log omega: e^l + l is increasing and convex, so from the right of the root
        the steps fall monotonically. For large z the value is read off as z - l.
        """
        there = z > -math.inf
        z = self.where(there, z, 0.0)
        fixed = z.detach() if hasattr(z, "detach") else z
        large = fixed > 1
        log_omega = self.where(large, self.log(self.where(large, fixed, 1.0)), fixed)
        for _ in range(_OMEGA_STEPS):
            omega = self.exp(log_omega)
            log_omega = log_omega - (omega + log_omega - fixed) / (omega + 1)
        omega = self.where(large, fixed - log_omega, self.exp(log_omega))
        # Zero but for its gradient, d omega/dz = omega/(1 + omega).
        omega = omega + omega / (1 + omega) * (z - fixed)
        return self.where(there, omega, 0.0)

    def _like(self, value: Array, like: Array) -> Array:
        if hasattr(value, "dtype"):
            return value
        return self.module.asarray(value, dtype=like.dtype, device=array_api_compat.device(like))


class Exact:
    """A number system of Python objects (Arb balls or sympy expressions) in NumPy object arrays."""

    def __init__(self, name: str, functions: dict[str, Callable[..., Any]]) -> None:
        self.name = name
        self._number = functions["number"]
        self._truth = functions["truth"]
        self._maximum2, self._minimum2 = functions["maximum"], functions["minimum"]
        self._finite, self._positive = functions["positive_mass"], functions["positive"]
        self.exp = self._elementwise(functions["exp"])
        self.log = self._elementwise(functions["log"])
        self.log1p = self._elementwise(functions["log1p"])
        self.expm1 = self._elementwise(functions["expm1"])
        self.sqrt = self._elementwise(functions["sqrt"])
        self.abs = self._elementwise(functions["abs"])
        self.square = self._elementwise(functions["square"])
        self.wright_omega = self._elementwise(functions["wright_omega"])
        self._excess = functions["excess"]

    @staticmethod
    def _elementwise(function: Callable[..., Any]) -> Callable[..., Array]:
        def apply(*arrays: Array) -> Array:
            broadcast = np.broadcast_arrays(*(np.asarray(a, dtype=object) for a in arrays))
            out = np.empty(broadcast[0].shape, dtype=object)
            for index in np.ndindex(*out.shape):
                out[index] = function(*(a[index] for a in broadcast))
            return out

        return apply

    def number(self, x: Any) -> Any:
        return self._number(x)

    def array(self, values: Any) -> Array:
        """An object array of this system's numbers, with at least one axis."""
        return self._elementwise(self._number)(np.atleast_1d(np.asarray(values, dtype=object)))

    def full_like(self, x: Array, value: float) -> Array:
        return self.array(np.full(np.shape(x), value, dtype=object))

    def sum(self, x: Array) -> Array:
        return np.sum(x, axis=-1, keepdims=True)

    def _reduce(self, function: Callable[[Any, Any], Any], x: Array) -> Array:
        return np.frompyfunc(function, 2, 1).reduce(x, axis=-1, keepdims=True)

    def max(self, x: Array) -> Array:
        return self._reduce(self._maximum2, x)

    def min(self, x: Array) -> Array:
        return self._reduce(self._minimum2, x)

    def maximum(self, x: Array, y: Array) -> Array:
        return self._elementwise(lambda a, b: self._maximum2(a, self._number(b)))(x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        return self._elementwise(lambda a, b: self._minimum2(a, self._number(b)))(x, y)

    def where(self, condition: Array, x: Array, y: Array) -> Array:
        pick = self._elementwise(lambda c, a, b: self._number(a if self._truth(c) else b))
        return pick(condition, x, y)

    def gather(self, x: Array, index: Array) -> Array:
        return np.take_along_axis(x, index, axis=-1)

    def mode(self, log_p: Array) -> Array:
        """Any index serves in an exact system; the first one does for sympy and for Arb."""
        return np.zeros((*np.shape(log_p)[:-1], 1), dtype=int)

    def positive(self, x: Array) -> Array:
        return self._elementwise(self._positive)(x).astype(bool)

    def support(self, log_p: Array) -> Array:
        return self._elementwise(self._finite)(log_p).astype(bool)

    def pivot(self, x: Array) -> Array:
        return self.full_like(self.sum(self.support(x)), 0)

    def excess(self, log_w: Array, u: Array) -> Array:
        return self._elementwise(self._excess)(log_w, u)


Namespace = Any  # Floats, Exact or roundoff.RoundOff: they share the methods, not a base class


@lru_cache(maxsize=8)
def _floats(module: ModuleType) -> Floats:
    return Floats(module)


def floats_of(*arrays: Array) -> Floats:
    """The float number system (NumPy or torch) to which the arrays belong."""
    return _floats(array_api_compat.array_namespace(*arrays))


@lru_cache(maxsize=1)
def arb() -> Exact:
    """Arb balls at the current ``flint.ctx.prec``: every result encloses the true value."""
    import flint

    def number(x: Any) -> Any:
        if isinstance(x, flint.arb):
            return x
        if isinstance(x, float) and math.isinf(x):
            return flint.arb("inf") if x > 0 else flint.arb("-inf")
        if hasattr(x, "numerator"):
            return flint.arb(flint.fmpq(int(x.numerator), int(x.denominator)))
        return flint.arb(x)

    def square(x: Any) -> Any:
        if x.contains(0):  # a plain product would reach as far below zero as above
            return (x.abs_upper() * x.abs_upper()).union(flint.arb(0))
        return x * x

    def curve(u: Any) -> Any:
        # e^u - 1 - u; near 0 its series with remainder, where the difference would cancel
        return square(u) * _phi_ball(u) if abs(u) < flint.arb(0.25) else u.expm1() - u

    def excess(log_w: Any, u: Any) -> Any:
        if u.rad() > WIDE:  # the curve falls to 0 at u = 0 and rises after: its ends enclose it
            enclosure = curve(u.lower()).union(curve(u.upper()))
            return log_w.exp() * (enclosure.union(flint.arb(0)) if u.contains(0) else enclosure)
        return log_w.exp() * curve(u)

    return Exact(
        "arb",
        dict(
            number=number,
            truth=bool,
            exp=lambda x: x.exp(),
            log=lambda x: flint.arb("-inf") if x.is_zero() else x.log(),
            log1p=lambda x: x.log1p(),
            expm1=lambda x: x.expm1(),
            sqrt=lambda x: x.nonnegative_part().sqrt(),
            abs=abs,
            square=square,
            maximum=lambda a, b: a.max(b),
            minimum=lambda a, b: a.min(b),
            positive_mass=lambda x: not (x == flint.arb("-inf")),
            positive=lambda x: not (x <= 0),
            excess=excess,
            wright_omega=lambda z: z.exp().lambertw(),
        ),
    )


def _phi_ball(u: Any) -> Any:
    """A ball around (e^u - 1 - u)/u^2 for |u| < 1/4, from its series with Lagrange remainder."""
    import flint

    terms = max(6, flint.ctx.prec // 4)
    total, power, factorial = flint.arb(0), flint.arb(1), 2
    for k in range(terms):
        total += power / factorial
        power *= u
        factorial *= k + 3
    # remainder: |u|^terms e^(1/4) / (terms + 2)!
    remainder = abs(power).upper() * flint.arb(0.25).exp() / factorial
    return total + flint.arb(0, remainder.upper())


@lru_cache(maxsize=1)
def sympy_numbers() -> Exact:
    """sympy expressions, in general position.

    Laws with symbolic entries have full support, and an expression of unknown sign counts as
    positive where a formula asks only to catch degenerate worlds.
    """
    import sympy

    return Exact(
        "sympy",
        dict(
            number=sympy.sympify,
            truth=bool,
            exp=sympy.exp,
            log=sympy.log,
            log1p=lambda x: sympy.log(1 + x),
            expm1=lambda x: sympy.exp(x) - 1,
            sqrt=sympy.sqrt,
            abs=sympy.Abs,
            square=lambda x: x**2,
            maximum=sympy.Max,
            minimum=sympy.Min,
            positive_mass=lambda x: x != -sympy.oo,
            positive=lambda x: x.is_nonpositive is not True,
            excess=lambda log_w, u: sympy.exp(log_w) * (sympy.exp(u) - 1 - u),
            wright_omega=lambda z: sympy.LambertW(sympy.exp(z)),
        ),
    )
