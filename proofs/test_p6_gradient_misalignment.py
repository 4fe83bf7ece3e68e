"""P6, gradient misalignment: derivation, drawn worlds, equality cases, the Gaussian mean certified."""

import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.p6_gradient_misalignment import GradientMisalignment
from proofs.checks import (
    assert_attained,
    assert_positive,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import lagrange_identity
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("P6")
CLAIMS = ("inside and outside", "random residuals")


@pytest.mark.symbolic
def test_split_at_an_invariant_subspace(evidence):
    """u^T K v = inside + outside, and |outside| <= sqrt(tails) by Cauchy-Schwarz in sqrt(K)."""
    tau_u, tau_v, uu, vv = sp.symbols("tau_u tau_v U V", positive=True)
    inner = sp.Symbol("I", nonnegative=True)
    inside_norms = sp.sqrt((1 - tau_u) * uu * (1 - tau_v) * vv)
    cos_inside = inner / inside_norms
    named = sp.sqrt((1 - tau_u) * (1 - tau_v)) * cos_inside + sp.sqrt(tau_u * tau_v)
    computed = (inner + sp.sqrt(tau_u * uu * tau_v * vv)) / sp.sqrt(uu * vv)
    assert_zero(named - computed, claim="inside and outside")
    evidence(f"split of u^T K v; outside by {lagrange_identity()}")


@pytest.mark.symbolic
def test_exchange_argument(evidence):
    """f_i = lambda_i g_i, g_i = E u_i^2/u^T K u. Averaging over an exchange of u_1^2, u_2^2 shows
    g_1 <= g_2 and f_1 >= f_2 for lambda_1 >= lambda_2; sum f = 1 then gives f_1 <= lambda_1/tr K."""
    b, c, x, y, rest = sp.symbols("b c x y rest", positive=True)
    a = b + c  # lambda_1 = a >= lambda_2 = b
    here, there = a * x + b * y + rest, a * y + b * x + rest
    g_gap = (x - y) / here + (y - x) / there
    assert_zero(g_gap + c * (x - y) ** 2 / (here * there), claim="random residuals")
    f_gap = sp.together((a * x - b * y) / here + (a * y - b * x) / there)
    room = sp.Poly(sp.expand(sp.cancel(f_gap * here * there)), b, c, x, y, rest)
    assert all(coefficient > 0 for coefficient in room.coeffs())
    evidence("exchange of two coordinates: g_1 <= g_2 and f_1 >= f_2")


@pytest.mark.sampled
@given(worlds(GradientMisalignment))
def test_drawn_worlds(world):
    assert_holds(GradientMisalignment, world)


@pytest.mark.certified
def test_equality_for_parallel_tails():
    """With a single eigenvector outside the parts there are always parallel."""
    one_outside = exact_world(log_spectrum="3/4 1/4", normal="1 0", kept="1 -1", u="-1 2", v="-3 5")
    assert_attained(GradientMisalignment, "inside and outside", one_outside)


@pytest.mark.certified
def test_equality_where_parts_inside_cancel():
    """Inside, u and v agree on one eigenvector and disagree on the other: the sum counts, not its terms' sizes."""
    cancelling = exact_world(
        log_spectrum="1/2 1/4 1/4", normal="1 0 0", kept="1 1 -1", u="1 2 3", v="5 -3 1"
    )
    assert_attained(GradientMisalignment, "inside and outside", cancelling)


@pytest.mark.certified
@pytest.mark.parametrize("n", [2, 3, 4])
def test_mean_square_is_attained_by_multiples_of_the_identity(n):
    world = exact_world(
        log_spectrum=" ".join([f"1/{n}"] * n),
        normal=" ".join("1" * n),
        kept=" ".join("1" * n),
        u=" ".join(map(str, range(1, n + 1))),
        v=" ".join(["1"] + ["0"] * (n - 1)),
    )
    assert_attained(GradientMisalignment, "random residuals", world)


@pytest.mark.certified
@pytest.mark.parametrize("spectrum", [(1, 1, 1), (4, 2, 1), (100, 10, 1)])
def test_gaussian_residuals(spectrum, evidence):
    """u ~ N(0, I): E f_i = int_0^inf l_i (1 + 2 l_i t)^-1 prod (1 + 2 l_j t)^-1/2 dt, enclosed.

    Substituting t = x/(1 - x)^2 makes the integrand analytic up to both ends of [0, 1].
    """
    import flint

    def integrand(i):
        def at(x, _):
            rest = 1 - x
            # t = x/(1-x)^2, dt = (1+x)/(1-x)^3 dx; each 1 + 2 l t = ((1-x)^2 + 2 l x)/(1-x)^2
            factors = [rest * rest + 2 * value * x for value in spectrum]
            root = (factors[0] * factors[1] * factors[2]).sqrt()
            # powers of (1-x): 2 from the extra factor, 3 from the product, -3 from dt
            return spectrum[i] * (1 + x) * rest * rest / (factors[i] * root)

        return at

    largest = flint.arb(max(spectrum)) / sum(spectrum)
    means = [flint.acb.integral(integrand(i), 0, 1).real for i in range(3)]
    assert (sum(means) - 1).contains(0) and sum(means).rad() < 1e-10
    # The mean square for v along eigenvector i; any v gives a weighted average of these
    if len(set(spectrum)) == 1:
        rooms = [1e-10 - abs(mean - largest) for mean in means]  # attained
    else:
        rooms = [largest - mean for mean in means]
    assert_positive(*rooms, claim="random residuals, for Gaussian ones")
    evidence(f"N(0, I), spectrum {spectrum}: {float(means[0]):.4f} <= {float(largest):.4f}")


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(GradientMisalignment, *CLAIMS):
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(GradientMisalignment, claim, 1.01)
