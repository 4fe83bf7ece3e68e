"""The exact optimum of a leash that ends at a given average reward: what two policies are compared at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from nondecoupling import bounds

__all__ = ["Optimum", "law_at_reward"]

# Optimum of a leash: log_ref and reward, [prompts, responses], and beta to log p.
Optimum = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
# Between which logarithms of 1/beta the optimum is sought.
SHORTEST_AND_LONGEST = (-16.0, 16.0)


def law_at_reward(
    optimum: Optimum, log_ref: np.ndarray, reward: np.ndarray, target: float
) -> np.ndarray | None:
    """log p, [prompts, responses], of the optimum whose reward averages ``target``, at one beta for all prompts.

    None if no beta ends there: the target is not between the reward of ref and the best one. At the best one, which
    only the limit of small beta has, it is the optimum of the smallest beta that is tried.
    """

    def short(log_time: float) -> float:
        log_p = optimum(log_ref, reward, np.exp(-log_time))
        return target - float(bounds.expected_reward(log_p, reward).mean())

    at_the_ends = [short(log_time) for log_time in SHORTEST_AND_LONGEST]
    if not at_the_ends[0] >= 0 >= at_the_ends[1]:
        return None
    log_time = brentq(short, *SHORTEST_AND_LONGEST, xtol=1e-12)
    return optimum(log_ref, reward, np.exp(-log_time))
