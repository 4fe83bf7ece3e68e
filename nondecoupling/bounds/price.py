"""The price of reward: the least SFT loss increase that buys it, by any algorithm (S5, S7).

The best reward of a prompt counts here whether or not the data has it. In lists of responses that were padded
to one length ``mask`` (true where a response counts, in the shape of ``reward`` or broadcasting to it) keeps the
padding out; elsewhere in ``bounds`` a log-probability of -inf does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, overload

import numpy as np

from nondecoupling.bounds.arguments import Arguments
from nondecoupling.bounds.arrays import ArrayLike, FloatArray, MaskLike, Result, TensorLike
from nondecoupling.bounds.results import FrontierPolicy
from nondecoupling.formulas import laws, price
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array

if TYPE_CHECKING:
    from torch import Tensor


@overload
def price_of_reward(
    log_d: ArrayLike, reward: ArrayLike, target: ArrayLike, *, mask: MaskLike | None = ...
) -> FloatArray: ...
@overload
def price_of_reward(
    log_d: Tensor, reward: TensorLike, target: TensorLike, *, mask: MaskLike | None = ...
) -> Tensor: ...
def price_of_reward(
    log_d: TensorLike, reward: TensorLike, target: TensorLike, *, mask: MaskLike | None = None
) -> Result:
    """K_inf(d, c) = min{KL(d||p): E_p r >= c}: the least SFT loss increase that buys reward c.

    In nats per response. 0 for c <= J(d) (also where that is max r), else inf for c >= max r. Holds for
    every policy, reached by any algorithm; the maximum of ``reward`` is over all responses, also those with d = 0.

    Shapes: log_d, reward ``[..., n]``, target scalar or ``[...]`` -> ``[...]``. Source: S5,
    Honda and Takemura 2010.

    >>> import numpy as np
    >>> float(price_of_reward(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 0.75))
    0.1438...
    >>> d, r = np.array([-np.log(2), -np.log(2), -np.inf]), np.array([-2.0, -1.0, 0.0])  # padded
    >>> float(price_of_reward(d, r, -1.25, mask=[True, True, False]))
    0.1438...
    """
    arguments = Arguments(
        laws={"log_d": log_d}, reals={"reward": reward}, scalars={"target": target}, mask=mask
    )
    return arguments.map(price.price_of_reward)


@overload
def price_of_policy(
    log_d: ArrayLike, log_p: ArrayLike, reward: ArrayLike, *, mask: MaskLike | None = ...
) -> FloatArray: ...
@overload
def price_of_policy(
    log_d: Tensor, log_p: TensorLike, reward: TensorLike, *, mask: MaskLike | None = ...
) -> Tensor: ...
def price_of_policy(
    log_d: TensorLike, log_p: TensorLike, reward: TensorLike, *, mask: MaskLike | None = None
) -> Result:
    """K_inf(d, J(p)) <= KL(d||p): the least SFT loss increase that buys the reward of policy p.

    In nats per response. Near max r the price has no bounded slope, and J(p) rounded up could cost more than p
    paid: the reward is lowered by its own rounding first, so that the bound holds in floats too.

    Shapes: log_d, log_p, reward ``[..., n]`` -> ``[...]``. Source: S5.

    >>> import numpy as np
    >>> from nondecoupling.bounds import expected_reward, gibbs_tilt, kl_divergence
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> p = gibbs_tilt(d, r, beta=1e-3)  # J(p) rounds to max r
    >>> float(price_of_reward(d, r, expected_reward(p, r))), bool(price_of_policy(d, p, r) < kl_divergence(d, p))
    (inf, True)
    """
    arguments = Arguments(
        laws={"log_d": log_d, "log_p": log_p}, reals={"reward": reward}, mask=mask
    )
    return arguments.map(price.price_of_policy)


@overload
def frontier_policy(
    log_d: ArrayLike, reward: ArrayLike, rate: ArrayLike, *, mask: MaskLike | None = ...
) -> FrontierPolicy[FloatArray]: ...
@overload
def frontier_policy(
    log_d: Tensor, reward: TensorLike, rate: TensorLike, *, mask: MaskLike | None = ...
) -> FrontierPolicy[Tensor]: ...
def frontier_policy(
    log_d: TensorLike, reward: TensorLike, rate: TensorLike, *, mask: MaskLike | None = None
) -> FrontierPolicy[Result]:
    """The policy that buys reward at ``rate`` nats of SFT loss per unit, and the line it lies on.

    Returns log argmin_p [KL(d||p) - rate E_p r], the minimum h, and the offset t of p = d/(t + rate (M - r)).
    For *every* policy

        KL(d||p) >= rate E_p r + h,

    a supporting line of the frontier. Being linear in the reward, it may be averaged over prompts
    with one rate, and holds for estimated rewards without bias. h is a dual value: a lower bound
    even where the root behind it is rounded.

    Shapes: log_d, reward ``[..., n]``, rate > 0 scalar or ``[...]`` -> ``[..., n]``, ``[...]`` and ``[...]``.
    Units: rate in nats per unit of reward, h in nats. Source: S5.

    >>> import numpy as np
    >>> log_p, line, offset = frontier_policy(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 4 / 3)
    >>> np.exp(log_p).round(6).tolist(), round(float(4 / 3 * 0.75 + line), 4), round(float(offset), 4)
    ([0.25, 0.75], 0.1438, 0.6667)
    """
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"rate": rate},
        positive=("rate",),
        mask=mask,
    )
    arguments.check_product("reward", "rate", squared=False)
    found = arguments.map(price.frontier_policy, keeps_responses=(True, False, False))
    return FrontierPolicy(*found)


@overload
def supporting_line(
    log_d: ArrayLike,
    reward: ArrayLike,
    rate: ArrayLike,
    offset: ArrayLike,
    *,
    mask: MaskLike | None = ...,
) -> FloatArray: ...
@overload
def supporting_line(
    log_d: Tensor,
    reward: TensorLike,
    rate: TensorLike,
    offset: TensorLike,
    *,
    mask: MaskLike | None = ...,
) -> Tensor: ...
def supporting_line(
    log_d: TensorLike,
    reward: TensorLike,
    rate: TensorLike,
    offset: TensorLike,
    *,
    mask: MaskLike | None = None,
) -> Result:
    """The h of KL(d||p) >= rate E_p r + h that belongs to an offset t > 0 of one's own choice.

    h = 1 + E_d log(t + rate (M - r)) - t - rate M, M = max r: largest at the t of ``frontier_policy``, valid for
    every t. It is an expectation under d, so samples from d estimate it without bias once t is fixed.

    Shapes: log_d, reward ``[..., n]``, rate and offset > 0 scalar or ``[...]`` -> ``[...]``. Units: nats.
    Source: S5.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> bool(np.isclose(supporting_line(d, r, 4 / 3, 2 / 3), frontier_policy(d, r, 4 / 3).line))
    True
    """
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"rate": rate, "offset": offset},
        positive=("rate",),
        nonnegative=("offset",),
        mask=mask,
    )
    arguments.check_product("reward", "rate", squared=False)
    return arguments.map(price.supporting_line)


@overload
def price_of_average_reward(
    log_d: ArrayLike,
    reward: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = ...,
    mask: MaskLike | None = ...,
) -> FloatArray: ...
@overload
def price_of_average_reward(
    log_d: Tensor,
    reward: TensorLike,
    target: TensorLike,
    *,
    weights: TensorLike | None = ...,
    mask: MaskLike | None = ...,
) -> Tensor: ...
def price_of_average_reward(
    log_d: TensorLike,
    reward: TensorLike,
    target: TensorLike,
    *,
    weights: TensorLike | None = None,
    mask: MaskLike | None = None,
) -> Result:
    """min{E_q KL(d||p): E_q E_p r >= c}: the least SFT loss increase that buys an *average* reward.

    One rate for all prompts, so reward is bought where it is cheapest: at most the mean of
    ``price_of_reward`` at the prompts' own rewards. In nats per response, a dual value (a lower bound
    on what any policy pays). 0 for c <= E_q J(d), inf for c >= E_q max r. Prompts are
    equally likely, or as ``weights`` say, whose sum does not matter.

    Shapes: log_d, reward ``[prompts, n]``, target scalar or ``[k]``, weights ``[prompts]`` -> scalar or ``[k]``.
    Errors: other shapes, negative weights. Source: S5.

    >>> import numpy as np
    >>> d, r = np.log([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> float(price_of_average_reward(d, r, 0.5))
    0.1017...
    >>> float(price_of_average_reward(d, r, 0.5, weights=[3.0, 1.0]))  # the cheap prompt is frequent
    0.0235...
    """
    return _of_all_prompts(log_d, reward, target, weights, mask, price.price_of_average_reward)


@overload
def frontier_rate(
    log_d: ArrayLike,
    reward: ArrayLike,
    target: ArrayLike,
    *,
    weights: ArrayLike | None = ...,
    mask: MaskLike | None = ...,
) -> FloatArray: ...
@overload
def frontier_rate(
    log_d: Tensor,
    reward: TensorLike,
    target: TensorLike,
    *,
    weights: TensorLike | None = ...,
    mask: MaskLike | None = ...,
) -> Tensor: ...
def frontier_rate(
    log_d: TensorLike,
    reward: TensorLike,
    target: TensorLike,
    *,
    weights: TensorLike | None = None,
    mask: MaskLike | None = None,
) -> Result:
    """The one rate at which the frontier policies of all prompts reach E_q E_p r = target.

    The slope of ``price_of_average_reward`` at the target: what a little more average reward costs, in nats per
    unit of reward.

    Shapes: as ``price_of_average_reward``. Errors: a target outside (E_q J(d), E_q max r). Source: S5.

    >>> import numpy as np
    >>> from nondecoupling.bounds import expected_reward
    >>> d, r = np.log([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> rate = frontier_rate(d, r, 0.5)
    >>> policies, *_ = frontier_policy(d, r, rate)
    >>> round(float(expected_reward(policies, r).mean()), 9)
    0.5
    """

    def rates(xp: Floats, log_d: Array, reward: Array, shares: Array, targets: Array) -> Array:
        gain, shortfall = price.gain_and_shortfall(xp, log_d, reward, shares, targets)
        if not bool(xp.module.all((gain > 0) & (shortfall > 0))):
            free = float(xp.module.sum(shares * laws.expected_reward(xp, log_d, reward)))
            top = float(xp.module.sum(shares * xp.max(reward)))
            raise ValueError(
                f"target={target}: choose above the data's reward {free:.6g} and below the best, {top:.6g}"
            )
        return price.frontier_rates(xp, log_d, reward, shares, targets)

    return _of_all_prompts(log_d, reward, target, weights, mask, rates)


def _of_all_prompts(
    log_d: TensorLike,
    reward: TensorLike,
    target: TensorLike,
    weights: TensorLike | None,
    mask: MaskLike | None,
    function: Callable[..., Array],
) -> Result:
    """``function(xp, log_d, reward, shares, targets)``: rows and shares [prompts, 1] of all prompts, targets [k, 1]."""
    prompts = Arguments(laws={"log_d": log_d}, reals={"reward": reward}, mask=mask)
    if len(prompts.batch) != 1:
        raise ValueError(
            f"log_d {tuple(prompts.batch)} without its last axis: give [prompts, n], one axis of prompts"
        )
    targets = prompts.like("target", target)
    if not bool(prompts.module.all(prompts.module.isfinite(targets))):
        raise ValueError(f"target={target}: must be finite")
    shares = shares_of_prompts(prompts, weights)

    def at_targets(xp: Floats, log_d: Array, reward: Array) -> Array:
        return function(xp, log_d, reward, shares, targets.reshape(-1, 1))

    return prompts.all_rows(at_targets).reshape(targets.shape)[()]


def shares_of_prompts(prompts: Arguments, weights: TensorLike | None) -> Array:
    """The law q of the prompts, [prompts, 1], from weights of any sum; all alike where there are none.

    Raises:
        ValueError: no prompts; weights of another shape, negative or infinite ones, or none that is positive.
    """
    module, (count,) = prompts.module, prompts.batch or (1,)
    if count == 0:
        raise ValueError("log_d: no prompts; an average needs at least one")
    if weights is None:
        share = np.full((count, 1), 1 / count)
        return prompts.like("weights", share)
    given = prompts.like("weights", weights)
    if tuple(given.shape) != (count,):
        raise ValueError(f"weights {tuple(given.shape)}: give one for each of the {count} prompts")
    fine = bool(module.all(module.isfinite(given) & (given >= 0))) and bool(module.any(given > 0))
    if not fine:
        raise ValueError(f"weights={weights}: must be nonnegative and finite, one of them positive")
    shares = given / module.max(given)
    return (shares / module.sum(shares))[:, None]


@overload
def approximate_price_of_reward(
    log_d: ArrayLike,
    reward: ArrayLike,
    target: ArrayLike,
    eps: ArrayLike,
    *,
    mask: MaskLike | None = ...,
) -> FloatArray: ...
@overload
def approximate_price_of_reward(
    log_d: Tensor,
    reward: TensorLike,
    target: TensorLike,
    eps: TensorLike,
    *,
    mask: MaskLike | None = ...,
) -> Tensor: ...
def approximate_price_of_reward(
    log_d: TensorLike,
    reward: TensorLike,
    target: TensorLike,
    eps: TensorLike,
    *,
    mask: MaskLike | None = None,
) -> Result:
    """K_inf(d, c) - eps: the least SFT loss change of a policy with E_p r >= c, if KL(d||ref) <= eps.

    In nats per response; negative where RL may reach the reward c while the SFT loss falls. Holds
    for every policy, reached from ``ref`` by any algorithm.

    Shapes: log_d, reward ``[..., n]``, target and eps scalar or ``[...]`` -> ``[...]``. Errors: eps < 0.
    Source: S7.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(approximate_price_of_reward(d, r, 0.75, eps=0.05))
    0.0938...
    """
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"target": target, "eps": eps},
        nonnegative=("eps",),
        mask=mask,
    )

    def less_eps(xp: Floats, eps: Array, **rest: Array) -> Array:
        return price.price_of_reward(xp, **rest) - eps

    return arguments.map(less_eps)


@overload
def highest_reward(
    log_d: ArrayLike, reward: ArrayLike, excess: ArrayLike, *, mask: MaskLike | None = ...
) -> FloatArray: ...
@overload
def highest_reward(
    log_d: Tensor, reward: TensorLike, excess: TensorLike, *, mask: MaskLike | None = ...
) -> Tensor: ...
def highest_reward(
    log_d: TensorLike, reward: TensorLike, excess: TensorLike, *, mask: MaskLike | None = None
) -> Result:
    """No policy p with KL(d||p) <= ``excess`` has more reward, in reward units; excess = eps + DeltaL(p).

    J(d) + R min(sqrt(x/2), sqrt(1 - e^-x)) at x = excess, or max r: Pinsker's root is the smaller one up to
    x = 1.59, and from x = 2 on it says nothing. The exact inverse is ``price_of_reward``.

    Shapes: log_d, reward ``[..., n]``, excess scalar or ``[...]`` -> ``[...]``. Errors: excess < 0. Source: S7.

    >>> import numpy as np
    >>> d, r = np.log([0.99, 0.01]), np.array([0.0, 1.0])
    >>> highest_reward(d, r, np.array([0.0, 0.02, 2.0, 100.0])).round(3).tolist()
    [0.01, 0.11, 0.94, 1.0]
    """
    arguments = Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"excess": excess},
        nonnegative=("excess",),
        mask=mask,
    )
    return arguments.map(price.highest_reward)


@overload
def overpayment(
    log_d: ArrayLike, log_p: ArrayLike, reward: ArrayLike, *, mask: MaskLike | None = ...
) -> FloatArray: ...
@overload
def overpayment(
    log_d: Tensor, log_p: TensorLike, reward: TensorLike, *, mask: MaskLike | None = ...
) -> Tensor: ...
def overpayment(
    log_d: TensorLike, log_p: TensorLike, reward: TensorLike, *, mask: MaskLike | None = None
) -> Result:
    """KL(d||p) - K_inf(d, J(p)) >= 0: the SFT loss that p paid beyond the price of its own reward.

    In nats per response; zero iff p lies on the frontier of SFT loss and reward. Computed as E_d[z - 1 - log z] +
    E_p[1_{d=0} b], z = p b/d, b the frontier's ratio d/p: no difference of the two losses is taken, so it is
    accurate next to the frontier too. KL(d||p) where J(p) <= J(d). inf where p misses mass of d, also if its
    reward has an infinite price.

    Shapes: log_d, log_p, reward ``[..., n]`` -> ``[...]``. Source: S9.

    >>> import numpy as np
    >>> from nondecoupling.bounds import gibbs_tilt
    >>> d, three_levels = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> float(overpayment(d, gibbs_tilt(d, three_levels, 0.5), three_levels))  # the tilt pays too much
    0.2466...
    >>> two_levels = np.array([0.0, 1.0, 1.0])
    >>> bool(overpayment(d, gibbs_tilt(d, two_levels, 0.5), two_levels) < 1e-30)
    True
    """
    arguments = Arguments(
        laws={"log_d": log_d, "log_p": log_p}, reals={"reward": reward}, mask=mask
    )
    return arguments.map(price.overpayment)
