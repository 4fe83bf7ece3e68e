"""Intervals for means: of bounded quantities at every sample size, of others approximately."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from nondecoupling.estimate.arguments import (
    checked_bounds,
    count_array,
    probability,
    require_within,
    sample_array,
)
from nondecoupling.estimate.intervals import Interval

METHODS = ("betting", "bernstein")
# Half of the wealth at most is staked on one sample (Waudby-Smith and Ramdas use 1/2 or 3/4).
LARGEST_STAKE = 0.5
BISECTIONS = 40
# Numbers that a block of bootstrap resamples may hold.
RESAMPLED_NUMBERS = 4_000_000
# Resamples that must lie beyond an end for it to be an estimate of a quantile.
LEAST_TAIL = 5


def mean_interval(samples: Any, bounds: Any, delta: float, *, method: str = "betting") -> Interval:
    """An interval for the mean of a bounded quantity, valid at every sample size.

    ``"betting"``: the hedged-capital interval, all m in [0, 1] (after scaling by ``bounds``) for
    which no gambler against m got rich:
    max_t max(prod_{i<=t} (1 + l_i (x_i - m)), prod_{i<=t} (1 - l_i (x_i - m))) < 2/delta, with
    stakes l_i = sqrt(2 log(2/delta)/(n v_{i-1})) from the variance seen so far, truncated so that
    one sample costs at most half of the wealth. Usually the narrowest. Assumes that each sample has
    the mean in question given those before it, as i.i.d. prompts do; depends on the order of the
    samples, which must be fixed before looking at them (as drawn).

    ``"bernstein"``: mean +- [sqrt(2 V L/n) + 7 R L/(3 (n-1))], V the sample variance, R the range,
    L = log(4/delta). Assumes independent samples only: for a fixed set of prompts it covers the
    average over that very set. A single sample gives the bounds.

    Shapes: samples ``[..., n]`` -> ``[...]``; bounds two numbers. Units: those of the samples.
    Errors: no samples, NaN, values outside ``bounds``, delta outside (0, 1), an unknown method.
    Source: Waudby-Smith and Ramdas 2024 (section 4); Maurer and Pontil 2009 (theorems 4 and 11).

    >>> import numpy as np
    >>> rewards = np.tile([0.0, 1.0, 1.0, 1.0], 50)
    >>> print(mean_interval(rewards, bounds=(0, 1), delta=0.05))
    0.75 in [0.6584..., 0.8232...] at level 0.95 (betting, 200 units)
    >>> print(mean_interval(rewards, bounds=(0, 1), delta=0.05, method="bernstein"))
    0.75 in [0.60..., 0.89...] at level 0.95 (empirical Bernstein, 200 units)
    """
    samples, delta = sample_array("samples", samples), probability("delta", delta)
    low, high = checked_bounds("bounds", bounds)
    require_within("samples", samples, low, high, "bounds")
    count, mean = samples.shape[-1], samples.mean(axis=-1)
    if method == "betting":
        unit = np.clip((samples - low) / (high - low), 0.0, 1.0)
        ends = _betting_lower_end(unit, delta), 1 - _betting_lower_end(1 - unit, delta)
        # Wealth above 2/delta against every m is possible, at most where the truth is missed.
        lower, upper = (low + (high - low) * f(*ends) for f in (np.minimum, np.maximum))
        name = "betting"
    elif method == "bernstein":
        half, name = np.full(mean.shape, np.inf), "empirical Bernstein"
        if count > 1:
            share = math.log(4 / delta)
            spread = np.sqrt(2 * samples.var(axis=-1, ddof=1) * share / count)
            half = spread + 7 * (high - low) * share / (3 * (count - 1))
        lower, upper = np.maximum(mean - half, low), np.minimum(mean + half, high)
    else:
        raise ValueError(f"method={method!r}: choose one of {', '.join(map(repr, METHODS))}")
    return Interval(lower, upper, mean, delta, count, name)


def _betting_lower_end(x: np.ndarray, delta: float) -> np.ndarray:
    """The smallest mean that no gambler on "larger" refutes; x in [0, 1], shape [..., n].

    The log-wealth of a bet min(l, c/m) (x - m) is nonincreasing in m, so bisection finds the end;
    the refuted side of the last bracket is returned.
    """
    count = x.shape[-1]
    seen = np.arange(1, count + 1)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (seen + 1)
    variance = (0.25 + np.cumsum((x - mean) ** 2, axis=-1)) / (seen + 1)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)
    stakes = np.sqrt(2 * math.log(2 / delta) / (count * before))
    refuted, kept = np.zeros((*x.shape[:-1], 1)), np.ones((*x.shape[:-1], 1))
    for _ in range(BISECTIONS):
        m = (refuted + kept) / 2
        gains = np.minimum(stakes, LARGEST_STAKE / m) * (x - m)
        wealth = np.cumsum(np.log1p(gains, out=gains), axis=-1, out=gains)
        rich = wealth.max(axis=-1, keepdims=True) >= math.log(2 / delta)
        refuted, kept = np.where(rich, m, refuted), np.where(rich, kept, m)
    return refuted[..., 0]


def mean_lower_bound(samples: Any, floor: float, cap: float, delta: float) -> Interval:
    """A lower confidence limit for the mean of a quantity that is bounded below only.

    E min(x, cap) <= E x, so the lower end of ``mean_interval(min(x, cap), (floor, cap), delta)``
    holds for any ``cap`` chosen before looking; a cap near the largest value expected is good. For
    a Rao-Blackwellised KL, floor = 0. The upper end is inf; the negative of samples bounded above
    gives an upper limit. The limit fails with probability at most delta/2, like any other end.

    Shapes: samples ``[..., n]`` -> ``[...]``. Units: those of the samples. Errors: as
    ``mean_interval``; values below ``floor``. Source: Waudby-Smith and Ramdas 2024.

    >>> import numpy as np
    >>> kl_per_response = np.tile([0.2, 0.5, 0.9, 7.0], 50)
    >>> limit = mean_lower_bound(kl_per_response, floor=0.0, cap=2.0, delta=0.05)
    >>> float(limit.low), float(limit.high), float(limit.estimate)
    (0.7812..., inf, 2.15)
    """
    samples = sample_array("samples", samples)
    floor, cap = checked_bounds("(floor, cap)", (floor, cap))
    require_within("samples", samples, floor, math.inf, "(floor, inf)")
    capped = mean_interval(np.minimum(samples, cap), (floor, cap), delta)
    nothing = np.full(np.shape(capped.low), np.inf)[()]
    estimate = samples.mean(axis=-1)
    method = f"betting, capped at {cap:g}"
    return Interval(capped.low, nothing, estimate, capped.delta, capped.units, method)


def binomial_interval(successes: Any, trials: Any, delta: float) -> Interval:
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
    k, n = np.broadcast_arrays(k, n)
    if (k > n).any():
        worst = np.argwhere(k > n)[0]
        raise ValueError(
            f"successes={k[tuple(worst)]:g} of trials={n[tuple(worst)]:g}: at most all of them"
        )
    # Where k = 0 or k = n a parameter is 0; any positive number keeps the branch not taken quiet.
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, delta / 2), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - delta / 2), 1.0)
    return Interval(low[()], high[()], (k / n)[()], delta, int(n.min()), "Clopper-Pearson")


def _mean(samples: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean(samples, axis=axis)


def bootstrap_interval(
    samples: Any,
    delta: float,
    *,
    statistic: Callable[..., Any] = _mean,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """The BCa bootstrap interval (scipy) of a statistic of i.i.d. units: ``approximate``.

    For what has no bounds: losses, log-ratios. Holds in the limit of many units; skewed data and
    few units make it too short, and the exact intervals above are preferable wherever bounds are
    known. Units that are all equal say nothing about spread: (-inf, inf). Nor do too few resamples
    about a tail: (-inf, inf) where fewer than 5 of them lie beyond an end, delta/2 < 5/resamples.

    ``statistic(samples, axis=...)`` reduces one axis; the mean by default. The same ``seed`` gives
    the same interval. For several levels of the same samples: ``bootstrap_intervals``.

    Shapes: samples ``[..., n]``, n >= 2 -> ``[...]``. Units: those of the statistic. Errors: fewer
    than 2 samples, NaN, delta outside (0, 1), resamples < 100. Source: Efron 1987.

    >>> import numpy as np
    >>> losses = np.random.default_rng(1).gamma(4.0, size=200)  # nats, mean 4
    >>> print(bootstrap_interval(losses, delta=0.05))
    3.8658... in [3.62..., 4.14...] at level 0.95 (bootstrap, 200 units, approximate)
    """
    return bootstrap_intervals(samples, statistic=statistic, resamples=resamples, seed=seed)(delta)


def bootstrap_intervals(
    samples: Any, *, statistic: Callable[..., Any] = _mean, resamples: int = 9999, seed: int = 0
) -> Callable[[float], Interval]:
    """``bootstrap_interval`` as a function of delta that resamples once: what ``holm`` asks for.

    Shapes, units, errors, source: as ``bootstrap_interval``.

    >>> import numpy as np
    >>> losses = np.random.default_rng(1).gamma(4.0, size=200)
    >>> at = bootstrap_intervals(losses)
    >>> bool(at(0.01).width > at(0.05).width), at(0.05) == bootstrap_interval(losses, 0.05)
    (True, True)
    """
    from scipy import stats  # half a second, needed by nothing else here

    samples = sample_array("samples", samples, least=2)
    if resamples < 100:
        raise ValueError(f"resamples={resamples}: at least 100; 9999 for a report")
    flat = (samples == samples[..., :1]).all(axis=-1)
    # A constant row divides 0 by 0 in the acceleration: any spread keeps it quiet until it is masked.
    usable = np.where(flat[..., None], np.arange(samples.shape[-1]), samples)
    options: dict[str, Any] = {
        "vectorized": True,
        "axis": -1,
        "batch": max(1, RESAMPLED_NUMBERS // usable.size),
        "method": "BCa",
    }
    rng = np.random.default_rng(seed)
    drawn = stats.bootstrap((usable,), statistic, n_resamples=resamples, rng=rng, **options)
    estimate = np.asarray(statistic(samples, axis=-1))[()]

    def interval(delta: float) -> Interval:
        delta = probability("delta", delta)
        ends = stats.bootstrap(
            (usable,),
            statistic,
            n_resamples=0,
            bootstrap_result=drawn,
            confidence_level=1 - delta,
            **options,
        ).confidence_interval
        low, high = (np.asarray(end, dtype=np.float64) for end in ends)
        unknown = flat | np.isnan(low) | np.isnan(high) | (delta / 2 * resamples < LEAST_TAIL)
        low, high = np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high)
        units = samples.shape[-1]
        return Interval(low[()], high[()], estimate, delta, units, "bootstrap", approximate=True)

    return interval


def _clustered(name: str, values: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """(prompts in order of first appearance, means [..., prompts])."""
    array, labels = sample_array(name, values), np.asarray(labels)
    if labels.shape != array.shape[-1:]:
        raise ValueError(
            f"prompts of {name} has shape {labels.shape}, {name} {array.shape}: give one prompt "
            "label per response, the last axis"
        )
    prompts, first, group = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[group]
    order = np.argsort(rank, kind="stable")
    starts = np.searchsorted(rank[order], np.arange(len(prompts)))
    grouped = array[..., order]
    means = np.add.reduceat(grouped, starts, axis=-1) / np.bincount(rank)
    # Rounding must not carry a mean outside the bounds of its values.
    means = np.maximum(means, np.minimum.reduceat(grouped, starts, axis=-1))
    means = np.minimum(means, np.maximum.reduceat(grouped, starts, axis=-1))
    return prompts[np.argsort(first)], means


def cluster_means(values: Any, prompts: Any) -> np.ndarray:
    """The mean of each prompt's responses: the independent units of a sampled policy.

    Their mean estimates E_q E_p f, every prompt with the same weight, however many responses it
    has; within the bounds of the values. Order: the first appearance of the prompts.

    Shapes: values ``[..., n]``, prompts ``[n]`` (any labels) -> ``[..., number of prompts]``. Units:
    those of the values. Errors: NaN, no values, another number of labels.

    >>> cluster_means([1.0, 0.0, 1.0, 1.0], prompts=["b", "b", "a", "b"]).round(3).tolist()
    [0.667, 1.0]
    """
    return _clustered("values", values, prompts)[1]


def paired_differences(
    before: Any, after: Any, prompts: Any, prompts_after: Any | None = None
) -> np.ndarray:
    """Per prompt, the mean after minus the mean before: what two policies do on the same prompts.

    The difficulty of a prompt cancels, so intervals are shorter than for two separate means. Values
    in (a, b) give differences in (a - b, b - a). ``prompts_after`` defaults to ``prompts``.

    Shapes: before ``[..., n]``, after ``[..., k]``, prompts ``[n]``, prompts_after ``[k]`` ->
    ``[..., number of prompts]``. Units: those of the values. Errors: NaN, no values, a prompt that
    has responses on one side only.

    >>> paired_differences([0.0, 1.0, 2.0], [3.0, 1.0], ["x", "x", "y"], ["y", "x"]).tolist()
    [0.5, 1.0]
    """
    first, means = _clustered("before", before, prompts)
    second, other = _clustered("after", after, prompts if prompts_after is None else prompts_after)
    alone = sorted(set(first.tolist()) ^ set(second.tolist()), key=str)
    if alone:
        raise ValueError(
            f"prompts: {alone[0]!r} (and {len(alone) - 1} more) has responses before or after "
            "only; a pair needs both, so leave such prompts out of both"
        )
    place = {prompt: column for column, prompt in enumerate(second.tolist())}
    return other[..., [place[prompt] for prompt in first.tolist()]] - means
