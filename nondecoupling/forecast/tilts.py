"""Intervals for what the tilt at a beta has and costs, averaged over prompts.

With s = 1/beta, A(s) = E_q log E_ref e^{s r} is convex, and everything is read off it: the reward of the tilt is
A'(s), KL(tilt||ref) is s A'(s) - A(s), the coupling gap A(s) - s E_ref r. Per prompt, two statistics of k responses
enclose log Z in expectation, whatever k is. With weights w = e^{s (r - high)} <= 1:

    E log mean w <= log Z - s high <= E mean_j [log t_j + w_j/t_j - 1],   t_j = (1 + sum of the other weights)/k,

by Jensen's inequality, and because log Z <= log t + Z/t - 1 for every t that does not depend on w_j. The 1 in t_j is a
response of the highest reward that was not seen: it keeps the mean of w_j/t_j at most 1. A' lies between the slopes of
two chords,

    (A(s) - A(s'))/(s - s') <= A'(s) <= (A(s'') - A(s))/(s'' - s),   s' < s < s'',

so each end of each interval is that of a mean over prompts of something bounded, and fails with at most delta/2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import Interval, mean_interval
from nondecoupling.estimate.arguments import Array, PerWorld
from nondecoupling.forecast.laws import sampled_laws
from nondecoupling.forecast.samples import Samples

# Shares of s = 1/beta at which the chords end.
BEFORE, AFTER = 2 / 3, 4 / 3


@dataclass(frozen=True)
class Tilts:
    """The tilts at several betas; arrays have a first axis of betas, and a second of prompts."""

    samples: Samples
    betas: Array

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
        return np.minimum(self._range, self._range**2 / 8)[:, 0]

    def plug_in_rewards(self) -> Array:
        """[betas], of the tilts of the sampled laws; biased down where few responses carry the weight."""
        log_d, reward = sampled_laws(self.samples.ref_rewards)
        tilts = (bounds.gibbs_tilt(log_d, reward, beta) for beta in self.betas)
        return np.array([np.mean(bounds.expected_reward(tilt, reward)) for tilt in tilts])

    def plug_in_kl(self) -> Array:
        log_d, reward = sampled_laws(self.samples.ref_rewards)
        tilts = (bounds.gibbs_tilt(log_d, reward, beta) for beta in self.betas)
        return np.array([np.mean(bounds.kl_divergence(tilt, log_d)) for tilt in tilts])

    def plug_in_losses(self) -> Array:
        return self._gaps().mean(axis=1)

    def rewards(self, delta: float) -> Interval:
        """E_q J(tilt)."""
        low, high = self.samples.reward_bounds
        spread, s = high - low, self._s
        below = high + (self._below(1) - self._above(BEFORE)) / (s * (1 - BEFORE))
        above = high + (self._above(AFTER) - self._below(1)) / (s * (AFTER - 1))
        least, most = high - spread / (1 - BEFORE), high + spread / (AFTER - 1)
        return self._enclosed(
            _low_end(below, least, high, delta),
            _high_end(above, low, most, delta),
            self.plug_in_rewards(),
            delta,
            (low, high),
        )

    def kl(self, delta: float) -> Interval:
        """E_q KL(tilt||ref)."""
        below = (BEFORE * self._below(1) - self._above(BEFORE)) / (1 - BEFORE)
        above = (self._above(AFTER) - AFTER * self._below(1)) / (AFTER - 1)
        least, most = -BEFORE / (1 - BEFORE) * self._range, AFTER / (AFTER - 1) * self._range
        nats = self.most_nats[:, None]
        return self._enclosed(
            _low_end(below, least, nats, delta),
            _high_end(above, 0.0, most, delta),
            self.plug_in_kl(),
            delta,
            (0.0, self.most_nats),
        )

    def own_loss_changes(self, delta: float) -> Interval:
        """E_q of the coupling gap. Both statistics lie in [0, R/beta], the lower one below ``most_nats``."""
        gaps, nats = self._gaps(), self.most_nats[:, None]
        linear = self._s * (self.samples.ref_rewards.mean(axis=1) - self.samples.reward_bounds[1])
        return self._enclosed(
            _low_end(gaps, 0.0, nats, delta),
            _high_end(self._above(1) - linear, 0.0, self._range, delta),
            gaps.mean(axis=1),
            delta,
            (0.0, self.most_nats),
        )

    def expert_loss_changes(self, delta: float) -> Interval | None:
        """E_q [log Z - E_expert r/beta], between -R/beta and R/beta; None without expert rewards."""
        experts = self.samples.expert_rewards
        if experts is None:
            return None
        linear = self._s * (experts.mean(axis=1) - self.samples.reward_bounds[1])
        below, most = self._below(1) - linear, self._range
        return self._enclosed(
            _low_end(below, -most, most, delta),
            _high_end(self._above(1) - linear, -most, most, delta),
            below.mean(axis=1),
            delta,
            (-most[:, 0], most[:, 0]),
        )

    def soft_values(self, delta: float) -> Interval:
        """E_q beta log Z."""
        low, high = self.samples.reward_bounds
        below, above = high + self._below(1) / self._s, high + self._above(1) / self._s
        return self._enclosed(
            _low_end(below, low, high, delta),
            _high_end(above, low, high, delta),
            below.mean(axis=1),
            delta,
            (low, high),
        )

    # --- per prompt, [betas, prompts] ------------------------------------------------------------

    def _gaps(self) -> Array:
        """Coupling gaps of the sampled laws."""
        laws = sampled_laws(self.samples.ref_rewards)
        return np.stack([bounds.coupling_gap(*laws, beta) for beta in self.betas])

    def _below(self, share: float) -> Array:
        """log mean w at share/beta."""
        rewards, high = self.samples.ref_rewards, self.samples.reward_bounds[1]
        linear = share * self._s * (rewards.mean(axis=1) - high)
        return Tilts(self.samples, self.betas / share)._gaps() + linear

    def _above(self, share: float) -> Array:
        """mean_j [log t_j + w_j/t_j - 1] at share/beta."""
        less_best = self.samples.ref_rewards - self.samples.reward_bounds[1]
        return np.stack([_crossed(np.exp(share * less_best / beta)) for beta in self.betas])

    def _enclosed(
        self,
        low: Array,
        high: Array,
        estimate: Array,
        delta: float,
        limits: tuple[PerWorld, PerWorld],
    ) -> Interval:
        high = np.clip(high, *limits)
        low = np.minimum(np.clip(low, *limits), high)
        return Interval(low, high, estimate, delta, self.samples.prompts, "betting")


def _crossed(weights: Array) -> Array:
    k = weights.shape[1]
    others = (1 + (weights.sum(axis=1, keepdims=True) - weights)) / k
    return np.mean(np.log(others) + weights / others - 1, axis=1)


def _low_end(values: Array, least: PerWorld, most: PerWorld, delta: float) -> Array:
    """[betas], lower limits for means of values of at least ``least``; what exceeds ``most`` may be cut."""
    shares = np.clip((values - least) / (most - least), 0.0, 1.0)
    low = mean_interval(shares, (0.0, 1.0), delta).low
    return np.squeeze(least + (most - least) * np.reshape(low, (-1, 1)), 1)


def _high_end(values: Array, least: PerWorld, most: PerWorld, delta: float) -> Array:
    """[betas], upper limits for means of values of at most ``most``; what falls below ``least`` may be raised."""
    return -_low_end(-values, -most, -least, delta)
