"""Verifiable rewards: the beta that reaches a success rate, and what it costs (V1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.checks import about_values
from nondecoupling.formulas import verifiable
from nondecoupling.formulas.laws import INF
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


def _success_rates(ref_success: TensorLike, target: TensorLike) -> Arguments:
    return Arguments(
        scalars={"ref_success": ref_success, "target": target},
        positive=("ref_success", "target"),
        shares=("ref_success", "target"),
    )


@overload
def verifiable_beta(ref_success: ArrayLike, target: ArrayLike) -> FloatArray: ...
@overload
def verifiable_beta(ref_success: Tensor, target: TensorLike) -> Tensor: ...
def verifiable_beta(ref_success: TensorLike, target: TensorLike) -> Result:
    """1/(logit target - logit ref_success): the beta at which exact RL reaches a success rate.

    For a reward of one for correct responses and zero for the others, at one prompt; in units of that reward.
    Relative accuracy also for success rates close to each other, to 0 or to 1.

    Shapes: ref_success, target scalar or ``[...]`` -> ``[...]``. Errors: unless 0 < ref_success < target < 1:
    no beta > 0 reaches another target. Source: V1.

    >>> import numpy as np
    >>> verifiable_beta(0.2, np.array([0.5, 0.9, 0.999])).round(4).tolist()
    [0.7213, 0.2791, 0.1206]
    """
    arguments = _success_rates(ref_success, target)
    _check_target_above(arguments, ref_success, target)

    def beta(xp: Floats, ref_success: Array, target: Array) -> Array:
        return verifiable.verifiable_beta(xp, ref_success, 1 - target, target - ref_success)

    return arguments.map(beta)


@about_values
def _check_target_above(arguments: Arguments, ref_success: TensorLike, target: TensorLike) -> None:
    before, after = arguments.arrays["ref_success"], arguments.arrays["target"]
    if not bool(arguments.module.all((before < after) & (after < 1))):
        raise ValueError(
            f"target={target} with ref_success={ref_success}: choose a target above the reference's success and "
            "below one, or no beta > 0 ends there"
        )


@overload
def verifiable_cost(ref_success: ArrayLike, target: ArrayLike) -> FloatArray: ...
@overload
def verifiable_cost(ref_success: Tensor, target: TensorLike) -> Tensor: ...
def verifiable_cost(ref_success: TensorLike, target: TensorLike) -> Result:
    """kl(ref_success, target): by how much RL to a success rate raises the SFT loss, if ref = d.

    In nats per response. It is the price of that success: no policy, reached by any algorithm, has it for less, and
    the exact RL optimum pays just this. 0 where target <= ref_success, inf at target = 1.

    Shapes: ref_success, target scalar or ``[...]`` -> ``[...]``. Errors: outside (0, 1]. Source: V1.

    >>> import numpy as np
    >>> verifiable_cost(0.2, np.array([0.1, 0.5, 0.9, 1.0])).round(4).tolist()
    [0.0, 0.1927, 1.3627, inf]
    """

    def cost(xp: Floats, ref_success: Array, target: Array) -> Array:
        inner = (target > ref_success) & (target < 1)
        before, after = xp.where(inner, ref_success, 0.25), xp.where(inner, target, 0.5)
        outside = xp.where(target > ref_success, INF, xp.full_like(target, 0.0))
        cost = verifiable.verifiable_cost(xp, before, 1 - before, 1 - after, after - before)
        return xp.where(inner, cost, outside)

    return _success_rates(ref_success, target).map(cost)
