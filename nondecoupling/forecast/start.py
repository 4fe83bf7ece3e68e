"""The start policy itself: its reward, and its SFT loss where log-probabilities are known."""

from __future__ import annotations

import math

import numpy as np

from nondecoupling.estimate import mean_interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.answers import AtStart, Estimate
from nondecoupling.forecast.samples import Samples


def at_start(samples: Samples, delta: float) -> AtStart:
    """Of samples in random order."""
    bounds, weights = samples.reward_bounds, samples.weights
    reward = mean_interval(samples.drawn.mean(), bounds, delta, weights=weights)
    own = experts = None
    if samples.ref_log_probs is not None:
        losses = np.average(-samples.ref_log_probs, axis=1, weights=samples.mask)
        own = _loss(losses, samples, delta)
    if samples.expert_log_ref is not None:
        experts = _loss(-samples.expert_log_ref.mean(axis=1), samples, delta)
    how = f"{reward.method}, {samples.prompts} prompts"
    return AtStart(Estimate.of(reward, how), own, experts)


def _loss(losses: Array, samples: Samples, delta: float) -> Estimate:
    """losses [prompts] >= 0; E min(x, cap) <= E x for a cap that other prompts chose."""
    half, weights = samples.prompts // 2, samples.drawn.weights
    cap, low = float(losses[:half].max()), 0.0
    how = "no lower end but 0"
    if cap > 0:
        found = mean_interval(
            np.minimum(losses[half:], cap),
            (0.0, cap),
            delta,
            weights=weights[half:],
            largest_weight=weights.max(),
        )
        low = float(found.low)
        how = f"lower end: {found.method}, {found.units} prompts, capped at {cap:.4g}"
    value = float(np.average(losses, weights=weights))
    return Estimate(value, low, math.inf, level=1 - delta, how=how)
