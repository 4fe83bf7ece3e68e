"""Sampled responses as laws that ``bounds`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nondecoupling.estimate.arguments import Array

Places = NDArray[np.intp]


@dataclass(frozen=True)
class DistinctLaws:
    """Prompts whose rewards differ in order only have one law: binary rewards of k responses have k + 1 at most."""

    log_d: Array
    reward: Array
    weights: Array
    """How often the prompts of each law count together."""
    place: Places
    """Of each prompt, the row with its law."""

    @property
    def law(self) -> tuple[Array, Array]:
        return self.log_d, self.reward

    def below(self, best: float) -> tuple[Array, Array]:
        """The laws with rewards counted from ``best``."""
        return self.log_d, self.reward - best


@dataclass(frozen=True)
class Responses:
    """Rewards [prompts, k] of the responses to some prompts; where ``mask`` is false there is none.

    ``weights`` [prompts]: how often a prompt counts. ``levels``: the rewards that occur, sorted, and perhaps others;
    ``place`` [prompts, k] says which of them a response has. Where there is no response rewards are any finite number.
    """

    rewards: Array
    mask: NDArray[np.bool_]
    weights: Array
    levels: Array
    place: Places

    @classmethod
    def of(cls, rewards: Array, mask: NDArray[np.bool_], weights: Array) -> Responses:
        levels, place = np.unique(rewards, return_inverse=True)
        return cls(rewards, mask, weights, levels, place.reshape(rewards.shape))

    @property
    def counts(self) -> Array:
        """Responses to each prompt, [prompts]."""
        return np.asarray(self.mask.sum(axis=1), dtype=np.float64)

    def mean(self) -> Array:
        """Of the rewards of each prompt, [prompts]; rounding takes none beyond the rewards themselves."""
        least = np.where(self.mask, self.rewards, np.inf).min(axis=1)
        most = np.where(self.mask, self.rewards, -np.inf).max(axis=1)
        mean = np.where(self.mask, self.rewards, 0.0).sum(axis=1) / self.counts
        return np.asarray(np.clip(mean, least, most))

    def average(self, values: Array) -> Array:
        """Over prompts, the last axis, each as often as it counts."""
        return np.asarray(np.average(values, axis=-1, weights=self.weights))

    def highest(self) -> Array:
        """The highest reward of each prompt's responses, [prompts]."""
        return np.asarray(np.where(self.mask, self.rewards, -np.inf).max(axis=1))

    def below(self, best: Array) -> Responses:
        """With rewards min(r, best) - best, ``best`` [prompts]: none is above zero."""
        capped = np.minimum(self.rewards - best[:, None], 0.0)
        return Responses.of(capped, self.mask, self.weights)

    @property
    def _few_levels(self) -> bool:
        return len(self.levels) < self.rewards.shape[1]

    def law(self) -> tuple[Array, Array]:
        """(log_d, reward), both [prompts, n]: every response equally likely.

        Where fewer than k rewards occur at all, responses of one reward are taken together, and n is their number.
        """
        if not self._few_levels:
            return np.where(self.mask, -np.log(self.counts)[:, None], -np.inf), self.rewards
        prompts, n = len(self.rewards), len(self.levels)
        cells = (self.place + n * np.arange(prompts)[:, None])[self.mask]
        found = np.bincount(cells, minlength=prompts * n).reshape(prompts, n)
        with np.errstate(divide="ignore"):
            log_d = np.log(found / self.counts[:, None])
        return log_d, np.tile(self.levels, (prompts, 1))

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

    def distinct_with_best(self, best: float, count: float) -> DistinctLaws:
        """``law_with_best`` of prompts that differ in the order of their responses only, once."""
        log_d, reward = self.law_with_best(best, count)
        keys = log_d
        if not self._few_levels:
            keys = np.sort(np.where(self.mask, self.rewards, np.inf), axis=1)
        _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        place = place.reshape(-1)
        weights = np.zeros(len(first))
        np.add.at(weights, place, self.weights)
        return DistinctLaws(log_d[first], reward[first], weights, place)

    def at(self, places: slice) -> Responses:
        """Of some prompts only."""
        return Responses(
            self.rewards[places],
            self.mask[places],
            self.weights[places],
            self.levels,
            self.place[places],
        )

    def only(self, mask: NDArray[np.bool_]) -> Responses:
        """Of each prompt some responses only, of which there must be one at least."""
        return replace(self, mask=self.mask & mask)

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
