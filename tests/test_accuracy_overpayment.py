"""``overpayment`` against paid minus price in Arb, where floats lose everything to cancellation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from flint import arb

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from tests.exact_definitions import best_dual, mean, total
from tests.test_accuracy import balls, certain, exact_law, random_law

UNITS = accuracy.RELATIVE_UNITS


def exact_overpayment(log_d, log_p, reward):
    d, p, r = exact_law(log_d), exact_law(log_p), balls(reward)
    paid = total(a * (a / b).log() for a, b in zip(d, p, strict=True) if not a.is_zero())
    reached = mean(p, r)
    return paid - best_dual(d, r, reached) if reached > mean(d, r) else paid


def allowed_error(value, log_d, log_p, reward, dtype):
    """As for a divergence from a computed tilt: log z is a difference of numbers of this size."""
    logs = [*log_d[np.isfinite(log_d)], *log_p[np.isfinite(log_p)]]
    room = float(np.exp(log_p.astype(float)) @ (reward.max() - reward)) or np.finfo(dtype).tiny
    size = 2 + 2 * np.abs(logs).max() + abs(math.log(room / np.ptp(reward)))
    unit = float(np.finfo(dtype).eps) * float(size)
    return UNITS * (math.sqrt(2 * value) * unit + unit**2 + value * unit) + np.finfo(dtype).tiny


def policies(rng, log_d, reward, dtype):
    """Another law, tilts from gentle to hard, and the frontier itself."""
    yield random_law(rng, len(log_d), dtype, zeros=False, floor=-80.0)
    spread = float(np.ptp(reward))
    for strength in (1e-4, 0.1, 3.0, 40.0):
        yield bounds.gibbs_tilt(log_d, reward, dtype(spread / strength))
    yield bounds.frontier_policy(log_d, reward, dtype(2.0 / spread))[0]


def law_for(rng, n, dtype):
    return random_law(rng, n, dtype, zeros=True, floor=-80.0)


@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_against_balls(dtype, library):
    lift = torch.tensor if library == "torch" else np.asarray
    rng, compared = np.random.default_rng(7), 0
    for _ in range(15):
        n = int(rng.integers(2, 7))
        log_d = law_for(rng, n, dtype)
        reward = np.round(10.0 ** rng.uniform(-2, 2) * rng.standard_normal(n), 3).astype(dtype)
        if np.ptp(reward) == 0:
            continue
        for log_p in policies(rng, log_d, reward, dtype):
            if not np.isfinite(log_p[np.isfinite(log_d)]).all():
                continue
            got = float(bounds.overpayment(lift(log_d), lift(log_p), lift(reward)))
            want = certain_to_absolute(log_d, log_p, reward)
            error = abs(float(arb(got) - want))
            allowed = allowed_error(max(float(want), 0.0), log_d, log_p, reward, dtype)
            assert error <= allowed, f"{got} against {float(want)}: {log_d}, {log_p}, {reward}"
            compared += 1
    assert compared > 60


def certain_to_absolute(log_d, log_p, reward):
    """Paid minus price, certain to 60 digits of its own or to 1e-60 where it vanishes."""
    import flint

    saved = flint.ctx.prec
    try:
        flint.ctx.prec = 600
        value = exact_overpayment(log_d, log_p, reward)
        assert value.rad() < arb("1e-60")
        return value
    finally:
        flint.ctx.prec = saved


def test_responses_as_unlikely_as_a_language_model_makes_them():
    """log p of -2000: J(p) rounds to the best reward, whose price would be infinite."""
    d, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    tilt = bounds.gibbs_tilt(d, reward, 1e-3)
    assert float(bounds.expected_reward(tilt, reward)) == 3.0
    want = certain(lambda: exact_overpayment(d, tilt, reward))
    assert float(bounds.overpayment(d, tilt, reward)) == pytest.approx(float(want), rel=1e-12)
    assert float(want) > 400
    two_levels = np.array([0.0, 1.0, 1.0])
    for beta in (1e-5, 1e-3, 0.1, 10.0, 1e5):
        tilt = bounds.gibbs_tilt(d, two_levels, beta)
        assert float(bounds.overpayment(d, tilt, two_levels)) <= (1e-15 * (1 + 1 / beta)) ** 2


def test_the_difference_of_two_losses_would_not_do():
    """Paid minus price in floats is off by all of it, which the comparison above refuses."""
    d, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    tilt = bounds.gibbs_tilt(d, reward, 1e4)
    price = bounds.price_of_reward(d, reward, bounds.expected_reward(tilt, reward))
    naive = float(bounds.kl_divergence(d, tilt) - price)
    want = float(certain_to_absolute(d, tilt, reward))
    allowed = allowed_error(want, d, tilt, reward, np.float64)
    assert abs(float(bounds.overpayment(d, tilt, reward)) - want) <= allowed
    assert abs(naive - want) > allowed
