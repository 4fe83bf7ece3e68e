"""The functions of ``bounds.schedules`` against Arb, extremes included."""

from __future__ import annotations

import itertools
import math

import flint
import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from nondecoupling.formulas import schedules
from nondecoupling.formulas.laws import log_sum_exp
from nondecoupling.formulas.levels import levels_by_comparison
from nondecoupling.numbers.arb import arb

LIBRARIES = {"numpy": np.asarray, "torch": torch.tensor}
EACH = ["numpy", pytest.param("torch", marks=pytest.mark.slow)]
DTYPES = [np.float64, np.float32]


@pytest.fixture(autouse=True)
def precision():
    saved, flint.ctx.prec = flint.ctx.prec, 3000
    yield
    flint.ctx.prec = saved


def law(rng, n, dtype):
    """Even, spread over hundreds of decades, or nearly certain of one response."""
    lowest = math.log(np.finfo(dtype).tiny)
    logits = [np.zeros(n), rng.uniform(lowest, 0, n), np.full(n, -34.0), rng.normal(size=n)]
    chosen = logits[rng.integers(4)].copy()
    chosen[rng.integers(n)] = 0.0
    return (chosen - np.logaddexp.reduce(chosen)).astype(dtype)


def exactly(log_p):
    """In balls, the exactly normalised law next to a float law."""
    xp = arb()
    x = xp.array([float(v) for v in log_p])
    return x - log_sum_exp(xp, x)


def balls(*values):
    return arb().array([float(v) for v in values])


def assert_close(got, exact, scale, dtype, context):
    """Within the table's units of the dtype's eps, relative to ``scale``, entry by entry."""
    for mine, true, size in zip(np.ravel(got), exact, np.ravel(scale), strict=True):
        error = abs(float(flint.arb(float(mine)) - true))
        allowed = accuracy.RELATIVE_UNITS * float(np.finfo(dtype).eps) * size
        assert error <= allowed + float(np.finfo(dtype).tiny), (context, float(mine), float(true))


