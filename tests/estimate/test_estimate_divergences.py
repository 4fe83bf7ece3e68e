"""KL from sampled responses."""

from __future__ import annotations

import numpy as np
import pytest
from known_worlds import RESAMPLES, token_worlds

from nondecoupling.estimate import Outcome, bootstrap_interval, decide, kl_estimate, sequence_totals


def test_per_token_kl_has_the_smaller_variance():
    token_kl, ratios, truth = token_worlds(np.random.default_rng(0), 500)
    spread = sequence_totals(token_kl).std(-1).mean(), sequence_totals(ratios).std(-1).mean()
    assert spread[0] < 0.4 * spread[1]
    assert sequence_totals(token_kl).mean() == pytest.approx(truth.mean(), rel=0.01)


def test_the_difference_shows_a_broad_sampler_at_another_temperature():
    token_kl, ratios, _ = token_worlds(np.random.default_rng(0), 200, n=200, temperature=0.6)
    estimate = kl_estimate(token_kl, ratios, delta=0.05, resamples=RESAMPLES)
    assert (decide(estimate.difference, "==") == Outcome.VIOLATED).mean() > 0.5


def test_padding_is_ignored_and_prompts_are_the_units():
    rng = np.random.default_rng(0)
    token_kl, ratios = rng.random((240, 5)), rng.normal(size=(240, 5))
    mask = np.arange(5) < rng.integers(1, 6, size=(240, 1))
    padded = [np.where(mask, values, np.nan) for values in (token_kl, ratios)]
    prompts = np.repeat(np.arange(80), 3)
    estimate = kl_estimate(*padded, mask, prompts=prompts, delta=0.1, resamples=200)
    assert estimate.rao_blackwellised.units == 80
    totals = (token_kl * mask).sum(-1)
    assert estimate.rao_blackwellised.estimate == pytest.approx(totals.mean())
    expected = bootstrap_interval(totals.reshape(80, 3).mean(-1), 0.1, resamples=200)
    assert estimate.rao_blackwellised.low == pytest.approx(expected.low)
    assert estimate.rao_blackwellised.high == pytest.approx(expected.high)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_difference_of_rounding_only_says_nothing(dtype):
    """Token values whose two sums agree but for the precision in which they are given."""
    rng = np.random.default_rng(0)
    token_kl = rng.random((100, 20)).astype(dtype)
    noise = np.finfo(dtype).eps * rng.choice([-0.4, 0.0, 0.4], size=token_kl.shape)
    ratios = (token_kl.astype(np.float64) * (1 + noise)).astype(dtype)
    estimate = kl_estimate(token_kl, ratios, delta=0.05)
    assert decide(estimate.difference, "==") == Outcome.INCONCLUSIVE
    assert np.isfinite(estimate.rao_blackwellised.width)


def test_the_error_of_scores_can_be_told():
    """p = ref scored twice in float32: log-ratios of 1e-6, on scores of 10 nats that only the caller knows."""
    rng = np.random.default_rng(0)
    token_kl = np.zeros((100, 20))
    ratios = 1e-6 * (rng.random((100, 20)) - 0.2)
    blind = kl_estimate(token_kl, ratios, delta=0.05)
    assert decide(blind.log_ratio, "==") == Outcome.VIOLATED
    told = kl_estimate(token_kl, ratios, delta=0.05, rounding=20 * 1e-6)
    assert decide(told.log_ratio, "==") == Outcome.INCONCLUSIVE
