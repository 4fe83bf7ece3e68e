"""Verifiable rewards as functions: what they mean for a policy, edges, gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.testing import worlds
from nondecoupling.theory.fields import Correct
from nondecoupling.theory.theorems.v1_verifiable_rewards import VerifiableRewards


def test_rl_at_that_beta_has_that_success_and_that_cost():
    rng = np.random.default_rng(0)
    log_d = np.log(rng.dirichlet(np.ones(5), size=50))
    correct = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    before = bounds.expected_reward(log_d, np.tile(correct, (50, 1)))
    target = before + (1 - before) * rng.uniform(0.01, 0.99, 50)
    tilt = bounds.gibbs_tilt(log_d, correct, bounds.verifiable_beta(before, target))
    np.testing.assert_allclose(bounds.expected_reward(tilt, correct), target, rtol=1e-12)
    cost = bounds.verifiable_cost(before, target)
    np.testing.assert_allclose(cost, bounds.kl_divergence(log_d, tilt), rtol=1e-9)
    np.testing.assert_allclose(cost, bounds.price_of_reward(log_d, correct, target), rtol=1e-9)


@pytest.mark.parametrize(
    ("ref_success", "target", "expected"),
    [(0.2, 0.2, 0.0), (0.2, 0.1, 0.0), (1.0, 1.0, 0.0), (0.2, 1.0, math.inf), (0.5, 0.75, 0.5 * math.log(4 / 3))],
)  # fmt: skip
def test_edges_of_the_cost(ref_success, target, expected):
    assert float(bounds.verifiable_cost(ref_success, target)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("lift", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["verifiable_beta", "verifiable_cost"])
def test_shapes_and_dtypes(lift, dtype, name):
    before = lift(np.array([[0.1], [0.2]], dtype=dtype))
    target = lift(np.array([0.3, 0.5, 0.9], dtype=dtype))
    out = getattr(bounds, name)(before, target)
    assert tuple(out.shape) == (2, 3) and str(out.dtype).endswith(dtype)
    assert type(out) is type(before)
    one = getattr(bounds, name)(0.2, 0.5)
    assert one.shape == () and float(out[1, 1]) == pytest.approx(float(one), rel=1e-5)


@pytest.mark.parametrize("name", ["verifiable_beta", "verifiable_cost"])
def test_gradients(name):
    before, target = (
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in ([0.1, 0.5, 0.99], [0.3, 0.501, 0.999])
    )
    assert torch.autograd.gradcheck(getattr(bounds, name), (before, target))


def test_gradients_are_finite_beside_rows_without_a_cost():
    target = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    cost = bounds.verifiable_cost(torch.tensor(0.2, dtype=torch.float64), target)
    cost[:2].sum().backward()
    assert torch.isfinite(target.grad).all() and target.grad[0] == 0 < target.grad[1]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("verifiable_beta", (0.2, 0.2), r"target=0\.2 with ref_success=0\.2: .*above"),
        ("verifiable_beta", (0.2, [0.5, 0.1]), r"target=\[0\.5, 0\.1\].*no beta"),
        ("verifiable_beta", (0.2, 1.0), r"below\s+one"),
        ("verifiable_beta", (0.0, 0.5), r"ref_success=0\.0: must be positive"),
        ("verifiable_cost", (0.2, 1.5), r"target=1\.5: must be a share, between 0 and 1"),
        ("verifiable_cost", (math.nan, 0.5), r"ref_success=nan: must be a finite number"),
    ],
)
def test_errors(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(bounds, name)(*arguments)


# --- the field of verifiable rewards ----------------------------------------------------------


def test_a_verifiable_reward_has_both_values_however_it_is_made():
    field, rng = Correct(), np.random.default_rng(0)
    drawn = field.sample(rng, (500, 3))
    assert {tuple(row) for row in drawn} == {tuple(map(float, v)) for v in field.grid(3, 1)}
    raw = torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    from nondecoupling.numbers.floats import floats_of

    reached = field.from_raw(floats_of(raw), raw)
    assert {tuple(row.tolist()) for row in reached} == {
        tuple(map(float, v)) for v in field.grid(3, 1)
    }
    assert list(field.grid(2, 2)) == [] and len(list(field.grid(3, 1))) == 6
    for values in ((0, 0), (1, 1), (0, 2)):
        assert field.problem(values) == "must be 0 or 1, each for some response"
    assert field.problem((1, 0)) == ""


def test_drawn_worlds_have_both_values():
    from hypothesis import given, settings

    seen = set()

    @settings(max_examples=200, database=None, derandomize=True)
    @given(worlds(VerifiableRewards, max_responses=3))
    def collect(world):
        seen.add(world.values["correct"])

    collect()
    assert all(set(values) == {0, 1} for values in seen) and len(seen) == 8
