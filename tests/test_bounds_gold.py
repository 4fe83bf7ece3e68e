"""``gold_gain_bound`` as a function: edges, batches, gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nondecoupling import bounds

REF, PROXY, GOLD = np.log([0.6, 0.2, 0.2]), np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0])


def test_nothing_is_promised_and_nothing_lost_without_a_move():
    assert float(bounds.gold_gain_bound(REF, REF, PROXY, GOLD)) == 0.0


def test_a_proxy_that_differs_by_a_constant_loses_nothing():
    p = bounds.gibbs_tilt(REF, PROXY, 0.1)
    gain = bounds.expected_reward(p, PROXY) - bounds.expected_reward(REF, PROXY)
    assert bounds.gold_gain_bound(p, REF, PROXY, PROXY + 5.0) == pytest.approx(gain, rel=1e-14)


def test_far_enough_away_everything_may_be_overrated():
    """KL above -log m: all mass may sit on the overrated response, and range (1 - m) is taken off."""
    p = np.log([1e-9, 1e-9, 1 - 2e-9])
    gain = bounds.expected_reward(p, PROXY) - bounds.expected_reward(REF, PROXY)
    assert bounds.gold_gain_bound(p, REF, PROXY, GOLD) == pytest.approx(gain - 0.8, rel=1e-6)


def test_responses_outside_the_support_of_ref_do_not_count():
    with np.errstate(divide="ignore"):
        ref, p = np.log([0.6, 0.4, 0.0]), np.log([0.3, 0.7, 0.0])
    wide = bounds.gold_gain_bound(p, ref, [0.0, 1.0, 100.0], [0.0, 0.5, -100.0])
    narrow = bounds.gold_gain_bound(p[:2], ref[:2], [0.0, 1.0], [0.0, 0.5])
    assert float(wide) == pytest.approx(float(narrow), rel=1e-14)


@pytest.mark.parametrize("lift", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_gives_what_each_world_gives(lift, dtype):
    rng = np.random.default_rng(0)
    p, ref = np.log(rng.dirichlet(np.ones(4), size=(2, 3, 2))).astype(dtype)
    reward, gold = rng.standard_normal((2, 3, 2, 4)).astype(dtype)
    batch = bounds.gold_gain_bound(*map(lift, (p, ref, reward, gold)))
    assert tuple(batch.shape) == (3, 2) and str(batch.dtype).endswith(dtype)
    for index in np.ndindex(3, 2):
        one = bounds.gold_gain_bound(p[index], ref[index], reward[index], gold[index])
        assert float(batch[index]) == pytest.approx(
            float(one), rel=1e-4 if dtype == "float32" else 1e-11
        )


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    leaves = [
        torch.randn(1, 3, dtype=torch.float64, generator=generator).requires_grad_()
        for _ in range(4)
    ]

    def composed(p, ref, reward, gold):
        laws = (torch.log_softmax(x, -1) for x in (p, ref))
        return bounds.gold_gain_bound(*laws, reward, gold)

    assert torch.autograd.gradcheck(composed, leaves)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((REF, np.array([0.0, -math.inf, -math.inf]), PROXY, GOLD), r"log_ref\[1\]=-inf: log_p has mass"),
        ((REF, REF, PROXY, [0.0, math.nan, 0.0]), r"gold\[1\]=nan: must be a finite number"),
        ((REF, REF, PROXY, [0.0, 1.0]), r"gold \(2,\).*must agree"),
    ],
)  # fmt: skip
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        bounds.gold_gain_bound(*arguments)
