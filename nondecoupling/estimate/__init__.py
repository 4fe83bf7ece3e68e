"""Estimates from sampled responses, with confidence intervals and verdicts a statistician would accept.

Where responses can be enumerated, ``bounds`` gives exact numbers. Under free generation there are only samples;
here every estimate is an ``Interval`` that contains the truth with probability at least 1 - delta, and a statement
is *confirmed*, *violated* or *inconclusive*, never judged by comparing two means.

The prompt is the independent unit: responses to one prompt share its difficulty, so they are averaged first
(``cluster_means``, ``paired_differences``) and ``units`` counts prompts. Intervals for bounded quantities hold at
every sample size, and with ``method="time-uniform"`` at every stopping time; the bootstrap, for unbounded ones, is
marked ``approximate`` and offered only where it was seen to cover. Whether the sampler draws from what the scorer
scores is tested exactly (``compare_sampler``). Arrays: the last axis lists the samples, leading axes are a batch of
worlds; computation is in float64. Complex numbers, masked arrays, text and what else float64 cannot hold are refused by
name. Losses are in nats per response.

>>> import numpy as np
>>> before = np.array([[0, 1, 0, 0], [1, 0, 0, 1]] * 100)   # rewards: 200 prompts, 4 responses each
>>> after = np.array([[1, 1, 0, 1], [1, 1, 0, 1]] * 100)
>>> prompt = np.repeat(np.arange(200), 4)
>>> gain = paired_differences(before.ravel(), after.ravel(), prompt)
>>> margin = mean_interval(gain, bounds=(-1, 1), delta=0.05)
>>> print(margin)
0.375 in [0.3228..., 0.4040...] at level 0.95 (betting, 200 units)
>>> decide(margin)
<Outcome.CONFIRMED: 'confirmed'>
"""

from __future__ import annotations

from nondecoupling.estimate.agreement import (
    NUCLEUS,
    TEMPERATURES,
    SamplerComparison,
    TokenScores,
    compare_sampler,
    sampler_e_value,
    sampler_pit,
    token_scores,
)
from nondecoupling.estimate.bootstrap import LEAST_UNITS, bootstrap_interval, bootstrap_intervals
from nondecoupling.estimate.divergences import KLEstimate, kl_estimate, sequence_totals
from nondecoupling.estimate.guarded import guarded_reward
from nondecoupling.estimate.intervals import Interval, Outcome, decide, holm
from nondecoupling.estimate.means import (
    binomial_interval,
    mean_interval,
    mean_lower_bound,
    mean_sequence,
)
from nondecoupling.estimate.planning import coupling_samples, detectable_effect, required_samples
from nondecoupling.estimate.prompts import cluster_means, paired_differences
from nondecoupling.estimate.values import (
    SoftValue,
    binary_soft_value,
    mean_soft_value,
    optimality_gap,
    soft_value,
)

__all__ = [
    "LEAST_UNITS",
    "NUCLEUS",
    "TEMPERATURES",
    "Interval",
    "KLEstimate",
    "Outcome",
    "SamplerComparison",
    "SoftValue",
    "TokenScores",
    "binary_soft_value",
    "binomial_interval",
    "bootstrap_interval",
    "bootstrap_intervals",
    "cluster_means",
    "compare_sampler",
    "coupling_samples",
    "decide",
    "detectable_effect",
    "guarded_reward",
    "holm",
    "kl_estimate",
    "mean_interval",
    "mean_lower_bound",
    "mean_sequence",
    "mean_soft_value",
    "optimality_gap",
    "paired_differences",
    "required_samples",
    "sampler_e_value",
    "sampler_pit",
    "sequence_totals",
    "soft_value",
    "token_scores",
]
