"""``gold_gain_bound`` against Arb, its root found by bisection at 300 bits."""

from __future__ import annotations

import flint
import numpy as np
import pytest
import torch
from flint import arb

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from tests.exact_definitions import mean, total
from tests.test_accuracy import balls, exact_law, random_law


def exact_bound(log_p, log_ref, reward, gold):
    p, ref = exact_law(log_p), exact_law(log_ref)
    r, gap = balls(reward), [a - b for a, b in zip(balls(reward), balls(gold), strict=True)]
    kl = total(a * (a / b).log() for a, b in zip(p, ref, strict=True) if not a.is_zero())
    low, high = min(gap, key=float), max(gap, key=float)
    m, rest = (
        (mean(ref, [s * (x - y) for x in gap]) / (high - low)) for s, y in ((1, low), (-1, high))
    )
    start, end = arb(-800), arb(1600)  # of the log-odds that are added
    for _ in range(340):
        middle = arb(((start + end) / 2).mid())
        grown = m * middle.exp()
        x, not_x = grown / (grown + rest), rest / (grown + rest)
        value = x * (x / m).log() + not_x * (not_x / rest).log()
        start, end = (middle, end) if middle < 0 or value < kl else (start, middle)
    x = m * start.exp() / (m * start.exp() + rest)
    return mean(p, r) - mean(ref, r) - (high - low) * (x - m), kl, high - low


def scale_of(log_p, log_ref, reward, kl, spread):
    """The scale that the table of tolerances names."""
    shifted = np.abs(reward - reward[log_ref.argmax()]).astype(float)
    weight = np.exp(log_p.astype(float)) + np.exp(log_ref.astype(float))
    return float(weight @ shifted) + float(spread) * (1 + float(kl / 2) ** 0.5)


@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_against_balls(dtype, library):
    lift = torch.tensor if library == "torch" else np.asarray
    rng, saved = np.random.default_rng(3), flint.ctx.prec
    assert set(accuracy.SIGNED_ROOTS) == {"gold_gain_bound"}
    flint.ctx.prec = 300
    try:
        for trial in range(25):
            n = int(rng.integers(2, 6))
            log_ref = random_law(rng, n, dtype, zeros=False, floor=-30.0)
            reward, gold = (
                np.round(rng.standard_normal((2, n)), 2) * 10.0 ** rng.uniform(-2, 2)
            ).astype(dtype)
            if np.ptp(reward - gold) == 0:
                continue
            log_p = random_law(rng, n, dtype, zeros=False, floor=-30.0)
            if trial % 2:  # a policy that the proxy trained, gently or hard
                log_p = bounds.gibbs_tilt(log_ref, reward, dtype(10.0 ** rng.uniform(-1, 3)))
            want, kl, spread = exact_bound(log_p, log_ref, reward, gold)
            got = float(bounds.gold_gain_bound(*map(lift, (log_p, log_ref, reward, gold))))
            unit = float(np.finfo(dtype).eps) * scale_of(log_p, log_ref, reward, kl, spread)
            error = abs(float(arb(got) - want))
            assert error <= accuracy.RELATIVE_UNITS * unit, (
                f"{got}, {want}: {error / unit:.3g} units"
            )
    finally:
        flint.ctx.prec = saved
