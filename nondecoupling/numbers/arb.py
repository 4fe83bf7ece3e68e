"""Arb balls: every result encloses the true value."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from nondecoupling.numbers.exact import Exact, Operations

# Balls with a larger radius are enclosed by monotonicity instead of term by term.
WIDE = 1e-9


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
        return square(u) * _curve_over_square(u) if abs(u) < flint.arb(0.25) else u.expm1() - u

    def excess(log_w: Any, u: Any) -> Any:
        if u.rad() > WIDE:  # the curve falls to 0 at u = 0 and rises after: its ends enclose it
            enclosure = curve(u.lower()).union(curve(u.upper()))
            return log_w.exp() * (enclosure.union(flint.arb(0)) if u.contains(0) else enclosure)
        return log_w.exp() * curve(u)

    return Exact(
        Operations(
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
            has_mass=lambda x: not (x == flint.arb("-inf")),
            positive=lambda x: not (x <= 0),
            excess=excess,
            wright_omega=lambda z: z.exp().lambertw(),
        )
    )


def _curve_over_square(u: Any) -> Any:
    """A ball around (e^u - 1 - u)/u^2 for |u| < 1/4, from its series with Lagrange remainder."""
    import flint

    largest = u.abs_upper()
    # The remainder is at most |u|^terms e^(1/4) / (terms + 2)!; as many terms as bring it below the precision.
    shrinks = -math.log2(max(float(largest), 1e-300))
    terms = 1
    while terms * shrinks + math.lgamma(terms + 3) / math.log(2) < flint.ctx.prec:
        terms += 1
    total = flint.arb(0)
    for coefficient in _coefficients(terms, flint.ctx.prec):
        total = total * u + coefficient
    remainder = largest**terms * flint.arb(0.25).exp() / math.factorial(terms + 2)
    return total + flint.arb(0, remainder.upper())


@lru_cache
def _coefficients(terms: int, precision: int) -> list[Any]:
    """1/(k + 2)! for k = terms - 1 .. 0 as balls, at the precision that is set."""
    import flint

    return [1 / flint.arb(math.factorial(k + 2)) for k in reversed(range(terms))]
