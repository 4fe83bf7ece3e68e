"""Gamblers against a mean in [0, 1], and the means that they refute (Waudby-Smith and Ramdas 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nondecoupling.estimate.arguments import Array

# Half of the wealth at most is staked on one sample (Waudby-Smith and Ramdas use 1/2 or 3/4).
LARGEST_STAKE = 0.5
BISECTIONS = 40

# From the places 1..n of the samples to the number by which the variance is multiplied in a stake.
Stakes = Callable[[Array], Array]


def at_fixed_size(places: Array) -> Array:
    """n everywhere: the stakes are best at the n that they know."""
    return np.full(places.shape, places[-1])


def at_any_time(places: Array) -> Array:
    """i log(1 + i): no stake depends on how many samples follow."""
    return places * np.log1p(places)


def _threshold(delta: float) -> float:
    """log(2/delta): either side of the interval has half of delta."""
    return math.log(2) - math.log(delta)


def _stakes(x: Array, delta: float, stakes: Stakes, share: Array | float = 1.0) -> Array:
    """Predictable: the stake on a sample rests on the samples before it."""
    seen = np.arange(1.0, x.shape[-1] + 1)
    counted = np.cumsum(np.broadcast_to(share, x.shape[-1:]))
    mean = (0.5 + np.cumsum(share * x, axis=-1)) / (counted + 1)
    variance = (0.25 + np.cumsum((share * (x - mean)) ** 2, axis=-1)) / (seen + 1)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    return np.sqrt(2 * _threshold(delta) / (stakes(seen) * before))


def _gains(x: Array, stakes: Array, m: Array, share: Array | float = 1.0) -> Array:
    """log(1 + l (x - m)), nonincreasing in m: what a gambler on "larger than m" wins on each sample.

    Of a sample with share v <= 1 only v (x - m) is at stake.
    """
    with np.errstate(divide="ignore"):  # against m = 0 nothing can be lost
        return np.log1p(np.minimum(stakes, LARGEST_STAKE / m) * (share * (x - m)))


def _bisect(rich: Callable[[Array], NDArray[np.bool_]], refuted: Array, kept: Array) -> Array:
    """The largest mean found to be refuted; wealth falls in m, so means below it are refuted too."""
    for _ in range(BISECTIONS):
        m = (refuted + kept) / 2
        beaten = rich(m)
        refuted, kept = np.where(beaten, m, refuted), np.where(beaten, kept, m)
    return refuted


def lower_end(x: Array, delta: float, stakes: Stakes, share: Array | float = 1.0) -> Array:
    """The smallest mean that no gambler on "larger" has refuted by then; x in [0, 1], [..., n] -> [...].

    With shares v in [0, 1], [n], the mean is the m with E v (x - m) = 0.
    """
    staked, target = _stakes(x, delta, stakes, share), _threshold(delta)

    def rich(m: Array) -> NDArray[np.bool_]:
        wealth = np.cumsum(_gains(x, staked, m, share), axis=-1)
        return wealth.max(axis=-1, keepdims=True) >= target

    ends = np.zeros((*x.shape[:-1], 1)), np.ones((*x.shape[:-1], 1))
    return _bisect(rich, *ends)[..., 0]


def lower_ends(x: Array, delta: float, stakes: Stakes) -> Array:
    """``lower_end`` of every prefix, [..., n] -> [..., n], for stakes that do not depend on n."""
    rows = x.reshape(-1, x.shape[-1])
    staked, target = _stakes(rows, delta, stakes), _threshold(delta)
    end, ends = np.zeros((len(rows), 1)), np.empty(rows.shape)
    for t in range(1, rows.shape[-1] + 1):
        # What was refuted stays refuted; only who is rich against the present end refutes more.
        better = _gains(rows[:, :t], staked[:, :t], end).sum(axis=-1) >= target
        end[better] = _refuted_at_once(rows[better, :t], staked[better, :t], target, end[better])
        ends[:, t - 1] = end[:, 0]
    return ends.reshape(x.shape)


def _refuted_at_once(x: Array, staked: Array, target: float, refuted: Array) -> Array:
    """The largest mean above ``refuted`` against which the wealth after the last sample suffices."""

    def rich(m: Array) -> NDArray[np.bool_]:
        return _gains(x, staked, m).sum(axis=-1, keepdims=True) >= target

    return _bisect(rich, refuted, np.ones(refuted.shape)) if len(x) else refuted
