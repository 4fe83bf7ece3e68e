"""Deriving claims with sympy: symbolic worlds and a normal form that decides identities.

Rewards are written r_i = beta log e_i with e_i > 0, which is no loss of generality, and the last
probability of each law as one minus the others. Every side then is a combination of logarithms of
rational functions, and two such sides are equal iff their normal forms agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import sympy as sp
from sympy.polys.fields import FracElement

from nondecoupling.deciding.decisions import Decision, report
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.fields import free_fields
from nondecoupling.theory.statement import Claim, StatementType, only
from nondecoupling.theory.worlds import WorldValues, world_values

# A constant and factors with their powers.
Factors = tuple[sp.Expr, list[tuple[sp.Expr, int]]]


def symbolic_world(statement: StatementType, responses: int) -> WorldValues[Any]:
    """The arguments of a statement as free symbols."""
    xp = sympy_numbers()
    scale = sp.Symbol("beta", positive=True) if "beta" in statement.world else sp.Integer(1)
    free = {
        name: field.argument(xp, xp.array(field.symbols(name, responses, scale)))
        for name, field in free_fields(statement.world).items()
    }
    return world_values(statement.world, free)


def claim(statement: StatementType, name: str, responses: int) -> Claim:
    """One claim of a statement with symbolic sides."""
    target = only(statement, name)
    (found,) = target.claims(sympy_numbers(), symbolic_world(target, responses))
    return found


def condition(statement: StatementType, name: str, responses: int) -> Claim:
    """One side condition of a statement with symbolic sides."""
    xp = sympy_numbers()
    found = {c.name: c for c in statement.conditions(xp, symbolic_world(statement, responses))}
    return found[name]


class NormalForm:
    """Rewrites real expressions in exp and log so that two equal ones become the same polynomial.

    exp of a combination of logarithms becomes a product of powers of positive factors; the argument of a logarithm is
    factored over the integers and split into the logarithms of the absolute values of its
    irreducible factors (all arguments are positive, so the signs cancel). Distinct irreducible
    factors have independent logarithms, so the expression vanishes iff every coefficient does.

    |f|^a is a power of f only for a factor f of one sign, and that must follow: from the signs of the symbols, or
    from an argument, which is positive, in which f is the only factor of unknown sign.
    """

    def __init__(self) -> None:
        self.positive: dict[sp.Expr, sp.Expr] = {}  # factor -> itself or minus itself
        self.log_of: dict[sp.Expr, sp.Symbol] = {}
        self.base_of: dict[sp.Symbol, sp.Expr] = {}
        self.powers: dict[tuple[sp.Expr, sp.Expr], sp.Symbol] = {}
        self.power_of: dict[sp.Symbol, tuple[sp.Expr, sp.Expr]] = {}
        # The same logarithm of a law stands in many places.
        self.rewritten: dict[sp.Expr, sp.Expr] = {}

    def __call__(self, expression: sp.Expr) -> sp.Expr:
        known = -1
        while known < len(self.positive):  # a sign that is found late holds in the whole expression
            known = len(self.positive)
            self.rewritten.clear()
            rewritten = self.rewrite(sp.sympify(expression))
        return _cancelled(rewritten)

    def rewrite(self, e: sp.Expr) -> sp.Expr:
        if not e.args:
            return e
        if e not in self.rewritten:
            self.rewritten[e] = self._rewrite(e)
        return self.rewritten[e]

    def _rewrite(self, e: sp.Expr) -> sp.Expr:
        if isinstance(e, sp.exp):
            return self._exp(self.rewrite(e.args[0]))
        if isinstance(e, sp.log):
            return self._log(self.rewrite(e.args[0]))
        if isinstance(e, sp.Pow) and not e.exp.is_Integer:
            return self._exp(self.rewrite(e.exp) * self._log(self.rewrite(e.base)))
        return e.func(*map(self.rewrite, e.args))

    def _exp(self, exponent: sp.Expr) -> sp.Expr:
        product, rest = sp.Integer(1), sp.Integer(0)
        for term in sp.Add.make_args(sp.expand(_cancelled(exponent))):
            logs = [f for f in sp.Mul.make_args(term) if f in self.base_of]
            if len(logs) != 1:
                rest += term
                continue
            upright = self.base_of[logs[0]]
            power, monomial = (term / logs[0]).as_coeff_Mul()
            if self._sign(upright) == 0 and (monomial != 1 or power % 2):
                rest += term  # |base| to such a power is no polynomial in it: left alone
                continue
            base = self.positive.get(upright, upright)
            factor = base if monomial == 1 else self._power(base, monomial)
            product *= factor**power
        return product * sp.exp(rest)

    def _power(self, base: sp.Expr, monomial: sp.Expr) -> sp.Symbol:
        key = (base, monomial)
        if key not in self.powers:
            self.powers[key] = sp.Dummy(f"G{len(self.powers)}", positive=True)
            self.power_of[self.powers[key]] = key
        return self.powers[key]

    def _log(self, argument: sp.Expr) -> sp.Expr:
        parts = _factored(argument)
        self._find_sign(argument, parts)
        total = sp.Integer(0)
        for sign, (constant, factors) in zip((1, -1), parts, strict=True):
            total += sign * sp.log(sp.Abs(constant))
            for factor, power in factors:
                total += sign * power * self._log_of_a_factor(factor)
        return total

    def _find_sign(self, argument: sp.Expr, parts: list[Factors]) -> None:
        """What the one factor of unknown sign must be for the argument to be positive."""
        sign = math.prod(int(sp.sign(constant)) for constant, _ in parts)
        unknown = []
        for factor in (f for _, factors in parts for f, power in factors if power % 2):
            if of_factor := self._sign(factor):
                sign *= of_factor
            else:
                unknown.append(factor)
        if len(unknown) == 1:
            self.positive[_upright(unknown[0])] = sign * unknown[0]
        elif not unknown and sign < 0:
            raise ValueError(f"{argument} is never positive: it has no logarithm and no such power")

    def _sign(self, factor: sp.Expr) -> int:
        """1 or -1 where that is known, else 0."""
        upright = _upright(factor)
        if upright not in self.positive:
            if upright.is_positive:
                self.positive[upright] = upright
            elif upright.is_negative:
                self.positive[upright] = -upright
            else:
                return 0
        return 1 if self.positive[upright] == factor else -1

    def _log_of_a_factor(self, factor: sp.Expr) -> sp.Expr:
        if factor in self.power_of:
            under, monomial = self.power_of[factor]
            return monomial * self._log_of_a_factor(under)
        upright = _upright(factor)
        if upright not in self.log_of:
            self.log_of[upright] = sp.Dummy(f"L{len(self.log_of)}", real=True)
            self.base_of[self.log_of[upright]] = upright
        return self.log_of[upright]


def _upright(factor: sp.Expr) -> sp.Expr:
    """The same for a factor and for minus itself."""
    return -factor if factor.could_extract_minus_sign() else factor


def _fraction(e: sp.Expr) -> FracElement | None:
    """Numerator over denominator without a common factor, unless e is not rational in symbols, logarithms and extremes.

    As an element of a field of fractions: several times faster than by way of expressions.
    """
    generators = sorted(e.atoms(sp.Symbol, sp.log, sp.Max, sp.Min), key=sp.default_sort_key)
    try:
        return sp.QQ.frac_field(*generators).field.from_expr(e) if generators else None
    except ValueError:  # exponentials are left
        return None


def _cancelled(e: sp.Expr) -> sp.Expr:
    """``_fraction`` as an expression, whatever is in it."""
    fraction = _fraction(e)
    return sp.cancel(sp.together(sp.expand(e))) if fraction is None else fraction.as_expr()


def _factored(e: sp.Expr) -> list[Factors]:
    """A constant and the irreducible factors with their powers, of the numerator and of the denominator."""
    fraction = _fraction(e)
    if fraction is None:
        return [sp.factor_list(part) for part in sp.fraction(sp.cancel(sp.together(e)))]
    found = []
    for part in (fraction.numer, fraction.denom):
        constant, factors = part.factor_list()
        found.append((sp.QQ.to_sympy(constant), [(f.as_expr(), power) for f, power in factors]))
    return found


def normal_form(expression: sp.Expr) -> sp.Expr:
    """Zero only if the expression vanishes wherever it is real; without extremes iff it does (see ``NormalForm``).

    Raises:
        ValueError: it is real nowhere, since what stands under a logarithm or a power is never positive.
    """
    return NormalForm()(expression)


def vanishes(expression: Any) -> bool:
    """Whether sympy decides that the expression is zero, by one of its ways or by ``normal_form``."""
    ways = (sp.expand, normal_form, sp.simplify)  # from the fastest to the slowest
    return any(way(sp.sympify(expression)) == 0 for way in ways)


def assert_zero(*expressions: Any, claim: str = "") -> None:
    """A step of a derivation: sympy decides that each expression is zero. With ``claim``, its last step."""
    assert expressions, "nothing to decide"
    for expression in expressions:
        assert vanishes(expression), f"{claim or 'step'}: {sp.simplify(expression)} is not zero"
    report(Decision(Assurance.SYMBOLIC, claim=claim))


def assert_identity(statement: StatementType, name: str, responses: int) -> str:
    """Derive an identity for free symbols; sympy decides. Returns the line for the ledger."""
    found = claim(statement, name, responses)
    assert found.relation == "==", f"{name} is not an identity"
    difference = normal_form(found.lhs.flat[0] - found.rhs.flat[0])
    assert difference == 0, f"{statement.id} {name}: sides differ by {difference}"
    report(Decision(Assurance.SYMBOLIC, statement.id, name))
    return f"{name}, n = {responses}"


def assert_margin(
    statement: StatementType,
    name: str,
    responses: int,
    room: Callable[[Any, WorldValues[Any]], Any],
    what: str,
) -> str:
    """Derive how much room an inequality has: ``room(xp, w)``, a quantity known to be nonnegative."""
    found = claim(statement, name, responses)
    expected = room(sympy_numbers(), symbolic_world(statement, responses))
    difference = normal_form(found.margin().flat[0] - expected.flat[0])
    assert difference == 0, f"{statement.id} {name}: the margin differs by {difference}"
    report(Decision(Assurance.SYMBOLIC, statement.id, name))
    return f"{name}: the margin is {what}, n = {responses}"


def above_tangent(xp: Any, log_d: Any, log_p: Any, factor: Any) -> Any:
    """E_d[u - 1 - log u] at u = (p/d) factor: a mean of nonnegative terms, since log u <= u - 1."""
    u = xp.exp(log_p - log_d) * factor
    return xp.sum(xp.exp(log_d) * (u - 1 - (log_p - log_d) - xp.log(factor)))
