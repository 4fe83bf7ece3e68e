"""RL then SFT: what SFT does to the reward (R1-R4, R6, R7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import Arguments, tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.results import Range
from nondecoupling.formulas import laws, rl_then_sft
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


@overload
def regularized_reward_drop(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def regularized_reward_drop(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def regularized_reward_drop(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """J_b(tilt) - J_b(p) = beta KL(p||tilt) >= 0, in reward units: what an SFT result p loses.

    Measured from the exact RL optimum; for a trained RL result subtract its own drop (R8).

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R1.

    >>> import numpy as np
    >>> ref = np.log([0.5, 0.5])
    >>> float(regularized_reward_drop(ref, ref, np.array([0.0, 1.0]), 1.0))
    0.1201...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return tilted(laws, reward, beta).map(rl_then_sft.regularized_reward_drop)


@overload
def reward_drop(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def reward_drop(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def reward_drop(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """J(tilt) - J(p) = beta [KL(p||tilt) + KL(tilt||ref) - KL(p||ref)], in reward units; may be < 0.

    Negative exactly where SFT *raised* the raw reward (R5). Assumes p << ref.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R2.

    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(reward_drop(np.log([0.1, 0.9]), ref, r, 1.0))
    -0.1689...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return tilted(laws, reward, beta, inside={"log_p": "log_ref"}).map(rl_then_sft.reward_drop)


@overload
def reward_drop_in_kl_ball(
    log_p: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def reward_drop_in_kl_ball(
    log_p: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def reward_drop_in_kl_ball(
    log_p: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """Lower bound beta KL(p||tilt) on the raw reward drop if KL(p||ref) <= KL(tilt||ref); else -inf.

    In reward units. Outside the ball nothing is guaranteed, which the value -inf says.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R3.

    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(reward_drop_in_kl_ball(np.log([0.1, 0.9]), ref, r, 1.0))
    -inf
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return tilted(laws, reward, beta).map(rl_then_sft.reward_drop_in_kl_ball)


@overload
def cycle_loss(log_d: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def cycle_loss(log_d: Tensor, reward: TensorLike, beta: TensorLike) -> Tensor: ...
def cycle_loss(log_d: TensorLike, reward: TensorLike, beta: TensorLike) -> Result:
    """J(tilt) - J(d) = beta [KL(d||tilt) + KL(tilt||d)] if ref = d, in reward units.

    What RL gained and SFT back to d takes away.

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R6.

    >>> import numpy as np
    >>> float(cycle_loss(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.2310...
    """
    return tilted({"log_d": log_d}, reward, beta).map(rl_then_sft.cycle_loss)


@overload
def reward_change_bounds(
    log_tilt: ArrayLike, reward: ArrayLike, kl: ArrayLike
) -> Range[FloatArray]: ...
@overload
def reward_change_bounds(log_tilt: Tensor, reward: TensorLike, kl: TensorLike) -> Range[Tensor]: ...
def reward_change_bounds(log_tilt: TensorLike, reward: TensorLike, kl: TensorLike) -> Range[Result]:
    """(lower, upper) on J(p) - J(tilt) from KL(p||tilt) <= kl, in closed form, in reward units.

    The best of Pinsker R sqrt(kl/2), Bretagnolle-Huber R sqrt(1 - e^{-kl}), Bernstein
    sqrt(2 kl Var) + b kl/3 with b = max r - E r for rises and E r - min r for drops, and b itself.
    ``log_tilt`` may be any policy. Exact extremes: ``reward_change_extremes``.

    Shapes: log_tilt, reward ``[..., n]``, kl scalar or ``[...]`` -> two of ``[...]``. Errors: kl < 0.
    Source: R4.

    >>> import numpy as np
    >>> lower, upper = reward_change_bounds(np.log([0.9, 0.1]), np.array([0.0, 1.0]), 0.01)
    >>> float(lower), float(upper)
    (-0.0427..., 0.0454...)
    """

    def best(xp: Floats, log_tilt: Array, reward: Array, kl: Array) -> tuple[Array, Array]:
        *both, drops, rises = rl_then_sft.reward_change_bounds(xp, log_tilt, reward, kl)
        x = laws.centred(xp, log_tilt, reward)
        either = xp.minimum(*both)
        below = -laws.min_on_support(xp, log_tilt, x)
        above = laws.max_on_support(xp, log_tilt, x)
        return (
            -xp.minimum(xp.minimum(either, drops), below),
            xp.minimum(xp.minimum(either, rises), above),
        )

    return Range(*_with_kl(log_tilt, reward, kl).map(best))


@overload
def reward_change_extremes(
    log_tilt: ArrayLike, reward: ArrayLike, kl: ArrayLike
) -> Range[FloatArray]: ...
@overload
def reward_change_extremes(
    log_tilt: Tensor, reward: TensorLike, kl: TensorLike
) -> Range[Tensor]: ...
def reward_change_extremes(
    log_tilt: TensorLike, reward: TensorLike, kl: TensorLike
) -> Range[Result]:
    """The exact (smallest, largest) J(p) - J(tilt) over all p with KL(p||tilt) <= kl.

    Attained by tilt e^{t r}/Z with t < 0 and t > 0; in reward units.

    Shapes: log_tilt, reward ``[..., n]``, kl scalar or ``[...]`` -> two of ``[...]``. Errors: kl < 0.
    Source: R4.

    >>> import numpy as np
    >>> lowest, highest = reward_change_extremes(np.log([0.9, 0.1]), np.array([0.0, 1.0]), 0.01)
    >>> float(lowest), float(highest)
    (-0.0395..., 0.0449...)
    """

    def both(xp: Floats, log_tilt: Array, reward: Array, kl: Array) -> tuple[Array, Array]:
        drop = rl_then_sft.largest_rise(xp, log_tilt, -reward, kl)
        return -drop, rl_then_sft.largest_rise(xp, log_tilt, reward, kl)

    return Range(*_with_kl(log_tilt, reward, kl).map(both))


def _with_kl(log_tilt: TensorLike, reward: TensorLike, kl: TensorLike) -> Arguments:
    return Arguments(
        laws={"log_tilt": log_tilt},
        reals={"reward": reward},
        scalars={"kl": kl},
        nonnegative=("kl",),
    )


@overload
def sft_step_reward_slope(log_p: ArrayLike, log_d: ArrayLike, reward: ArrayLike) -> FloatArray: ...
@overload
def sft_step_reward_slope(log_p: Tensor, log_d: TensorLike, reward: TensorLike) -> Tensor: ...
def sft_step_reward_slope(log_p: TensorLike, log_d: TensorLike, reward: TensorLike) -> Result:
    """-<p - d, p (r - E_p r)>: the rate at which a first softmax SFT step from p changes J(p).

    In reward units per unit of step size; its sign is indefinite even if p is the tilt of d (R7).

    Shapes: log_p, log_d, reward ``[..., n]`` -> ``[...]``. Source: R7.

    >>> import numpy as np
    >>> from nondecoupling.bounds import gibbs_tilt
    >>> d, r = np.log([1 / 14, 6 / 14, 7 / 14]), np.array([8.0, 7.0, 0.0])
    >>> float(sft_step_reward_slope(gibbs_tilt(d, r, 1.0), d, r))
    5.15...e-05
    """
    laws = {"log_p": log_p, "log_d": log_d}
    return Arguments(laws=laws, reals={"reward": reward}).map(rl_then_sft.sft_step_reward_slope)
