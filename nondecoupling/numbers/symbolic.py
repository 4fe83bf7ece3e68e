"""sympy expressions as a number system: what formulas are derived in."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from nondecoupling.numbers.exact import Exact, Operations


@lru_cache(maxsize=1)
def sympy_numbers() -> Exact:
    """sympy expressions, in general position.

    Laws with symbolic entries have full support, and an expression of unknown sign counts as
    positive where a formula asks only to catch degenerate worlds.
    """
    import sympy

    def number(x: Any) -> Any:
        # 1.0 is the rational number one: a decimal would spoil the normal forms of derivations
        exact = isinstance(x, float) and math.isfinite(x)
        return sympy.Rational(x) if exact else sympy.sympify(x)

    return Exact(
        Operations(
            number=number,
            truth=bool,
            exp=sympy.exp,
            log=lambda x: -sympy.oo if x == 0 else sympy.log(x),
            log1p=lambda x: sympy.log(1 + x),
            expm1=lambda x: sympy.exp(x) - 1,
            sqrt=sympy.sqrt,
            abs=sympy.Abs,
            square=lambda x: x**2,
            maximum=sympy.Max,
            minimum=sympy.Min,
            has_mass=lambda x: x != -sympy.oo,
            positive=lambda x: x.is_nonpositive is not True,
            excess=lambda log_w, u: sympy.exp(log_w) * (sympy.exp(u) - 1 - u),
            wright_omega=lambda z: sympy.LambertW(sympy.exp(z)),
        )
    )
