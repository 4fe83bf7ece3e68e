"""KL(p||q) of sequence laws from sampled responses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nondecoupling.estimate.arguments import (
    Array,
    nonnegative_number,
    probability,
    real_array,
    rounding_of,
    sample_array,
)
from nondecoupling.estimate.bootstrap import ROUNDING_STEPS, bootstrap_interval, require_units
from nondecoupling.estimate.intervals import Interval
from nondecoupling.estimate.prompts import cluster_means

# A full-vocabulary KL is nonnegative; float32 sums over a vocabulary may fall below 0 by this much.
LEAST_TOKEN_KL = -1e-4


@dataclass(frozen=True)
class KLEstimate:
    """What ``kl_estimate`` returns: three intervals, in nats per response.

    ``rao_blackwellised``: from per-token KL, the one to use; ``log_ratio``: from log-probabilities
    of the sampled tokens only; ``difference``: log-ratio minus Rao-Blackwellised, of mean zero if
    the responses were sampled from the p that scores them. It says how large a discrepancy is, not
    whether there is one: for a sharp policy the rare tokens that balance the mean are missing from
    most samples. The test is ``compare_sampler``.
    """

    rao_blackwellised: Interval
    log_ratio: Interval
    difference: Interval


def sequence_totals(token_values: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Per response, the sum over its tokens; entries outside ``mask`` are ignored, NaN included.

    ``mask`` is true on the tokens of the response, its end-of-sequence token included, false on
    prompt and padding. Sums, not means: losses and divergences are per response.

    Shapes: token_values and mask ``[..., n, T]`` -> ``[..., n]``. Units: those of the values (nats).
    Errors: a mask of another shape, NaN under the mask, a response without a token.

    >>> sequence_totals([[0.5, 0.25, 9.0], [1.0, 9.0, 9.0]], [[1, 1, 0], [1, 0, 0]]).tolist()
    [0.75, 1.0]
    """
    return _totals("token_values", token_values, mask)


def checked_mask(mask: ArrayLike, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """``mask`` as booleans of the shape of the values ``name``, with a token in every response."""
    kept = real_array("mask", mask)
    if kept.shape != shape:
        raise ValueError(f"mask has shape {kept.shape}, {name} {shape}: they must agree")
    if not np.isin(kept, (0, 1)).all():
        raise ValueError("mask has other values than 0 and 1: give true on response tokens")
    empty = ~kept.any(axis=-1)
    if empty.any():
        where = ", ".join(str(i) for i in np.argwhere(empty)[0])
        raise ValueError(
            f"mask[{where}] keeps no token: an empty response still has its end-of-sequence "
            "token, which counts"
        )
    return kept != 0


def _totals(name: str, token_values: ArrayLike, mask: ArrayLike | None) -> Array:
    values = real_array(name, token_values)
    if mask is not None:
        values = np.where(checked_mask(mask, name, values.shape), values, 0.0)
    return sample_array(name, values, axes=2).sum(axis=-1)


def kl_estimate(
    token_kl: ArrayLike,
    token_log_ratio: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    delta: float,
    prompts: ArrayLike | None = None,
    resamples: int = 9999,
    seed: int = 0,
    rounding: float = 0.0,
) -> KLEstimate:
    """KL(p||q) per response from responses y ~ p, two ways, each at level 1 - delta.

    By the chain rule KL(p||q) = E_p sum_t KL(p(.|y_<t)||q(.|y_<t)) = E_p sum_t log p(y_t|..)/q(y_t|..).
    The first, from ``token_kl`` over the full vocabulary, averages the last token's randomness out
    (Rao-Blackwell): never negative, usually of far smaller variance.

    Neither has an upper bound, so all three are bootstrap intervals over prompts, ``approximate``
    and refused below 64 of them: ``bootstrap_interval`` says what they cannot know. A lower limit
    that holds at every size is ``mean_lower_bound(cluster_means(sequence_totals(token_kl, mask),
    prompts), floor=0, cap=...)``; no upper limit does (see ``guarded_reward``). ``rounding`` is the
    absolute error of a response's sums, such as 1e-6 times its number of tokens for float32 scores;
    at least 4 machine epsilons of all that was summed are assumed.

    Shapes: token_kl, token_log_ratio, mask ``[..., n, T]``, prompts ``[n]`` -> intervals ``[...]``;
    without ``prompts`` every response is one. Units: nats per response. Assumes prompts i.i.d. Errors: as
    ``sequence_totals``, ``bootstrap_interval``; token_kl below zero. Source: F4; Rao-Blackwell as in
    Amini, Vieira and Cotterell 2025.

    >>> import numpy as np
    >>> rng = np.random.default_rng(3)
    >>> p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    >>> tokens = rng.integers(0, 2, size=(400, 3))   # y ~ p: three independent fair tokens
    >>> token_kl = np.full((400, 3), (p * np.log(p / q)).sum())
    >>> estimate = kl_estimate(token_kl, np.log(p / q)[tokens], delta=0.05)
    >>> print(estimate.log_ratio)  # the truth is 3 * 0.1438 = 0.4315
    0.4... in [0.3..., 0.5...] at level 0.95 (bootstrap, 400 units, approximate)
    """
    delta = probability("delta", delta)
    exact = _totals("token_kl", token_kl, mask)
    noisy = _totals("token_log_ratio", token_log_ratio, mask)
    if exact.shape != noisy.shape:
        raise ValueError(
            f"token_kl is for {exact.shape} responses, token_log_ratio for {noisy.shape}: score "
            "the same responses"
        )
    values = real_array("token_kl", token_kl)
    below = (values < LEAST_TOKEN_KL) & (True if mask is None else real_array("mask", mask) != 0)
    if below.any():
        index = tuple(int(i) for i in np.argwhere(below)[0])
        raise ValueError(
            f"token_kl[{', '.join(map(str, index))}]={values[index]}: a KL is not negative; give "
            "full-vocabulary KL(p||q) per token, not the log-ratio of the sampled token"
        )
    # The scale of a difference's error is that of the terms subtracted.
    summed = _totals("token_kl", np.abs(values), mask)
    summed = summed + _totals("token_log_ratio", np.abs(real_array("", token_log_ratio)), mask)
    epsilon = max(rounding_of("", token_kl), rounding_of("", token_log_ratio))
    rounding = nonnegative_number("rounding", rounding)
    rounding = max(rounding, ROUNDING_STEPS * epsilon * float(summed.max(initial=0.0)))
    parts = np.stack([exact, noisy, noisy - exact])
    if prompts is not None:
        parts = cluster_means(parts, prompts)
    require_units("token_kl" if prompts is None else "prompts", parts.shape[-1])
    whole = bootstrap_interval(parts, delta, resamples=resamples, seed=seed, rounding=rounding)
    low, high, estimate = (np.asarray(part) for part in (whole.low, whole.high, whole.estimate))
    return KLEstimate(
        *(replace(whole, low=low[i], high=high[i], estimate=estimate[i]) for i in range(len(parts)))
    )
