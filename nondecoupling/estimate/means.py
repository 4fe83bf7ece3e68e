"""Intervals for means of bounded quantities: at every sample size, and at every size at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from nondecoupling.estimate.arguments import (
    Array,
    checked_bounds,
    count_array,
    finite_number,
    one_of,
    positive_number,
    probability,
    prompt_weights,
    require_one_shape,
    require_within,
    sample_array,
)
from nondecoupling.estimate.betting import Stakes, at_any_time, at_fixed_size, lower_end, lower_ends
from nondecoupling.estimate.intervals import Interval

STAKES: dict[str, Stakes] = {"betting": at_fixed_size, "time-uniform": at_any_time}
METHODS = (*STAKES, "bernstein")


def mean_interval(
    samples: ArrayLike,
    bounds: ArrayLike,
    delta: float,
    *,
    method: str = "betting",
    weights: ArrayLike | None = None,
    largest_weight: ArrayLike | None = None,
) -> Interval:
    """An interval for the mean of a bounded quantity, valid at every sample size.

    ``"betting"``: the hedged-capital interval, all m in [0, 1] (after scaling by ``bounds``) for
    which no gambler against m got rich:
    max_t max(prod_{i<=t} (1 + l_i (x_i - m)), prod_{i<=t} (1 - l_i (x_i - m))) < 2/delta, with
    stakes l_i = sqrt(2 log(2/delta)/(n v_{i-1})) from the variance seen so far, truncated so that
    one sample costs at most half of the wealth. Usually the narrowest. Against the true mean either
    product is a nonnegative martingale that starts at 1, so it ever reaches 2/delta with
    probability at most delta/2 (Ville). Assumes that each sample has the mean in question given
    those before it, as i.i.d. prompts do; depends on the order of the samples, which must be fixed
    before looking at them (as drawn), and on their number n, likewise: who looks again after more
    samples, or stops when the interval pleases, needs the next method.

    ``"time-uniform"``: the same with stakes l_i = sqrt(2 log(2/delta)/(v_{i-1} i log(1 + i))), which
    do not know n. Its intervals after 1, 2, 3, ... samples contain the mean *all at once* with
    probability at least 1 - delta, so it holds at any stopping time: for monitoring. Somewhat wider
    at any one n. The intervals of all prefixes: ``mean_sequence``.

    ``"bernstein"``: mean +- [sqrt(2 V L/n) + 7 R L/(3 (n-1))], V the sample variance, R the range,
    L = log(4/delta). Assumes independent samples only: for a fixed set of prompts it covers the
    average over that very set. A single sample gives the bounds.

    ``weights`` [n], of any sum: the mean is E w x/E w, that of the law in which a sample counts w times as often as
    in the one that it was drawn from. A gambler wins l w (x - m)/max w, which has no drift at that mean. Assumes that
    samples are i.i.d. with their weights, and that the largest weight of all is among those given, or is
    ``largest_weight``: for a part of the samples that of the whole. Not for ``"bernstein"``.

    Shapes: samples ``[..., n]`` -> ``[...]``; bounds two numbers. Units: those of the samples.
    Errors: no samples, NaN, values outside ``bounds``, delta outside (0, 1), an unknown method; weights that are
    negative, all zero, or of another number; a largest weight below one of them, or without weights.
    Source: Waudby-Smith and Ramdas 2024 (sections 4.1, 4.4); Ville 1939; Maurer and Pontil 2009
    (theorems 4 and 11).

    >>> import numpy as np
    >>> rewards = np.tile([0.0, 1.0, 1.0, 1.0], 50)
    >>> print(mean_interval(rewards, bounds=(0, 1), delta=0.05))
    0.75 in [0.6584..., 0.8232...] at level 0.95 (betting, 200 units)
    >>> print(mean_interval(rewards, bounds=(0, 1), delta=0.05, method="time-uniform"))
    0.75 in [0.6..., 0.8...] at level 0.95 (time-uniform betting, 200 units)
    >>> print(mean_interval(rewards, bounds=(0, 1), delta=0.05, method="bernstein"))
    0.75 in [0.60..., 0.89...] at level 0.95 (empirical Bernstein, 200 units)
    """
    samples, delta = sample_array("samples", samples), probability("delta", delta)
    low, high = checked_bounds("bounds", bounds)
    unit = _to_unit(samples, low, high)
    count, share = samples.shape[-1], _shares(weights, largest_weight, samples)
    mean = np.clip(_weighted_mean(samples, weights), low, high)
    if one_of("method", method, METHODS) in STAKES:
        lower = lower_end(unit, delta, STAKES[method], share)
        upper = 1 - lower_end(1 - unit, delta, STAKES[method], share)
    elif weights is not None:
        raise ValueError(f"weights: not with method={method!r}; choose one of {list(STAKES)}")
    else:
        lower, upper = _bernstein_ends(unit, delta)
    lower, upper = _from_unit(lower, upper, low, high)
    return Interval(lower, upper, mean, delta, count, _names(method))


def _shares(
    weights: ArrayLike | None, largest_weight: ArrayLike | None, samples: Array
) -> Array | float:
    """[n], at most 1, in parts of the largest weight; 1 without weights."""
    if weights is None:
        if largest_weight is not None:
            raise ValueError("largest_weight: give weights too")
        return 1.0
    weights = prompt_weights("weights", weights, samples.shape[-1])
    largest = float(weights.max())
    if largest_weight is not None:
        known = positive_number("largest_weight", largest_weight)
        if known < largest:
            raise ValueError(f"largest_weight={known:g}: below {largest:g}, which is among weights")
        largest = known
    return weights / largest


def _weighted_mean(samples: Array, weights: ArrayLike | None) -> Array:
    """[...]; by shares of the largest weight given, since those of a much larger one may all round to 0."""
    if weights is None:
        return np.asarray(samples.mean(axis=-1))
    return np.average(samples, axis=-1, weights=_shares(weights, None, samples))


def mean_sequence(samples: ArrayLike, bounds: ArrayLike, delta: float) -> Interval:
    """``mean_interval(..., method="time-uniform")`` after 1, 2, ..., n samples: a confidence sequence.

    With probability at least 1 - delta *all* of the intervals contain the mean, and either kind of
    end is ever wrong with probability at most delta/2 (Ville): alarms may be raised at the first
    interval that decides, and sampling may stop there. Ends never move away from each other, unless
    by then they have missed the mean.

    Shapes: samples ``[..., n]`` in the order drawn -> ``[..., n]``, entry t from the first t + 1
    samples; time grows like n^2. Units, errors: as ``mean_interval``. Source: Waudby-Smith and Ramdas
    2024 (section 4.4); Ville 1939.

    >>> import numpy as np
    >>> from nondecoupling.estimate import decide
    >>> gains = np.tile([0.0, 1.0, 1.0, 1.0, 0.0, 1.0], 30)
    >>> outcomes = decide(mean_sequence(gains, (-1, 1), delta=0.05))
    >>> [outcome.value for outcome in outcomes[[9, 60, 179]]]
    ['inconclusive', 'confirmed', 'confirmed']
    """
    samples, delta = sample_array("samples", samples), probability("delta", delta)
    low, high = checked_bounds("bounds", bounds)
    unit = _to_unit(samples, low, high)
    count = samples.shape[-1]
    mean = np.clip(np.cumsum(samples, axis=-1) / np.arange(1, count + 1), low, high)
    ends = lower_ends(unit, delta, at_any_time), 1 - lower_ends(1 - unit, delta, at_any_time)
    lower, upper = _from_unit(*ends, low, high)
    return Interval(lower, upper, mean, delta, count, _names("time-uniform"))


def _names(method: str) -> str:
    shown = {"time-uniform": "time-uniform betting", "bernstein": "empirical Bernstein"}
    return shown.get(method, method)


def _to_unit(samples: Array, low: float, high: float) -> Array:
    require_within("samples", samples, low, high, "bounds")
    return np.clip((samples - low) / (high - low), 0.0, 1.0)


def _from_unit(lower: Array, upper: Array, low: float, high: float) -> tuple[Array, Array]:
    """In the order and the unit of the bounds.

    Gamblers may have refuted every mean, where the truth is missed: then the ends are out of order.
    """
    ends = [
        np.clip(low + (high - low) * f(lower, upper), low, high) for f in (np.minimum, np.maximum)
    ]
    return ends[0], ends[1]


def _bernstein_ends(unit: Array, delta: float) -> tuple[Array, Array]:
    count, mean = unit.shape[-1], unit.mean(axis=-1)
    if count == 1:
        return np.zeros(mean.shape), np.ones(mean.shape)
    share = math.log(4) - math.log(delta)
    half = np.sqrt(2 * unit.var(axis=-1, ddof=1) * share / count) + 7 * share / (3 * (count - 1))
    return np.maximum(mean - half, 0.0), np.minimum(mean + half, 1.0)


def mean_lower_bound(
    samples: ArrayLike, floor: float, cap: float, delta: float, *, method: str = "betting"
) -> Interval:
    """A lower confidence limit for the mean of a quantity that is bounded below only.

    E min(x, cap) <= E x, so the lower end of ``mean_interval(min(x, cap), (floor, cap), delta)``
    holds for any ``cap`` chosen before looking; a cap near the largest value expected is good. For
    a Rao-Blackwellised KL, floor = 0. The upper end is inf; the negative of samples bounded above
    gives an upper limit. The limit fails with probability at most delta/2, like any other end; with
    ``method="time-uniform"`` it ever does, so that an alarm may wait for it.

    Shapes: samples ``[..., n]`` -> ``[...]``. Units: those of the samples. Errors: as
    ``mean_interval``; values below ``floor``. Source: Waudby-Smith and Ramdas 2024.

    >>> import numpy as np
    >>> kl_per_response = np.tile([0.2, 0.5, 0.9, 7.0], 50)
    >>> limit = mean_lower_bound(kl_per_response, floor=0.0, cap=2.0, delta=0.05)
    >>> float(limit.low), float(limit.high), float(limit.estimate)
    (0.7812..., inf, 2.15)
    """
    samples = sample_array("samples", samples)
    floor, cap = finite_number("floor", floor), finite_number("cap", cap)
    floor, cap = checked_bounds("(floor, cap)", (floor, cap))
    require_within("samples", samples, floor, math.inf, "(floor, inf)")
    capped = mean_interval(np.minimum(samples, cap), (floor, cap), delta, method=method)
    nothing = np.full(np.shape(capped.low), np.inf)[()]
    name = f"{capped.method}, capped at {cap:g}"
    return Interval(capped.low, nothing, samples.mean(axis=-1), capped.delta, capped.units, name)


def binomial_interval(successes: ArrayLike, trials: ArrayLike, delta: float) -> Interval:
    """The exact (Clopper-Pearson) interval for a probability from independent yes-or-no trials.

    The p for which neither P(X >= k) nor P(X <= k), X ~ Binomial(n, p), is below delta/2: beta
    quantiles. Assumes independent trials with one p: one response per prompt, or one prompt.

    Shapes: successes and trials broadcast to ``[...]``. Errors: numbers that are not whole, no
    trials, more successes than trials, delta outside (0, 1). Source: Clopper and Pearson 1934.

    >>> print(binomial_interval(8, 10, delta=0.05))
    0.8 in [0.443905, 0.974789] at level 0.95 (Clopper-Pearson, 10 units)
    """
    delta = probability("delta", delta)
    k, n = count_array("successes", successes, 0), count_array("trials", trials, 1)
    require_one_shape(successes=k, trials=n)
    k, n = np.broadcast_arrays(k, n)
    if (k > n).any():
        worst = np.argwhere(k > n)[0]
        raise ValueError(
            f"successes={k[tuple(worst)]:g} of trials={n[tuple(worst)]:g}: at most all of them"
        )
    # Where k = 0 or k = n a parameter is 0; any positive number keeps the branch not taken quiet.
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, delta / 2), 0.0)
    high = np.where(k < n, special.betainccinv(k + 1, np.maximum(n - k, 1), delta / 2), 1.0)
    # The inversion gives up for deltas far below any that is used; 0 and 1 are safe.
    low, high = np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=1.0)
    units = int(n.min()) if n.size else 0
    return Interval(low[()], high[()], (k / n)[()], delta, units, "Clopper-Pearson")
