"""Recipes against Arb: where trainers end, and their expected gradients, from the definitions in balls."""

from __future__ import annotations

import itertools

import flint
import numpy as np
import pytest
from flint import arb

from nondecoupling import bounds
from nondecoupling.recipes import Recipe
from tests.test_accuracy_trainers import (
    bisected,
    drawn_law,
    exact_factor,
    exact_law,
    forward_optimum,
    within,
)

UNSCALED = ["leave-one-out", "group-mean"]
LEASHES = [
    "k1-in-reward", "k2-in-reward", "k3-in-reward", "k1-in-loss", "k2-in-loss", "k3-in-loss", "k3-with-ratio",
]  # fmt: skip
FACTOR = ["group-normalised", *UNSCALED]


@pytest.fixture(autouse=True)
def precise():
    saved, flint.ctx.prec = flint.ctx.prec, 1000
    yield
    flint.ctx.prec = saved


def contribution(leash, u):
    """What the leash takes from a response's reward: k, k' or k + k', written out in balls (T1)."""
    k = {"k1": u, "k2": u * u / 2, "k3": (-u).exp() - 1 + u}[leash[:2]]
    slope = {"k1": arb(1), "k2": u, "k3": 1 - (-u).exp()}[leash[:2]]
    return {"in-reward": k, "in-loss": slope, "with-ratio": k + slope}[leash[3:]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("advantage", "leash"), list(itertools.product(FACTOR, LEASHES)))
def test_expected_gradient(advantage, leash, dtype):
    if advantage == "group-normalised" and leash.endswith("in-reward"):
        return
    rng, told, size = np.random.default_rng(0), 0.7, 4
    for _ in range(12):
        n = int(rng.integers(2, 5))
        log_p, log_ref = (drawn_law(rng, n) / 3 for _ in range(2))
        log_p, log_ref = ((x - np.logaddexp.reduce(x)).astype(dtype) for x in (log_p, log_ref))
        reward = np.array([1.0, 0.0, *rng.integers(0, 2, n - 2)]).astype(dtype)
        beta, bonus = float(10 ** rng.uniform(-2, 2)), float(rng.choice([0.0, 0.5]))
        recipe = Recipe(advantage, leash, beta, size, "sample", 0.01, bonus, 0.1, 0.2)
        p, ref = exact_law(log_p), exact_law(log_ref)
        accepted = sum(
            (x * (arb(0.1) + arb(told) * int(r)) for x, r in zip(p, reward, strict=True)), arb(0)
        )
        unit = {"leave-one-out": arb(1), "group-mean": arb(size - 1) / size}.get(advantage)
        if unit is None:
            unit = exact_factor(accepted, 1 - accepted, size, "sample", 0.01)
        pulls = [
            arb(beta) * contribution(leash, (x / q).log()) for x, q in zip(p, ref, strict=True)
        ]
        if leash.endswith("in-reward"):
            pulls = [unit * pull for pull in pulls]
        terms = [
            (unit * arb(told) * int(r), pull, arb(bonus) * x.log())
            for r, pull, x in zip(reward, pulls, p, strict=True)
        ]
        felt = [gain - pull - noise for gain, pull, noise in terms]
        mean = sum((x * f for x, f in zip(p, felt, strict=True)), arb(0))
        sizes = [
            float(x) * sum(abs(float(t)) for t in row) for x, row in zip(p, terms, strict=True)
        ]
        # k3' is (p - ref)/p: its two parts are rounded by themselves; u and log p are inputs of size max |log|.
        parts = max(1.0, float(np.abs(log_p).max() + np.abs(log_ref).max()))
        sizes = [s + beta * (float(x) + float(q)) for s, x, q in zip(sizes, p, ref, strict=True)]
        got = bounds.expected_gradient(log_p, log_ref, reward, recipe)
        for mine, x, f, s in zip(got, p, felt, sizes, strict=True):
            scale = parts * (s + float(x) * sum(sizes))
            assert within(mine, x * (f - mean), scale, dtype), (
                recipe,
                float(mine),
                float(x * (f - mean)),
            )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("advantage", UNSCALED)
