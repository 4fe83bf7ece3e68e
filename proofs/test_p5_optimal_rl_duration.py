"""P5, optimal duration of RL: derivation, drawn worlds, sharp bounds, global maxima certified."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling.bounds.sft_then_rl import optimal_rl_duration
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.duration import certify_duration
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas import duration
from nondecoupling.formulas.duration import duration_slope, duration_utility
from nondecoupling.formulas.laws import log_sum_exp, variance
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import tightened
from nondecoupling.theory.theorems.p5_optimal_rl_duration import OptimalRlDuration
from proofs.checks import (
    assert_attained,
    assert_positive,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp, variance_below_half_norm
from proofs.symbolic import assert_zero

pytestmark = pytest.mark.statement("P5")
SEVERAL_PEAKS = ("0.49995 0.49995 0.0001", "0 1 2")


def fractions(text):
    return tuple(Fraction(x) for x in text.split())


@pytest.mark.symbolic
@pytest.mark.parametrize("n", [2, 3])
def test_slope_of_the_utility(n, evidence):
    """U' by differentiating J(tilt_s) - lambda KL(d||tilt_s) in s = log x."""
    xp = sympy_numbers()
    free = sp.symbols(f"d1:{n}", positive=True)
    x, weight = sp.symbols("x lambda", positive=True)
    log_d = xp.log(xp.array([*free, 1 - sum(free)]))
    # Rewards 0, 1, r: the unit of reward is free, and constants drop out.
    reward = xp.array([0, 1, sp.Symbol("r", positive=True)][:n])
    arguments = (xp, log_d, reward, xp.array([weight]), xp.array([sp.log(x)]))
    derivative = x * sp.diff(duration_utility(*arguments).flat[0], x)
    assert_zero(derivative - duration_slope(*arguments).flat[0])
    evidence(f"U' = Var - lambda M, n = {n}")


@pytest.mark.symbolic
def test_bounds_on_roots(evidence):
    """|d/ds log Var| = |E(x - mu)^3|/Var <= R, then integrate over u from 0 to s."""
    x, s, spread, now = sp.symbols("x s R V", positive=True)
    p, u = sp.symbols("p u", positive=True)
    # E (x - mu)^3 = E (x - mu)^2 (x - mu), and -R <= x - mu <= R: both gaps are nonnegative terms
    for sign in (1, -1):
        assert_zero(p * x**2 * (spread - sign * x) + sign * p * x**3 - spread * p * x**2)
    # V e^{-R(s-u)} <= Var_u <= V e^{R(s-u)} gives M between these, lambda = V/M
    least = sp.integrate(now * sp.exp(-spread * (s - u)), (u, 0, s))
    most = sp.integrate(now * sp.exp(spread * (s - u)), (u, 0, s))
    assert_zero(now / least - spread / (1 - sp.exp(-spread * s)))
    assert_zero(now / most - spread / (sp.exp(spread * s) - 1))
    # solved for s
    weight = sp.Symbol("lambda", positive=True)
    early = sp.log(1 + spread / weight) / spread
    assert_zero(spread / (sp.exp(spread * early) - 1) - weight)
    late = -sp.log(1 - spread / weight) / spread
    assert_zero(spread / (1 - sp.exp(-spread * late)) - weight)
    for end in (early, late):
        assert sp.limit(end * weight, weight, sp.oo) == 1  # s* lambda -> 1
    evidence("log Var is Lipschitz with constant R; s* lambda -> 1")
    evidence(f"J <= J+: Bhatia-Davis, within {variance_below_half_norm()}")


