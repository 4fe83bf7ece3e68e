"""Limits that hold at every look at a run, for averages of quantities that change while it goes on.

A confidence sequence for *one* mean (``estimate.mean_sequence``) does not fit here: each step of training makes
another policy, with another mean. So every window of a run has an interval of its own, for the average over its
samples of each sample's mean given what came before it; the j-th window gets the share delta/(j (j + 1)) of delta, and
these add up to delta. With probability at least 1 - delta no interval is ever wrong, however many are looked at and
whenever the run is stopped.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import (
    Array,
    checked_bounds,
    probability,
    require_within,
    sample_array,
    whole_number,
)

__all__ = ["average_interval", "rise_lower_limit", "share_of"]

# Best where the sum of squares is about 2 log(2/delta)/rate^2: from some ten samples to a million.
RATES = 2.0 ** -np.arange(1.0, 9.0)
# E min(x, cap) <= E x for each of them: a small one for small rises, a large one for large rises.
CAPS = (0.25, 1.0, 4.0, 16.0)


def share_of(delta: float, number: int) -> float:
    """delta/(j (j + 1)), the share of the j-th look, j = 1, 2, ...; all of them add up to delta.

    Errors: delta outside (0, 1), number below 1.

    >>> round(sum(share_of(0.05, j) for j in range(1, 1000)), 4)
    0.05
    """
    number = whole_number("number", number, 1)
    return probability("delta", delta) / (number * (number + 1))


def average_interval(samples: ArrayLike, bounds: ArrayLike, delta: float) -> Interval:
    """An interval for (1/n) sum_i E[x_i | x_1, ..., x_{i-1}], whatever the means do.

    With x in [0, 1] (after scaling), m_i the average of the samples before x_i and half a sample more, and
    V = sum (x_i - m_i)^2, the average of the means exceeds

        mean(x) - [log(16/delta) + V (-log(1 - l) - l)]/(n l)    for each of eight rates l = 1/2, 1/4, ..., 1/256

    together with probability at least 1 - delta/2: e^{l (x - mean) - (-log(1 - l) - l) (x - m)^2} has mean at most 1
    (Fan, Grama and Liu). The best rate counts. So does the same of 1 - x from above. Neither equal means nor
    independence is assumed: a later sample may come from a policy that training made of earlier ones.

    Shapes: samples ``[n]`` -> numbers. Units: those of the samples. Errors: as ``estimate.mean_interval``. Source: Fan,
    Grama and Liu 2015; Howard, Ramdas, McAuliffe and Sekhon 2021 (theorem 4); Waudby-Smith and Ramdas 2024.

    >>> import numpy as np
    >>> rising = np.tile([0.0, 1.0], 200) * np.linspace(0.2, 1.0, 400)
    >>> print(average_interval(rising, (0, 1), delta=0.05))
    0.3005... in [0.2..., 0.3...] at level 0.95 (empirical Bernstein of changing means, 400 units)
    """
    x, delta = sample_array("samples", samples).ravel(), probability("delta", delta)
    low, high = checked_bounds("bounds", bounds)
    require_within("samples", x, low, high, "bounds")
    unit = np.clip((x - low) / (high - low), 0.0, 1.0)
    count, mean = len(unit), float(unit.mean())
    margin = _margin(unit, delta)
    ends = max(mean - margin, 0.0), min(mean + margin, 1.0)
    scaled = [low + (high - low) * number for number in (*ends, mean)]
    name = "empirical Bernstein of changing means"
    return Interval(scaled[0], scaled[1], scaled[2], delta, count, name)


def rise_lower_limit(log_ratio: ArrayLike, delta: float) -> float:
    """A lower limit, in nats, for the average KL(ref||p_i) from log ref(y_i)/p_i(y_i) of responses y_i ~ ref.

    With z = p/ref, KL(ref||p) >= E_ref[z - 1 - log z], and no term is negative, so that the mean of
    min(z - 1 - log z, cap) is bounded on both sides; the best of four caps counts, each at delta/4. The rise of the SFT
    loss itself has no upper limit: a response that ref hardly ever makes may have lost any mass. Fails with
    probability at most delta/2.

    Shapes: ``[units]`` or ``[units, responses]``, whose units are prompts. Errors: as ``estimate.mean_interval``.
    Source: S1, F1; ``average_interval``.

    >>> import numpy as np
    >>> round(rise_lower_limit(np.tile([0.9, 0.1], 200), delta=0.05), 2)
    0.11
    """
    given = sample_array("log_ratio", log_ratio)
    with np.errstate(over="ignore"):  # a huge z is capped
        excess = np.maximum(np.expm1(-given) + given, 0.0)
    limits = []
    for cap in CAPS:
        capped = np.minimum(excess, cap)
        by_unit = capped if capped.ndim == 1 else capped.mean(axis=tuple(range(1, capped.ndim)))
        limits.append(float(average_interval(by_unit, (0.0, cap), delta / len(CAPS)).low))
    return max(limits)


def _margin(unit: Array, delta: float) -> float:
    seen = np.arange(len(unit))
    before = (0.5 + np.concatenate([[0.0], np.cumsum(unit)[:-1]])) / (seen + 1)
    squares = float(np.sum((unit - before) ** 2))
    threshold = math.log(2 * len(RATES)) - math.log(delta)
    per_square = -np.log1p(-RATES) - RATES
    return float(np.min((threshold + squares * per_square) / (len(unit) * RATES)))
