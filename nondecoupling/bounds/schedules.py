"""Other ways to move a policy: best of n (T7), replay of data (T8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.formulas import schedules
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


@overload
def best_of_n_policy(log_ref: ArrayLike, reward: ArrayLike, n: ArrayLike) -> FloatArray: ...
@overload
def best_of_n_policy(log_ref: Tensor, reward: TensorLike, n: TensorLike) -> Tensor: ...
def best_of_n_policy(log_ref: TensorLike, reward: TensorLike, n: TensorLike) -> Result:
    """Log-probabilities of the best of n draws from ref; of draws with the same reward the first one wins.

    A level of the reward has mass F^n - F_-^n, where F and F_- are ref's masses of what is no better and of
    what is worse; within a level the law is ref's. Only the order of the rewards counts. For ties broken by
    a fixed order, give rewards that differ.

    Shapes: log_ref, reward ``[..., n]``, n scalar or ``[...]`` -> ``[..., n]``. Errors: n not a whole number, or
    below 1. Source: T7.

    >>> import numpy as np
    >>> np.exp(best_of_n_policy(np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0]), 2)).round(6).tolist()
    [0.25, 0.39, 0.36]
    """

    def policy(xp: Floats, log_ref: Array, reward: Array, n: Array) -> Array:
        levels = schedules.levels_by_sorting(xp, log_ref, reward)
        return schedules.best_of_n(xp, log_ref, n, levels)

    arguments = Arguments(
        laws={"log_ref": log_ref}, reals={"reward": reward}, scalars={"n": n}, whole=("n",)
    )
    return arguments.map(policy, keeps_responses=True)


@overload
def best_of_n_bounds(n: ArrayLike) -> tuple[FloatArray, FloatArray]: ...
@overload
def best_of_n_bounds(n: Tensor) -> tuple[Tensor, Tensor]: ...
def best_of_n_bounds(n: TensorLike) -> tuple[Result, Result]:
    """Upper bounds on KL(pi_n||ref) and on KL(ref||pi_n), pi_n the best of n draws from ref, for any reward.

    (log n - (n-1)/n, n - 1 - log n), nats per response. From ref = d the second is what SFT on the best of n,
    rejection sampling, can cost in SFT loss. Both are approached by many rare responses with distinct rewards.

    Shapes: n scalar or ``[...]`` -> two of ``[...]``. Errors: n not a whole number, or below 1. Source: T7.

    >>> to_ref, from_ref = best_of_n_bounds([1, 4])
    >>> to_ref.round(4).tolist(), from_ref.round(4).tolist()
    ([0.0, 0.6363], [0.0, 1.6137])
    """
    return Arguments(scalars={"n": n}, whole=("n",)).map(schedules.best_of_n_bounds)


@overload
def replay_bound(kl: ArrayLike, share: ArrayLike) -> FloatArray: ...
@overload
def replay_bound(kl: Tensor, share: TensorLike) -> Tensor: ...
def replay_bound(kl: TensorLike, share: TensorLike) -> Result:
    """-log(1 - v + v e^-kl): the most SFT loss that a mixture (1-v) d + v p can cost, if KL(d||p) = kl.

    ``share`` is v, the part of p. At most v kl, and at most -log(1 - v) however far p is from d; the reward
    moves by exactly v (J(p) - J(d)). Attained iff p is proportional to d on supp d.

    Shapes: kl, share scalars or ``[...]`` -> ``[...]``, nats per response. Errors: kl < 0, share outside
    [0, 1]; kl must be finite, for p that misses data take -log(1 - v). Source: T8.

    >>> float(replay_bound(kl=3.0, share=0.1)), float(replay_bound(kl=300.0, share=0.1))
    (0.0998..., 0.1053...)
    """
    arguments = Arguments(
        scalars={"kl": kl, "share": share}, nonnegative=("kl",), shares=("share",)
    )
    return arguments.map(schedules.replay_bound)
