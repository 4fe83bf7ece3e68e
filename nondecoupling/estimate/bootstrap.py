"""Bootstrap intervals for the mean of what has no bounds, offered only where they were seen to cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nondecoupling.estimate.arguments import (
    Array,
    nonnegative_number,
    probability,
    rounding_of,
    sample_array,
    whole_number,
)
from nondecoupling.estimate.intervals import Interval

# From so many units on, and up to this acceleration, the simulated misses of docs/api/estimate.md
# are those promised.
LEAST_UNITS = 64
LARGEST_ACCELERATION = 0.02
# Resamples that must lie beyond an end for it to be an estimate of a quantile.
LEAST_TAIL = 5
MOST_RESAMPLES = 10**7
# Numbers that a block of resamples may hold.
RESAMPLED_NUMBERS = 4_000_000
# Machine epsilons, of the largest sample, that computing a sample may have cost.
ROUNDING_STEPS = 4
# Means of resamples, in units of the range, that differ by less are ties.
TIE = 1e-12


def bootstrap_interval(
    samples: ArrayLike,
    delta: float,
    *,
    resamples: int = 9999,
    seed: int = 0,
    rounding: float = 0.0,
) -> Interval:
    """The BCa bootstrap interval of the mean of i.i.d. units without known bounds: ``approximate``.

    For losses and log-ratios; wherever bounds are known ``mean_interval`` holds at every size. It is
    offered from 64 units on, and says nothing, (-inf, inf), where the sample is too skewed for its
    size: BCa's acceleration a = sum (x - mean)^3/(6 (sum (x - mean)^2)^{3/2}) above 0.02 in size,
    that is n < 69 skewness^2. Under these two rules the share of simulated samples for which it was
    offered and missed is in the table of docs/api/estimate.md. **What no sample shows it cannot
    know**: if a value that is rarer than 1/n moves the mean, it is too short, at any n; there is no
    interval without assumptions about the tail (Bahadur and Savage 1956).

    Both quantiles are those of Student's t, times sqrt(n/(n - 1)), in place of the normal's: a sample
    spreads less than its law (Hesterberg 2015).

    It says nothing either where the samples are equal up to rounding, or where fewer than 5
    resamples lie beyond an end (delta/2 < 5/resamples). ``rounding`` is the absolute error that
    computing one sample may have left, where samples are differences of larger numbers: 1e-6 times
    a log-probability for scores in float32. At least 4 machine epsilons of the largest sample, in
    the precision in which it is given, are assumed; the ends are moved out by it.

    The same ``seed`` gives the same interval. For several levels: ``bootstrap_intervals``.

    Shapes: samples ``[..., n]``, n >= 64 -> ``[...]``. Units: those of the samples. Errors: fewer than
    64 samples, NaN, delta outside (0, 1), resamples < 100, a negative seed or rounding. Source: Efron
    1987; Hesterberg 2015.

    >>> import numpy as np
    >>> losses = np.random.default_rng(1).gamma(4.0, size=200)  # nats, mean 4
    >>> print(bootstrap_interval(losses, delta=0.05))
    3.8658... in [3.6..., 4.1...] at level 0.95 (bootstrap, 200 units, approximate)
    """
    delta = probability("delta", delta)
    at = bootstrap_intervals(samples, resamples=resamples, seed=seed, rounding=rounding)
    return at(delta)


def bootstrap_intervals(
    samples: ArrayLike, *, resamples: int = 9999, seed: int = 0, rounding: float = 0.0
) -> Callable[[float], Interval]:
    """``bootstrap_interval`` as a function of delta that resamples once: what ``holm`` asks for.

    Shapes, units, errors, source: as ``bootstrap_interval``.

    >>> import numpy as np
    >>> losses = np.random.default_rng(1).gamma(4.0, size=200)
    >>> at = bootstrap_intervals(losses)
    >>> bool(at(0.01).width > at(0.05).width), at(0.05) == bootstrap_interval(losses, 0.05)
    (True, True)
    """
    array = sample_array("samples", samples)
    units = array.shape[-1]
    require_units("samples", units)
    resamples = whole_number("resamples", resamples, 100, MOST_RESAMPLES)
    seed = whole_number("seed", seed, 0)
    mean, spread = array.mean(axis=-1), np.ptp(array, axis=-1)
    error = ROUNDING_STEPS * rounding_of("samples", samples) * np.abs(array).max(axis=-1)
    error = np.maximum(error, nonnegative_number("rounding", rounding))
    # In units of the range, whose powers neither overflow nor vanish.
    unit = np.where(spread > 0, spread, 1.0)
    deviations = array / unit[..., None] - (mean / unit)[..., None]
    acceleration = _acceleration(deviations)
    replicates = np.sort(_resampled_means(deviations, resamples, np.random.default_rng(seed)))
    known = (spread > error) & (np.abs(acceleration) <= LARGEST_ACCELERATION)

    def interval(delta: float) -> Interval:
        delta = probability("delta", delta)
        low, high = _bca_ends(replicates, acceleration, _expanded(delta / 2, units))
        said = known & ~np.isnan(low) & ~np.isnan(high) & (delta / 2 * resamples >= LEAST_TAIL)
        low = np.where(said, mean + unit * low - error, -np.inf)
        high = np.where(said, mean + unit * high + error, np.inf)
        return Interval(low[()], high[()], mean[()], delta, units, "bootstrap", approximate=True)

    return interval


def require_units(name: str, units: int) -> None:
    if units < LEAST_UNITS:
        raise ValueError(
            f"{name} has {units} independent units: the bootstrap is offered from {LEAST_UNITS} on; "
            "take more prompts, or mean_interval if the quantity is bounded"
        )


def _acceleration(deviations: Array) -> Array:
    """a of BCa: a sixth of the skewness, over sqrt(n); 0 for equal samples."""
    squares = (deviations**2).sum(axis=-1)
    cubes = (deviations**3).sum(axis=-1)
    return np.where(squares > 0, cubes / (6 * np.where(squares > 0, squares, 1.0) ** 1.5), 0.0)


def _resampled_means(deviations: Array, resamples: int, rng: np.random.Generator) -> Array:
    """[..., resamples]: the worlds of a batch are resampled alike, as a product with the counts."""
    units = deviations.shape[-1]
    means, block = [], max(1, RESAMPLED_NUMBERS // units)
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        drawn = rng.integers(0, units, size=(rows, units)) + units * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        means.append(deviations @ (counts.T / units))
    return np.concatenate(means, axis=-1)


def _expanded(tail: float, units: int) -> float:
    """The normal quantile of a tail, made larger for what a bootstrap from n units is too narrow by.

    Resampled means spread by sqrt((n - 1)/n) too little, and their spread is itself an estimate.
    """
    return float(math.sqrt(units / (units - 1)) * special.stdtrit(units - 1, tail))


def _bca_ends(replicates: Array, acceleration: Array, z: float) -> tuple[Array, Array]:
    """Quantiles of sorted replicates of a mean 0, corrected for bias and skewness; NaN where it fails."""
    below = (replicates < -TIE).mean(axis=-1) / 2 + (replicates <= TIE).mean(axis=-1) / 2
    bias = special.ndtri(below)
    ends = []
    for quantile in (z, -z):
        with np.errstate(invalid="ignore"):  # all replicates on one side: bias is infinite
            shifted = bias + quantile
            corrected = special.ndtr(bias + shifted / (1 - acceleration * shifted))
        ends.append(_quantile(replicates, corrected))
    return ends[0], ends[1]


def _quantile(replicates: Array, level: Array) -> Array:
    """Linear between order statistics, at a level of each row's own; NaN stays NaN."""
    last = replicates.shape[-1] - 1
    place = np.nan_to_num(level) * last
    before = np.clip(np.floor(place).astype(int), 0, last - 1)[..., None]
    lower = np.take_along_axis(replicates, before, axis=-1)[..., 0]
    upper = np.take_along_axis(replicates, before + 1, axis=-1)[..., 0]
    return np.where(np.isnan(level), np.nan, lower + (place - before[..., 0]) * (upper - lower))
