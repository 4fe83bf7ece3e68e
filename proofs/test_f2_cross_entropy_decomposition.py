"""F2, cross-entropy decomposition."""

import pytest
from hypothesis import given

from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.f2_cross_entropy_decomposition import CrossEntropyDecomposition
from proofs.checks import (
    assert_attained,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("F2")
LEAST = "the data law is optimal"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(CrossEntropyDecomposition, "decomposition", responses))

    def divergence(xp, w):
        return kl_divergence(xp, w.log_d, w.log_p)

    evidence(assert_margin(CrossEntropyDecomposition, LEAST, responses, divergence, "KL(d||p)"))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(CrossEntropyDecomposition))
def test_drawn_worlds(world):
    assert_holds(CrossEntropyDecomposition, world)


@pytest.mark.certified
def test_equality_at_the_data_law():
    world = exact_world(log_d="1/4 3/4", log_p="1/4 3/4")
    assert_attained(CrossEntropyDecomposition, LEAST, world)


@pytest.mark.attacked
def test_attained_in_the_limit(evidence):
    (result,) = assert_survives(CrossEntropyDecomposition, LEAST)
    assert result.tightness > 0.999
    evidence(tightness_line(result))


def test_one_percent_more_is_refuted():
    assert_tightened_fails(CrossEntropyDecomposition, LEAST, 1.01)
