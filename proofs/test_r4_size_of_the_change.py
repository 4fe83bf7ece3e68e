"""R4, size of the reward change: derivations, drawn worlds, equality cases, and the check can fail."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.formulas.laws import kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.theorems.r4_size_of_the_change import SizeOfTheChange
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import (
    best_time_for_bernstein,
    best_time_for_hoeffding,
    bretagnolle_huber_by_overlap,
    distance_from_midrange,
    excess_below_bernstein,
    excess_increases,
    hoeffding_by_curvature,
    logarithm_below_tangent,
    tangent_of_exp,
)
from proofs.symbolic import assert_identity, assert_margin, assert_zero

pytestmark = pytest.mark.statement("R4")
PINSKER, BRETAGNOLLE_HUBER = "Pinsker", "Bretagnolle-Huber"
RISES, DROPS = "Bernstein, rises", "Bernstein, drops"
EXACT_RISE, EXACT_DROP = "exact rise", "exact drop"
CLOSED_FORMS = [PINSKER, BRETAGNOLLE_HUBER, RISES, DROPS]
CLAIMS = [*CLOSED_FORMS, EXACT_RISE, EXACT_DROP]


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3])
def test_exact_extremes(responses, evidence):
    for direction, sign in (("rise", 1), ("drop", -1)):
        name = f"room below the exact {direction}"
        evidence(assert_identity(SizeOfTheChange, name, responses))

        def room(xp, w, sign=sign):
            extreme = gibbs_tilt(xp, w.log_tilt, sign * w.reward, 1 / w.time)
            return kl_divergence(xp, w.log_p, extreme)

        what = "KL(p||tilt_t)"
        evidence(assert_margin(SizeOfTheChange, f"exact {direction}", responses, room, what))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.symbolic
def test_pinsker_and_bernstein_by_the_best_time(evidence):
    """The exact form is t (J(p) - J(tilt)) <= A + log E e^{tx}, x = r - J(tilt); bound the last."""
    t, spread, distance, variance, b = sp.symbols("t R A V b", positive=True)
    evidence(f"Pinsker by {hoeffding_by_curvature()} and {best_time_for_hoeffding()}")
    best = sp.sqrt(8 * distance) / spread
    bound = (distance + t**2 * spread**2 / 8) / t
    assert_zero(bound.subs(t, best) - spread * sp.sqrt(distance / 2), claim=PINSKER)
    # log E e^{tx} <= E e^{tx} - 1 = E (tx)^2 phi(tx) <= t^2 V phi(tb) <= t^2 V/(2 (1 - tb/3))
    evidence(
        f"Bernstein by {logarithm_below_tangent()}; {excess_increases()}; {excess_below_bernstein()}"
    )
    evidence(f"and {best_time_for_bernstein()}")
    best = 1 / (sp.sqrt(variance / (2 * distance)) + b / 3)
    bound = (distance + t**2 * variance / (2 * (1 - b * t / 3))) / t
    closed = sp.sqrt(2 * distance * variance) + b * distance / 3
    for name in (RISES, DROPS):  # drops: the same for -r, with b the way down
        assert_zero(bound.subs(t, best) - closed, claim=name)


@pytest.mark.symbolic
def test_bretagnolle_huber(evidence):
    tv, spread, total = sp.symbols("TV R S", positive=True)  # S = sum |p - q|
    evidence(bretagnolle_huber_by_overlap())
    evidence(f"the reward changes by at most R TV: {distance_from_midrange()}")
    assert_zero((spread / 2 * total - spread * tv).subs(total, 2 * tv), claim=BRETAGNOLLE_HUBER)


@pytest.mark.sampled
@given(worlds(SizeOfTheChange))
def test_drawn_worlds(world):
    assert_holds(SizeOfTheChange, world)


@pytest.mark.certified
@pytest.mark.parametrize("claim", CLAIMS)
def test_all_are_equalities_at_the_tilt(claim):
    flat = exact_world(log_p="1/4 3/4", log_tilt="1/4 3/4", reward="5 5", time="1")
    assert_attained(SizeOfTheChange, claim, flat)


@pytest.mark.certified
@pytest.mark.parametrize(("claim", "law"), [(EXACT_RISE, "1/3 2/3"), (EXACT_DROP, "2/3 1/3")])
def test_exact_extremes_are_attained_by_a_tilt(claim, law):
    """A rational tilt of the exact form needs e^{t}: the limit of p at time 0 is the tilt itself."""
    near = exact_world(log_p=law, log_tilt=law, reward="0 1", time="1/1000000000000")
    (verdict,) = [v for v in assert_holds(SizeOfTheChange, near) if v.claim == claim]
    assert 0 <= verdict.margin < 1e-24


@pytest.mark.attacked
def test_attack(evidence):
    for result in assert_survives(SizeOfTheChange, *CLAIMS):
        assert result.tightness > 0.99
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", CLAIMS)
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(SizeOfTheChange, claim, 1.01)


@pytest.mark.sampled
def test_solved_extremes_lie_in_the_ball_and_below_the_closed_forms():
    """The solver's extremes: KL of the extreme tilt is the radius; no closed form beats them."""
    rng = np.random.default_rng(0)
    law = np.log(rng.dirichlet(np.ones(4) / 2, size=500) * (1 - 4e-9) + 1e-9)
    reward, radius = rng.standard_normal((500, 4)), 10 ** rng.uniform(-8, 1, size=500)
    lowest, highest = bounds.reward_change_extremes(law, reward, radius)
    lower, upper = bounds.reward_change_bounds(law, reward, radius)
    assert_in_all(highest <= upper * (1 + 1e-12), "no closed form beats the exact rise")
    assert_in_all(lowest >= lower * (1 + 1e-12), "no closed form beats the exact drop")
    mean = bounds.expected_reward(law, reward)
    everything = -np.log(np.exp(law)[np.arange(500), reward.argmax(axis=1)])
    inside = radius < everything
    assert 100 < inside.sum() < 500
    np.testing.assert_allclose(highest[~inside], (reward.max(axis=1) - mean)[~inside], rtol=1e-12)
    # KL of the extreme point is the cheapest way to its reward: weak duality at its own time.
    for sign, change in ((1, highest), (-1, -lowest)):
        cheapest = cheapest_divergence(law, sign * reward, change)
        rows = inside if sign > 0 else radius < -law[np.arange(500), reward.argmin(axis=1)]
        np.testing.assert_allclose(cheapest[rows], radius[rows], rtol=1e-6)


