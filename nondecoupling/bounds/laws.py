"""Entropies, divergences, rewards and the tilt (F1-F4, I1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import Arguments, laws_only, tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.formulas import laws, tilt, trees
from nondecoupling.formulas.trees import TokenTree

if TYPE_CHECKING:
    from torch import Tensor


@overload
def kl_divergence(log_p: ArrayLike, log_q: ArrayLike) -> FloatArray: ...
@overload
def kl_divergence(log_p: Tensor, log_q: TensorLike) -> Tensor: ...
def kl_divergence(log_p: TensorLike, log_q: TensorLike) -> Result:
    """KL(p||q) = E_p log(p/q) in nats, in [0, inf]; inf where q misses mass of p.

    Evaluated as sum p (e^u - 1 - u), u = log(q/p): relative accuracy even for p close to q.
    For rows that are normalised only up to rounding this is the generalised KL, which differs by
    sum q - sum p.

    Shapes: log_p, log_q ``[..., n]`` -> ``[...]``. Source: F1.

    >>> import numpy as np
    >>> float(kl_divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75])))
    0.1438...
    """
    return laws_only(log_p=log_p, log_q=log_q).map(laws.kl_divergence)


@overload
def cross_entropy(log_d: ArrayLike, log_p: ArrayLike) -> FloatArray: ...
@overload
def cross_entropy(log_d: Tensor, log_p: TensorLike) -> Tensor: ...
def cross_entropy(log_d: TensorLike, log_p: TensorLike) -> Result:
    """CE(d, p) = -E_d log p in nats per response: the SFT loss of policy p on the data law d.

    Shapes: log_d, log_p ``[..., n]`` -> ``[...]``. Source: F2.

    >>> import numpy as np
    >>> float(cross_entropy(np.log([0.5, 0.5]), np.log([0.25, 0.75])))
    0.8369...
    """
    return laws_only(log_d=log_d, log_p=log_p).map(laws.cross_entropy)


@overload
def entropy(log_p: ArrayLike) -> FloatArray: ...
@overload
def entropy(log_p: Tensor) -> Tensor: ...
def entropy(log_p: TensorLike) -> Result:
    """H(p) = -E_p log p in nats: the smallest SFT loss that data following p allow.

    Shapes: log_p ``[..., n]`` -> ``[...]``. Source: F2.

    >>> import numpy as np
    >>> float(entropy(np.log([0.5, 0.5])))
    0.6931...
    """
    return laws_only(log_p=log_p).map(laws.entropy)


@overload
def token_kl_divergence(log_p: ArrayLike, log_q: ArrayLike, tree: TokenTree) -> FloatArray: ...
@overload
def token_kl_divergence(log_p: Tensor, log_q: TensorLike, tree: TokenTree) -> Tensor: ...
def token_kl_divergence(log_p: TensorLike, log_q: TensorLike, tree: TokenTree) -> Result:
    """KL(p||q) of two sequence laws, token by token: E_p sum_t KL(p(.|y_<t)||q(.|y_<t)).

    In nats per response; equals ``kl_divergence``. Policies given by their token laws have this as
    ``AutoregressivePolicy.kl_divergence``.

    Shapes: log_p, log_q ``[..., n]``, the sequences in the order of ``tree`` -> ``[...]``. Errors: a
    tree with another number of sequences. Source: F4.

    >>> import numpy as np
    >>> tree = TokenTree(((0,), (1, 0), (1, 1)))
    >>> float(token_kl_divergence(np.log([0.5, 0.25, 0.25]), np.log([0.5, 0.1, 0.4]), tree))
    0.1115...
    """
    arguments = laws_only(log_p=log_p, log_q=log_q)
    responses, sequences = arguments.arrays["log_p"].shape[-1], len(tree.sequences)
    if responses != sequences:
        raise ValueError(
            f"tree has {sequences} sequences, log_p {responses} responses: list each sequence once"
        )
    return arguments.map(partial(trees.token_kl_divergence, nodes=tree.nodes))


@overload
def implicit_reward(log_p: ArrayLike, log_ref: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def implicit_reward(log_p: Tensor, log_ref: TensorLike, beta: TensorLike) -> Tensor: ...
def implicit_reward(log_p: TensorLike, log_ref: TensorLike, beta: TensorLike) -> Result:
    """r' = beta log(p/ref), the reward whose exact RL optimum is p; up to a constant per prompt.

    In reward units. Statements about the tilt hold for any trained policy p with r' as reward.
    Assumes that p and ref have full support.

    Shapes: log_p, log_ref ``[..., n]``, beta scalar or ``[...]`` -> ``[..., n]``. Errors: zero mass in
    p or ref, for which no finite reward exists. Source: I1, Rafailov et al. 2023.

    >>> import numpy as np
    >>> implicit_reward(np.log([0.5, 0.5]), np.log([0.25, 0.75]), 2.0).round(4).tolist()
    [1.3863, -0.8109]
    """
    arguments = Arguments(
        laws={"log_p": log_p, "log_ref": log_ref},
        scalars={"beta": beta},
        positive=("beta",),
        full_support=("log_p", "log_ref"),
    )
    return arguments.map(tilt.implicit_reward, keeps_responses=True)


@overload
def log_partition(log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def log_partition(log_ref: Tensor, reward: TensorLike, beta: TensorLike) -> Tensor: ...
def log_partition(log_ref: TensorLike, reward: TensorLike, beta: TensorLike) -> Result:
    """log Z = log E_ref e^{r/beta}; beta log Z is the soft value, the largest J_b.

    Shapes: log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: F3.

    >>> import numpy as np
    >>> float(log_partition(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.6201...
    """
    return tilted({"log_ref": log_ref}, reward, beta).map(tilt.log_partition)


@overload
def gibbs_tilt(log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def gibbs_tilt(log_ref: Tensor, reward: TensorLike, beta: TensorLike) -> Tensor: ...
def gibbs_tilt(log_ref: TensorLike, reward: TensorLike, beta: TensorLike) -> Result:
    """Log-probabilities of tilt = ref e^{r/beta} / Z, the exact optimum of KL-regularised RL.

    Shapes: log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[..., n]``. Source: F3.

    >>> import numpy as np
    >>> np.exp(gibbs_tilt(np.log([0.5, 0.5]), np.array([0.0, np.log(3.0)]), 1.0)).round(12).tolist()
    [0.25, 0.75]
    """
    arguments = tilted({"log_ref": log_ref}, reward, beta)
    return arguments.map(tilt.gibbs_tilt, keeps_responses=True)


@overload
def expected_reward(log_p: ArrayLike, reward: ArrayLike) -> FloatArray: ...
@overload
def expected_reward(log_p: Tensor, reward: TensorLike) -> Tensor: ...
def expected_reward(log_p: TensorLike, reward: TensorLike) -> Result:
    """J(p) = E_p r, the raw reward, in the units of ``reward``.

    Shapes: log_p, reward ``[..., n]`` -> ``[...]``.

    >>> import numpy as np
    >>> float(expected_reward(np.log([0.25, 0.75]), np.array([0.0, 1.0])))
    0.75
    """
    arguments = Arguments(laws={"log_p": log_p}, reals={"reward": reward})
    return arguments.map(laws.expected_reward)


@overload
def regularized_reward(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def regularized_reward(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def regularized_reward(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """J_b(p) = E_p r - beta KL(p||ref), what RL under a KL leash maximises, in reward units.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: F3.

    >>> import numpy as np
    >>> float(regularized_reward(np.log([0.5, 0.5]), np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.5
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return tilted(laws, reward, beta).map(tilt.regularized_reward)
