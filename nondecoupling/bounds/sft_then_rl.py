"""SFT then RL: what RL does to the SFT loss (S1-S4, S6, S8), and how long to run it (P5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from nondecoupling.bounds.arguments import Arguments, tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.results import DecouplingThreshold, Duration, EarlyStop, Range
from nondecoupling.formulas import duration, sft_then_rl
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


@overload
def sft_loss_increase(
    log_d: ArrayLike, log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> FloatArray: ...
@overload
def sft_loss_increase(
    log_d: Tensor, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Tensor: ...
def sft_loss_increase(
    log_d: TensorLike, log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> Result:
    """DeltaL(tilt) = CE(d, tilt) - CE(d, ref) = log Z - E_d r/beta, in nats per response; may be < 0.

    What RL from ``ref`` to its exact optimum does to the SFT loss. Assumes d << ref.

    Shapes: log_d, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: S1.

    >>> import numpy as np
    >>> d, ref, r = np.log([0.1, 0.9]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(sft_loss_increase(d, ref, r, 1.0))  # far from SFT optimality RL can help the SFT loss
    -0.2798...
    """
    laws = {"log_d": log_d, "log_ref": log_ref}
    arguments = tilted(laws, reward, beta, inside={"log_d": "log_ref"})
    return arguments.map(sft_then_rl.sft_loss_increase)


@overload
def sft_loss_change(log_d: ArrayLike, log_ref: ArrayLike, log_p: ArrayLike) -> FloatArray: ...
@overload
def sft_loss_change(log_d: Tensor, log_ref: TensorLike, log_p: TensorLike) -> Tensor: ...
def sft_loss_change(log_d: TensorLike, log_ref: TensorLike, log_p: TensorLike) -> Result:
    """DeltaL(p) = CE(d, p) - CE(d, ref) = KL(ref||p) - (E_d - E_ref) log(p/ref), for any policy p.

    In nats per response; inf where p misses mass of d. Assumes d << ref.

    Shapes: log_d, log_ref, log_p ``[..., n]`` -> ``[...]``. Source: S1.

    >>> import numpy as np
    >>> d = np.log([0.5, 0.5])
    >>> float(sft_loss_change(d, d, np.log([0.25, 0.75])))
    0.1438...
    """
    arguments = Arguments(
        laws={"log_d": log_d, "log_ref": log_ref, "log_p": log_p}, inside={"log_d": "log_ref"}
    )
    return arguments.map(sft_then_rl.sft_loss_change)


@overload
def coupling_gap(log_d: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def coupling_gap(log_d: Tensor, reward: TensorLike, beta: TensorLike) -> Tensor: ...
def coupling_gap(log_d: TensorLike, reward: TensorLike, beta: TensorLike) -> Result:
    """log E_d e^{r/beta} - E_d r/beta >= 0: by how much RL raises the SFT loss if ref = d.

    In nats per response; zero iff r is constant on supp d. Evaluated as
    log(1 + E_d[e^x - 1 - x]), x = (r - E_d r)/beta: relative accuracy from beta = 1e-6 to 1e6.

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: S2.

    >>> import numpy as np
    >>> float(coupling_gap(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1e6))
    1.249...e-13
    """
    return tilted({"log_d": log_d}, reward, beta).map(sft_then_rl.coupling_gap)


@overload
def coupling_gap_bounds(
    log_d: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> Range[FloatArray]: ...
@overload
def coupling_gap_bounds(log_d: Tensor, reward: TensorLike, beta: TensorLike) -> Range[Tensor]: ...
def coupling_gap_bounds(log_d: TensorLike, reward: TensorLike, beta: TensorLike) -> Range[Result]:
    """Lower and upper bound on ``coupling_gap`` from the mean, variance and range of r under d.

    Both are Bennett's, in nats per response, and attained by two-point laws. The upper one is never above
    Hoeffding's R^2/(8 beta^2).

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> two of ``[...]``. Source: S3.

    >>> import numpy as np
    >>> lower, upper = coupling_gap_bounds(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0)
    >>> float(upper - lower) < 1e-15  # two responses: attained
    True
    """

    def both(xp: Floats, **arguments: Array) -> tuple[Array, Array]:
        lower, upper, _ = sft_then_rl.coupling_gap_bounds(xp, **arguments)
        return lower, upper

    return Range(*tilted({"log_d": log_d}, reward, beta).map(both))


@overload
def decoupling_threshold(
    log_ref: ArrayLike, reward: ArrayLike, beta: ArrayLike
) -> DecouplingThreshold[FloatArray]: ...
@overload
def decoupling_threshold(
    log_ref: Tensor, reward: TensorLike, beta: TensorLike
) -> DecouplingThreshold[Tensor]: ...
def decoupling_threshold(
    log_ref: TensorLike, reward: TensorLike, beta: TensorLike
) -> DecouplingThreshold[Result]:
    """(Pinsker, exact): KL(d||ref) below either means that RL to the tilt raises the SFT loss on d.

    In nats per response. Pinsker 2 (beta KL(ref||tilt)/R)^2; exact KL(tilt_t||ref) with J(tilt_t) =
    beta log Z, which no smaller radius replaces: at d = tilt_t the loss does not change. Both are 0
    for constant rewards (nothing is raised).

    Shapes: log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> two of ``[...]``. Source: S6.

    >>> import numpy as np
    >>> pinsker, exact = decoupling_threshold(np.log([0.9, 0.1]), np.array([0.0, 1.0]), 0.5)
    >>> float(pinsker), float(exact)
    (0.0432..., 0.0890...)
    """
    return DecouplingThreshold(
        *tilted({"log_ref": log_ref}, reward, beta).map(sft_then_rl.decoupling_threshold)
    )


@overload
def best_early_stop(
    log_d: ArrayLike, log_ref: ArrayLike, reward: ArrayLike
) -> EarlyStop[FloatArray]: ...
@overload
def best_early_stop(
    log_d: Tensor, log_ref: TensorLike, reward: TensorLike
) -> EarlyStop[Tensor]: ...
def best_early_stop(
    log_d: TensorLike, log_ref: TensorLike, reward: TensorLike
) -> EarlyStop[Result]:
    """(s, change): the time s = 1/beta at which the tilt of ref has the smallest SFT loss on d.

    There J(tilt_s) = J(d), and the loss has changed by -KL(tilt_s||ref) nats per response. s = 0 and
    change 0 where J(d) <= J(ref): RL only raises the loss; s = inf where J(d) >= max r on supp ref.
    Assumes d << ref.

    Shapes: log_d, log_ref, reward ``[..., n]`` -> two of ``[...]``. Source: S6.

    >>> import numpy as np
    >>> d, ref, r = np.log([0.25, 0.75]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> s, change = best_early_stop(d, ref, r)
    >>> float(s), float(change)  # log 3, and -KL(d||ref): with two responses the tilt reaches d
    (1.0986..., -0.1308...)
    """
    laws = {"log_d": log_d, "log_ref": log_ref}
    arguments = Arguments(laws=laws, reals={"reward": reward}, inside={"log_d": "log_ref"})
    return EarlyStop(*arguments.map(sft_then_rl.best_early_stop))


@overload
def optimal_rl_duration(
    log_d: ArrayLike, reward: ArrayLike, weight: ArrayLike
) -> Duration[FloatArray]: ...
@overload
def optimal_rl_duration(
    log_d: Tensor, reward: TensorLike, weight: TensorLike
) -> Duration[Tensor]: ...
def optimal_rl_duration(
    log_d: TensorLike, reward: TensorLike, weight: TensorLike
) -> Duration[Result]:
    """The duration s = 1/beta that maximises J(tilt_s) - weight * DeltaL(tilt_s), ref = d.

    Returns (duration, low, high): the global maximiser, and an interval that contains every
    stationary point, in nats per reward unit. Local maxima closer together than the resolution of a
    grid of 258 points are not told apart; ``nondecoupling.deciding.duration.certify_duration`` decides one
    world rigorously. Zeros where r is constant on supp d. Assumes weight > 0.

    Shapes: log_d, reward ``[..., n]``, weight scalar or ``[...]`` -> three of ``[...]``. Source: P5.

    >>> import numpy as np
    >>> d, r = np.log([0.49995, 0.49995, 1e-4]), np.array([0.0, 1.0, 2.0])
    >>> [round(float(optimal_rl_duration(d, r, w)[0]), 3) for w in (0.1, 0.2)]  # the best peak jumps
    [10.179, 2.333]
    """
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"weight": weight},
        positive=("weight",),
    )
    arguments.check_product("reward", "weight", inverse=True)
    arguments.check_square("weight")
    return Duration(*arguments.map(duration.optimal_rl_duration))


@overload
def samples_to_detect(
    log_d: ArrayLike, reward: ArrayLike, beta: ArrayLike, z: ArrayLike
) -> FloatArray: ...
@overload
def samples_to_detect(
    log_d: Tensor, reward: TensorLike, beta: TensorLike, z: TensorLike
) -> Tensor: ...
def samples_to_detect(
    log_d: TensorLike, reward: TensorLike, beta: TensorLike, z: TensorLike
) -> Result:
    """n = z^2 Var_d(r)/(beta DeltaL)^2: samples after which the coupling is z standard errors large.

    For the paired change of SFT loss between ref = d and the tilt, on independent samples from d;
    about 4 z^2 beta^2/Var_d(r) for large beta. inf where r is constant on supp d.

    Shapes: log_d, reward ``[..., n]``, beta and z scalar or ``[...]`` -> ``[...]``. Errors: z <= 0.
    Source: S8.

    >>> import numpy as np
    >>> float(samples_to_detect(np.log([0.5, 0.5]), np.array([0.0, 1.0]), beta=10.0, z=2.0))
    6405.3...
    """
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"beta": beta, "z": z},
        positive=("beta", "z"),
    )
    arguments.check_product("reward", "beta", inverse=True)
    return arguments.map(sft_then_rl.samples_to_detect)


@overload
def coupling_from_run(reward_gain: ArrayLike, kl: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def coupling_from_run(reward_gain: Tensor, kl: TensorLike, beta: TensorLike) -> Tensor: ...
def coupling_from_run(reward_gain: TensorLike, kl: TensorLike, beta: TensorLike) -> Result:
    """reward_gain/beta - kl: what a checkpoint's logs prove about the SFT loss of the exact RL optimum at beta.

    A lower bound on DeltaL(tilt) = CE(d, tilt) - CE(d, ref) in nats per response, for the policy p of *any*
    checkpoint of any algorithm and *any* beta, not only the run's: reward_gain = E_q [J(p) - J(d)] over the
    reward of the SFT data (not of ref), kl = E_q KL(p||ref) **per response**: a mean over tokens, which trainers
    often log, proves nothing. Equality iff p is the tilt. Positive: RL to the optimum at beta must raise the
    SFT loss. Assumes d, p << ref.

    Shapes: reward_gain, kl, beta scalar or ``[...]`` -> ``[...]``. Errors: kl < 0, beta <= 0. Source: S10.

    >>> import numpy as np
    >>> coupling_from_run(reward_gain=0.3, kl=2.0, beta=np.array([0.05, 0.1, 0.2])).round(9).tolist()
    [4.0, 1.0, -0.5]
    """
    arguments = Arguments(
        scalars={"reward_gain": reward_gain, "kl": kl, "beta": beta},
        positive=("beta",),
        nonnegative=("kl",),
    )
    arguments.check_quotient("reward_gain", "beta", blame="beta")
    return arguments.map(sft_then_rl.coupling_from_run)
