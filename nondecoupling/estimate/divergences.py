"""KL(p||q) of sequence laws from sampled responses, and a self-test of sampler against scorer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nondecoupling.estimate.arguments import probability, real_array, sample_array
from nondecoupling.estimate.intervals import Interval
from nondecoupling.estimate.means import bootstrap_interval, cluster_means

# A full-vocabulary KL is nonnegative; float32 sums over a vocabulary may fall below 0 by this much.
LEAST_TOKEN_KL = -1e-4


class KLEstimate(NamedTuple):
    """What ``kl_estimate`` returns: three intervals, in nats per response.

    ``rao_blackwellised``: from per-token KL, the one to use; ``log_ratio``: from log-probabilities
    of the sampled tokens only; ``difference``: log-ratio minus Rao-Blackwellised, of mean zero if
    the responses were sampled from the p that scores them: ``decide(estimate.difference, "==")`` is
    VIOLATED where they were not.
    """

    rao_blackwellised: Interval
    log_ratio: Interval
    difference: Interval


def sequence_totals(token_values: Any, mask: Any | None = None) -> np.ndarray:
    """Per response, the sum over its tokens; entries outside ``mask`` are ignored, NaN included.

    ``mask`` is true on the tokens of the response, its end-of-sequence token included, false on
    prompt and padding. Sums, not means: losses and divergences are per response.

    Shapes: token_values and mask ``[..., n, T]`` -> ``[..., n]``. Units: those of the values (nats).
    Errors: a mask of another shape, NaN under the mask, a response without a token.

    >>> sequence_totals([[0.5, 0.25, 9.0], [1.0, 9.0, 9.0]], [[1, 1, 0], [1, 0, 0]]).tolist()
    [0.75, 1.0]
    """
    return _totals("token_values", token_values, mask)


def _totals(name: str, token_values: Any, mask: Any | None) -> np.ndarray:
    values = real_array(name, token_values)
    if mask is not None:
        kept = real_array("mask", mask)
        if kept.shape != values.shape:
            raise ValueError(f"mask has shape {kept.shape}, {name} {values.shape}: they must agree")
        if not np.isin(kept, (0, 1)).all():
            raise ValueError("mask has other values than 0 and 1: give true on response tokens")
        empty = ~kept.any(axis=-1)
        if empty.any():
            where = ", ".join(str(i) for i in np.argwhere(empty)[0])
            raise ValueError(
                f"mask[{where}] keeps no token: an empty response still has its end-of-sequence "
                "token, which counts"
            )
        values = np.where(kept != 0, values, 0.0)
    return sample_array(name, values, axes=2).sum(axis=-1)


def kl_estimate(
    token_kl: Any,
    token_log_ratio: Any,
    mask: Any | None = None,
    *,
    delta: float,
    prompts: Any | None = None,
    resamples: int = 9999,
    seed: int = 0,
) -> KLEstimate:
    """KL(p||q) per response from responses y ~ p, two ways, each at level 1 - delta.

    By the chain rule KL(p||q) = E_p sum_t KL(p(.|y_<t)||q(.|y_<t)) = E_p sum_t log p(y_t|..)/q(y_t|..).
    The first, from ``token_kl`` over the full vocabulary, averages the last token's randomness out
    (Rao-Blackwell): never negative, usually of far smaller variance. The difference of the two is a
    martingale under p: a mean away from zero shows that sampler and scorer differ (temperature,
    top-p, dropout, another precision, a shifted mask).

    Neither has an upper bound, so all three are bootstrap intervals over prompts, ``approximate``;
    a lower limit that holds at every size is ``mean_lower_bound(cluster_means(sequence_totals(
    token_kl, mask), prompts), floor=0, cap=...)``.

    Shapes: token_kl, token_log_ratio, mask ``[..., n, T]``, prompts ``[n]`` -> intervals ``[...]``;
    without ``prompts`` every response is one. Units: nats per response. Assumes prompts i.i.d. Errors: as
    ``sequence_totals``; token_kl below zero; fewer than two prompts. Source: F4; Rao-Blackwell as in
    Amini, Vieira and Cotterell 2025.

    >>> import numpy as np
    >>> rng = np.random.default_rng(3)
    >>> p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    >>> tokens = rng.integers(0, 2, size=(400, 3))   # y ~ p: three independent fair tokens
    >>> token_kl = np.full((400, 3), (p * np.log(p / q)).sum())
    >>> estimate = kl_estimate(token_kl, np.log(p / q)[tokens], delta=0.05)
    >>> print(estimate.log_ratio)  # the truth is 3 * 0.1438 = 0.4315
    0.4... in [0.3..., 0.5...] at level 0.95 (bootstrap, 400 units, approximate)
    >>> from nondecoupling.estimate import decide
    >>> decide(estimate.difference, "==").value
    'inconclusive'
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
    parts = np.stack([exact, noisy, noisy - exact])
    if prompts is not None:
        parts = cluster_means(parts, prompts)
    whole = bootstrap_interval(parts, delta, resamples=resamples, seed=seed)
    one_by_one = zip(whole.low, whole.high, whole.estimate, strict=True)
    return KLEstimate(
        *(
            Interval(*ends, whole.delta, whole.units, whole.method, whole.approximate)
            for ends in one_by_one
        )
    )
