"""S3, two-sided size of the coupling gap."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.formulas.laws import centred, expectation
from nondecoupling.formulas.sft_then_rl import coupling_gap, two_point_gap
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import only
from nondecoupling.theory.theorems.s3_two_sided_size import TwoSidedSize
from nondecoupling.theory.worlds import WorldValues
from proofs.checks import (
    assert_attained,
    assert_needs,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import bennett_interpolation, hoeffding_by_curvature
from proofs.symbolic import assert_zero, normal_form, symbolic_world

pytestmark = pytest.mark.statement("S3")
LOWER, UPPER, HOEFFDING = "Bennett lower bound", "Bennett upper bound", "Hoeffding upper bound"
SMALLER = "Bennett's is the smaller upper bound"


@pytest.mark.symbolic
@pytest.mark.parametrize("atom", [0, 1])
def test_two_atoms_attain_bennett(atom, evidence):
    """For n = 2 the two-point value at either end of the range is the coupling gap itself."""
    xp, w = sympy_numbers(), symbolic_world(TwoSidedSize, 2)
    x = centred(xp, w.log_d, w.reward) / w.beta
    end = two_point_gap(xp, expectation(xp, w.log_d, x * x), x[atom : atom + 1])
    gap = coupling_gap(xp, w.log_d, w.reward, w.beta)
    assert_zero(normal_form(end.flat[0] - gap.flat[0]))  # expanded it would be long
    evidence("Bennett's values are equalities for n = 2")


@pytest.mark.symbolic
@pytest.mark.parametrize(("claim", "side"), [(LOWER, -1), (UPPER, 1)])
def test_bennett_is_the_mean_of_a_quadratic(claim, side, evidence):
    """q touches e^x at -v/b and meets it at b, an end of the range: E_d q is the two-point value.

    e^x - q(x) = e^xi (x + v/b)^2 (x - b)/6 has the sign of x - b on the whole range.
    """
    xp = sympy_numbers()
    v, size, d, x, y = sp.symbols("v b d x y", positive=True)
    end = side * size
    touch = -v / end

    def quadratic(z, at_touch=None, at_end=None):
        at_touch, at_end = at_touch or sp.exp(touch), at_end or sp.exp(end)
        rest = at_end - at_touch * (1 + end - touch)
        return at_touch * (1 + z - touch) + rest * ((z - touch) / (end - touch)) ** 2

    assert_zero(quadratic(end) - sp.exp(end), quadratic(touch) - sp.exp(touch))
    z = sp.Symbol("z", real=True)
    assert_zero(sp.diff(quadratic(z), z).subs(z, touch) - sp.exp(touch))
    # Any law with mean 0 and variance v: here two atoms, x of mass d and y, with a third to centre it
    rest = sp.Symbol("rest", positive=True)
    third = -(d * x + rest * y) / (1 - d - rest)
    atoms = [(d, x), (rest, y), (1 - d - rest, third)]
    variance = sum(mass * at**2 for mass, at in atoms)
    values = sp.symbols("at_touch at_end", positive=True)  # whatever they are
    mean = sum(mass * quadratic(at, *values) for mass, at in atoms)
    second = sp.diff(quadratic(z, *values), z, 2)
    assert_zero(mean - quadratic(0, *values) - second / 2 * variance)
    moment = quadratic(0) + sp.diff(quadratic(z), z, 2) / 2 * v
    value = two_point_gap(xp, xp.array([v]), xp.array([end])).flat[0]
    assert_zero(value - sp.log(sp.cancel(sp.together(moment))), claim=claim)
    evidence(f"{claim} by {bennett_interpolation()}")


@pytest.mark.symbolic
def test_hoeffding_by_its_curvature(evidence):
    """In the time t = 1/beta the margin vanishes with its slope at 0, and is convex."""
    xp, t = sympy_numbers(), sp.Symbol("t", positive=True)
    a, b, d1, d2 = sp.symbols("a b d1 d2", positive=True)
    masses, rewards = [d1, d2, 1 - d1 - d2], [sp.Integer(0), a, a + b]
    log_d, reward = xp.log(xp.array(masses)), xp.array(rewards)
    w = WorldValues({"log_d": log_d, "log_ref": log_d, "reward": reward, "beta": 1 / xp.array([t])})
    (claim,) = only(TwoSidedSize, HOEFFDING).claims(xp, w)
    margin = claim.margin().flat[0]
    assert_zero(margin.subs(t, 0), sp.diff(margin, t).subs(t, 0))
    weights = [mass * sp.exp(t * r) for mass, r in zip(masses, rewards, strict=True)]

    def mean(values):
        return sum(x * y for x, y in zip(weights, values, strict=True)) / sum(weights)

    between = mean([(a + b - r) * r for r in rewards])
    squares = between + (mean(rewards) - (a + b) / 2) ** 2
    assert_zero(sp.diff(margin, t, 2) - squares, claim=HOEFFDING)
    evidence("Hoeffding, n = 3: margin'' in t = E_t (M - r)(r - m) + (J - (m + M)/2)^2 >= 0")


@pytest.mark.symbolic
def test_bennett_is_hoeffding_for_a_smaller_range(evidence):
    """Bennett's value is the gap of a law on {-v/b, b}, and v/b <= a: Hoeffding's bound for it is smaller."""
    xp, w = sympy_numbers(), symbolic_world(TwoSidedSize, 3)
    x = centred(xp, w.log_d, w.reward) / w.beta
    v, a, b = expectation(xp, w.log_d, x * x).flat[0], -x[0], x[1]
    inside = expectation(xp, w.log_d, (b - x) * (x + a)).flat[0]  # nonnegative between the ends
    assert_zero(a * b - v - inside, claim=SMALLER)
    evidence(f"v <= a b, then {hoeffding_by_curvature(2)} for the law on -v/b and b")


@pytest.mark.sampled
@given(worlds(TwoSidedSize))
def test_drawn_worlds(world):
    assert_holds(TwoSidedSize, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", [LOWER, UPPER])
def test_bennett_is_attained_by_two_atoms(claim):
    assert_attained(TwoSidedSize, claim, exact_world(log_d="1/5 4/5", reward="0 3", beta="2"))


@pytest.mark.certified
def test_hoeffding_is_attained_in_the_limit(evidence):
    world = exact_world(log_d="1/2 1/2", reward="0 1/1000", beta="1")
    (verdict,) = [v for v in assert_holds(TwoSidedSize, world) if v.claim == HOEFFDING]
    assert 0 < verdict.margin < 1e-6 * verdict.rhs
    evidence(f"Hoeffding ratio {verdict.lhs / verdict.rhs:.8f} at R/beta = 1e-3")


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(TwoSidedSize, LOWER, UPPER, HOEFFDING, SMALLER):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", [LOWER, UPPER, HOEFFDING, SMALLER])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(TwoSidedSize, claim, 1.01)


@pytest.mark.parametrize("claim", [LOWER, HOEFFDING])
def test_needs_ref_equal_to_the_data_law(claim, evidence):
    witness = assert_needs(TwoSidedSize, "log_ref = log_d", claim)
    evidence(f"{claim} without ref = d fails at {witness}")
