"""Prompts that are shared (D1), and SFT and RL at once (J1-J3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from nondecoupling.bounds.arguments import Arguments, tilted
from nondecoupling.bounds.arrays import (
    ArrayLike,
    BoolArray,
    FloatArray,
    MaskLike,
    Result,
    TensorLike,
)
from nondecoupling.bounds.laws import (
    cross_entropy,
    entropy,
    expected_reward,
    gibbs_tilt,
    regularized_reward,
)
from nondecoupling.bounds.price import price_of_average_reward, shares_of_prompts
from nondecoupling.bounds.reading import whole_number
from nondecoupling.bounds.results import Frontier, Range
from nondecoupling.formulas import joint, laws, sft_then_rl, tilt
from nondecoupling.numbers.floats import Floats, floats_of
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


@overload
def shared_prompt_loss_increase(
    log_sft: ArrayLike, log_rl: ArrayLike, log_d: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def shared_prompt_loss_increase(
    log_sft: Tensor, log_rl: TensorLike, log_d: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def shared_prompt_loss_increase(
    log_sft: TensorLike, log_rl: TensorLike, log_d: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """sum q_SFT(x) coupling_gap(x) over prompts in both supports: what tabular RL does to SFT, ref = d.

    In nats per response, averaged over SFT prompts; 0 for disjoint prompts.

    Shapes: log_sft, log_rl ``[..., prompts]``, log_d, reward ``[..., prompts, n]``, beta scalar or
    ``[..., prompts]`` -> ``[...]``. Source: D1.

    >>> import numpy as np
    >>> d, r = np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> sft, rl = np.log([0.5, 0.5]), np.array([0.0, -np.inf])
    >>> float(shared_prompt_loss_increase(sft, rl, d, r, 1.0))  # half of the first prompt's gap
    0.0600...
    """
    gap = tilted({"log_d": log_d}, reward, beta).map(sft_then_rl.coupling_gap)
    return _over_prompts(log_sft, log_rl, gap).map(joint.shared_prompts)


@overload
def decoupled(
    log_sft: ArrayLike, log_rl: ArrayLike, log_d: ArrayLike, reward: ArrayLike
) -> BoolArray: ...
@overload
def decoupled(
    log_sft: Tensor, log_rl: TensorLike, log_d: TensorLike, reward: TensorLike
) -> Tensor: ...
def decoupled(
    log_sft: TensorLike, log_rl: TensorLike, log_d: TensorLike, reward: TensorLike
) -> BoolArray | Tensor:
    """Whether tabular RL from ref = d leaves the SFT loss alone: r constant on supp d, shared prompts.

    Exact: rewards are compared as they are, with no tolerance. Returns booleans.

    Shapes: log_sft, log_rl ``[..., prompts]``, log_d, reward ``[..., prompts, n]`` -> ``[...]``.
    Source: D1.

    >>> import numpy as np
    >>> d, r = np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([[2.0, 2.0], [0.0, 1.0]])
    >>> sft, rl = np.log([0.5, 0.5]), np.array([0.0, -np.inf])
    >>> bool(decoupled(sft, rl, d, r)), bool(decoupled(sft, sft, d, r))
    (True, False)
    """
    arguments = Arguments(laws={"log_d": log_d}, reals={"reward": reward})
    spread = arguments.map(laws.reward_range)

    def none_varies(xp: Floats, log_sft: Array, log_rl: Array, values: Array) -> Array:
        varies = xp.support(log_sft) & xp.support(log_rl) & (values > 0)
        return ~xp.module.any(varies, axis=-1, keepdims=True)

    return _over_prompts(log_sft, log_rl, spread).map(none_varies)


def _over_prompts(log_sft: TensorLike, log_rl: TensorLike, values: Any) -> Arguments:
    """The two prompt laws, and a number for each prompt that comes from log_d and reward."""
    prompts = Arguments(laws={"log_sft": log_sft, "log_rl": log_rl}).arrays["log_sft"].shape[-1]
    shape = tuple(values.shape)
    if not shape or shape[-1] != prompts:
        raise ValueError(
            f"log_d and reward: their batch is {shape}, whose last axis must list the {prompts} prompts of "
            "log_sft; give [..., prompts, n]"
        )
    return Arguments(laws={"log_sft": log_sft, "log_rl": log_rl}, reals={"values": values})


@overload
def joint_optimum(
    log_d: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike, weight: ArrayLike
) -> FloatArray: ...
@overload
def joint_optimum(
    log_d: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike, weight: TensorLike
) -> Tensor: ...
def joint_optimum(
    log_d: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike, weight: TensorLike
) -> Result:
    """Log-probabilities of the maximiser of J_b(p) - weight * CE(d, p): RL and SFT trained jointly.

    Assumes d << ref; beta, weight > 0. weight -> 0 is the tilt, weight -> inf is d.

    Shapes: log_d, log_ref, reward ``[..., n]``, beta, weight scalar or ``[...]`` -> ``[..., n]``.
    Source: J1.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> np.exp(joint_optimum(d, d, r, 1.0, 1.0)).round(3).tolist()
    [0.38, 0.62]
    """
    return _joint(log_d, log_ref, reward, beta, weight).map(
        joint.joint_optimum, keeps_responses=True
    )


@overload
def joint_saving_bounds(
    log_d: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike, weight: ArrayLike
) -> Range[FloatArray]: ...
@overload
def joint_saving_bounds(
    log_d: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike, weight: TensorLike
) -> Range[Tensor]: ...
def joint_saving_bounds(
    log_d: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike, weight: TensorLike
) -> Range[Result]:
    """Bounds on the SFT loss that joint training saves: CE(d, tilt) - CE(d, p_joint), weight = lambda.

    (lambda chi2(d||p_joint)/(beta + lambda max d/p_joint), (lambda/beta) chi2(d||tilt)), nats per response;
    the upper one is the first order in lambda. Times lambda/2 they bound the cost J_b(tilt) - J_b(p_joint).

    Shapes: as ``joint_optimum`` -> two of ``[...]``. Source: J3.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, np.log(3.0)])
    >>> lower, upper = joint_saving_bounds(d, d, r, 1.0, 0.003)
    >>> round(float(upper), 6), bool(lower < upper)  # chi2 = 1/3
    (0.001, True)
    """

    def both(
        xp: Floats, log_d: Array, log_ref: Array, reward: Array, beta: Array, weight: Array
    ) -> tuple[Any, Any]:
        log_tilt = tilt.gibbs_tilt(xp, log_ref, reward, beta)
        optimum = joint.joint_optimum(xp, log_d, log_ref, reward, beta, weight)
        return joint.joint_saving_bounds(xp, optimum, log_tilt, log_d, beta, weight)

    arguments = _joint(log_d, log_ref, reward, beta, weight)
    # max d/p_joint is of this size.
    arguments.check_product("reward", "weight", inverse=True, squared=False)
    return Range(*arguments.map(both))


@overload
def joint_gap(
    log_p: ArrayLike,
    log_d: ArrayLike,
    log_ref: ArrayLike,
    reward: ArrayLike,
    beta: ArrayLike,
    weight: ArrayLike,
) -> FloatArray: ...
@overload
def joint_gap(
    log_p: Tensor,
    log_d: TensorLike,
    log_ref: TensorLike,
    reward: TensorLike,
    beta: TensorLike,
    weight: TensorLike,
) -> Tensor: ...
def joint_gap(
    log_p: TensorLike,
    log_d: TensorLike,
    log_ref: TensorLike,
    reward: TensorLike,
    beta: TensorLike,
    weight: TensorLike,
) -> Result:
    """F(p_joint) - F(p) for F(p) = J_b(p) - lambda CE(d, p), weight = lambda: what p leaves on the table.

    Equals beta KL(p||p_joint) + lambda E_d[z - 1 - log z] >= 0, z = p/p_joint: no policy, hence no schedule of SFT
    and RL with this ref, gets above J_b(p_joint) - lambda CE(d, p_joint).

    Shapes: log_p, log_d, log_ref, reward ``[..., n]``, beta and weight scalar or ``[...]`` -> ``[...]``. Units:
    reward. Source: J2.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> round(float(joint_gap(gibbs_tilt(d, r, 1.0), d, d, r, 1.0, 1.0)), 4)
    0.0613
    """

    def gap(
        xp: Floats,
        log_p: Array,
        log_d: Array,
        log_ref: Array,
        reward: Array,
        beta: Array,
        weight: Array,
    ) -> Array:
        optimum = joint.joint_optimum(xp, log_d, log_ref, reward, beta, weight)
        return joint.joint_gap(xp, log_p, optimum, log_d, beta, weight)

    return _joint(log_d, log_ref, reward, beta, weight, log_p=log_p).map(gap)


def _joint(
    log_d: TensorLike,
    log_ref: TensorLike,
    reward: TensorLike,
    beta: TensorLike,
    weight: TensorLike,
    **laws: TensorLike,
) -> Arguments:
    arguments = Arguments(
        laws={"log_d": log_d, "log_ref": log_ref, **laws},
        reals={"reward": reward},
        scalars={"beta": beta, "weight": weight},
        positive=("beta", "weight"),
        inside={"log_d": "log_ref"},
    )
    arguments.check_product("reward", "beta", inverse=True)
    arguments.check_quotient("weight", "beta", blame="weight")
    return arguments


@overload
def joint_path(
    log_d: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike, *, points: int = ...
) -> FloatArray: ...
@overload
def joint_path(
    log_d: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike, *, points: int = ...
) -> Tensor: ...
def joint_path(
    log_d: TensorLike,
    log_ref: TensorLike,
    reward: TensorLike,
    beta: TensorLike,
    *,
    points: int = 65,
) -> Result:
    """The joint optima from the tilt (lambda = 0) to the data law (lambda = inf), as log-probabilities.

    Shapes: log_d, log_ref, reward ``[..., n]``, beta scalar -> ``[points, ..., n]``. Errors: fewer than three
    points. Source: J1.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> np.exp(joint_path(d, d, r, 1.0, points=3)).round(3).tolist()
    [[0.269, 0.731], [0.38, 0.62], [0.5, 0.5]]
    """
    points = whole_number("points", points, 3)
    first = Arguments(
        laws={"log_d": log_d, "log_ref": log_ref},
        reals={"reward": reward},
        inside={"log_d": "log_ref"},
    )
    module, batch = first.module, first.batch
    n = first.arrays["log_d"].shape[-1]
    data, start, values = (
        first.arrays[name].reshape(1, *batch, n) for name in ("log_d", "log_ref", "reward")
    )
    # lambda/beta = t/(1 - t); the ends are the tilt and d.
    inner = module.linspace(0.0, 1.0, points, dtype=first.dtype, device=first.device)[1:-1]
    weights = (inner / (1 - inner) * beta).reshape(-1, *(1 for _ in batch))
    middle = joint_optimum(data, start, values, beta, weights)
    return module.concat([gibbs_tilt(start, values, beta), middle, data])


@overload
def pareto_frontier(
    log_d: ArrayLike,
    reward: ArrayLike,
    *,
    log_ref: ArrayLike | None = ...,
    beta: ArrayLike | None = ...,
    points: int = ...,
    weights: ArrayLike | None = ...,
    mask: MaskLike | None = ...,
) -> Frontier[FloatArray]: ...
@overload
def pareto_frontier(
    log_d: Tensor,
    reward: TensorLike,
    *,
    log_ref: TensorLike | None = ...,
    beta: TensorLike | None = ...,
    points: int = ...,
    weights: TensorLike | None = ...,
    mask: MaskLike | None = ...,
) -> Frontier[Tensor]: ...
def pareto_frontier(
    log_d: TensorLike,
    reward: TensorLike,
    *,
    log_ref: TensorLike | None = None,
    beta: TensorLike | None = None,
    points: int = 65,
    weights: TensorLike | None = None,
    mask: MaskLike | None = None,
) -> Frontier[Result]:
    """Points (SFT loss, reward) on the best trade-off, averaged over prompts, for plots.

    Without ``beta``: raw reward J(p) from J(d) up to just below max r, and the least CE(d, p) that
    reaches it (S5). With ``log_ref`` and ``beta``: CE(d, p) and J_b(p) at the joint optima, from the
    tilt to d (J1, for d << ref). In both, every policy lies on or below; loss in nats. Prompts are
    equally likely, or as ``weights`` say. Responses where ``mask`` is false count for nothing.

    Shapes: log_d, reward, log_ref ``[n]`` or ``[prompts, n]``, beta scalar, weights ``[prompts]`` -> two
    of ``[points]``. Source: S5, J1.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> loss, best = pareto_frontier(d, r, points=5)
    >>> best.round(3).tolist(), float(loss[0])
    ([0.5, 0.625, 0.75, 0.875, 1.0], 0.693...)
    >>> loss, best = pareto_frontier(d, r, log_ref=d, beta=1.0, points=3)
    >>> loss.round(3).tolist()  # from the tilt to d
    [0.813, 0.723, 0.693]
    """
    points = whole_number("points", points, 3)
    if (log_ref is None) != (beta is None):
        raise ValueError("log_ref and beta belong together: give both (J1) or neither (S5)")
    given = {"log_d": log_d} if log_ref is None else {"log_d": log_d, "log_ref": log_ref}
    first = Arguments(laws=given, reals={"reward": reward}, mask=mask)
    if len(first.batch) > 1:
        raise ValueError(
            f"log_d {tuple(first.batch)} without its last axis: one axis of prompts at most"
        )
    module, device, dtype = first.module, first.device, first.dtype
    data, values = first.arrays["log_d"], first.arrays["reward"]
    shares: Any = shares_of_prompts(first, weights)[:, 0]
    steps = module.linspace(0.0, 1.0, points, dtype=dtype, device=device)
    if beta is None:
        mean = module.sum(shares * expected_reward(data, values))
        top = module.sum(shares * floats_of(values).max(values)[:, 0])
        # max r itself costs an infinite loss: the last point stays a little below it.
        share = 1 - float(module.finfo(dtype).eps) ** 0.5
        targets = mean + (top - mean) * steps * share
        price = price_of_average_reward(data, values, targets, weights=shares)
        # Where max r - J(d) is lost in rounding, every target is the reward of d.
        price = module.where(targets > mean, price, module.zeros_like(price))
        return Frontier(module.sum(shares * entropy(data)) + price, targets)
    ref = first.arrays["log_ref"]
    path = joint_path(data, ref, values, beta, points=points)
    loss, best = cross_entropy(data, path), regularized_reward(path, ref, values, beta)
    return Frontier(module.sum(shares * loss, axis=-1), module.sum(shares * best, axis=-1))
