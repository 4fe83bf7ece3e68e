"""How far two floating-point routes to one number may lie apart, derived in one place.

Both sides of a row are computed in float64 from the same recorded laws, so the precision of the network does not
enter: the policy *is* the recorded law. What is left is rounding and the law's own distance to mass one.

A side is an average over N prompts of at most TERMS sums over n responses of w t, with w a probability and
    |t| <= T = 1 + max |log p| + 2 max |r| / beta        (nats; rewards are beta times nats)
    error of w: |w| eps (1 + max |log p|)                exp of a logarithm with a relative error of eps
    error of t: a few eps T
    error of a sum of n terms, then of N averages: (n + N) eps times the sum of the |terms|, which is <= T
    a law whose sum is 1 + m shifts each sum by at most |m| T
Together: TERMS T [eps (n + N + max |log p| + 4) + max |m|]; the constant is not fitted. Rows in rewards are sums of
beta, or lambda, times nats. A root that price_of_policy has found only approximately makes its value smaller (weak
duality), never larger, and it lowers the reward by its own rounding: it needs no allowance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["enumeration_tolerance", "mass_error", "mass_tolerance", "tolerance"]

EPS = float(np.finfo(np.float64).eps)
TERMS = 8
# Chosen, not derived: how errors grow through a network is not known. A wrong mask, position or head is off by
# orders of magnitude more, which tests show.
LAW_TOLERANCE_UNITS = 64


def _largest(log_law: np.ndarray) -> float:
    finite = log_law[np.isfinite(log_law)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def mass_error(log_law: np.ndarray) -> float:
    """max over prompts of |sum p - 1|."""
    return float(np.abs(np.exp(log_law).sum(axis=-1) - 1).max())


def tolerance(laws: Sequence[np.ndarray], reward: np.ndarray, beta: float) -> float:
    """Allowance in nats for a row that involves ``laws``; multiply by beta for a row in rewards."""
    prompts, responses = reward.shape
    largest = max(map(_largest, laws))
    size = 1 + largest + 2 * float(np.abs(reward).max()) / beta
    rounding = EPS * (responses + prompts + largest + 4)
    return TERMS * size * (rounding + max(map(mass_error, laws)))


def mass_tolerance(log_law: np.ndarray) -> float:
    """Allowance for |sum p - 1|: each log p is a sum of rounded terms of its own size."""
    return LAW_TOLERANCE_UNITS * EPS * (1 + _largest(log_law))


def enumeration_tolerance(log_law: np.ndarray, layers: int, eps: float) -> float:
    """Allowance between two evaluations of one network in a precision of ``eps``.

    Here alone the network's own rounding counts: a batch is summed in another order than a single sequence. Each
    layer adds errors of a few eps to hidden states, and a log-probability magnifies them by about its own size.
    """
    return LAW_TOLERANCE_UNITS * eps * (1 + layers) * (1 + _largest(log_law))
