"""Bootstrap intervals that say nothing, where there are too few prompts for a bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nondecoupling.estimate import LEAST_UNITS, Interval, bootstrap_intervals

__all__ = ["resampled"]


def resampled(units: np.ndarray, resamples: int = 9999) -> Callable[[float], Interval]:
    """Intervals for the mean over prompts, [prompts], of what has no bounds: a function of delta, ``approximate``.

    Below ``LEAST_UNITS`` prompts they are infinite, as the bootstrap's own are for a sample that is too skewed: what
    only a bootstrap could tell is then inconclusive, and everything else of the run stands.

    >>> print(resampled(np.array([0.1, 0.4, 0.1]))(0.05))
    0.2 in [-inf, inf] at level 0.95 (too few for a bootstrap, 3 units, approximate)
    """
    if len(units) >= LEAST_UNITS:
        return bootstrap_intervals(units, resamples=resamples)

    def nothing(delta: float) -> Interval:
        method = "too few for a bootstrap"
        return Interval(
            -np.inf, np.inf, float(units.mean()), delta, len(units), method, approximate=True
        )

    return nothing
