"""The soft value beta log Z, the best J_b there is, from samples of the reference policy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import (
    Array,
    PerWorld,
    checked_bounds,
    positive_number,
    probability,
    require_within,
    sample_array,
    shown,
)
from nondecoupling.estimate.intervals import Interval
from nondecoupling.estimate.means import binomial_interval, mean_interval

# Pieces of the range of Z on which the bias is bounded one by one.
BIAS_PIECES = 256


@dataclass(frozen=True)
class SoftValue:
    """What ``soft_value`` and ``mean_soft_value`` return, in reward units but for the last.

    ``value``: interval for beta log Z (its average over prompts); ``bias_bound``: the estimate's
    expectation lies below the truth by at most this; ``effective_samples``: (sum w)^2/sum w^2 of the
    weights w = e^{r/beta}, the number of equally weighted responses that would say as much.
    """

    value: Interval
    bias_bound: PerWorld
    effective_samples: PerWorld


def _quadratic_coefficient(x: Array) -> Array:
    """c(x) = (x - 1 - log x)/(x - 1)^2, decreasing: log y >= y - 1 - c(x) (y - 1)^2 for y >= x."""
    u = 1 - x
    near = np.abs(u) < 1e-4
    safe = np.where(near, 0.5, u)
    with np.errstate(divide="ignore"):  # x = 0: infinite
        return np.where(near, 0.5 + u / 3 + u * u / 4, (-safe - np.log1p(-safe)) / safe**2)


def _bias_bound(log_least: float, low: PerWorld, high: PerWorld, count: int) -> Array:
    """Largest log Z - E log mean(w) for ``count`` weights w in [a, 1] with mean Z in [low, high].

    With y = mean(w)/Z >= a/Z: -E log y <= c(a/Z) Var(w)/(count Z^2), Var(w) <= (Z - a)(1 - Z) by
    Bhatia and Davis; also -log y <= log(Z/a). On a piece of the range of Z, c is largest at its
    upper end, and (1 - a u)(u - 1), u = 1/Z, where u is nearest to (1 + a)/(2a).
    """
    least = np.exp(log_least)
    low, high = (np.asarray(np.maximum(end, np.finfo(float).tiny)) for end in (low, high))
    steps = np.linspace(0.0, 1.0, BIAS_PIECES + 1)
    ends = low[..., None] * (high / low)[..., None] ** steps
    first, last = ends[..., :-1], np.minimum(ends[..., 1:], 1.0)
    with np.errstate(all="ignore"):  # a = 0 gives inf, or nan in place of it
        best = np.clip((1 + least) / (2 * least), 1 / last, 1 / first)
        share = _quadratic_coefficient(np.minimum(least / last, 1.0))
        curved = share * (1 - least * best) * (best - 1) / count
        piece = np.fmin(np.where(np.isnan(curved), np.inf, curved), np.log(last) - log_least)
    return np.maximum(piece.max(axis=-1), 0.0)


@dataclass(frozen=True)
class _Weights:
    """Rewards as weights e^{(r - max r)/beta} less 1, in [``least``, 0], which keeps the digits of large beta."""

    less_one: Array
    least: float
    beta: float
    low: float
    high: float
    estimate: Array
    effective_samples: Array

    @classmethod
    def of(cls, rewards: ArrayLike, beta: float, bounds: ArrayLike, axes: int) -> _Weights:
        array, beta = sample_array("rewards", rewards, axes=axes), positive_number("beta", beta)
        low, high = checked_bounds("reward_bounds", bounds)
        require_within("rewards", array, low, high, "reward_bounds")
        top = array.max(axis=-1, keepdims=True)
        with np.errstate(over="ignore"):  # a small beta: weights of 0
            less_one, near_top = np.expm1((array - high) / beta), np.expm1((array - top) / beta)
            least = float(np.expm1((low - high) / beta))
        estimate = top[..., 0] + beta * np.log1p(near_top.mean(axis=-1))
        weights = near_top + 1
        effective = weights.sum(axis=-1) ** 2 / (weights**2).sum(axis=-1)
        estimate = np.clip(estimate, low, high)
        return cls(less_one, least, beta, low, high, estimate, effective)

    def soft_value(self, mean_less_one: PerWorld) -> Array:
        """max r + beta log(mean weight), within the bounds."""
        with np.errstate(divide="ignore"):  # weights below the smallest float: the bound itself
            value = self.high + self.beta * np.log1p(mean_less_one)
        return np.clip(value, self.low, self.high)

    def bias(self, low: PerWorld, high: PerWorld) -> Array:
        """In reward units, for a mean weight in [1 + low, 1 + high] of as many responses as were given."""
        with np.errstate(over="ignore"):
            log_least = (self.low - self.high) / self.beta
        logs = _bias_bound(log_least, 1 + low, 1 + high, self.less_one.shape[-1])
        return np.minimum(self.beta * logs, self.high - self.low)


def soft_value(
    rewards: ArrayLike,
    beta: float,
    reward_bounds: ArrayLike,
    delta: float,
    *,
    method: str = "betting",
) -> SoftValue:
    """beta log Z = beta log E_ref e^{r/beta} of one prompt, from rewards of responses y ~ ref.

    Estimate: beta log mean e^{r/beta}, biased downwards (Jensen) by at most
    beta c(a/Z) (Z - a)(1 - Z)/(n Z^2), with weights e^{(r - max r)/beta} in [a, 1] of mean Z and
    c(x) = (x - 1 - log x)/(x - 1)^2; ``bias_bound`` is the largest such value over the interval for
    Z, so it holds together with it. The interval itself has no bias: it is that of the bounded mean
    of the weights, mapped by the logarithm. Where beta is small against the range of the reward,
    few responses carry the weight and it is wide: see ``effective_samples``.

    Shapes: rewards ``[..., n]`` -> ``[...]``; beta and the two bounds (of every possible reward) are
    numbers. Units: reward; beta log Z / beta is in nats. Errors: as ``mean_interval``; beta <= 0;
    rewards outside ``reward_bounds``. Source: F3, Waudby-Smith and Ramdas 2024.

    >>> import numpy as np
    >>> rewards = np.tile([0.0, 1.0], 200)  # P_ref(r = 1) = 1/2, beta log Z = 0.6201 at beta = 1
    >>> best = soft_value(rewards, beta=1.0, reward_bounds=(0, 1), delta=0.05)
    >>> print(best.value)
    0.620115 in [0.5559..., 0.6800...] at level 0.95 (betting, 400 units)
    >>> f"{best.bias_bound:.4f} {best.effective_samples:.1f}"
    '0.0004 329.6'
    """
    weights = _Weights.of(rewards, beta, reward_bounds, axes=1)
    mean = mean_interval(weights.less_one, (weights.least, 0.0), delta, method=method)
    low, high = weights.soft_value(mean.low), weights.soft_value(mean.high)
    value = Interval(low, high, weights.estimate, mean.delta, mean.units, mean.method)
    return SoftValue(value, weights.bias(mean.low, mean.high), weights.effective_samples)


def mean_soft_value(
    rewards: ArrayLike,
    beta: float,
    reward_bounds: ArrayLike,
    delta: float,
    *,
    method: str = "betting",
) -> SoftValue:
    """E_q beta log Z over prompts, from k responses y ~ ref to each: J*, the largest J_b there is.

    The mean over prompts of beta log mean_k e^{r/beta}. Each prompt's estimate is biased downwards
    by at most the largest ``soft_value`` bias over all laws on ``reward_bounds``, by which the upper
    end is raised; it falls like 1/k, so many responses per prompt help. ``effective_samples``: the
    mean over prompts, of k.

    Shapes: rewards ``[..., prompts, k]`` -> ``[...]``. Units: reward. Assumes prompts i.i.d. from q and
    responses independent given the prompt. Errors: as ``soft_value``. Source: F3.

    >>> import numpy as np
    >>> rewards = np.tile([0.0, 0.0, 1.0, 1.0], (300, 8))
    >>> best = mean_soft_value(rewards, beta=1.0, reward_bounds=(0, 1), delta=0.05)
    >>> print(best.value)
    0.620115 in [0.6050..., 0.6350...] at level 0.95 (betting, 300 units)
    """
    weights = _Weights.of(rewards, beta, reward_bounds, axes=2)
    mean = mean_interval(weights.estimate, (weights.low, weights.high), delta, method=method)
    bias = weights.bias(weights.least, 0.0)
    value = replace(mean, high=np.minimum(mean.high + bias, weights.high))
    return SoftValue(value, bias, weights.effective_samples.mean(axis=-1))


def _soft_value_of(chance: PerWorld, beta: float) -> Array:
    """beta log(1 + P (e^{1/beta} - 1)), without overflow for small beta or cancellation for large."""
    if beta >= 1:
        return beta * np.log1p(chance * np.expm1(1 / beta))
    with np.errstate(divide="ignore"):
        return beta * np.logaddexp(np.log1p(-chance), np.log(chance) + 1 / beta)


def binary_soft_value(
    successes: ArrayLike, trials: ArrayLike, beta: float, delta: float, *, averaged: bool = False
) -> Interval:
    """J* = beta log(1 + P_ref(r = 1)(e^{1/beta} - 1)) for rewards 0 and 1: exact at every size.

    The exact binomial interval for P_ref(r = 1), mapped by this increasing function f. For one
    prompt, from ``successes`` rewards 1 among ``trials`` responses y ~ ref. With ``averaged``, one
    response to each of ``trials`` prompts from q: f is concave with f(0) = 0 and f(1) = 1, so
    E_q P_x <= J* <= f(E_q P_x), which is what the ends then enclose; more responses per prompt
    allow ``mean_soft_value``, narrower where prompts differ.

    Shapes: successes and trials broadcast to ``[...]``. Units: reward. Errors: as
    ``binomial_interval``; beta <= 0. Source: F3, Clopper and Pearson 1934.

    >>> print(binary_soft_value(50, 100, beta=1.0, delta=0.05))
    0.620115 in [0.5214..., 0.7099...] at level 0.95 (Clopper-Pearson, 100 units)
    >>> print(binary_soft_value(50, 100, beta=1.0, delta=0.05, averaged=True))
    0.620115 in [0.398321, 0.7099...] at level 0.95 (Clopper-Pearson, 100 units)
    """
    beta = positive_number("beta", beta)
    chance = binomial_interval(successes, trials, delta)
    value = chance.map(lambda p: _soft_value_of(p, beta))
    if not averaged:
        return value
    return Interval(chance.low, value.high, value.estimate, value.delta, value.units, value.method)


def optimality_gap(
    successes: ArrayLike,
    trials: ArrayLike,
    regularized_reward: Interval,
    beta: float,
    delta: float,
    *,
    averaged: bool = False,
) -> Interval:
    """J* - J_b(p) = beta E_q KL(p||tilt): how far a policy is from the exact RL optimum, rewards 0 and 1.

    ``binary_soft_value(successes, trials, beta, delta, averaged=...)`` less the interval given for
    J_b(p) = E_p r - beta KL(p||ref), at level 1 - delta - regularized_reward.delta, and never below
    0 (F3). An upper end of 0.02 certifies that no training can gain more than 0.02 of J_b: it is as
    good as the two intervals, exact unless that of J_b is ``approximate``.

    Shapes: those of the arguments, broadcast. Units: reward; over beta, nats. Errors: as
    ``binary_soft_value``; ``delta`` and the interval's own delta together at least 1.
    Source: F3, Clopper and Pearson 1934.

    >>> reward, kl = binomial_interval(700, 1000, delta=0.02), 0.08  # KL known by enumeration
    >>> print(optimality_gap(500, 1000, reward - 1.0 * kl, beta=1.0, delta=0.03))
    0.0001145... in [0, 0.0667...] at level 0.95 (Clopper-Pearson, 1000 units)
    """
    delta = probability("delta", delta)
    if not isinstance(regularized_reward, Interval):
        raise ValueError(
            f"regularized_reward={shown(regularized_reward)}: must be an Interval, such as "
            "guarded_reward gives"
        )
    probability("delta + regularized_reward.delta", delta + regularized_reward.delta)
    best = binary_soft_value(successes, trials, beta, delta, averaged=averaged)
    gap = best - regularized_reward
    low, high = np.maximum(gap.low, 0.0), np.maximum(gap.high, 0.0)
    estimate = np.maximum(gap.estimate, 0.0)
    return Interval(low, high, estimate, gap.delta, gap.units, gap.method, gap.approximate)
