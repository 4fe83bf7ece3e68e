"""S8, resolution and length: derivation, drawn worlds, the small-s limit, and the check can fail."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.formulas.laws import variance
from nondecoupling.formulas.sft_then_rl import coupling_gap, coupling_gap_bounds
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.s8_resolution_and_length import ResolutionAndLength
from proofs.checks import (
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import hoeffding_by_curvature
from proofs.symbolic import assert_identity, assert_zero, symbolic_world

pytestmark = pytest.mark.statement("S8")
SAMPLES, TOKENS = "samples needed at least", "change per token"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_derivation(responses, evidence):
    for name in ("mean", "variance"):
        evidence(assert_identity(ResolutionAndLength, name, responses))
    mean, spread, z = sp.symbols("mean spread z", positive=True)
    samples = (z * sp.sqrt(spread) / mean) ** 2  # by definition of n, with mean and variance above
    assert_zero(samples * mean**2 / spread - z**2)
    # Both bounds say DeltaL <= H = s^2 R^2/8 (S3): n = least (H/DeltaL)^2, and the room per token
    w, xp = symbolic_world(ResolutionAndLength, responses), sympy_numbers()
    found = {c.name: c for c in ResolutionAndLength.claims(xp, w)}
    *_, hoeffding = coupling_gap_bounds(xp, w.log_d, w.reward, w.beta)
    gap = coupling_gap(xp, w.log_d, w.reward, w.beta)
    least = found[SAMPLES]
    assert_zero((least.lhs - least.rhs * (hoeffding / gap) ** 2).flat[0], claim=SAMPLES)
    room = (hoeffding - found["mean"].lhs) / w.mean_length
    assert_zero((found[TOKENS].margin() - room).flat[0], claim=TOKENS)
    evidence(f"both bounds by DeltaL <= s^2 R^2/8: {hoeffding_by_curvature()}")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_small_times(responses, evidence):
    """DeltaL = s^2 Var/2 + O(s^3), so n = z^2 s^2 Var/DeltaL^2 ~ 4 z^2/(s^2 Var)."""
    xp, s = sympy_numbers(), sp.Symbol("s", positive=True)
    d = [sp.Rational(1, responses + k) for k in range(1, responses)]
    log_d = xp.log(xp.array([1 - sum(d), *d]))
    reward = xp.array(list(sp.symbols(f"r1:{responses + 1}", real=True)))
    gap = coupling_gap(xp, log_d, reward, 1 / xp.array([s]))[0]
    assert_zero(gap.subs(s, 0))
    assert_zero(sp.diff(gap, s).subs(s, 0))
    curvature = sp.diff(gap, s, 2).subs(s, 0)
    assert_zero(curvature - variance(xp, log_d, reward)[0])
    evidence(f"n s^2 -> 4 z^2/Var_d r, n = {responses}")


@pytest.mark.sampled
@given(worlds(ResolutionAndLength))
def test_drawn_worlds(world):
    assert_holds(ResolutionAndLength, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", [SAMPLES, TOKENS])
def test_bounds_are_attained_in_the_limit(claim, evidence):
    world = exact_world(log_d="1/2 1/2", reward="0 1/1000", beta="1", z="2", mean_length="1000")
    (verdict,) = [v for v in assert_holds(ResolutionAndLength, world) if v.claim == claim]
    assert 0 < verdict.margin < 1e-6 * max(verdict.lhs, verdict.rhs)
    evidence(f"{claim}: within 1e-6 at r/beta = 1e-3, d = (1/2, 1/2)")


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(ResolutionAndLength, SAMPLES, TOKENS):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [SAMPLES, TOKENS])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(ResolutionAndLength, claim, 1.01)


def test_needs_ref_equal_to_the_data_law(evidence):
    witness = assert_needs(ResolutionAndLength, "log_ref = log_d", TOKENS)
    evidence(f"{TOKENS}: false without ref = d: {witness}")
