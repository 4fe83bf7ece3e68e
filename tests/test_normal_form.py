"""The normal form that decides identities: what is equal is found equal, and what is not is not."""

from __future__ import annotations

import pytest
import sympy as sp

from nondecoupling.deciding.decisions import recording
from proofs.symbolic import assert_zero, normal_form

d, q = sp.symbols("d q", positive=True)
e1, e2 = sp.symbols("e1 e2", positive=True)
POWER = sp.exp(q * sp.log(1 - d))


def size(x):
    """|x|, as sympy leaves it."""
    return sp.sqrt(sp.expand(x**2))


EQUAL = {
    "a power of one minus a share": (sp.exp((q - 1) * sp.log(1 - d)) * (1 - d), POWER),
    "a square of a difference": (sp.exp(sp.log((e1 - e2) ** 2)), (e1 - e2) ** 2),
    "a product under a logarithm": (sp.log(d * (1 - d)), sp.log(d) + sp.log(1 - d)),
    "a root": (sp.sqrt(d) * sp.sqrt(d), d),
    "a square of what has positive coefficients": (size(d + q * e1), d + q * e1),
    "a sign that a logarithm tells": (size(1 - d) * sp.log(1 - d), (1 - d) * sp.log(1 - d)),
    "a sign that is told after its use": (
        size(d + q - 1) + sp.log(q * (1 - d - q)),
        1 - d - q + sp.log(q) + sp.log(1 - d - q),
    ),
}
DIFFERENT = {
    "a power and minus itself": (sp.exp((q - 1) * sp.log(1 - d)) * (1 - d), -POWER),
    "a size and a difference of either sign": (size(e1 - e2), e1 - e2),
    "a size and the other difference": (size(e1 - e2), e2 - e1),
    "a cube of a size": (sp.exp(sp.Rational(3, 2) * sp.log((e1 - e2) ** 2)), (e1 - e2) ** 3),
    "a size of one minus twice a share": (size(1 - 2 * d), 1 - 2 * d),
    "a size that no share gives the other sign": (size(e1 - 100), 100 - e1),
    "a size of one minus a share that is not known to be one": (size(1 - d), 1 - d),
    "a size under a logarithm with another of unknown sign": (
        size(1 - d) + sp.log(sp.expand((1 - d) * (1 - q))),
        1 - d + sp.log((1 - d) * (1 - q)),
    ),
    **{
        f"a size of {x - 1} that only a product with another tells": (
            size(x - 1) + sp.log(sp.expand((1 - d) * (1 - q))),
            x - 1 + sp.log((1 - d) * (1 - q)),
        )
        for x in (d, q)
    },
    "a size and an even power under a logarithm": (
        size(1 - d) + sp.log(sp.expand((1 - d) ** 2 * q)),
        1 - d + sp.log((1 - d) ** 2 * q),
    ),
    "a factor below a power of unknown size": (
        size(1 - sp.exp(q * sp.log(d))),
        1 - sp.exp(q * sp.log(d)),
    ),
    "a symbol of the name of an own one": (sp.log(d), sp.Symbol("L0", real=True)),
    "neighbours": (sp.exp(q * sp.log(d)), sp.exp((q + 1) * sp.log(d))),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    left, right = EQUAL[name]
    assert normal_form(left - right) == 0


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name):
    left, right = DIFFERENT[name]
    assert normal_form(left - right) != 0


@pytest.mark.parametrize("name", DIFFERENT)
def test_no_step_of_a_derivation_takes_what_differs_for_zero(name):
    left, right = DIFFERENT[name]
    with recording() as made, pytest.raises(AssertionError, match="is not zero"):
        assert_zero(left - right, claim="a step")
    assert made == []


@pytest.mark.parametrize("argument", [-d, -d - e1, e1 / (-d - 1), -d * (1 - q) ** 2])
def test_what_is_never_positive_has_no_logarithm_and_no_power(argument):
    for taken in (sp.log(argument), sp.exp(q * sp.log(argument))):
        with pytest.raises(ValueError, match="never positive"):
            normal_form(taken)


def test_of_a_factor_and_minus_itself_one_has_a_logarithm():
    with pytest.raises(ValueError, match="never positive"):
        normal_form(sp.log(1 - d) + sp.log(d - 1))
