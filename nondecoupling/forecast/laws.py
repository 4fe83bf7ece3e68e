"""Sampled responses as laws that ``bounds`` takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nondecoupling.estimate.arguments import Array


def sampled_laws(rewards: Array) -> tuple[Array, Array]:
    """(log_d, reward), both [prompts, k]: every response equally likely."""
    return np.full(rewards.shape, -np.log(rewards.shape[1])), rewards


def with_best(log_d: Array, reward: Array, best: float, count: float) -> tuple[Array, Array]:
    """The laws with one more response, of reward ``best``, which counts as ``count`` of the k sampled ones.

    With count 0 it has no mass and says only what the highest possible reward is.
    """
    prompts, k = reward.shape
    with np.errstate(divide="ignore"):
        mass = np.log(count) - np.log(k + count)
    log_d = np.concatenate([log_d + np.log(k / (k + count)), np.full((prompts, 1), mass)], axis=1)
    return log_d, np.concatenate([reward, np.full((prompts, 1), best)], axis=1)


@dataclass(frozen=True)
class DistinctRows:
    """Prompts whose rewards differ in order only have one law: binary rewards of k responses have k + 1 at most."""

    rewards: Array
    counts: Array
    place: NDArray[np.intp]
    """Of each prompt, the row with its law."""

    @classmethod
    def of(cls, rewards: Array) -> DistinctRows:
        rows, place, counts = np.unique(
            np.sort(rewards, axis=1), axis=0, return_inverse=True, return_counts=True
        )
        return cls(rows, counts.astype(np.float64), place.reshape(-1))
