"""Every function in ``bounds`` against Arb, at precision raised until 50 digits are certain."""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest
import torch
from flint import arb

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from tests.exact_definitions import best_dual, mean, total

DIGITS_BITS = 170
SIZES = [2, 3, 8, 200]


def certain(compute):
    """The value of ``compute()`` with 50 certain digits (or certainly zero or infinite)."""
    saved = flint.ctx.prec
    try:
        for precision in (256, 512, 1024, 2048, 4096, 8192):
            flint.ctx.prec = precision
            value = compute()
            vanishes = value.is_finite() and abs(value) < arb(10) ** -400
            if value.rel_accuracy_bits() >= DIGITS_BITS or vanishes or value == arb("inf"):
                return value
        raise AssertionError(f"50 digits not reached: {value}")
    finally:
        flint.ctx.prec = saved


def exact_law(log_p):
    """The exactly normalised law next to a float law, as (mass, log mass)."""
    weights = [arb(float(x)).exp() if x > -math.inf else arb(0) for x in log_p]
    z = total(weights)
    return [w / z for w in weights]


def log_of(p):
    return p.log()


def kl_of(p, q):
    """Generalised KL of float laws as given, not renormalised: what ``kl_divergence`` promises."""
    out = arb(0)
    for x, y in zip(p, q, strict=True):
        x, y = float(x), float(y)
        if x > -math.inf:
            ex, ey = arb(x).exp(), arb(y).exp() if y > -math.inf else arb(0)
            if y == -math.inf:
                return arb("inf")
            out += ey - ex + ex * (arb(x) - arb(y))
        elif y > -math.inf:
            out += arb(y).exp()
    return out


def tilt_of(ref, r, beta):
    top = max(float(v) for v in r)
    w = [m * ((arb(float(v)) - top) / arb(beta)).exp() for m, v in zip(ref, r, strict=True)]
    z = total(w)
    return [x / z for x in w]


def log_z_of(ref, r, beta):
    top = max(float(v) for v in r)
    w = [m * ((arb(float(v)) - top) / arb(beta)).exp() for m, v in zip(ref, r, strict=True)]
    return total(w).log() + arb(top) / arb(beta)


def balls(r):
    return [arb(float(v)) for v in r]


def random_law(rng, n, dtype, *, zeros=True, floor=None):
    lowest = floor if floor is not None else math.log(np.finfo(dtype).tiny)
    kind = rng.integers(4)
    if kind == 0:
        logits = rng.standard_normal(n)
    elif kind == 1:
        logits = rng.uniform(lowest, 0, n)
    elif kind == 2:
        logits = np.full(n, lowest / 2)
    else:
        logits = np.zeros(n)
    logits[rng.integers(n)] = 0.0
    if zeros and n > 2 and rng.random() < 0.3:
        logits[rng.integers(n)] = -np.inf
        logits[rng.integers(n)] = 0.0
    return (logits - np.logaddexp.reduce(logits)).astype(dtype)


def random_reward(rng, n, dtype):
    offset = rng.choice([0.0, 1e6, -1e6]) if dtype == np.float64 else 0.0
    scale = 10.0 ** rng.uniform(-3, 6)
    values = offset + scale * rng.standard_normal(n)
    if rng.random() < 0.3:
        values = np.round(values)
    return values.astype(dtype)


def worlds(dtype, count, seed):
    rng = np.random.default_rng(seed)
    for i in range(count):
        n = SIZES[i % len(SIZES)]
        beta = float(dtype(10.0 ** rng.uniform(-6, 6)))
        p, q = random_law(rng, n, dtype), random_law(rng, n, dtype, zeros=False)
        if i % 5 == 0:  # nearly equal policies
            moved = p + 1e-6 * rng.standard_normal(n)
            q = (moved - np.logaddexp.reduce(moved)).astype(dtype)
        yield p, q, random_reward(rng, n, dtype), beta


def check(name, got, want, scale, dtype, context):
    got = float(got)
    if want == arb("inf"):
        assert math.isinf(got), f"{name}: {got} where the value is infinite; {context}"
        return 0.0
    assert math.isfinite(got), f"{name}: {got} where the value is {float(want)}; {context}"
    error = abs(float(arb(got) - want))
    unit = float(np.finfo(dtype).eps) * scale
    # Results below the dtype's smallest normal number cannot carry relative accuracy.
    allowed = accuracy.RELATIVE_UNITS * unit + float(np.finfo(dtype).tiny)
    assert error <= allowed, (
        f"{name}: {got} against {float(want)}, error {error / unit:.3g} units; {context}"
    )
    return error / unit if unit else 0.0


