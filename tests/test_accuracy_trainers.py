"""What trainers converge to, against Arb: improbable best responses, groups of 10^4, success within 1e-15 of one."""

from __future__ import annotations

import math

import flint
import numpy as np
import pytest
from flint import arb

from nondecoupling import bounds
from nondecoupling.bounds import accuracy
from nondecoupling.formulas.trees import TokenTree

UNITS = accuracy.RELATIVE_UNITS


@pytest.fixture(autouse=True)
def precise():
    saved, flint.ctx.prec = flint.ctx.prec, 400
    yield
    flint.ctx.prec = saved


def within(got, want, scale, dtype=np.float64, units=UNITS):
    """Whether a float lies within ``units`` of a ball, in units of the dtype's eps times the scale."""
    error = abs(float(arb(float(got)) - want))
    return error <= units * float(np.finfo(dtype).eps) * scale + float(np.finfo(dtype).tiny)


def bisected(rising, low, high, steps=250):
    """The root of an increasing function of balls."""
    assert rising(low) < 0 < rising(high)
    for _ in range(steps):
        middle = ((low + high) / 2).mid()
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return low.union(high)


def exact_law(log_p):
    weights = [arb(float(x)).exp() for x in log_p]
    return [w / sum(weights, arb(0)) for w in weights]


def forward_optimum(ref, reward, beta):
    """beta ref/(mu - r), by bisection in the logarithm of mu - max r."""
    top = max(float(r) for r in reward)
    room = [(arb(top) - arb(float(r))) / arb(float(beta)) for r in reward]

    def missing(y):
        return 1 - sum((q / (y.exp() + t) for q, t in zip(ref, room, strict=True)), arb(0))

    y = bisected(missing, min((q.log() for q in ref), key=float) - 1, arb(1))
    return [(q / (y.exp() + t)).log() for q, t in zip(ref, room, strict=True)]


