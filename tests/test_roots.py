"""Roots: no row of a batch is sent back to bisecting by the others, and none is too small or too large to be found."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nondecoupling import bounds
from nondecoupling.formulas import price, roots
from nondecoupling.numbers.floats import floats_of


def frontier_of_many_rows(monkeypatch):
    """(steps, offsets, laws): the frontier policies of 500 sampled laws, half with no response of the best reward."""
    steps = []

    def counted(xp, value_and_slope, low, high):
        def counting(t):
            steps.append(1)
            return value_and_slope(t)

        return roots.newton_bisection(xp, counting, low, high)

    monkeypatch.setattr(price, "newton_bisection", counted)
    rng = np.random.default_rng(0)
    reward = rng.beta(rng.uniform(0.5, 2, (500, 1)), 2, size=(500, 17))
    reward[:, -1] = 1.0
    log_d = np.full(reward.shape, -np.log(16.0))
    log_d[:, -1] = -np.inf
    log_d[::2] = -np.log(17.0)
    return steps, bounds.frontier_policy(log_d, reward, 2.0), (log_d, reward)


def test_no_row_waits_for_another(monkeypatch):
    steps, found, (log_d, reward) = frontier_of_many_rows(monkeypatch)
    assert len(steps) < 30
    np.testing.assert_allclose(np.exp(found.log_p).sum(axis=1), 1.0, rtol=1e-12)
    alone = [bounds.frontier_policy(log_d[i], reward[i], 2.0).offset for i in range(20)]
    np.testing.assert_allclose(found.offset[:20], alone, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_root_of_any_size_is_found(dtype):
    most = 30 if dtype == "float32" else 300
    wanted = (10.0 ** np.arange(-most, most + 1, 7)[:, None]).astype(dtype)
    steps = []

    def log_ratio(t):
        steps.append(1)
        return np.log(t) - np.log(wanted), 1 / np.where(t > 0, t, 1)

    xp = floats_of(wanted)
    with np.errstate(all="ignore"):  # as where bounds calls it
        high = roots.bracketed_above(xp, log_ratio, np.ones_like(wanted))
        found = roots.newton_bisection(xp, log_ratio, np.zeros_like(wanted), high)
    np.testing.assert_allclose(found, wanted, rtol=1e3 * np.finfo(dtype).eps)
    assert len(steps) < 60


def test_a_bracket_over_orders_of_magnitude_is_cut_by_them():
    wanted = np.array([[1e-90]])

    def sign(t):
        return np.sign(t - wanted), np.zeros_like(t)

    ends = np.array([[1e-300]]), np.array([[1e300]])
    found = roots.newton_bisection(floats_of(wanted), sign, *ends)
    assert found == pytest.approx(wanted, rel=1e-15)


def test_a_root_that_is_not_settled_is_an_error():
    def square(t):  # its root is 0, which halving does not reach
        return t * t, 2 * t

    start = np.array([[0.0]]), np.array([[1.0]])
    with pytest.raises(
        ArithmeticError, match=r"a root near 7\.88861e-31 is not found in 100 steps"
    ):
        roots.newton_bisection(floats_of(*start), square, *start)


@pytest.mark.parametrize("kl", [1e-62, 1e-70, 1e-150, 1e-300])
def test_the_extremes_of_a_tiny_ball(kl):
    law, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    lowest, highest = bounds.reward_change_extremes(law, reward, kl)
    # To first order sqrt(2 A Var), Var = 1.29; the next one is smaller by sqrt(A).
    assert highest == pytest.approx(math.sqrt(2 * 1.29) * math.sqrt(kl), rel=1e-13)
    assert lowest == pytest.approx(-highest, rel=1e-13)


@pytest.mark.parametrize("beta", [1e-3, 1e-20, 1e-40, 1e-60, 1e-150])
def test_the_decoupling_radius_at_any_beta(beta):
    rare = 1e-12
    found = bounds.decoupling_threshold(np.log([rare, 1 - rare]), np.array([0.0, 1.0]), beta).exact
    # J(tilt_t) = beta log Z leaves so much mass on the worse of two responses; e^{-1/beta} is nothing.
    left = -beta * math.log1p(-rare)
    radius = left * math.log(left / rare) + (1 - left) * (math.log1p(-left) - math.log1p(-rare))
    assert found == pytest.approx(radius, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_ball_that_holds_the_best_response_reaches_it_however_rare(dtype):
    """KL(p||ref) of all mass on the response of probability e^-90 or e^-939 is 90 or 939."""
    for log_rare in (-90.0, -939.0):
        law, reward = np.array([0.0, log_rare], dtype), np.array([10.0, 0.0], dtype)
        for kl in (1.01 * -log_rare, 5e4):
            found = bounds.reward_change_extremes(law, reward, kl)
            assert (float(found.lower), float(found.upper)) == (-10.0, pytest.approx(0, abs=1e-30))
