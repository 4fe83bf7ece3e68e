"""Sampled responses as laws that ``bounds`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nondecoupling.estimate.arguments import Array

Places = NDArray[np.intp]


@dataclass(frozen=True)
class Responses:
    """Rewards [prompts, k] of the responses to some prompts; where ``mask`` is false there is none.

    ``weights`` [prompts]: how often a prompt counts. At the places without a response the reward is any finite number.
    """

    rewards: Array
    mask: NDArray[np.bool_]
    weights: Array

    @property
    def counts(self) -> Array:
        """Responses to each prompt, [prompts]."""
        return np.asarray(self.mask.sum(axis=1), dtype=np.float64)

    def mean(self) -> Array:
        """Of the rewards of each prompt, [prompts]."""
        return np.asarray(np.where(self.mask, self.rewards, 0.0).sum(axis=1) / self.counts)

    def average(self, values: Array) -> Array:
        """Over prompts, the last axis, each as often as it counts."""
        return np.asarray(np.average(values, axis=-1, weights=self.weights))

    def law(self) -> tuple[Array, Array]:
        """(log_d, reward), both [prompts, n]: every response equally likely, those of one reward taken together.

        n is the number of rewards that occur at any prompt, or k where that is smaller.
        """
        levels = np.unique(self.rewards[self.mask])
        if len(levels) >= self.rewards.shape[1]:
            return np.where(self.mask, -np.log(self.counts)[:, None], -np.inf), self.rewards
        prompts, n = len(self.rewards), len(levels)
        place = np.searchsorted(levels, self.rewards.clip(levels[0], levels[-1]))
        place += n * np.arange(prompts)[:, None]
        found = np.bincount(place[self.mask], minlength=prompts * n).reshape(prompts, n)
        with np.errstate(divide="ignore"):
            log_d = np.log(found / self.counts[:, None])
        return log_d, np.tile(levels, (prompts, 1))

    def law_with_best(self, best: float, count: float) -> tuple[Array, Array]:
        """``law`` with one more response, of reward ``best``, which counts as ``count`` of the sampled ones.

        With count 0 it has no mass and says only what the highest possible reward is.
        """
        log_d, reward = self.law()
        total = self.counts[:, None] + count
        with np.errstate(divide="ignore"):
            mass = np.log(count) - np.log(total)
        log_d = np.concatenate([log_d + np.log(self.counts[:, None] / total), mass], axis=1)
        return log_d, np.concatenate([reward, np.full((len(reward), 1), best)], axis=1)

    def at(self, places: slice) -> Responses:
        """Of some prompts only."""
        return Responses(self.rewards[places], self.mask[places], self.weights[places])

    def only(self, mask: NDArray[np.bool_]) -> Responses:
        """Of each prompt some responses only, of which there must be one at least."""
        return replace(self, mask=self.mask & mask)

    def distinct(self) -> tuple[Responses, Places]:
        """Prompts whose rewards differ in order only are one, and the place of each prompt among them.

        Binary rewards of k responses to each have k + 1 laws at most. A law counts as often as its prompts.
        """
        keys = np.sort(np.where(self.mask, self.rewards, np.inf), axis=1)
        rows, place = np.unique(keys, axis=0, return_inverse=True)
        place, mask = place.reshape(-1), np.isfinite(rows)
        weights = np.zeros(len(rows))
        np.add.at(weights, place, self.weights)
        return Responses(np.where(mask, rows, rows[:, :1]), mask, weights), place

    def by_length(self) -> Iterator[tuple[Places, Array]]:
        """(places, rewards [places, m]) of the prompts that have m responses, for each m."""
        counts = self.mask.sum(axis=1)
        for m in np.unique(counts):
            places = np.flatnonzero(counts == m)
            yield places, self.rewards[places][self.mask[places]].reshape(len(places), m)

    def for_each(self, statistic: Callable[[Array], Array]) -> Array:
        """[..., prompts], where ``statistic`` takes the rewards of prompts with equally many responses."""
        found = [(places, statistic(rewards)) for places, rewards in self.by_length()]
        out = np.empty((*found[0][1].shape[:-1], len(self.rewards)))
        for places, values in found:
            out[..., places] = values
        return out