@pytest.mark.parametrize("library", ["numpy", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_relative_accuracy(dtype, library):
    lift = torch.tensor if library == "torch" else np.asarray
    for p, q, r, beta in worlds(dtype, 200, seed=1):
        context = f"p={p[:4]}, q={q[:4]}, r={r[:4]}, beta={beta}"
        a, b, rr = lift(p), lift(q), lift(r)
        kl = certain(lambda p=p, q=q: kl_of(p, q))
        check("kl_divergence", bounds.kl_divergence(a, b), kl, abs(float(kl)), dtype, context)
        entropy = certain(
            lambda p=p: (
                -mean(
                    [arb(float(x)).exp() for x in p],
                    [arb(float(x)) if x > -math.inf else arb(0) for x in p],
                )
            )
        )
        check("entropy", bounds.entropy(a), entropy, abs(float(entropy)), dtype, context)

        def gap(p=p, r=r, beta=beta):
            law, x = exact_law(p), [v / arb(beta) for v in balls(r)]
            return log_z_of(law, r, beta) - mean(law, x)

        if float(np.ptp(r[np.isfinite(p)])) == 0 or np.isfinite(p).sum() == 1:
            assert float(bounds.coupling_gap(a, rr, beta)) == 0
            continue
        want = certain(gap)
        check(
            "coupling_gap", bounds.coupling_gap(a, rr, beta), want, abs(float(want)), dtype, context
        )
        lower, upper = bounds.coupling_gap_bounds(a, rr, beta)
        slack = accuracy.RELATIVE_UNITS * np.finfo(dtype).eps
        assert float(lower) <= float(want) * (1 + slack) + np.finfo(dtype).tiny, context
        assert float(upper) >= float(want) * (1 - slack) - np.finfo(dtype).tiny, context


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_signed_quantities(dtype):
    for p, q, r, beta in worlds(dtype, 200, seed=2):
        context = f"p={p[:4]}, q={q[:4]}, r={r[:4]}, beta={beta}"
        spread = float(np.ptp(r.astype(float)))
        size = spread / beta + float(np.abs(q).max())
        top = abs(float(np.abs(r).max()))
        want = certain(lambda q=q, r=r, b=beta: log_z_of(exact_law(q), r, b))
        check(
            "log_partition",
            bounds.log_partition(q, r, beta),
            want,
            top / beta + size,
            dtype,
            context,
        )
        want = certain(lambda p=p, r=r: mean(exact_law(p), balls(r)))
        check("expected_reward", bounds.expected_reward(p, r), want, top, dtype, context)
        tilt = bounds.gibbs_tilt(q, r, beta)
        for y in np.flatnonzero(np.isfinite(q))[:3]:
            want = certain(lambda q=q, r=r, b=beta, y=y: tilt_of(exact_law(q), r, b)[y].log())
            check("gibbs_tilt", tilt[y], want, size, dtype, context)
        want = certain(
            lambda q=q, p=p, r=r, b=beta: (
                log_z_of(exact_law(q), r, b) - mean(exact_law(p), balls(r)) / arb(b)
            )
        )
        got = bounds.sft_loss_increase(p, q, r, beta)
        check("sft_loss_increase", got, want, 2 * size, dtype, context)


def through_a_tilt(kl, size, dtype):
    """The scale of the error of a KL whose second argument is a computed tilt."""
    unit = size * float(np.finfo(dtype).eps)
    return math.sqrt(2 * kl) * size + unit * size + kl


@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_divergences_from_a_computed_tilt(dtype):
    for p, q, r, beta in worlds(dtype, 200, seed=5):
        if not np.isfinite(q).all():
            continue
        context = f"p={p[:4]}, q={q[:4]}, r={r[:4]}, beta={beta}"
        size = float(np.ptp(r.astype(float))) / beta + float(np.abs(q).max()) + 1
        if size * np.finfo(dtype).eps > 1e-3:
            continue  # the tilt itself is not resolved: nothing is promised

        exact = ExactWorld(p, q, r, beta)
        to_tilt = certain(exact.kl_to_tilt)
        scale = through_a_tilt(float(to_tilt), size, dtype)
        got = bounds.regularized_reward_drop(p, q, r, beta)
        check("regularized_reward_drop", got / beta, to_tilt, scale, dtype, context)
        from_ref = float(certain(exact.kl_tilt_to_ref)) + float(certain(exact.kl_to_ref))
        scale += through_a_tilt(from_ref, size, dtype) + size
        got = bounds.reward_drop(p, q, r, beta)
        check("reward_drop", got / beta, certain(exact.drop_over_beta), scale, dtype, context)


class ExactWorld:
    """The definitions, evaluated afresh at whatever precision is current."""

    def __init__(self, p, q, r, beta):
        self.p, self.q, self.r, self.beta = p, q, r, beta

    def tilt(self):
        return tilt_of(exact_law(self.q), self.r, self.beta)

    @staticmethod
    def kl(p, q):
        ratio = [arb(0) if a.is_zero() else a.log() - b.log() for a, b in zip(p, q, strict=True)]
        return mean(p, ratio)

    def kl_to_tilt(self):
        return self.kl(exact_law(self.p), self.tilt())

    def kl_tilt_to_ref(self):
        return self.kl(self.tilt(), exact_law(self.q))

    def kl_to_ref(self):
        return self.kl(exact_law(self.p), exact_law(self.q))

    def drop_over_beta(self):
        rewards = balls(self.r)
        return (mean(self.tilt(), rewards) - mean(exact_law(self.p), rewards)) / arb(self.beta)


def test_price_of_reward_against_weak_duality_in_balls():
    """The dual at the found multiplier and the KL of the found policy enclose the true value."""
    rng = np.random.default_rng(3)
    for _ in range(150):
        n = int(rng.integers(2, 9))
        p = random_law(rng, n, np.float64, zeros=False, floor=-300.0)
        r = np.round(rng.standard_normal(n), 3)
        if np.ptp(r) == 0:
            continue
        law = exact_law(p)
        low, high = float(mean(law, balls(r))), float(r.max())
        share = 10.0 ** rng.uniform(-6, -0.01)
        target = low + (high - low) * float(rng.choice([share, 1 - share]))
        if not low < target < high:
            continue
        got = float(bounds.price_of_reward(p, r, target))

        def dual(p=p, r=r, c=target):
            return best_dual(exact_law(p), balls(r), arb(c))

        want = certain(dual)
        condition = 1 + float(np.abs(r - target) @ np.exp(p)) / (target - low)
        check(
            "price_of_reward",
            got,
            want,
            abs(float(want)) * condition,
            np.float64,
            f"{p}, {r}, {target}",
        )


def test_large_n():
    rng = np.random.default_rng(4)
    p = random_law(rng, 100_000, np.float64)
    r = rng.standard_normal(100_000)
    gap = float(bounds.coupling_gap(p, r, 10.0))
    x = r / 10
    shifted = math.fsum(np.exp(p + x) / math.fsum(np.exp(p)))
    plain = math.log(shifted) - math.fsum(np.exp(p) * x)
    assert gap == pytest.approx(plain, rel=1e-9)


def test_infinite_only_off_support():
    p, q = np.log([0.5, 0.5]), np.array([0.0, -np.inf])
    assert bounds.kl_divergence(p, q) == math.inf
    assert bounds.cross_entropy(p, q) == math.inf
    assert float(bounds.kl_divergence(q, p)) == pytest.approx(math.log(2))


def test_the_comparison_can_fail():
    """CE(d, tilt) - CE(d, d) cancels at beta = 1e6: the check refuses it."""
    d, r, beta = np.log([0.3, 0.7]), np.array([0.0, 1.0]), 1e6
    naive = bounds.cross_entropy(d, bounds.gibbs_tilt(d, r, beta)) - bounds.cross_entropy(d, d)

    def gap():
        return log_z_of(exact_law(d), r, beta) - mean(exact_law(d), balls(r)) / arb(beta)

    want = certain(gap)
    with pytest.raises(AssertionError, match="naive"):
        check("naive", naive, want, abs(float(want)), np.float64, "")
