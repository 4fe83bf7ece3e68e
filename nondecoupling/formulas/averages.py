"""Bounds for averages over prompts: what S2, S6, S7 and R4 say of a batch, from means that were taken before.

Divergences, rewards and gaps are means over prompts, ``width`` is the largest range of the reward at any prompt. Each
bound holds for every prompt with that width, and for the means because the square root is concave. Plain numbers or
NumPy arrays of several batches.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "near_optimal_loss_increase",
    "pinsker_radius",
    "reward_ceiling",
    "transport_limit",
]

Means: TypeAlias = float | NDArray[np.float64]


def transport_limit(divergence: Means, width: float) -> Means:
    """R sqrt(KL(p||q)/2), in reward units: |J(p) - J(q)| is at most this, by Pinsker's inequality.

    A divergence that rounding or an estimate made negative counts as zero. Source: R4, S7.

    >>> float(transport_limit(0.02, width=1.0))
    0.1
    """
    return width * np.sqrt(np.maximum(divergence, 0.0) / 2)


def reward_ceiling(data_reward: Means, distance: Means, width: float) -> Means:
    """J(d) + R sqrt(KL(d||p)/2), in reward units: no policy p at this distance from the data has more reward.

    The distance is eps + DeltaL(p), the SFT loss above its minimum. Source: S7.

    >>> float(reward_ceiling(0.5, 0.02, width=1.0))
    0.6
    """
    return data_reward + transport_limit(distance, width)


def near_optimal_loss_increase(gap: Means, eps: Means, width: float, beta: float) -> Means:
    """gap - (R/beta) sqrt(eps/2), in nats: RL to the tilt of ref raises the SFT loss by at least this.

    ``gap`` is the coupling gap of ref and eps = KL(d||ref). At eps = 0 it is S2's equality. Source: S2.

    >>> float(near_optimal_loss_increase(0.5, 0.02, width=1.0, beta=0.5))
    0.3
    """
    return gap - width / beta * np.sqrt(eps / 2)


def pinsker_radius(kl_to_tilt: Means, width: float, beta: float) -> Means:
    """2 (beta KL(ref||tilt)/R)^2, in nats: from any ref nearer to the data RL to the tilt raises the SFT loss.

    0 where the reward is constant: RL then moves nothing. Source: S6.

    >>> float(pinsker_radius(0.5, width=1.0, beta=0.5))
    0.125
    """
    if width == 0:
        return 0.0 * kl_to_tilt
    return 2 * (beta * kl_to_tilt / width) ** 2
