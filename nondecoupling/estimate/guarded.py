"""An exact upper end for the gap to the RL optimum: that of a policy which falls back to the reference.

**For a policy p itself there is none.** Let U be any function of n responses y ~ p and m responses of ref, their
rewards and their log-probabilities under both, those of every alternative token included. If, for all p << ref,
P(beta KL(p||ref) <= U) >= 1 - delta, or the same of J* - J_b(p), then in every world where some first token x has
p(x) = e > 0 and ref(x) = h, U is infinite with probability at least 1 - delta - n e - m h.

*Proof.* Change ref after x only: one continuation a that p takes there with probability w > 0 gets e^{-M} of the mass,
the others the rest (where a is the only one, some b that p never makes). While x is not drawn, all that is observed is
unchanged, and so is U; x is drawn with probability at most n e + m h. By the chain rule and data processing KL(p||ref)
>= e [w (M + log w) + (1 - w) log(1 - w)], which grows with M beyond any bound, while J(p) is unchanged and J* moves by
at most the range of the reward. So U exceeds any given number with probability at least 1 - delta - n e - m h. QED

The same holds of any prefix in place of the first token, and language models have prefixes as rare as one likes: an
upper end needs an assumption, a known bound on log p/ref for every response (then ``mean_interval`` gives it), or
another policy: one that can be deployed in place of p, and whose loss has a bound.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import (
    LARGEST,
    checked_bounds,
    finite_array,
    finite_number,
    positive_number,
    require_within,
    sample_array,
)
from nondecoupling.estimate.intervals import Interval
from nondecoupling.estimate.means import mean_interval
from nondecoupling.estimate.prompts import cluster_means

# E_p (-5 - log p/ref)_+ <= e^{-5}: raising log-ratios to -5 costs at most 0.007 nats.
LEAST_LOG_RATIO = -5.0


def guarded_reward(
    rewards: ArrayLike,
    log_ratios: ArrayLike,
    beta: float,
    reward_bounds: ArrayLike,
    largest_log_ratio: float,
    delta: float,
    *,
    prompts: ArrayLike | None = None,
    method: str = "betting",
) -> Interval:
    """J_b of the guarded policy: y ~ p, replaced by a fresh y ~ ref where log p(y)/ref(y) > c.

    With x = log p/ref, A = {x <= c} and p~ = p 1_A + (1 - P(A)) ref the guarded policy,
    KL(p~||ref) <= E_p 1_A x - P(A) log P(A) <= E_p [1_A x + 1 - 1_A] (KL is convex in p~;
    -log a <= 1/a - 1), and J(p~) >= E_p [1_A r + (1 - 1_A) min r]. So
    J_b(p~) >= E_p [1_A (r - beta max(x, -5)) + (1 - 1_A) (min r - beta)], a mean of something bounded,
    prompt by prompt; and J_b(p~) <= J(p~) <= E_p [1_A r + (1 - 1_A) max r]. Both ends are those of a
    ``mean_interval``: exact at every sample size, where J_b(p) has no exact lower end at all. The
    estimate is the mean of the lower bound. c (``largest_log_ratio``, in nats per response) must be
    chosen before looking, and the policy deployed must be the guarded one; it needs both models'
    log-probabilities of its own response, and falls back as often as log p/ref > c.

    ``optimality_gap(successes, trials, guarded_reward(...), beta, delta)`` is then an interval for its
    gap to the exact RL optimum that rests on no bootstrap; so is ``mean_soft_value(...).value -
    guarded_reward(...)``.

    Shapes: rewards and log_ratios ``[..., n]`` of responses y ~ p, prompts ``[n]`` (without: every
    response is a unit) -> ``[...]``. Units: reward. Assumes prompts i.i.d. Errors: as ``mean_interval``;
    beta <= 0, rewards outside ``reward_bounds``, c below -5 or another shape. Source: F3; Waudby-Smith
    and Ramdas 2024; the proof is above.

    >>> import numpy as np
    >>> from nondecoupling.estimate import optimality_gap
    >>> rewards = np.tile([1.0, 1.0, 1.0, 0.0], 500)  # p(r = 1) = 3/4, ref(r = 1) = 1/2
    >>> log_ratios = np.where(rewards == 1, np.log(1.5), np.log(0.5))
    >>> reached = guarded_reward(rewards, log_ratios, 1.0, (0, 1), largest_log_ratio=3.0, delta=0.02)
    >>> print(optimality_gap(1000, 2000, reached, beta=1.0, delta=0.03))
    0.000926... in [0, 0.04...] at level 0.95 (Clopper-Pearson + betting, 2000 units)
    """
    reward, beta = sample_array("rewards", rewards), positive_number("beta", beta)
    low, high = checked_bounds("reward_bounds", reward_bounds)
    require_within("rewards", reward, low, high, "reward_bounds")
    ratio = finite_array("log_ratios", log_ratios)
    if ratio.shape != reward.shape:
        raise ValueError(
            f"log_ratios has shape {ratio.shape}, rewards {reward.shape}: one for each response"
        )
    cap = finite_number("largest_log_ratio", largest_log_ratio)
    if cap < LEAST_LOG_RATIO:
        raise ValueError(f"largest_log_ratio={cap}: at least {LEAST_LOG_RATIO}; 5 to 20 are usual")
    range_below = low - beta * max(cap, 1.0), high - beta * LEAST_LOG_RATIO
    if max(-range_below[0], range_below[1]) > LARGEST:
        raise ValueError(f"beta={beta}: beta times largest_log_ratio={cap} overflows; rescale")
    kept = ratio <= cap
    raised = np.clip(ratio, LEAST_LOG_RATIO, cap)
    at_least = np.where(kept, reward - beta * raised, low - beta)
    at_most = np.where(kept, reward, high)
    if prompts is not None:
        at_least, at_most = cluster_means(at_least, prompts), cluster_means(at_most, prompts)
    lower = mean_interval(at_least, range_below, delta, method=method)
    upper = mean_interval(at_most, (low, high), delta, method=method)
    return replace(lower, high=np.maximum(upper.high, lower.low))
