"""F1, Gibbs inequality: derivation, drawn worlds, equality case, and the check can fail."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.f1_gibbs_inequality import GibbsInequality
from proofs.checks import assert_attained, assert_refuted, assert_survives, exact_world
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("F1")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_kl_is_a_sum_of_nonnegative_terms(responses, evidence):
    evidence(assert_identity(GibbsInequality, "stable form", responses))

    def stable_form(xp, w):
        return kl_divergence(xp, w.log_p, w.log_q)

    what = "the stable form, a sum of p (e^u - 1 - u)"
    evidence(assert_margin(GibbsInequality, "KL is nonnegative", responses, stable_form, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(GibbsInequality))
def test_drawn_worlds(world):
    assert_holds(GibbsInequality, world)


@pytest.mark.certified
def test_equality_exactly_at_p_equal_q():
    same = exact_world(log_p="1/3 2/3", log_q="1/3 2/3")
    assert_attained(GibbsInequality, "KL is nonnegative", same)
    near = exact_world(log_p="1/3 2/3", log_q="333/1000 667/1000")
    verdicts = assert_holds(GibbsInequality, near)
    assert all(v.margin > 0 for v in verdicts if v.claim == "KL is nonnegative")


@pytest.mark.attacked
def test_no_negative_kl_is_found():
    assert_survives(GibbsInequality, "KL is nonnegative")


def test_the_check_can_fail():
    """Without normalisation of q the inequality is false, and the same check says so."""
    from nondecoupling.formulas.laws import kl_by_definition
    from nondecoupling.numbers.arb import arb
    from nondecoupling.theory.statement import Claim

    xp = arb()
    log_p, log_q = xp.log(xp.array([1, 0])), xp.log(xp.array([2, 0]))  # q sums to 2
    divergence = kl_by_definition(xp, log_p, log_q)
    claim = Claim("KL is nonnegative", divergence, ">=", xp.full_like(divergence, 0.0))
    assert_refuted("F1", claim)
