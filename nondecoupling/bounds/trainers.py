"""Which policy a trainer converges to (T2-T4, T11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from nondecoupling.bounds.arguments import Arguments, tilted
from nondecoupling.bounds.arrays import (
    ArrayLike,
    BoolArray,
    FloatArray,
    MaskLike,
    Result,
    TensorLike,
)
from nondecoupling.bounds.reading import whole_number
from nondecoupling.bounds.results import GroupNormalizedSuccess
from nondecoupling.formulas import groups, token_leashes, trainers
from nondecoupling.formulas.groups import Deviation
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, Mask

if TYPE_CHECKING:
    from torch import Tensor


@overload
def forward_leash_optimum(
    log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike, *, mask: MaskLike | None = ...
) -> FloatArray: ...
@overload
def forward_leash_optimum(
    log_ref: Tensor, reward: TensorLike, beta: TensorLike, *, mask: MaskLike | None = ...
) -> Tensor: ...
def forward_leash_optimum(
    log_ref: TensorLike, reward: TensorLike, beta: TensorLike, *, mask: MaskLike | None = None
) -> Result:
    """Log-probabilities of beta ref/(mu - r), the maximiser of E_p r - beta KL(ref||p).

    mu > max r by normalisation. With ref = d it is a frontier policy of S5: no policy buys its reward for less SFT
    loss. Where ref has full support, RL with the estimator k3 in the loss ends there. Where ref misses the best
    responses, mass that is left over goes to them, but RL from ref does not get there: it never samples them, and
    ends at ``stationary_policy``. ``mask`` is true where a response counts, and keeps the padding of lists out.

    Shapes: log_ref, reward ``[..., n]``, beta > 0 scalar or ``[...]``, mask as reward -> ``[..., n]``. Source: T2.

    >>> import numpy as np
    >>> np.exp(forward_leash_optimum(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 4 / 3)).round(6).tolist()
    [0.333333, 0.666667]
    """
    arguments = tilted({"log_ref": log_ref}, reward, beta, mask=mask)
    arguments.check_inverse("beta")
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
    check_tree(arguments, tree)
    if leash == "k3":
        arguments.check_inverse("beta")

    def by_backward_induction(xp: Floats, log_ref: Array, reward: Array, beta: Array) -> Array:
        return token_leashes.per_token_law(xp, log_ref, reward, beta, tree.nodes, leash)

    return arguments.map(by_backward_induction, keeps_responses=True)


def check_tree(arguments: Arguments, tree: TokenTree) -> None:
    """The tree has one sequence per response."""
    n = arguments.arrays["log_ref"].shape[-1]
    if len(tree.sequences) != n:
        raise ValueError(
            f"tree: has {len(tree.sequences)} sequences, but log_ref lists {n}; give one entry for each"
        )


@overload
def group_advantage_factor(
    success: ArrayLike, group_size: int | None, sd: Deviation = "population", eps: ArrayLike = 0.0
) -> FloatArray: ...
@overload
def group_advantage_factor(
    success: Tensor, group_size: int | None, sd: Deviation = "population", eps: TensorLike = 0.0
) -> Tensor: ...
def group_advantage_factor(
    success: TensorLike,
    group_size: int | None,
    sd: Deviation = "population",
    eps: TensorLike = 0.0,
) -> Result:
    """h_G(c): a binary reward's advantages (r - mean)/(sd + eps) of groups of G train h_G(c) grad c.

    h_G(c) = E[m(1-m)/(sd + eps)]/(c(1-c)), m the share of correct responses in a group, c the success.
    ``group_size=None``: the limit of large groups, 1/(sqrt(c(1-c)) + eps). ``sd`` divides by G
    ("population") or G - 1 ("sample", as TRL does, with eps = 1e-4). Without normalisation the factor is
    (G-1)/G for a group mean and 1 for leaving one out.

    Per unit of reward. Shapes: success in [0, 1], eps >= 0 scalars or ``[...]`` -> ``[...]``. Errors: a group
    of fewer than two; another sd. Source: T4.

    >>> group_advantage_factor([0.5, 0.99], 8).round(3).tolist()
    [1.856, 2.609]
    """
    size = _size_of_groups(group_size)
    arguments = _of_groups(dict(success=success, eps=eps), sd)

    def factor(xp: Floats, success: Array, eps: Array) -> Array:
        h = groups.GroupFactor(xp, size, sd, eps)
        return h(groups.log_odds_of(xp, success))

    return arguments.map(factor, numbers_per_row=size or 1)


def _size_of_groups(group_size: int | None) -> int | None:
    if group_size is None:
        return None
    limit = ", or None for the limit of large groups"
    return whole_number("group_size", group_size, 2, otherwise=limit)


def _of_groups(scalars: dict[str, TensorLike], sd: str, **checks: Any) -> Arguments:
    if sd not in ("population", "sample"):
        raise ValueError(f"sd={sd!r}: choose 'population' or 'sample'")
    shares = tuple(name for name in scalars if "success" in name)
    return Arguments(scalars=scalars, shares=shares, nonnegative=("eps",), **checks)


def _refuse_ends(arguments: Arguments) -> Arguments:
    a = arguments.arrays["ref_success"]
    arguments.refuse("ref_success", (a <= 0) | (a >= 1), "strictly between 0 and 1")
    return arguments


@overload
def critical_beta(ref_success: ArrayLike) -> FloatArray: ...
@overload
def critical_beta(ref_success: Tensor) -> Tensor: ...
def critical_beta(ref_success: TensorLike) -> Result:
    """The beta below which the reverse leash holds nothing, for advantages normalised in large groups.

    beta_c = sinh(x/2) with (x - logit a) tanh(x/2) = 2, x > max(0, logit a), a = ``ref_success``. Below it
    there is no stationary policy: success tends to one and the SFT loss grows without bound. Above it there
    are two, the lower one attracting. Binary reward, eps = 0; finite groups have a stationary policy at every
    beta.

    In reward units per nat. Shapes: ref_success strictly between 0 and 1, scalar or ``[...]`` -> ``[...]``.
    Source: T4.

    >>> critical_beta([0.01, 0.2, 0.5]).round(4).tolist()
    [0.4007, 0.8957, 1.5089]
    """
    arguments = _refuse_ends(Arguments(scalars={"ref_success": ref_success}))
    return arguments.map(groups.critical_beta)


@overload
def group_normalized_success(
    ref_success: ArrayLike,
    group_size: int | None,
    beta: ArrayLike,
    leash: Literal["reverse", "forward"] = ...,
    sd: Deviation = ...,
    eps: ArrayLike = ...,
) -> GroupNormalizedSuccess[FloatArray, BoolArray]: ...
@overload
def group_normalized_success(
    ref_success: Tensor,
    group_size: int | None,
    beta: TensorLike,
    leash: Literal["reverse", "forward"] = ...,
    sd: Deviation = ...,
    eps: TensorLike = ...,
) -> GroupNormalizedSuccess[Tensor, Tensor]: ...
def group_normalized_success(
    ref_success: TensorLike,
    group_size: int | None,
    beta: TensorLike,
    leash: Literal["reverse", "forward"] = "reverse",
    sd: Deviation = "population",
    eps: TensorLike = 0.0,
) -> GroupNormalizedSuccess[Result, BoolArray | Tensor]:
    """Where RL with advantages normalised in groups of G ends, binary reward, from a success of ref.

    Returns ``(success, stationary)``. Reverse leash (KL(p||ref): k2 in the loss, k3 with ratio): the first c
    above a with logit c = logit a + h_G(c)/beta. For ``group_size=None`` and eps = 0 there is none below
    ``critical_beta``, and the success tends to 1. Forward leash (k3 in the loss): the one c in (a, 1) with
    h_G(c) c (1-c) = beta (c - a). Conditional laws given correctness stay those of ref; with the reverse leash
    the policy is the tilt at beta/h_G(c).

    Shapes: ref_success strictly between 0 and 1, beta > 0, eps >= 0 scalars or ``[...]`` -> ``[...]`` each. ``success``
    is relatively accurate; one minus it to an eps. Errors: as ``group_advantage_factor``; another leash.
    Source: T4.

    >>> result = group_normalized_success(0.2, 8, 1.0)
    >>> round(float(result.success), 4), bool(result.stationary)
    (0.6249, True)
    >>> group_normalized_success(0.2, None, [0.8, 0.9]).stationary.tolist()  # critical: 0.8957
    [False, True]
    """
    if leash not in ("reverse", "forward"):
        raise ValueError(f"leash={leash!r}: choose 'reverse' or 'forward'")
    scalars = dict(ref_success=ref_success, beta=beta, eps=eps)
    size = _size_of_groups(group_size)
    arguments = _refuse_ends(_of_groups(scalars, sd, positive=("beta",)))
    arguments.check_inverse("beta")

    def reached(xp: Floats, ref_success: Array, beta: Array, eps: Array) -> tuple[Array, Mask]:
        factor = groups.GroupFactor(xp, size, sd, eps)
        if leash == "forward":
            success = groups.forward_stationary_success(xp, factor, ref_success, beta)
            return success, xp.full_like(success, 1.0) > 0
        return groups.first_stationary_success(xp, factor, ref_success, beta)

    return GroupNormalizedSuccess(*arguments.map(reached, numbers_per_row=size or 1))


@overload
def noisy_beta(
    beta: ArrayLike, false_positives: ArrayLike, false_negatives: ArrayLike
) -> FloatArray: ...
@overload
def noisy_beta(
    beta: Tensor, false_positives: TensorLike, false_negatives: TensorLike
) -> Tensor: ...
def noisy_beta(
    beta: TensorLike, false_positives: TensorLike, false_negatives: TensorLike
) -> Result:
    """beta/(1 - f0 - f1): RL at beta on a noisy verifier's verdicts is RL on the true reward at this beta.

    f0 is the chance that a wrong response is accepted, f1 that a correct one is refused, independent of the
    response given its correctness. Binary reward, exact optimum under a reverse leash.

    In reward units per nat. Shapes: beta > 0, the rates in [0, 1], scalars or ``[...]`` -> ``[...]``. Errors:
    f0 + f1 >= 1, a verifier that tells nothing or the contrary. Source: T11.

    >>> round(float(noisy_beta(0.04, 0.05, 0.15)), 6)
    0.05
    """
    scalars = dict(beta=beta, false_positives=false_positives, false_negatives=false_negatives)
    arguments = Arguments(
        scalars=scalars, positive=("beta",), shares=("false_positives", "false_negatives")
    )
    both = arguments.arrays["false_positives"] + arguments.arrays["false_negatives"] >= 1
    arguments.refuse("false_positives", both, "less than 1 together with false_negatives")
    return arguments.map(trainers.noisy_beta)


@overload
def entropy_bonus_optimum(
    log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike, bonus: ArrayLike
) -> FloatArray: ...
@overload
def entropy_bonus_optimum(
    log_ref: Tensor, reward: TensorLike, beta: TensorLike, bonus: TensorLike
) -> Tensor: ...
def entropy_bonus_optimum(
    log_ref: TensorLike, reward: TensorLike, beta: TensorLike, bonus: TensorLike
) -> Result:
    """Log-probabilities of the maximiser of E_p r - beta KL(p||ref) + bonus H(p).

    Proportional to ref^{beta/(bonus + beta)} e^{r/(bonus + beta)}: the tilt of ref at bonus + beta by the reward
    r - bonus log ref, which ``coupling_gap`` prices when ref = d. Assumes log_ref with full support.

    Shapes: log_ref, reward ``[..., n]``, beta > 0, bonus >= 0 scalars or ``[...]`` -> ``[..., n]``. Source: T11.

    >>> import numpy as np
    >>> np.exp(entropy_bonus_optimum(np.log([0.9, 0.1]), np.zeros(2), 0.5, 0.5)).round(3).tolist()
    [0.75, 0.25]
    """
    arguments = Arguments(
        laws={"log_ref": log_ref},
        reals={"reward": reward},
        scalars={"beta": beta, "bonus": bonus},
        positive=("beta",),
        nonnegative=("bonus",),
        full_support=("log_ref",),
    )
    arguments.check_product("log_ref", "bonus")
    arguments.check_product("reward", "beta", "bonus", inverse=True, squared=False)
    return arguments.map(trainers.entropy_bonus_optimum, keeps_responses=True)
