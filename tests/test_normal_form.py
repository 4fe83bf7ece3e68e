"""The normal form that decides identities: what is equal is found equal, and what is not is not."""

from __future__ import annotations

import pytest
import sympy as sp

from proofs.symbolic import normal_form

d, q = sp.symbols("d q", positive=True)
e1, e2 = sp.symbols("e1 e2", positive=True)
POWER = sp.exp(q * sp.log(1 - d))

EQUAL = {
    "a power of one minus a share": (sp.exp((q - 1) * sp.log(1 - d)) * (1 - d), POWER),
    "a square of a difference": (sp.exp(sp.log((e1 - e2) ** 2)), (e1 - e2) ** 2),
    "a product under a logarithm": (sp.log(d * (1 - d)), sp.log(d) + sp.log(1 - d)),
    "a root": (sp.sqrt(d) * sp.sqrt(d), d),
}
DIFFERENT = {
    "a power and minus itself": (sp.exp((q - 1) * sp.log(1 - d)) * (1 - d), -POWER),
    "a size and a difference of either sign": (sp.sqrt((e1 - e2) ** 2), e1 - e2),
    "a size and the other difference": (sp.sqrt((e1 - e2) ** 2), e2 - e1),
    "a cube of a size": (sp.exp(sp.Rational(3, 2) * sp.log((e1 - e2) ** 2)), (e1 - e2) ** 3),
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
