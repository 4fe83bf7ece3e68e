"""Which policy a trainer converges to (T2-T4, T11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.formulas import trainers

if TYPE_CHECKING:
    from torch import Tensor


@overload
def forward_leash_optimum(log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def forward_leash_optimum(log_ref: Tensor, reward: TensorLike, beta: TensorLike) -> Tensor: ...
def forward_leash_optimum(log_ref: TensorLike, reward: TensorLike, beta: TensorLike) -> Result:
    """Log-probabilities of beta ref/(mu - r): where RL with the estimator k3 in the loss ends.

    The maximiser of E_p r - beta KL(ref||p), mu > max r by normalisation. With ref = d it is a
    frontier policy of S5: no policy buys its reward for less SFT loss. Where ref misses the best
    responses, mass that is left over goes to them.

    Shapes: log_ref, reward ``[..., n]``, beta > 0 scalar or ``[...]`` -> ``[..., n]``. Source: T2.

    >>> import numpy as np
    >>> np.exp(forward_leash_optimum(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 4 / 3)).round(6).tolist()
    [0.333333, 0.666667]
    """
    arguments = tilted({"log_ref": log_ref}, reward, beta)
    return arguments.map(trainers.forward_leash_optimum, keeps_responses=True)


@overload
def forward_regularized_reward(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def forward_regularized_reward(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def forward_regularized_reward(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """E_p r - beta KL(ref||p): the objective of RL with the estimator k3 in the loss.

    In reward units; -inf where p misses mass of ref.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta > 0 scalar or ``[...]`` -> ``[...]``. Source: T2.

    >>> import numpy as np
    >>> p, ref = np.log([0.25, 0.75]), np.log([0.5, 0.5])
    >>> float(forward_regularized_reward(p, ref, np.array([0.0, 1.0]), 1.0))
    0.606...
    """
    arguments = tilted({"log_p": log_p, "log_ref": log_ref}, reward, beta)
    return arguments.map(trainers.forward_regularized_reward)