@pytest.mark.parametrize("leash", ["k1-in-reward", "k3-in-loss", "k3-with-ratio"])
def test_stationary_policy_of_one_objective(advantage, leash, dtype):
    rng, size = np.random.default_rng(1), 5
    for bonus in (0.0, 0.25):
        if bonus and leash == "k3-in-loss":
            continue
        for _ in range(15):
            n = int(rng.integers(2, 5))
            log_ref = drawn_law(rng, n, dtype)
            reward = (rng.normal(size=n) * 10.0 ** rng.uniform(-2, 2)).astype(dtype)
            beta = float(10 ** rng.uniform(-2, 3))
            recipe = Recipe(advantage, leash, beta, size, entropy_bonus=bonus)
            unit = arb(1) if advantage == "leave-one-out" else arb(size - 1) / size
            leashed = arb(beta) if leash.endswith("in-reward") else arb(beta) / unit
            ref = exact_law(log_ref)
            spread = float(np.ptp(reward)) / beta
            if leash == "k3-in-loss":
                want, spread = forward_optimum(ref, reward, leashed), 0.0
            else:
                both = leashed + arb(bonus) / unit
                weights = [
                    (q.log() * leashed + arb(float(r))) / both
                    for q, r in zip(ref, reward, strict=True)
                ]
                top = max(weights, key=float)
                total = sum(((w - top).exp() for w in weights), arb(0)).log() + top
                want = [w - total for w in weights]
            got = bounds.stationary_policy(log_ref, reward, recipe).log_p
            for mine, true in zip(got, want, strict=True):
                scale = 1 + abs(float(true)) + float(np.abs(log_ref).max()) + spread
                assert within(mine, true, scale, dtype), (recipe, mine, float(true))


@pytest.mark.parametrize("leash", ["k2-in-loss", "k3-in-loss"])
def test_stationary_policy_of_normalised_advantages(leash):
    """Groups of four with a noisy verifier, at betas with one root: both masses by a root in balls."""
    rng, f0, f1 = np.random.default_rng(2), 0.05, 0.1
    told = 1 - arb(f0) - arb(f1)
    for _ in range(25):
        log_ref, reward = drawn_law(rng, 4) / 4, np.array([0.0, 1.0, 0.0, 1.0])
        log_ref = log_ref - np.logaddexp.reduce(log_ref)
        beta = float(10 ** rng.uniform(0.3, 2))
        ref = exact_law(log_ref)
        right, wrong = ref[1] + ref[3], ref[0] + ref[2]
        start = (right / wrong).log()

        def residual(x, start=start, right=right, beta=beta):
            c, rest = 1 / (1 + (-x).exp()), 1 / (1 + x.exp())
            accepted, refused = arb(f0) + told * c, arb(f1) + told * rest
            h = told * exact_factor(accepted, refused, 4, "population", 0.0)
            if leash == "k2-in-loss":
                return arb(beta) * (x - start) - h
            return arb(beta) * (c - right) - h * c * rest

        root = bisected(residual, start, start + 4 / arb(beta) + 20, steps=300)
        recipe = Recipe("group-normalised", leash, beta, 4, false_positives=f0, false_negatives=f1)
        found = bounds.stationary_policy(log_ref, reward, recipe)
        for mine, q, r in zip(found.log_p, ref, reward, strict=True):
            mass = 1 / (1 + (-root if r else root).exp()) / (right if r else wrong)
            want = (q * mass).log()
            scale = 1 + abs(float(want)) + float(np.abs(log_ref).max())
            assert within(mine, want, scale), (beta, mine, float(want))


def test_the_comparison_can_fail():
    """A beta off by 1e-11 is told from the right one."""
    log_ref, reward = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    want = forward_optimum(exact_law(log_ref), reward, arb(0.5))[2]
    for beta, right in ((0.5, True), (0.5 * (1 + 1e-11), False)):
        recipe = Recipe("leave-one-out", "k3-in-loss", beta)
        got = bounds.stationary_policy(log_ref, reward, recipe).log_p[2]
        assert within(got, want, 1 + abs(float(want)), units=64) == right