def cheapest_divergence(law, reward, change):
    """max_t [t change - log E e^{t (r - E r)}], by a search over t that knows no derivative."""
    from scipy.optimize import minimize_scalar

    out = []
    grid = np.linspace(-14, 12, 261)
    for log_p, r, c in zip(law, reward, change, strict=True):
        x = r - np.exp(log_p) @ r

        def dual(log_t, x=x, log_p=log_p, c=c):
            t = np.exp(log_t)
            tx = np.multiply.outer(t, x)
            top = tx.max(axis=-1)
            return -(t * c - top - np.log(np.exp(log_p + tx - top[..., None]).sum(axis=-1)))

        best = grid[np.argmin(dual(grid))]
        found = minimize_scalar(
            dual, bounds=(best - 0.2, best + 0.2), method="bounded", options={"xatol": 1e-10}
        )
        out.append(-found.fun)
    return np.array(out)


def test_no_bound_passes_the_ends_of_the_reward():
    """No policy earns less than the least reward, or more than the highest, however far away it is."""
    law, reward = np.log([0.5, 0.3, 0.2]), np.array([-1.0, 0.0, 4.0])
    mean = bounds.expected_reward(law, reward)
    for radius in (1.0, 10.0, 1e4):
        lower, upper = bounds.reward_change_bounds(law, reward, radius)
        assert lower >= reward.min() - mean and upper <= reward.max() - mean
    assert (lower, upper) == pytest.approx((reward.min() - mean, reward.max() - mean))
