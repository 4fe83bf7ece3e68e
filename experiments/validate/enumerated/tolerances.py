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

from nondecoupling.lm.tolerances import largest_log_prob, mass_error

__all__ = ["tolerance"]

EPS = float(np.finfo(np.float64).eps)
TERMS = 8


def tolerance(laws: Sequence[np.ndarray], reward: np.ndarray, beta: float) -> float:
    """Allowance in nats for a row that involves ``laws``; multiply by beta for a row in rewards."""
    prompts, responses = reward.shape
    largest = max(map(largest_log_prob, laws))
    size = 1 + largest + 2 * float(np.abs(reward).max()) / beta
    rounding = EPS * (responses + prompts + largest + 4)
    return TERMS * size * (rounding + max(map(mass_error, laws)))
