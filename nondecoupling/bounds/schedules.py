"""Other ways to move a policy: best of n, replay, weighted SFT (T7-T9), no leash (T10), alternation (T6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from nondecoupling.bounds.arguments import Arguments, tilted
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, Result, TensorLike
from nondecoupling.bounds.results import BestOfNBounds
from nondecoupling.formulas import price, schedules
from nondecoupling.formulas.laws import min_on_support
from nondecoupling.formulas.levels import levels_by_sorting
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor

After = Literal["sft", "half-rl", "rl"]
PHASES: dict[After, float] = {"sft": 0.0, "half-rl": 0.5, "rl": 1.0}
"""How much of the next RL phase has passed since SFT."""


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
        masses = levels_by_sorting(xp, log_ref, reward)
        return schedules.best_of_n(xp, log_ref, n, masses)

    arguments = Arguments(
        laws={"log_ref": log_ref}, reals={"reward": reward}, scalars={"n": n}, whole=("n",)
    )
    return arguments.map(policy, keeps_responses=True)


@overload
def best_of_n_bounds(n: ArrayLike) -> BestOfNBounds[FloatArray]: ...
@overload
def best_of_n_bounds(n: Tensor) -> BestOfNBounds[Tensor]: ...
def best_of_n_bounds(n: TensorLike) -> BestOfNBounds[Result]:
    """Upper bounds on KL(pi_n||ref) and on KL(ref||pi_n), pi_n the best of n draws from ref, for any reward.

    (log n - (n-1)/n, n - 1 - log n), nats per response. From ref = d the second is what SFT on the best of n,
    rejection sampling, can cost in SFT loss. Both are approached by many rare responses with distinct rewards.

    Shapes: n scalar or ``[...]`` -> two of ``[...]``. Errors: n not a whole number, or below 1. Source: T7.

    >>> to_ref, from_ref = best_of_n_bounds([1, 4])
    >>> to_ref.round(4).tolist(), from_ref.round(4).tolist()
    ([0.0, 0.6363], [0.0, 1.6137])
    """
    return BestOfNBounds(*Arguments(scalars={"n": n}, whole=("n",)).map(schedules.best_of_n_bounds))


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


@overload
def weighted_sft_optimum(log_d: ArrayLike, power: ArrayLike) -> FloatArray: ...
@overload
def weighted_sft_optimum(log_d: Tensor, power: TensorLike) -> Tensor: ...
def weighted_sft_optimum(log_d: TensorLike, power: TensorLike) -> Result:
    """Log-probabilities of where SFT ends that weighs each response by its own probability to a power a < 1.

    d^{1/(1-a)} normalised: sharper than the data for a > 0, flatter for a < 0, the data law at a = 0. The
    weight is held fixed in the gradient. It is the tilt of d by the reward log d at time a/(1 - a).

    Shapes: log_d ``[..., n]``, power scalar or ``[...]`` -> ``[..., n]``. Errors: power >= 1, where training
    ends at a single response. Source: T9.

    >>> import numpy as np
    >>> np.exp(weighted_sft_optimum(np.log([0.6, 0.4]), 0.5)).round(4).tolist()
    [0.6923, 0.3077]
    """
    arguments = Arguments(laws={"log_d": log_d}, scalars={"power": power})
    too_large = arguments.arrays["power"] >= 1
    arguments.refuse("power", too_large, "below 1: from 1 on training ends at a single response")

    def optimum(xp: Floats, log_d: Array, power: Array) -> Array:
        return schedules.sharpened(xp, log_d, 1 / (1 - power))

    return arguments.map(optimum, keeps_responses=True)


@overload
def frontier_weights(log_d: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> FloatArray: ...
@overload
def frontier_weights(log_d: Tensor, reward: TensorLike, beta: TensorLike) -> Tensor: ...
def frontier_weights(log_d: TensorLike, reward: TensorLike, beta: TensorLike) -> Result:
    """The weights beta/(mu - r) with which SFT on responses of d ends on the frontier of S5, with no RL.

    mu > max r is where their mean under d is one; responses that d misses get the weight 0, and the maximum is
    over the others. beta is the forward leash at whose optimum it ends: small beta weighs reward more. Unlike
    e^{r/beta}, which ends at the tilt, these pay exactly the price of the reward that they reach.

    Shapes: log_d, reward ``[..., n]``, beta > 0 scalar or ``[...]`` -> ``[..., n]``. Source: T9.

    >>> import numpy as np
    >>> frontier_weights(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 0.75).round(6).tolist()
    [0.5, 1.5]
    """

    def weights(xp: Floats, log_d: Array, reward: Array, beta: Array) -> Array:
        on = xp.support(log_d)
        seen = xp.where(on, reward, min_on_support(xp, log_d, reward))
        _, _, offset = price.frontier_policy(xp, log_d, seen, 1 / beta)
        return xp.where(on, 1 / price.frontier_ratio(xp, seen, 1 / beta, offset), 0.0)

    arguments = tilted({"log_d": log_d}, reward, beta)
    arguments.check_inverse("beta")
    return arguments.map(weights, keeps_responses=True)


@overload
def leashless_policy(log_ref: ArrayLike, reward: ArrayLike, tau: ArrayLike) -> FloatArray: ...
@overload
def leashless_policy(log_ref: Tensor, reward: TensorLike, tau: TensorLike) -> Tensor: ...
def leashless_policy(log_ref: TensorLike, reward: TensorLike, tau: TensorLike) -> Result:
    """Log-probabilities on the exact path of tabular policy gradient from ref, without a KL term.

    p is proportional to 1/(1/ref + sigma - tau r), sigma by sum log(1 + ref (sigma - tau r)) = 0. tau is not the
    time but grows with it: d tau/dt is one over the sum of e^theta. tau = 0 is ref; the path ends at the most
    likely response under ref of those with the largest reward.

    Shapes: log_ref, reward ``[..., n]``, tau >= 0 scalar or ``[...]`` -> ``[..., n]``. Units: tau is one over
    reward. Source: T10.

    >>> import numpy as np
    >>> path = leashless_policy(np.log([0.5, 0.25, 0.25]), np.array([1.0, 1.0, 0.0]), 23 / 3)
    >>> (137 * np.exp(path)).round(9).tolist()  # the likelier of the two best responses runs ahead
    [96.0, 32.0, 9.0]
    """
    arguments = Arguments(
        laws={"log_ref": log_ref},
        reals={"reward": reward},
        scalars={"tau": tau},
        nonnegative=("tau",),
        sampled="log_ref",
    )
    arguments.check_product("reward", "tau", squared=False)
    return arguments.map(schedules.leashless_policy, keeps_responses=True)


@overload
def alternation_limit(
    log_d: ArrayLike,
    reward: ArrayLike,
    rl_time: ArrayLike,
    sft_share: ArrayLike,
    after: After = ...,
) -> FloatArray: ...
@overload
def alternation_limit(
    log_d: Tensor,
    reward: TensorLike,
    rl_time: TensorLike,
    sft_share: TensorLike,
    after: After = ...,
) -> Tensor: ...
def alternation_limit(
    log_d: TensorLike,
    reward: TensorLike,
    rl_time: TensorLike,
    sft_share: TensorLike,
    after: After = "sft",
) -> Result:
    """Log-probabilities of where cycles of RL and SFT end, from any start.

    A cycle is RL for the time ``rl_time``, p -> p e^{s r}/norm, and SFT that goes the share ``sft_share`` of the
    way to d, p -> (1-eta) p + eta d (eta = 1 - e^-t for SFT by natural gradient for the time t). ``after`` says
    where in the cycle to stop: after SFT, after RL, or after half of the RL phase. With s/eta = nu fixed, short
    cycles end on the frontier of S5; the one that stops half-way overpays by the square of what the others do.

    Shapes: log_d (full support), reward ``[..., n]``, rl_time >= 0 and sft_share in (0, 1] scalars or ``[...]``
    -> ``[..., n]``. Units: rl_time is one over reward. Source: T6.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> np.exp(alternation_limit(d, r, np.log(3.0), 0.5)).round(6).tolist()
    [0.316987, 0.683013]
    """
    if after not in PHASES:
        raise ValueError(f"after={after!r}: one of {', '.join(map(repr, PHASES))}")

    def limit(xp: Floats, log_d: Array, reward: Array, rl_time: Array, sft_share: Array) -> Array:
        slack = schedules.alternation_slack(xp, log_d, reward, rl_time, sft_share)
        return schedules.alternated(xp, log_d, reward, rl_time, slack, PHASES[after])[0]

    return _cycles(log_d, reward, rl_time, sft_share).map(limit, keeps_responses=True)


@overload
def alternation_rate(
    log_d: ArrayLike, reward: ArrayLike, rl_time: ArrayLike, sft_share: ArrayLike
) -> FloatArray: ...
@overload
def alternation_rate(
    log_d: Tensor, reward: TensorLike, rl_time: TensorLike, sft_share: TensorLike
) -> Tensor: ...
def alternation_rate(
    log_d: TensorLike, reward: TensorLike, rl_time: TensorLike, sft_share: TensorLike
) -> Result:
    """The factor by which a cycle of RL and SFT shrinks the distance to ``alternation_limit``, at least.

    The distance is max v/min v - 1, v = p/limit after SFT. Between 0 (SFT all the way) and 1; at most
    (1 - eta)/(1 - eta + eta d(argmax r)), eta = ``sft_share``.

    Shapes: as ``alternation_limit`` -> ``[...]``. Source: T6.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> round(float(alternation_rate(d, r, np.log(3.0), 0.5)), 6)
    0.633975
    """

    def rate(xp: Floats, log_d: Array, reward: Array, rl_time: Array, sft_share: Array) -> Array:
        return 0.0 - xp.expm1(schedules.alternation_slack(xp, log_d, reward, rl_time, sft_share))

    return _cycles(log_d, reward, rl_time, sft_share).map(rate)


def _cycles(
    log_d: TensorLike, reward: TensorLike, rl_time: TensorLike, sft_share: TensorLike
) -> Arguments:
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"rl_time": rl_time, "sft_share": sft_share},
        nonnegative=("rl_time",),
        positive=("sft_share",),
        shares=("sft_share",),
        full_support=("log_d",),
    )
    arguments.check_product("reward", "rl_time", squared=False)
    return arguments
