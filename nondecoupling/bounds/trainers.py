"""Which policy a trainer converges to (T2-T4, T11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from nondecoupling.bounds.arguments import tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.formulas import token_leashes, trainers
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

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


@overload
def per_token_optimum(
    log_ref: ArrayLike,
    reward: ArrayLike,
    beta: ArrayLike,
    tree: TokenTree,
    leash: Literal["k2", "k3"],
) -> FloatArray: ...
@overload
def per_token_optimum(
    log_ref: Tensor,
    reward: TensorLike,
    beta: TensorLike,
    tree: TokenTree,
    leash: Literal["k2", "k3"],
) -> Tensor: ...
def per_token_optimum(
    log_ref: TensorLike,
    reward: TensorLike,
    beta: TensorLike,
    tree: TokenTree,
    leash: Literal["k2", "k3"],
) -> Result:
    """Log-probabilities of the sequences where RL with a penalty per token in the loss ends.

    ``leash`` is the estimator: "k2", or "k3" without the token's ratio (with it, k3 ends at k2's).
    By backward induction over ``tree`` with the hard values Q = E_p[r | prefix, token]: at each prefix
    the tilt of ref's token law by Q for "k2", and beta ref/(mu - Q) for "k3". Not the sequence tilt.

    Assumes log_ref with full support, one entry per sequence of the tree, in its order.

    Shapes: log_ref, reward ``[..., n]``, beta > 0 scalar or ``[...]`` -> ``[..., n]``. Errors: another leash;
    a tree with another number of sequences. Source: T3.

    >>> import numpy as np
    >>> from nondecoupling.policies import TokenTree
    >>> tree = TokenTree(((0,), (1, 0), (1, 1)))
    >>> ref, r = np.log([0.5, 0.25, 0.25]), np.array([0.0, -2.0, 1.0])
    >>> np.exp(per_token_optimum(ref, r, 0.5, tree, "k3")).round(3).tolist()
    [0.228, 0.059, 0.713]
    """
    if leash not in ("k2", "k3"):
        raise ValueError(f"leash={leash!r}: choose 'k2' or 'k3'")
    arguments = tilted({"log_ref": log_ref}, reward, beta, full_support=("log_ref",))
    n = arguments.arrays["log_ref"].shape[-1]
    if len(tree.sequences) != n:
        raise ValueError(
            f"tree: has {len(tree.sequences)} sequences, but log_ref lists {n}; give one entry for each"
        )
    law = token_leashes.k2_leash if leash == "k2" else token_leashes.k3_leash

    def by_backward_induction(xp: Floats, log_ref: Array, reward: Array, beta: Array) -> Array:
        found = token_leashes.stationary_policy(xp, log_ref, reward, beta, tree.nodes, law(xp))
        return xp.module.concat(found, axis=-1)

    return arguments.map(by_backward_induction, keeps_responses=True)