def drawn_law(rng, n, dtype=np.float64):
    logits = rng.uniform(-(10.0 ** rng.uniform(-1, 2.8)), 0, n)
    logits[rng.integers(n)] = 0.0
    return (logits - np.logaddexp.reduce(logits)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_leash_optimum(dtype):
    rng = np.random.default_rng(0)
    for _ in range(60):
        n = int(rng.integers(2, 6))
        log_ref = drawn_law(rng, n, dtype)
        reward = (rng.normal(size=n) * 10.0 ** rng.uniform(-3, 3)).astype(dtype)
        beta = dtype(10.0 ** rng.uniform(-5, 5))
        got = bounds.forward_leash_optimum(log_ref, reward, beta)
        for mine, true in zip(got, forward_optimum(exact_law(log_ref), reward, beta), strict=True):
            # the law's own normalisation is rounded in units of max |log ref|
            assert within(mine, true, 1 + abs(float(true)) + float(np.abs(log_ref).max()), dtype)


def test_a_best_response_rarer_than_any_float():
    log_ref, reward = np.array([-1000.0, 0.0]), np.array([1.0, 0.0])
    log_p = bounds.forward_leash_optimum(log_ref, reward, 0.1)
    # p_0 = 0.1 ref_0/(mu - 1), and p_1 = 0.1/mu = 1 - p_0: mu = 1 + 1e-1 e^-1000/0.9 and p_1 = 0.1
    assert np.exp(log_p) == pytest.approx([0.9, 0.1], rel=1e-14)


def test_per_token_optimum():
    tree = TokenTree(((0,), (1, 0), (1, 1, 0), (1, 1, 1)))
    rng = np.random.default_rng(1)
    for _ in range(20):
        log_ref, reward = np.log(rng.dirichlet(np.ones(4))), rng.normal(size=4)
        beta = float(10 ** rng.uniform(-1.5, 2))
        ref, r = exact_law(log_ref), [arb(float(x)) for x in reward]
        for leash in ("k2", "k3"):
            value, log_p = list(r), [arb(0)] * 4
            for node in reversed(tree.nodes):
                masses = [sum((ref[leaf] for leaf in leaves), arb(0)) for leaves in node]
                law = [m / sum(masses, arb(0)) for m in masses]
                q = [value[leaves[0]] for leaves in node]
                if leash == "k2":
                    weights = [m * (x / arb(beta)).exp() for m, x in zip(law, q, strict=True)]
                    token = [w / sum(weights, arb(0)) for w in weights]
                else:
                    top = max(q, key=float)

                    def missing(y, law=law, q=q, top=top, beta=beta):
                        return 1 - sum(
                            (m / (y.exp() + (top - x) / beta) for m, x in zip(law, q, strict=True)),
                            arb(0),
                        )

                    y = bisected(missing, arb(-60), arb(1))
                    token = [m / (y.exp() + (top - x) / beta) for m, x in zip(law, q, strict=True)]
                mean = sum((p * x for p, x in zip(token, q, strict=True)), arb(0))
                for leaves, p in zip(node, token, strict=True):
                    for leaf in leaves:
                        log_p[leaf], value[leaf] = log_p[leaf] + p.log(), mean
            got = bounds.per_token_optimum(log_ref, reward, beta, tree, leash)
            scale = 3 * (1 + np.ptp(reward) / beta + np.abs(log_ref).max())
            for mine, true in zip(got, log_p, strict=True):
                assert within(mine, true, scale), (leash, beta, mine, float(true))


def exact_factor(success, failure, size, sd, eps):
    """h by its sum over the other G - 2, in balls; weights by recurrence."""
    if size is None:
        return 1 / ((success * failure).sqrt() + arb(eps))
    others, total = size - 2, arb(0)
    weight = failure**others
    for j in range(others + 1):
        correct = j + 1
        squared = arb(correct * (size - correct)) / (size * (size - (sd == "sample")))
        total += weight / (squared.sqrt() + arb(eps))
        weight = weight * (others - j) / (j + 1) * success / failure
    return total * (size - 1) / size


ENDS = [1e-300, 1e-15, 0.01, 0.5, 0.9, 1 - 1e-6, 1 - 1e-15]


@pytest.mark.parametrize("size", [2, 3, 4, 17, 500, 10_000, None])
@pytest.mark.parametrize(("sd", "eps"), [("population", 0.0), ("sample", 1e-4)])
def test_group_advantage_factor(size, sd, eps):
    for c in ENDS:
        exact = arb(c)
        want = exact_factor(exact, 1 - exact, size, sd, eps)
        got = bounds.group_advantage_factor(c, size, sd, eps)
        assert within(got, want, float(want), units=200), (c, float(got), float(want))


def test_group_advantage_factor_at_the_ends():
    assert bounds.group_advantage_factor([0.0, 1.0], 8) == pytest.approx(np.sqrt(7), rel=1e-15)
    assert bounds.group_advantage_factor(1.0, None) == math.inf
    assert bounds.group_advantage_factor(np.float32([0.3]), 8).dtype == np.float32


def test_critical_beta():
    for a in [*ENDS, 0.2, 1e-100, 0.999]:
        start = (arb(a) / (1 - arb(a))).log()
        floor = max(start, arb(0), key=float)

        def past(x, start=start):
            return (x - start) * (x / 2).tanh() - 2

        x = bisected(past, floor + arb(10) ** -300, floor + 3, steps=420)
        want = (x / 2).sinh()
        assert within(bounds.critical_beta(a), want, float(want), units=100), a


@pytest.mark.slow  # bisects in balls
@pytest.mark.parametrize("leash", ["reverse", "forward"])
def test_group_normalized_success(leash):
    """The success against a root bisected in balls around it, for groups to 10^4."""
    rng = np.random.default_rng(2)
    for size in (2, 3, 8, 64, 1000, 10_000, None):
        for _ in range(1 if size in (1000, 10_000) else 4):
            a = float(rng.choice([10 ** rng.uniform(-12, -0.3), 1 - 10 ** rng.uniform(-6, -1)]))
            beta, eps = float(10 ** rng.uniform(-0.3, 1)), float(rng.choice([0.0, 1e-4]))
            found = bounds.group_normalized_success(a, size, beta, leash, "sample", eps)
            c = float(found.success)
            if not found.stationary or 1 - c < 1e-9:
                continue
            start = (arb(a) / (1 - arb(a))).log()

            def residual(x, a=a, size=size, beta=beta, eps=eps, start=start):
                success = 1 / (1 + (-x).exp())
                failure = 1 / (1 + x.exp())
                h = exact_factor(success, failure, size, "sample", eps)
                if leash == "reverse":
                    return arb(beta) * (x - start) - h
                return arb(beta) * (success - arb(a)) / (success * failure) - h

            x = (arb(c) / (1 - arb(c))).log()
            width = arb(10) ** -6
            steepness = float((residual(x + width) - residual(x - width)) / (2 * width)) / beta
            if steepness < 0.05:  # two roots about to meet
                continue
            root = bisected(residual, x - width, x + width, steps=60 if (size or 0) > 500 else 120)
            want = 1 / (1 + (-root).exp())
            scale = (
                c
                * (1 + abs(float(start)))
                * (1 + 1 / steepness)
                / (1 if leash == "reverse" else 1 - c)
            )
            assert within(c, want, scale, units=100), (size, a, beta, c, float(want))
            assert abs(float(arb(c) / want - 1)) < 1e-12 / min(1.0, steepness)


def test_success_that_rounds_to_one():
    """Finite groups are stationary at every beta, also where no float is left below one."""
    for a, size, beta in ((0.2, 16, 0.04), (0.01, 10_000, 1e-3), (1e-300, 4, 1e-3)):
        found = bounds.group_normalized_success(a, size, beta)
        assert found.success == 1 and found.stationary


def test_rare_success_and_unbounded_factors_stay_finite():
    """Log-odds of hundreds and thousands, where c, 1 - c or the slope of h in c leave the floats."""
    betas = np.logspace(-4, 4, 41)
    for a in (1e-300, 1e-15, 1 - 1e-15):
        for size, eps in ((4, 0.0), (None, 0.0), (None, 1e-4)):
            for leash in ("reverse", "forward"):
                found = bounds.group_normalized_success(a, size, betas, leash, "sample", eps)
                assert np.isfinite(found.success).all() and (found.success >= a).all()
                assert (np.diff(found.success) <= 0).all()
                always = leash == "forward" or size is not None or eps > 0
                assert (found.stationary == (always or betas >= bounds.critical_beta(a))).all()


def test_near_the_critical_beta():
    for a in (1e-6, 0.2, 0.9):
        critical = float(bounds.critical_beta(a))
        for share, there in (
            (1 - 1e-9, False),
            (1 - 1e-12, False),
            (1 + 1e-12, True),
            (1 + 1e-9, True),
        ):
            assert (
                bool(bounds.group_normalized_success(a, None, share * critical).stationary) is there
            )


def test_closed_forms():
    rng = np.random.default_rng(3)
    for _ in range(50):
        n = int(rng.integers(2, 6))
        log_p, log_ref = (np.log(rng.dirichlet(np.ones(n))) for _ in range(2))
        reward, (beta, bonus) = rng.normal(size=n), 10.0 ** rng.uniform(-2, 2, size=2)
        p, ref = exact_law(log_p), exact_law(log_ref)
        r = [arb(float(x)) for x in reward]
        mean = sum((m * x for m, x in zip(p, r, strict=True)), arb(0))
        paid = sum((q * (q / m).log() for q, m in zip(ref, p, strict=True)), arb(0))
        got = bounds.forward_regularized_reward(log_p, log_ref, reward, beta)
        assert within(
            got, mean - arb(float(beta)) * paid, float(np.abs(reward).max() + beta * paid)
        )
        both = arb(float(beta)) + arb(float(bonus))
        powers = [
            ((arb(float(beta)) * q.log() + x) / both).exp() for q, x in zip(ref, r, strict=True)
        ]
        total = sum(powers, arb(0))
        best = bounds.entropy_bonus_optimum(log_ref, reward, beta, bonus)
        scale = 1 + 2 * np.abs(log_ref).max() + np.ptp(reward) / (beta + bonus)
        for mine, true in zip(best, powers, strict=True):
            assert within(mine, (true / total).log(), scale)
        f0, f1 = rng.uniform(0, 0.5, size=2)
        want = arb(float(beta)) / (1 - arb(float(f0)) - arb(float(f1)))
        scale = float(want) / (1 - f0 - f1)
        assert within(bounds.noisy_beta(beta, f0, f1), want, scale, units=8)


def test_the_comparison_can_fail():
    """Plain binomial weights by log-gamma lose the promise in groups of 10^4: the check refuses them."""
    from scipy.special import gammaln

    size, c = 10_000, 0.3
    j = np.arange(size - 1)
    log_w = gammaln(size - 1) - gammaln(j + 1) - gammaln(size - 1 - j)
    log_w = log_w + j * np.log(c) + (size - 2 - j) * np.log1p(-c)
    deviation = np.sqrt((j + 1) * (size - 1 - j)) / size
    naive = (size - 1) / size * (np.exp(log_w) / deviation).sum()
    want = exact_factor(arb(c), 1 - arb(c), size, "population", 0.0)
    assert not within(naive, want, float(want), units=200)
    assert within(bounds.group_advantage_factor(c, size), want, float(want), units=200)
