"""The exact optimum of a leash that ends at a given average reward: what two policies are compared at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from nondecoupling import bounds

__all__ = ["Optimum", "law_at_reward"]

# Optimum of a leash: log_ref and reward, [prompts, responses], and beta to log p, which reward/beta decides.
Optimum = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
# Between which logarithms of the reward's range over beta the optimum is sought: all that float64 takes, nearly.
SHORTEST_AND_LONGEST = (-256.0, 256.0)


def law_at_reward(
    optimum: Optimum, log_ref: np.ndarray, reward: np.ndarray, target: float
) -> np.ndarray | None:
    """log p, [prompts, responses], of the optimum whose reward averages ``target``, at one beta for all prompts.

    None if no beta ends there: the target is below the reward of ref, or not below what the optimum has in the limit
    of small beta. That is the best reward for a leash that finds it where ref has no mass; a tilt finds none there.
    """
    top = reward.max(axis=1, keepdims=True)
    size = float((top - reward).max())
    if size == 0:
        return None
    room, missing = (top - reward) / size, (float(top.mean()) - target) / size

    def at(log_time: float) -> np.ndarray:
        return optimum(log_ref, -room, np.exp(-log_time))

    def left(log_time: float) -> float:
        return float(bounds.expected_reward(at(log_time), room).mean()) - missing

    shortest, longest = map(left, SHORTEST_AND_LONGEST)
    if not shortest >= 0 > longest:
        return None
    return at(brentq(left, *SHORTEST_AND_LONGEST, xtol=1e-12))
