"""Intervals for what the tilt at a beta has and costs, averaged over prompts.

Ends come from statistics of k responses to a prompt whose expectations lie on the safe side whatever k is. With
s = 1/beta and weights w = e^{s (r - high)} <= 1, of mean Z' = Z e^{-s high}:

    E log mean w <= log Z' <= E mean_j [log t_j + w_j/t_j - 1],   t_j = (1 + sum of the other weights)/k,

by Jensen's inequality, and because log z <= log t + z/t - 1 for every t that does not depend on w_j. The 1 in t_j is a
response of the highest reward that was not seen: it keeps the mean of w_j/t_j at most 1. For 0 <= v <= 1,

    E_tilt v = E_ref v w/Z' >= E mean_{i != j} v_i w_i (2/t_ij - w_j/t_ij^2),   t_ij as t_j, without w_i and w_j,

because 1/z >= 2/t - z/t^2. With v = (r - low)/R it is a limit of the reward from below, with v = (high - r)/R from
above. Its mean over j is never negative: with A the sum of the weights other than w_i, of which none exceeds 1 or A,
it is at least a multiple of 2/(1 + A) - A/max(1, A)^2 >= 0.

So each end of each interval is that of a mean over prompts of something bounded, and fails with at most delta/2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.ends import Ends

# Pairs are formed of so many groups of responses at most, each with its mean weight.
GROUPS = 16


@dataclass(frozen=True)
class Tilts(Ends):
    """The tilts at several betas; arrays have a first axis of betas, and a second of prompts."""

    def how(self, number: str) -> str:
        ends = "both ends" if number in ("reward", "kl") else "upper end"
        of = f"{self.samples.responses} responses"
        return f"betting, {self.samples.prompts} prompts, {ends} cross-fitted over {of}"

    @property
    def _s(self) -> Array:
        """[betas, 1]"""
        return np.asarray(1 / self.betas[:, None])

    @property
    def _range(self) -> Array:
        """s (high - low), [betas, 1]"""
        return self._s * self.samples.spread

    @property
    def most_nats(self) -> Array:
        """[betas]: neither coupling gap nor KL(tilt||ref) exceeds R/beta or R^2/(8 beta^2), Hoeffding's bound (S3)."""
        return (self._range * np.minimum(1.0, self._range / 8))[:, 0]

    def plug_in_rewards(self) -> Array:
        """[betas], of the tilts of the sampled laws; biased down where few responses carry the weight."""
        _, reward = self.samples.drawn.law()
        each = [bounds.expected_reward(tilt, reward) for tilt in self._sampled_tilts()]
        return self.samples.drawn.average(np.stack(each))

    def plug_in_kl(self) -> Array:
        log_d, _ = self.samples.drawn.law()
        each = [bounds.kl_divergence(tilt, log_d) for tilt in self._sampled_tilts()]
        return self.samples.drawn.average(np.stack(each))

    def plug_in_losses(self) -> Array:
        return self.samples.drawn.average(self._gaps)

    def _sampled_tilts(self) -> list[Array]:
        """For each beta, [prompts, k]"""
        law = self.samples.drawn.law()
        return [np.asarray(bounds.gibbs_tilt(*law, beta), np.float64) for beta in self.betas]

    def rewards(self, delta: float) -> Interval:
        """E_q J(tilt)."""
        low, high = self.samples.reward_bounds
        gained, missing = self._from_below
        return self._enclosed(
            low + (high - low) * self._low_end(gained, 0.0, 1.0, delta),
            high - (high - low) * self._low_end(missing, 0.0, 1.0, delta),
            self.plug_in_rewards(),
            delta,
            (low, high),
        )

    def kl(self, delta: float) -> Interval:
        """E_q KL(tilt||ref) = E_q [J(tilt)/beta - log Z]."""
        gained, missing = self._from_below
        below = self._range * (gained - 1) - self._above
        above = -self._range * missing - self._below
        return self._enclosed(
            self._low_end(below, -self._range, self.most_nats[:, None], delta),
            self._high_end(above, 0.0, self._range, delta),
            self.plug_in_kl(),
            delta,
            (0.0, self.most_nats),
        )

    def own_loss_changes(self, delta: float) -> Interval:
        """E_q of the coupling gap. Both statistics lie in [0, R/beta], the lower one below ``most_nats``."""
        gaps, nats = self._gaps, self.most_nats[:, None]
        linear = self._s * (self.samples.drawn.mean() - self.samples.reward_bounds[1])
        return self._enclosed(
            self._low_end(gaps, 0.0, nats, delta),
            self._high_end(self._above - linear, 0.0, self._range, delta),
            self.plug_in_losses(),
            delta,
            (0.0, self.most_nats),
        )

    def expert_loss_changes(self, delta: float) -> Interval | None:
        """E_q [log Z - E_expert r/beta], between -R/beta and R/beta; None without expert rewards."""
        experts = self.samples.expert_rewards
        if experts is None:
            return None
        linear = self._s * (experts.mean(axis=1) - self.samples.reward_bounds[1])
        below, most = self._below - linear, self._range
        return self._enclosed(
            self._low_end(below, -most, most, delta),
            self._high_end(self._above - linear, -most, most, delta),
            self.samples.drawn.average(below),
            delta,
            (-most[:, 0], most[:, 0]),
        )

    def soft_values(self, delta: float) -> Interval:
        """E_q beta log Z."""
        low, high = self.samples.reward_bounds
        below, above = high + self._below / self._s, high + self._above / self._s
        return self._enclosed(
            self._low_end(below, low, high, delta),
            self._high_end(above, low, high, delta),
            self.samples.drawn.average(below),
            delta,
            (low, high),
        )

    # --- per prompt, [betas, prompts] ------------------------------------------------------------

    @cached_property
    def _gaps(self) -> Array:
        """Coupling gaps of the sampled laws."""
        law = self.samples.drawn.law()
        return np.stack([bounds.coupling_gap(*law, beta) for beta in self.betas])

    @property
    def _below(self) -> Array:
        """log mean w"""
        drawn, high = self.samples.drawn, self.samples.reward_bounds[1]
        return self._gaps + self._s * (drawn.mean() - high)

    @cached_property
    def _above(self) -> Array:
        """mean_j [log t_j + w_j/t_j - 1]"""
        return self.samples.drawn.for_each(
            lambda rewards: np.stack([_log_from_above(w) for w in self._weights(rewards)])
        )

    @cached_property
    def _from_below(self) -> Array:
        """Of (r - low)/R and of (high - r)/R under the tilt, from below: [2, betas, prompts]."""
        low, high = self.samples.reward_bounds

        def both(rewards: Array) -> Array:
            shares = np.stack([rewards - low, high - rewards]) / (high - low)
            each = [_tilted_from_below(shares, w) for w in self._weights(rewards)]
            return np.stack(each, axis=1)

        return self.samples.drawn.for_each(both)

    def _weights(self, rewards: Array) -> Iterator[Array]:
        """e^{s (r - high)} for each beta."""
        return (np.exp((rewards - self.samples.reward_bounds[1]) / beta) for beta in self.betas)


def _log_from_above(weights: Array) -> Array:
    k = weights.shape[1]
    others = (1 + (weights.sum(axis=1, keepdims=True) - weights)) / k
    return np.mean(np.log(others) + weights / others - 1, axis=1)


def _tilted_from_below(values: Array, weights: Array) -> Array:
    """[..., prompts] of values [..., prompts, k] and weights [prompts, k]"""
    count = min(GROUPS, weights.shape[1])
    starts = np.array([group[0] for group in np.array_split(np.arange(weights.shape[1]), count)])
    sizes = np.diff(starts, append=weights.shape[1])
    # Groups first: partners are then slices of what is written twice.
    w = np.ascontiguousarray((np.add.reduceat(weights, starts, axis=1) / sizes).T)
    v_w = np.add.reduceat(values * weights, starts, axis=-1) / sizes
    twice, rest = np.concatenate([w, w]), 1 + w.sum(axis=0)
    factor = np.zeros(w.shape)
    for shift in range(1, count):
        partner = twice[shift : shift + count]
        inverse = (count - 1) / np.maximum(rest - w - partner, 1.0)
        factor += (2 - partner * inverse) * inverse
    return np.asarray((v_w * factor.T).mean(axis=-1) / (count - 1))
