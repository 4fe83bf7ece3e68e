"""How far an enumerated law may lie from mass one, and from another evaluation of the same network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["enumeration_tolerance", "largest_log_prob", "mass_error", "mass_tolerance"]

EPS = float(np.finfo(np.float64).eps)
# Chosen, not derived: how errors grow through a network is not known. A wrong mask, position or head is off by
# orders of magnitude more, which tests show.
LAW_TOLERANCE_UNITS = 64


def largest_log_prob(log_law: NDArray[np.float64]) -> float:
    """max |log p| over the responses with any mass."""
    finite = log_law[np.isfinite(log_law)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def mass_error(log_law: NDArray[np.float64]) -> float:
    """max over prompts of |sum p - 1|."""
    return float(np.abs(np.exp(log_law).sum(axis=-1) - 1).max())


def mass_tolerance(log_law: NDArray[np.float64]) -> float:
    """Allowance for |sum p - 1|: each log p is a sum of rounded terms of its own size."""
    return LAW_TOLERANCE_UNITS * EPS * (1 + largest_log_prob(log_law))


def enumeration_tolerance(log_law: NDArray[np.float64], layers: int, eps: float) -> float:
    """Allowance between two evaluations of one network in a precision of ``eps``.

    Here alone the network's own rounding counts: a batch is summed in another order than a single sequence. Each
    layer adds errors of a few eps to hidden states, and a log-probability magnifies them by about its own size.
    """
    return LAW_TOLERANCE_UNITS * eps * (1 + layers) * (1 + largest_log_prob(log_law))