@pytest.mark.symbolic
def test_surrogate(evidence):
    a, best, other, z = sp.symbols("a T t z", positive=True)
    gain = 2 * best * sp.exp(a * best) / a  # lambda b = 1

    def utility(t):
        return gain * (1 - sp.exp(-a * t)) - t**2

    u = a * (best - other)
    excess = (2 * best / a) * (sp.exp(u) - 1 - u) + (best - other) ** 2
    assert_zero(sp.expand(utility(best) - utility(other) - excess))
    # a T e^{a T} = a^2 G/2, which is what W inverts
    assert_zero(a**2 * gain / 2 - a * best * sp.exp(a * best))
    assert sp.solve(other * sp.exp(other) - z, other) == [sp.LambertW(z)]
    evidence(f"surrogate: G(1 - e^(-aT)) - T^2 is largest at W(a^2 G/2)/a by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(OptimalRlDuration))
def test_drawn_worlds(world):
    assert_holds(OptimalRlDuration, world)


@pytest.mark.certified
def test_two_levels_reach_the_edge_of_the_interval():
    world = exact_world(log_d="1/4 3/4", reward="0 1", duration="2", rate="1", other="1")
    assert_attained(OptimalRlDuration, "no root above J+", world)


@pytest.mark.certified
def test_surrogate_is_attained_at_its_maximiser():
    world = exact_world(log_d="1/4 3/4", reward="0 1", duration="2", rate="3", other="2")
    assert_attained(OptimalRlDuration, "surrogate maximum", world)


@pytest.mark.certified
@pytest.mark.parametrize("weight", ["1/100", "1/10", "1/5", "1", "10"])
def test_global_maximiser_is_certified(weight, evidence):
    data, reward = map(fractions, SEVERAL_PEAKS)
    found = certify_duration(data, reward, Fraction(weight))
    assert found.certified
    low, high = found.core
    rows = (np.log([float(x) for x in data]), np.array([float(x) for x in reward]))
    best, first, last = map(float, optimal_rl_duration(*rows, float(Fraction(weight))))
    assert low < best < high
    assert first == pytest.approx(found.interval[0]) and last <= found.interval[1] * (1 + 1e-5)
    middle = (low + high) / 2
    evidence(f"lambda = {weight}: s* = {middle:.4f} certified with {found.boxes} boxes")


@pytest.mark.certified
def test_three_stationary_points_exist(evidence):
    """Signs of U' at four times, in balls: the first root is a maximum, and so is the third."""
    xp = arb()
    data, reward = (xp.array(list(fractions(x))) for x in SEVERAL_PEAKS)
    weight = xp.array([Fraction(1, 10)])
    slopes = [
        sign * duration_slope(xp, xp.log(data), reward, weight, xp.array([time])).flat[0]
        for time, sign in ((2, 1), (5, -1), (9, 1), (11, -1))
    ]
    assert_positive(*slopes, claim="three stationary points exist")
    evidence("three stationary points at lambda = 1/10")


@pytest.mark.certified
@pytest.mark.parametrize("weight", ["1/10", "1", "10"])
def test_duration_between_ratios_of_variances(weight, evidence):
    """vmin/(lambda vmax) <= s* <= vmax/(lambda vmin), Var enclosed on pieces of [0, s*]."""
    import flint

    xp = arb()
    data, reward = map(fractions, SEVERAL_PEAKS)
    found = certify_duration(data, reward, Fraction(weight))
    log_d, r = xp.log(xp.array(list(data))), xp.array(list(reward))

    def variance_between(low, high):
        tilted = log_d + r * flint.arb(low).union(flint.arb(high))
        return variance(xp, tilted - log_sum_exp(xp, tilted), r).flat[0]

    edges = np.linspace(0, found.core[1], 65)
    boxes = [variance_between(low, high) for low, high in pairwise(edges)]
    least, most = min(float(b.lower()) for b in boxes), max(float(b.upper()) for b in boxes)
    multiplier = float(Fraction(weight))
    assert found.core[1] >= least / (multiplier * most)
    assert least <= 0 or found.core[0] <= most / (multiplier * least)
    evidence(f"lambda = {weight}: Var on [0, s*] within [{least:.3g}, {most:.3g}]")


@pytest.mark.attacked
def test_no_violation_is_found(evidence):
    for result in assert_survives(
        OptimalRlDuration, "no root above J+", "not too early", "not too late"
    ):
        evidence(tightness_line(result))


@pytest.mark.parametrize("claim", ["no root above J+", "not too early", "not too late"])
def test_one_percent_tighter_is_refuted(claim):
    assert_tightened_fails(OptimalRlDuration, claim, 1.01)


def test_surrogate_maximum_can_fail():
    world = exact_world(log_d="1/4 3/4", reward="0 1", duration="2", rate="3", other="2")
    (verdict,) = certify(tightened(OptimalRlDuration, "surrogate maximum", 1.01), world)
    assert verdict.status is Status.REFUTED


def test_a_local_maximum_gets_no_certificate(monkeypatch):
    """At lambda = .1 the first peak is a local maximum only: branch and bound must notice."""

    def first_peak(xp, log_d, reward, weight):
        left, right = np.array([[1.6]]), np.array([[4.0]])
        for _ in range(60):
            middle = (left + right) / 2
            up = duration_slope(xp, log_d, reward, weight, middle) > 0
            left, right = np.where(up, middle, left), np.where(up, right, middle)
        return left, left, np.array([[11.1]])

    monkeypatch.setattr(duration, "optimal_rl_duration", first_peak)
    data, reward = map(fractions, SEVERAL_PEAKS)
    assert not certify_duration(data, reward, Fraction(1, 10), max_boxes=500).certified


def best_of_many(log_d, reward, weight, low, high):
    """The s with the largest U among 40,000, from the definition."""
    times = np.concatenate([np.linspace(low, high, 20_000), np.geomspace(low, high, 20_000)])
    weights = log_d + times[:, None] * reward
    log_z = np.logaddexp.reduce(weights, axis=1)
    reached = (np.exp(weights - log_z[:, None]) * reward).sum(axis=1)
    return times[np.argmax(reached - weight * (log_z - times * (np.exp(log_d) @ reward)))]


@pytest.mark.parametrize("far", [50, 4000, 40_000])
@pytest.mark.parametrize("rare", [-12.0, -10.5, -9.0])
@pytest.mark.parametrize("weight", [0.09, 0.11, 0.12, 0.2])
def test_no_peak_is_missed_in_a_long_interval(far, rare, weight):
    """A best response of mass e^-4000 puts the end of the interval far behind the peaks of the others."""
    logits = np.array([0.0, 0.0, rare + np.log(2), -float(far)])
    log_d, reward = logits - np.logaddexp.reduce(logits), np.array([0.0, 1.0, 2.0, 3.0])
    best, low, high = map(float, optimal_rl_duration(log_d, reward, weight))
    assert best == pytest.approx(best_of_many(log_d, reward, weight, low, high), rel=1e-3)


def test_of_two_peaks_that_nearly_tie_the_better_one_is_found():
    """They tie at lambda = 0.16986...: below it the later one is better, above it the earlier one."""
    log_d, reward = np.log([0.49995, 0.49995, 1e-4]), np.array([0.0, 1.0, 2.0])
    tie = 0.1698629356552094
    for step in (1e-3, 1e-5, 1e-7):
        later, earlier = (
            float(optimal_rl_duration(log_d, reward, tie * (1 + sign * step))[0])
            for sign in (-1, 1)
        )
        assert earlier == pytest.approx(2.5, abs=0.01) and later == pytest.approx(9.42, abs=0.01)


def test_the_ends_of_the_interval_solve_what_defines_them():
    """(e^{R s} - 1) lambda = R at the first, and (max r - J+)(J+ - min r) = lambda (J+ - J(d)) at J+."""
    rng = np.random.default_rng(0)
    log_d, reward = np.log(rng.dirichlet(np.ones(4), size=200)), rng.normal(size=(200, 4))
    weight = 10.0 ** rng.uniform(-2, 2, size=(200, 1))
    xp, spread = floats_of(reward), np.ptp(reward, axis=1, keepdims=True)
    first = duration.earliest_duration(xp, log_d, reward, weight)
    np.testing.assert_allclose(weight * np.expm1(spread * first), spread)
    climb = duration.highest_stationary_reward(xp, log_d, reward, weight)
    highest = climb + (np.exp(log_d) * reward).sum(axis=1, keepdims=True)
    top, least = reward.max(axis=1, keepdims=True), reward.min(axis=1, keepdims=True)
    np.testing.assert_allclose((top - highest) * (highest - least), weight * climb, rtol=1e-9)