@pytest.mark.parametrize("library", EACH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_best_of_n_policy(dtype, library):
    rng, xp = np.random.default_rng(0), arb()
    for size, draws, levels in itertools.product((2, 3, 9), (1, 2, 7, 10**4, 10**6), (2, 100)):
        ref, reward = law(rng, size, dtype), rng.integers(0, levels, size).astype(dtype)
        got = bounds.best_of_n_policy(LIBRARIES[library](ref), reward, draws)
        exact = exactly(ref)
        by_pairs = levels_by_comparison(xp, exact, balls(*reward))
        true = schedules.best_of_n(xp, exact, balls(draws), by_pairs)
        scale = 1 + np.abs(ref).max() + np.abs([float(x) for x in true])
        assert_close(got, true, scale, dtype, f"{ref}, {reward}, {draws}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_best_of_n_bounds(dtype):
    for draws in (1, 2, 3, 10, 10**4, 10**6):
        got = bounds.best_of_n_bounds(np.array([draws], dtype=dtype))
        true = schedules.best_of_n_bounds(arb(), balls(draws))
        for mine, exact in zip(got, true, strict=True):
            assert_close(mine, exact, [float(exact[0])], dtype, draws)


def test_the_comparison_can_fail():
    """The mass of a level taken as a difference, F - F_-, is lost where F is nearly one."""
    ref = np.log([1 - 1e-15, 1e-17, 1e-15 - 1e-17])
    mass = np.exp(ref)
    with np.errstate(divide="ignore"):
        naive = np.log(np.cumsum(mass) - np.cumsum(np.append(0, mass)[:-1]))
    with pytest.raises(AssertionError):
        assert_close(naive, exactly(ref), 1 + np.abs(ref), np.float64, "")


@pytest.mark.parametrize("dtype", DTYPES)
def test_replay_bound(dtype):
    tiny = float(np.finfo(dtype).tiny) * 1e4
    eps = float(np.finfo(dtype).eps)
    divergences = (0.0, tiny, 1e-12, 1e-3, 0.7, 5.0, 50.0, 1e3, 1e5)
    shares = (0.0, tiny, 1e-9, 0.1, 0.5, 0.9, 1 - 4 * eps, 1.0)
    for kl, share in itertools.product(divergences, shares):
        pair = np.array([kl], dtype=dtype), np.array([share], dtype=dtype)
        x, v = (flint.arb(float(value[0])) for value in pair)
        flint.ctx.prec = 200_000 if kl > 1e3 else 3000  # e^-kl beside 1
        true = -(1 - v + v * (-x).exp()).log()
        flint.ctx.prec = 3000
        got = bounds.replay_bound(*pair)
        assert_close(got, [true], [abs(float(true))], dtype, (kl, share))


@pytest.mark.parametrize("library", EACH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_weighted_sft_optimum(dtype, library):
    rng, xp = np.random.default_rng(2), arb()
    powers = (-1e6, -1.0, 0.0, 1e-9, 0.5, 0.999, 1 - 2.0**-20)
    for size, power in itertools.product((2, 3, 9), powers):
        d, power = law(rng, size, dtype), float(dtype(power))
        got = bounds.weighted_sft_optimum(LIBRARIES[library](d), power)
        true = schedules.sharpened(xp, exactly(d), 1 / (1 - balls(power)))
        scale = np.full(size, 1 + (1 + np.abs(d).max()) / (1 - power))
        assert_close(got, true, scale, dtype, f"{d}, {power}")


def exact_frontier_weights(log_d, reward, beta):
    """beta/(mu - r) by bisection in balls on log(mu - max r), between log d(argmax r) and 0 over beta."""
    xp = arb()
    d, r = xp.exp(exactly(log_d)), balls(*reward)
    room = (xp.max(r) - r) / xp.number(float(beta))
    low, high = -flint.arb(800), flint.arb(0)
    for _ in range(300):
        middle = flint.arb(((low + high) / 2).mid())
        mass = sum(d / (room + middle.exp()))
        assert not mass.overlaps(flint.arb(1)) or abs(high - low) < flint.arb(2) ** -250
        low, high = (middle, high) if mass > 1 else (low, middle)
    return 1 / (room + middle.exp())


@pytest.mark.parametrize("library", EACH)
def test_frontier_weights(library):
    rng = np.random.default_rng(3)
    flint.ctx.prec = 400
    for size, log_beta in itertools.product((2, 3, 6), (-9, -3, -1, 0, 2, 6)):
        d = law(rng, size, np.float64)
        reward, beta = np.round(rng.normal(size=size), 2), 10.0**log_beta
        got = bounds.frontier_weights(LIBRARIES[library](d), reward, beta)
        true = exact_frontier_weights(d, reward, beta)
        assert_close(got, true, [float(x) for x in true], np.float64, f"{d}, {reward}, {beta}")


def exact_leashless(log_ref, reward, tau):
    """log p, and the scale of the table, from the root of sum log(ref D) enclosed by bisection in balls."""
    xp = arb()
    ref, r = xp.exp(exactly(log_ref)), balls(*reward)
    pole = [xp.number(float(tau)) * y - 1 / x for x, y in zip(ref, r, strict=True)]
    leader = max(range(len(pole)), key=lambda k: pole[k].mid())
    twins = [
        log_ref[k] == log_ref[leader] and reward[k] == reward[leader] for k in range(len(pole))
    ]
    gaps = [flint.arb(0) if same else pole[leader] - y for y, same in zip(pole, twins, strict=True)]
    low, high = -flint.arb(10**4), flint.arb(800)
    for _ in range(120):
        u = flint.arb(((low + high) / 2).mid())
        inverse = [gap + u.exp() for gap in gaps]
        total = sum((x * y).log() for x, y in zip(ref, inverse, strict=True))
        low, high = (low, u) if total > 0 else (u, high)
    log_p = [-x.log() for x in inverse]
    log_p = np.array(log_p) - sum(x.exp() for x in log_p).log()
    condition = sum(
        float((1 / ref[leader] + 1 / ref[k] + abs(r[leader] - r[k]) * float(tau)) / inverse[k])
        for k in range(len(pole)) if k != leader
    )  # fmt: skip
    return log_p, 1 + condition + max(abs(float(x)) for x in log_p)


@pytest.mark.parametrize("library", EACH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_leashless_policy(dtype, library):
    rng = np.random.default_rng(4)
    flint.ctx.prec = 500
    for size, log_tau in itertools.product((2, 3, 6), (-12, -2, 0, 1, 3, 8)):
        ref = law(rng, size, dtype)
        reward, tau = np.round(rng.normal(size=size), 1).astype(dtype), float(dtype(10.0**log_tau))
        got = bounds.leashless_policy(LIBRARIES[library](ref), reward, tau)
        true, scale = exact_leashless(ref, reward, tau)
        assert_close(got, true, np.full(size, scale), dtype, f"{ref}, {reward}, {tau}")


def exact_log_slack(log_d, x, share):
    """log(1 - k) by bisection in balls: share times the sum of d/(1 - k e^x) is one."""
    if share == 1:
        return flint.arb(0)
    low, high = -flint.arb(900), flint.arb(0)
    for _ in range(250):
        u = flint.arb(((low + high) / 2).mid())
        mass = sum(
            d.exp() * share / (u.exp() * y.exp() - y.expm1()) for d, y in zip(log_d, x, strict=True)
        )
        low, high = (u, high) if mass > 1 else (low, u)
    return u


@pytest.mark.parametrize("library", EACH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_alternation(dtype, library):
    rng, xp = np.random.default_rng(5), arb()
    flint.ctx.prec = 600
    shares, times = (1e-9, 1e-3, 0.3, 0.999, 1.0), (0.0, 1e-9, 0.1, 3.0, 200.0)
    for share, time in itertools.product(shares, times):
        d = law(rng, 4, dtype)
        reward = np.round(rng.normal(size=4), 1).astype(dtype)
        share, time = float(dtype(share)), float(dtype(time))
        arguments = LIBRARIES[library](d), reward, time, share
        exact, r = exactly(d), balls(*reward)
        x = (r - xp.max(r)) * balls(time)
        x[reward == reward.max()] = flint.arb(0)
        log_slack = exact_log_slack(exact, x, flint.arb(share))
        held = np.array([(log_slack.exp() * y.exp() - y.expm1()).log() for y in x])
        size = 1 + np.abs(d).max() + time * np.ptp(reward)
        context = f"{d}, {reward}, {time}, {share}"
        for after, phase in (("sft", 0), ("half-rl", flint.arb(1) / 2), ("rl", 1)):
            weights = exact - held + phase * x
            true = weights - log_sum_exp(xp, weights)
            got = bounds.alternation_limit(*arguments, after)
            assert_close(got, true, np.full(4, size), dtype, f"{after}: {context}")
        rate = bounds.alternation_rate(*arguments)
        true_rate = -log_slack.expm1()
        assert_close(rate, [true_rate], [size * float(true_rate)], dtype, context)


@pytest.mark.parametrize("beta", [1e6, 2.0, 1.0, 0.5, 1e-6])
@pytest.mark.parametrize("success", [0.5, 1e-3, 1e-12, 1e-40, 1e-300])
def test_frontier_weights_of_rare_successes(success, beta):
    """Two levels: the offset solves o^2 + o (1/beta - 1) = success/beta; at beta = 1 it is its root."""
    d = np.array([math.log1p(-success), math.log(success)])
    rate, a = 1 / flint.arb(beta), flint.arb(float(d[1])).exp()
    offset = (1 - rate + ((1 - rate) ** 2 + 4 * a * rate).sqrt()) / 2
    true = [1 / (offset + rate), 1 / offset]
    scale = [float(x) * (1 - float(d[1])) for x in true]
    assert_close(bounds.frontier_weights(d, [0.0, 1.0], beta), true, scale, np.float64, "")
