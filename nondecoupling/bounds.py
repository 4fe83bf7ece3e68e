"""The numeric API: every quantity and bound of the theory, batched, in NumPy or torch.

Conventions. Laws are log-probabilities (``log_p``; ``-inf`` for zero mass) in natural logarithms;
losses and divergences are in nats per response. The last axis lists the responses, leading axes
are a batch of prompts or worlds; per-world numbers (``beta``, ``target``) are scalars or have the
batch shape, and so have the results. dtype and device in = dtype and device out (float32 or
float64); in torch everything is differentiable, with gradients meant along the simplex.

Errors, for every function: ``ValueError`` naming the argument, the value and the remedy, for NaN, rows that do
not sum to one within sqrt(eps) of their dtype, ``beta <= 0``, non-finite rewards and shapes that do not match.
Nothing is renormalised. Sources: statement ids refer to ``nondecoupling.catalog``.

>>> import numpy as np
>>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
>>> float(coupling_gap(d, r, beta=1.0))  # RL at beta = 1 raises the SFT loss by this much
0.7738...
"""

from __future__ import annotations

from functools import partial
from typing import Any

import array_api_compat

from nondecoupling import joint, landscape, quantities, solvers
from nondecoupling.namespaces import floats_of
from nondecoupling.policies import TokenTree
from nondecoupling.validation import Arguments


def _laws(**laws: Any) -> Arguments:
    return Arguments(laws=laws)


def _tilted(laws: dict[str, Any], reward: Any, beta: Any, **checks: Any) -> Arguments:
    return Arguments(
        laws=laws, reals={"reward": reward}, scalars={"beta": beta}, positive=("beta",), **checks
    )


def kl_divergence(log_p: Any, log_q: Any) -> Any:
    """KL(p||q) = E_p log(p/q) in nats, in [0, inf]; inf where q misses mass of p.

    Evaluated as sum p (e^u - 1 - u), u = log(q/p): relative accuracy even for p close to q.
    For rows that are normalised only up to rounding this is the generalised KL, which differs by
    sum q - sum p.

    Shapes: log_p, log_q ``[..., n]`` -> ``[...]``. Source: F1.

    >>> import numpy as np
    >>> float(kl_divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75])))
    0.1438...
    """
    return _laws(log_p=log_p, log_q=log_q).map(quantities.kl_divergence)


def cross_entropy(log_d: Any, log_p: Any) -> Any:
    """CE(d, p) = -E_d log p in nats per response: the SFT loss of policy p on the data law d.

    Shapes: log_d, log_p ``[..., n]`` -> ``[...]``. Source: F2.

    >>> import numpy as np
    >>> float(cross_entropy(np.log([0.5, 0.5]), np.log([0.25, 0.75])))
    0.8369...
    """
    return _laws(log_d=log_d, log_p=log_p).map(quantities.cross_entropy)


def entropy(log_p: Any) -> Any:
    """H(p) = -E_p log p in nats: the smallest SFT loss that data following p allow.

    Shapes: log_p ``[..., n]`` -> ``[...]``. Source: F2.

    >>> import numpy as np
    >>> float(entropy(np.log([0.5, 0.5])))
    0.6931...
    """
    return _laws(log_p=log_p).map(quantities.entropy)


def token_kl_divergence(log_p: Any, log_q: Any, tree: TokenTree) -> Any:
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
    arguments = _laws(log_p=log_p, log_q=log_q)
    responses, sequences = arguments.arrays["log_p"].shape[-1], len(tree.sequences)
    if responses != sequences:
        raise ValueError(
            f"tree has {sequences} sequences, log_p {responses} responses: list each sequence once"
        )
    return arguments.map(partial(quantities.token_kl_divergence, nodes=tree.nodes))


def sft_loss_gradient(log_p: Any, log_d: Any) -> Any:
    """The gradient p - d of the SFT loss CE(d, softmax(theta)) in the logits, nats per unit of logit.

    Shapes: log_p, log_d ``[..., n]`` -> ``[..., n]``. Source: F5.

    >>> import numpy as np
    >>> sft_loss_gradient(np.log([0.25, 0.75]), np.log([0.5, 0.5])).round(12).tolist()
    [-0.25, 0.25]
    """
    return _laws(log_p=log_p, log_d=log_d).map(quantities.sft_loss_gradient, keeps_responses=True)


def reward_gradient(log_p: Any, reward: Any) -> Any:
    """The gradient p (r - E_p r) of J(softmax(theta)) in the logits, reward units per unit of logit.

    Shapes: log_p, reward ``[..., n]`` -> ``[..., n]``. Source: F5, Mei et al. 2020.

    >>> import numpy as np
    >>> reward_gradient(np.log([0.25, 0.75]), np.array([0.0, 1.0])).round(12).tolist()
    [-0.1875, 0.1875]
    """
    arguments = Arguments(laws={"log_p": log_p}, reals={"reward": reward})
    return arguments.map(quantities.reward_gradient, keeps_responses=True)


def implicit_reward(log_p: Any, log_ref: Any, beta: Any) -> Any:
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
    return arguments.map(quantities.implicit_reward, keeps_responses=True)


def log_partition(log_ref: Any, reward: Any, beta: Any) -> Any:
    """log Z = log E_ref e^{r/beta}; beta log Z is the soft value, the largest J_b.

    Shapes: log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: F3.

    >>> import numpy as np
    >>> float(log_partition(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.6201...
    """
    return _tilted({"log_ref": log_ref}, reward, beta).map(quantities.log_partition)


def gibbs_tilt(log_ref: Any, reward: Any, beta: Any) -> Any:
    """Log-probabilities of tilt = ref e^{r/beta} / Z, the exact optimum of KL-regularised RL.

    Shapes: log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[..., n]``. Source: F3.

    >>> import numpy as np
    >>> np.exp(gibbs_tilt(np.log([0.5, 0.5]), np.array([0.0, np.log(3.0)]), 1.0)).round(12).tolist()
    [0.25, 0.75]
    """
    arguments = _tilted({"log_ref": log_ref}, reward, beta)
    return arguments.map(quantities.gibbs_tilt, keeps_responses=True)


def expected_reward(log_p: Any, reward: Any) -> Any:
    """J(p) = E_p r, the raw reward, in the units of ``reward``.

    Shapes: log_p, reward ``[..., n]`` -> ``[...]``.

    >>> import numpy as np
    >>> float(expected_reward(np.log([0.25, 0.75]), np.array([0.0, 1.0])))
    0.75
    """
    arguments = Arguments(laws={"log_p": log_p}, reals={"reward": reward})
    return arguments.map(quantities.expected_reward)


def regularized_reward(log_p: Any, log_ref: Any, reward: Any, beta: Any) -> Any:
    """J_b(p) = E_p r - beta KL(p||ref), what RL under a KL leash maximises, in reward units.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: F3.

    >>> import numpy as np
    >>> float(regularized_reward(np.log([0.5, 0.5]), np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.5
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return _tilted(laws, reward, beta).map(quantities.regularized_reward)


def sft_loss_increase(log_d: Any, log_ref: Any, reward: Any, beta: Any) -> Any:
    """DeltaL(tilt) = CE(d, tilt) - CE(d, ref) = log Z - E_d r/beta, in nats per response; may be < 0.

    What RL from ``ref`` to its exact optimum does to the SFT loss. Assumes d << ref.

    Shapes: log_d, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: S1.

    >>> import numpy as np
    >>> d, ref, r = np.log([0.1, 0.9]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(sft_loss_increase(d, ref, r, 1.0))  # far from SFT optimality RL can help the SFT loss
    -0.2798...
    """
    laws = {"log_d": log_d, "log_ref": log_ref}
    arguments = _tilted(laws, reward, beta, inside={"log_d": "log_ref"})
    return arguments.map(quantities.sft_loss_increase)


def sft_loss_change(log_d: Any, log_ref: Any, log_p: Any) -> Any:
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
    return arguments.map(quantities.sft_loss_change)


def coupling_gap(log_d: Any, reward: Any, beta: Any) -> Any:
    """log E_d e^{r/beta} - E_d r/beta >= 0: by how much RL raises the SFT loss if ref = d.

    In nats per response; zero iff r is constant on supp d. Evaluated as
    log(1 + E_d[e^x - 1 - x]), x = (r - E_d r)/beta: relative accuracy from beta = 1e-6 to 1e6.

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: S2.

    >>> import numpy as np
    >>> float(coupling_gap(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1e6))
    1.249...e-13
    """
    return _tilted({"log_d": log_d}, reward, beta).map(quantities.coupling_gap)


def coupling_gap_bounds(log_d: Any, reward: Any, beta: Any) -> tuple[Any, Any]:
    """Lower and upper bound on ``coupling_gap`` from the mean, variance and range of r under d.

    The lower one is Bennett's, the upper one the smaller of Bennett's and Hoeffding's R^2/(8 beta^2).
    In nats per response; both are attained by two-point laws.

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> two of ``[...]``. Source: S3.

    >>> import numpy as np
    >>> lower, upper = coupling_gap_bounds(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0)
    >>> float(upper - lower) < 1e-15  # two responses: attained
    True
    """

    def both(xp: Any, **arguments: Any) -> tuple[Any, Any]:
        lower, bennett, hoeffding = quantities.coupling_gap_bounds(xp, **arguments)
        return lower, xp.minimum(bennett, hoeffding)

    return _tilted({"log_d": log_d}, reward, beta).map(both)


def price_of_reward(log_d: Any, reward: Any, target: Any) -> Any:
    """K_inf(d, c) = min{KL(d||p): E_p r >= c}: the least SFT loss increase that buys reward c.

    In nats per response. 0 for c <= J(d), inf for c >= max r. Holds for every policy, reached by
    any algorithm; the maximum of ``reward`` is over all responses, also those with d = 0.

    Shapes: log_d, reward ``[..., n]``, target scalar or ``[...]`` -> ``[...]``. Source: S5,
    Honda and Takemura 2010.

    >>> import numpy as np
    >>> float(price_of_reward(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 0.75))
    0.1438...
    """
    arguments = Arguments(
        laws={"log_d": log_d}, reals={"reward": reward}, scalars={"target": target}
    )
    return arguments.map(solvers.price_of_reward)


def price_of_policy(log_d: Any, log_p: Any, reward: Any) -> Any:
    """K_inf(d, J(p)) <= KL(d||p): the least SFT loss increase that buys the reward of policy p.

    In nats per response. Near max r the price has no bounded slope, and J(p) rounded up could cost more than p
    paid: the reward is lowered by its own rounding first, so that the bound holds in floats too.

    Shapes: log_d, log_p, reward ``[..., n]`` -> ``[...]``. Source: S5.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> p = gibbs_tilt(d, r, beta=1e-3)  # J(p) rounds to max r
    >>> float(price_of_reward(d, r, expected_reward(p, r))), bool(price_of_policy(d, p, r) < kl_divergence(d, p))
    (inf, True)
    """
    arguments = Arguments(laws={"log_d": log_d, "log_p": log_p}, reals={"reward": reward})
    eps = float(arguments.module.finfo(arguments.dtype).eps)

    def price(xp: Any, log_d: Any, log_p: Any, reward: Any) -> Any:
        # J sums p (r - r(mode)), |r - r(mode)| <= 2 max |r|: per unit of mass at most 3 eps of exp, one of
        # difference and product, n of the sum.
        rounding = 2 * eps * (reward.shape[-1] + 4) * xp.max(xp.abs(reward))
        reached = quantities.expected_reward(xp, log_p, reward) - rounding
        return solvers.price_of_reward(xp, log_d, reward, reached)

    return arguments.map(price)


def frontier_policy(log_d: Any, reward: Any, rate: Any) -> tuple[Any, Any, Any]:
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
    return Arguments(
        laws={"log_d": log_d}, reals={"reward": reward}, scalars={"rate": rate}, positive=("rate",)
    ).map(solvers.frontier_policy, keeps_responses=(True, False, False))


def supporting_line(log_d: Any, reward: Any, rate: Any, offset: Any) -> Any:
    """The h of KL(d||p) >= rate E_p r + h that belongs to an offset t > 0 of one's own choice.

    h = 1 + E_d log(t + rate (M - r)) - t - rate M, M = max r: largest at the t of ``frontier_policy``, valid for
    every t. It is an expectation under d, so samples from d estimate it without bias once t is fixed.

    Shapes: log_d, reward ``[..., n]``, rate and offset > 0 scalar or ``[...]`` -> ``[...]``. Units: nats.
    Source: S5.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(supporting_line(d, r, 4 / 3, 2 / 3)) == float(frontier_policy(d, r, 4 / 3)[1])
    True
    """
    return Arguments(
        laws={"log_d": log_d},
        reals={"reward": reward},
        scalars={"rate": rate, "offset": offset},
        positive=("rate", "offset"),
    ).map(quantities.supporting_line)


def price_of_average_reward(log_d: Any, reward: Any, target: Any) -> Any:
    """min{E_q KL(d||p): E_q E_p r >= c}: the least SFT loss increase that buys an *average* reward.

    One rate for all prompts, so reward is bought where it is cheapest: at most the mean of
    ``price_of_reward`` at the prompts' own rewards. In nats per response, a dual value (a lower bound
    on what any policy pays). 0 for c <= E_q J(d), inf for c >= E_q max r. Prompts equally likely.

    Shapes: log_d, reward ``[prompts, n]``, target scalar or ``[k]`` -> scalar or ``[k]``. Errors: other
    shapes. Source: S5.

    >>> import numpy as np
    >>> d, r = np.log([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> float(price_of_average_reward(d, r, 0.5))
    0.1017...
    """
    return _of_all_prompts(log_d, reward, target, solvers.price_of_average_reward)


def frontier_rate(log_d: Any, reward: Any, target: Any) -> Any:
    """The one rate at which the frontier policies of all prompts reach E_q E_p r = target.

    The slope of ``price_of_average_reward`` at the target: what a little more average reward costs, in nats per
    unit of reward. Prompts equally likely.

    Shapes: as ``price_of_average_reward``. Errors: a target outside (E_q J(d), E_q max r). Source: S5.

    >>> import numpy as np
    >>> d, r = np.log([[0.5, 0.5], [0.9, 0.1]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> rate = frontier_rate(d, r, 0.5)
    >>> policies, *_ = frontier_policy(d, r, rate)
    >>> round(float(expected_reward(policies, r).mean()), 9)
    0.5
    """
    free = float(expected_reward(log_d, reward).mean())

    def rates(xp: Any, log_d: Any, reward: Any, targets: Any) -> Any:
        top = float(xp.module.mean(xp.max(reward)))
        if not bool(xp.module.all((targets > free) & (targets < top))):
            raise ValueError(
                f"target={target}: choose above the data's reward {free:.6g} and below the best, {top:.6g}"
            )
        return solvers.frontier_rates(xp, log_d, reward, targets)

    return _of_all_prompts(log_d, reward, target, rates)


def _of_all_prompts(log_d: Any, reward: Any, target: Any, function: Any) -> Any:
    """``function(xp, log_d, reward, targets)`` on the rows of all prompts and targets [k, 1]."""
    prompts = Arguments(laws={"log_d": log_d}, reals={"reward": reward})
    if len(prompts.batch) != 1:
        raise ValueError(
            f"log_d {tuple(prompts.batch)} without its last axis: give [prompts, n], one axis of prompts"
        )
    targets = prompts.like(target)
    if not bool(prompts.module.all(prompts.module.isfinite(targets))):
        raise ValueError(f"target={target}: must be finite")

    def at_targets(xp: Any, **law_and_reward: Any) -> Any:
        return function(xp, **law_and_reward, targets=targets.reshape(-1, 1))

    return prompts.all_rows(at_targets).reshape(targets.shape)[()]


def approximate_price_of_reward(log_d: Any, reward: Any, target: Any, eps: Any) -> Any:
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
        laws={"log_d": log_d}, reals={"reward": reward}, scalars={"target": target, "eps": eps}
    )
    _require_nonnegative(arguments, "eps")

    def less_eps(xp: Any, eps: Any, **rest: Any) -> Any:
        return solvers.price_of_reward(xp, **rest) - eps

    return arguments.map(less_eps)


def decoupling_threshold(log_ref: Any, reward: Any, beta: Any) -> tuple[Any, Any]:
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
    return _tilted({"log_ref": log_ref}, reward, beta).map(solvers.decoupling_threshold)


def best_early_stop(log_d: Any, log_ref: Any, reward: Any) -> tuple[Any, Any]:
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
    return arguments.map(solvers.best_early_stop)


def samples_to_detect(log_d: Any, reward: Any, beta: Any, z: Any) -> Any:
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
    return arguments.map(quantities.samples_to_detect)


def regularized_reward_drop(log_p: Any, log_ref: Any, reward: Any, beta: Any) -> Any:
    """J_b(tilt) - J_b(p) = beta KL(p||tilt) >= 0, in reward units: what an SFT result p loses.

    Measured from the exact RL optimum; for a trained RL result subtract its own drop (R8).

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R1.

    >>> import numpy as np
    >>> ref = np.log([0.5, 0.5])
    >>> float(regularized_reward_drop(ref, ref, np.array([0.0, 1.0]), 1.0))
    0.1201...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return _tilted(laws, reward, beta).map(quantities.regularized_reward_drop)


def reward_drop(log_p: Any, log_ref: Any, reward: Any, beta: Any) -> Any:
    """J(tilt) - J(p) = beta [KL(p||tilt) + KL(tilt||ref) - KL(p||ref)], in reward units; may be < 0.

    Negative exactly where SFT *raised* the raw reward (R5). Assumes p << ref.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R2.

    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(reward_drop(np.log([0.1, 0.9]), ref, r, 1.0))
    -0.1689...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return _tilted(laws, reward, beta, inside={"log_p": "log_ref"}).map(quantities.reward_drop)


def reward_drop_in_kl_ball(log_p: Any, log_ref: Any, reward: Any, beta: Any) -> Any:
    """Lower bound beta KL(p||tilt) on the raw reward drop if KL(p||ref) <= KL(tilt||ref); else -inf.

    In reward units. Outside the ball nothing is guaranteed, which the value -inf says.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R3.

    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(reward_drop_in_kl_ball(np.log([0.1, 0.9]), ref, r, 1.0))
    -inf
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return _tilted(laws, reward, beta).map(quantities.reward_drop_in_kl_ball)


def cycle_loss(log_d: Any, reward: Any, beta: Any) -> Any:
    """J(tilt) - J(d) = beta [KL(d||tilt) + KL(tilt||d)] if ref = d, in reward units.

    What RL gained and SFT back to d takes away.

    Shapes: log_d, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R6.

    >>> import numpy as np
    >>> float(cycle_loss(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))
    0.2310...
    """
    return _tilted({"log_d": log_d}, reward, beta).map(quantities.cycle_loss)


def reward_change_bounds(log_tilt: Any, reward: Any, kl: Any) -> tuple[Any, Any]:
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

    def best(xp: Any, log_tilt: Any, reward: Any, kl: Any) -> tuple[Any, Any]:
        *both, drops, rises = quantities.reward_change_bounds(xp, log_tilt, reward, kl)
        x = quantities.centred(xp, log_tilt, reward)
        either = xp.minimum(*both)
        below = -quantities.min_on_support(xp, log_tilt, x)
        above = quantities.max_on_support(xp, log_tilt, x)
        return (
            -xp.minimum(xp.minimum(either, drops), below),
            xp.minimum(xp.minimum(either, rises), above),
        )

    return _with_kl(log_tilt, reward, kl).map(best)


def reward_change_extremes(log_tilt: Any, reward: Any, kl: Any) -> tuple[Any, Any]:
    """The exact (smallest, largest) J(p) - J(tilt) over all p with KL(p||tilt) <= kl.

    Attained by tilt e^{t r}/Z with t < 0 and t > 0; in reward units.

    Shapes: log_tilt, reward ``[..., n]``, kl scalar or ``[...]`` -> two of ``[...]``. Errors: kl < 0.
    Source: R4.

    >>> import numpy as np
    >>> lowest, highest = reward_change_extremes(np.log([0.9, 0.1]), np.array([0.0, 1.0]), 0.01)
    >>> float(lowest), float(highest)
    (-0.0395..., 0.0449...)
    """

    def both(xp: Any, log_tilt: Any, reward: Any, kl: Any) -> tuple[Any, Any]:
        drop = solvers.largest_rise(xp, log_tilt, -reward, kl)
        return -drop, solvers.largest_rise(xp, log_tilt, reward, kl)

    return _with_kl(log_tilt, reward, kl).map(both)


def _with_kl(log_tilt: Any, reward: Any, kl: Any) -> Arguments:
    arguments = Arguments(laws={"log_tilt": log_tilt}, reals={"reward": reward}, scalars={"kl": kl})
    _require_nonnegative(arguments, "kl")
    return arguments


def _require_nonnegative(arguments: Arguments, name: str) -> None:
    if bool((arguments.arrays[name] < 0).any()):
        raise ValueError(f"{name}={arguments.arrays[name].min().item()}: must not be negative")


def sft_step_reward_slope(log_p: Any, log_d: Any, reward: Any) -> Any:
    """-<p - d, p (r - E_p r)>: the rate at which a first softmax SFT step from p changes J(p).

    In reward units per unit of step size; its sign is indefinite even if p is the tilt of d (R7).

    Shapes: log_p, log_d, reward ``[..., n]`` -> ``[...]``. Source: R7.

    >>> import numpy as np
    >>> d, r = np.log([1 / 14, 6 / 14, 7 / 14]), np.array([8.0, 7.0, 0.0])
    >>> float(sft_step_reward_slope(gibbs_tilt(d, r, 1.0), d, r))
    5.15...e-05
    """
    laws = {"log_p": log_p, "log_d": log_d}
    return Arguments(laws=laws, reals={"reward": reward}).map(quantities.sft_step_reward_slope)


# --- landscape (P1-P6) --------------------------------------------------------------------------


def pl_sft_bound(log_d: Any, log_p: Any) -> Any:
    """log(1 + ||p - d||^2/min p) >= KL(d||p): the excess SFT loss, from its gradient in the logits.

    In nats. Assumes p = softmax(theta), so full support. Sharper than the PL form ||p - d||^2/min p.
    Vacuous for a language model, where min p is tiny.

    Shapes: log_d, log_p ``[..., n]`` -> ``[...]``. Source: P1.

    >>> import numpy as np
    >>> float(pl_sft_bound(np.log([0.5, 0.5]), np.log([0.4, 0.6])))
    0.0487...
    """
    return _laws(log_d=log_d, log_p=log_p).map(landscape.pl_sft_bound)


def logit_sandwich(theta: Any, theta_prime: Any) -> tuple[Any, Any]:
    """Lower and upper bound (m/2) D and D/4 on KL(softmax theta||softmax theta'), in nats.

    D = ||(theta - theta')_c||^2, centred over the responses; m the least probability of either law.

    Shapes: theta, theta_prime ``[..., n]`` -> two of ``[...]``. Source: P2.

    >>> import numpy as np
    >>> lower, upper = logit_sandwich(np.array([0.0, 0.0]), np.array([0.5, -0.5]))
    >>> round(float(lower), 4), float(upper)
    (0.0672, 0.125)
    """
    arguments = Arguments(laws={}, reals={"theta": theta, "theta_prime": theta_prime})
    return arguments.map(landscape.logit_sandwich)


def pl_reward_bound(log_p: Any, log_ref: Any, reward: Any, beta: Any) -> Any:
    """||grad J_b||^2/(4 beta (min p)^2) >= J_b(tilt) - J_b(p), the gradient taken in the logits.

    In reward units. Assumes that p and ref have full support.

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: P3.

    >>> import numpy as np
    >>> p, ref = np.log([0.4, 0.6]), np.log([0.5, 0.5])
    >>> float(pl_reward_bound(p, ref, np.array([0.0, 1.0]), 1.0))
    0.0636...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    arguments = _tilted(laws, reward, beta, full_support=("log_p", "log_ref"))
    return arguments.map(landscape.pl_reward_bound)


def rl_improves_sft_threshold(
    log_d: Any, log_p: Any, direction: Any, step: Any
) -> tuple[Any, Any, Any]:
    """Whether a step of size ``step`` along ``direction`` in logit space lowers the SFT loss.

    Returns (change, raises_below, lowers_above) in nats: the exact change of CE(d, p); the excess
    loss KL(d||p) below which the step raises it for certain, and the one above which it lowers it for
    certain (inf if the step does not point to the data). With direction = reward and step = 1/beta
    the step is RL to the tilt of p. Assumes full support of p, step > 0; where d misses a response
    raises_below is 0 and says nothing.

    Shapes: log_d, log_p, direction ``[..., n]``, step scalar or ``[...]`` -> three of ``[...]``.
    Source: P4.

    >>> import numpy as np
    >>> d, p, r = np.log([0.1, 0.9]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> change, raises_below, lowers_above = rl_improves_sft_threshold(d, p, r, 0.5)
    >>> round(float(change), 3), float(kl_divergence(d, p)) > float(lowers_above)
    (-0.169, True)
    """
    arguments = Arguments(
        laws={"log_d": log_d, "log_p": log_p},
        reals={"direction": direction},
        scalars={"step": step},
        positive=("step",),
        full_support=("log_p",),
    )
    return arguments.map(landscape.rl_improves_sft_threshold)


def optimal_rl_duration(log_d: Any, reward: Any, weight: Any) -> tuple[Any, Any, Any]:
    """The duration s = 1/beta that maximises J(tilt_s) - weight * DeltaL(tilt_s), ref = d.

    Returns (duration, low, high): the global maximiser, and an interval that contains every
    stationary point, in nats per reward unit. Local maxima closer together than the resolution of a
    grid of 258 points are not told apart; ``nondecoupling.duration.certify_duration`` decides one
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
    return arguments.map(solvers.optimal_rl_duration)


def kernel_cosine(kernel: Any, u: Any, v: Any) -> Any:
    """cos_K(u, v) = u^T K v/sqrt(u^T K u v^T K v); 0 where a norm vanishes.

    For K = Phi Phi^T it is the cosine of the parameter gradients Phi^T u and Phi^T v. ``ValueError``
    if K is not symmetric positive semidefinite.

    Shapes: kernel ``[..., n, n]``, u, v ``[..., n]`` -> ``[...]``. Source: P6.

    >>> import numpy as np
    >>> float(kernel_cosine(np.diag([1.0, 0.0]), np.array([1.0, 5.0]), np.array([-2.0, 0.0])))
    -1.0
    """

    def cosine(xp: Any, spectrum: Any, u: Any, v: Any) -> Any:
        return landscape.spectral_cosine(xp, spectrum, u, v)

    return _in_eigenbasis(kernel, u, v).map(cosine)


def spectral_misalignment_bound(kernel: Any, u: Any, v: Any, k: int) -> Any:
    """Upper bound on |cos_K(u, v)| from the top k eigenvectors of K and what lies outside them.

    sqrt((1 - tau_u)(1 - tau_v)) |cos_K in the top k| + sqrt(tau_u tau_v), tau_u the share of u^T K u
    outside. ``ValueError`` if K is not symmetric positive semidefinite, or k is not in 0..n.

    Shapes: kernel ``[..., n, n]``, u, v ``[..., n]`` -> ``[...]``. Source: P6.

    >>> import numpy as np
    >>> kernel, u, v = np.diag([1.0, 0.01]), np.array([0.1, 1.0]), np.array([1.0, -2.0])
    >>> round(float(spectral_misalignment_bound(kernel, u, v, 1)), 3)
    0.832
    """
    arguments = _in_eigenbasis(kernel, u, v)
    n = arguments.arrays["u"].shape[-1]
    if not 0 <= k <= n:
        raise ValueError(f"k={k}: must be between 0 and the number of responses, {n}")

    def bound(xp: Any, spectrum: Any, u: Any, v: Any) -> Any:
        # Eigenvalues come in ascending order.
        inside = xp.module.arange(n, device=array_api_compat.device(u)) >= n - k
        return landscape.spectral_cosine_bound(xp, spectrum, u, v, inside)

    return arguments.map(bound)


def _in_eigenbasis(kernel: Any, u: Any, v: Any) -> Arguments:
    """The spectrum of the kernel and the two vectors in its eigenbasis."""
    vectors = Arguments(laws={}, reals={"u": u, "v": v})
    module, dtype, n = vectors.module, vectors.dtype, vectors.arrays["u"].shape[-1]
    kernel = module.asarray(kernel, dtype=dtype, device=vectors.device)
    if kernel.ndim < 2 or tuple(kernel.shape[-2:]) != (n, n):
        raise ValueError(f"kernel {tuple(kernel.shape)}: the last two axes must be ({n}, {n})")
    if not bool(module.all(module.isfinite(kernel))):
        raise ValueError("kernel: must consist of finite numbers")
    scale = float(module.max(module.abs(kernel)))
    tolerance = n * float(module.finfo(dtype).eps) ** 0.5 * scale
    if float(module.max(module.abs(kernel - module.matrix_transpose(kernel)))) > tolerance:
        raise ValueError("kernel: not symmetric; give Phi Phi^T")
    spectrum, basis = module.linalg.eigh(kernel)
    if float(module.min(spectrum)) < -tolerance:
        raise ValueError(f"kernel: eigenvalue {float(module.min(spectrum)):.3g} is negative")
    spectrum = module.where(spectrum > 0, spectrum, module.zeros_like(spectrum))
    turned = [
        module.matmul(x.reshape((*vectors.batch, 1, n)), basis)[..., 0, :]
        for x in (vectors.arrays["u"], vectors.arrays["v"])
    ]
    return Arguments(laws={}, reals={"spectrum": spectrum, "u": turned[0], "v": turned[1]})


# --- prompts and joint training (D1, J1) --------------------------------------------------------


def shared_prompt_loss_increase(
    log_sft: Any, log_rl: Any, log_d: Any, reward: Any, beta: Any
) -> Any:
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
    gap = coupling_gap(log_d, reward, beta)
    arguments = Arguments(laws={"log_sft": log_sft, "log_rl": log_rl}, reals={"values": gap})
    return arguments.map(joint.shared_prompts)


def decoupled(log_sft: Any, log_rl: Any, log_d: Any, reward: Any) -> Any:
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
    spread = arguments.map(joint.reward_range)
    arguments = Arguments(laws={"log_sft": log_sft, "log_rl": log_rl}, reals={"spread": spread})

    def none_varies(xp: Any, log_sft: Any, log_rl: Any, spread: Any) -> Any:
        varies = xp.support(log_sft) & xp.support(log_rl) & (spread > 0)
        return ~xp.module.any(varies, axis=-1, keepdims=True)

    return arguments.map(none_varies)


def joint_optimum(log_d: Any, log_ref: Any, reward: Any, beta: Any, weight: Any) -> Any:
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
        solvers.joint_optimum, keeps_responses=True
    )


def joint_saving_bounds(
    log_d: Any, log_ref: Any, reward: Any, beta: Any, weight: Any
) -> tuple[Any, Any]:
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
        xp: Any, log_d: Any, log_ref: Any, reward: Any, beta: Any, weight: Any
    ) -> tuple[Any, Any]:
        tilt = quantities.gibbs_tilt(xp, log_ref, reward, beta)
        optimum = solvers.joint_optimum(xp, log_d, log_ref, reward, beta, weight)
        return joint.joint_saving_bounds(xp, optimum, tilt, log_d, beta, weight)

    return _joint(log_d, log_ref, reward, beta, weight).map(both)


def joint_gap(log_p: Any, log_d: Any, log_ref: Any, reward: Any, beta: Any, weight: Any) -> Any:
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
        xp: Any, log_p: Any, log_d: Any, log_ref: Any, reward: Any, beta: Any, weight: Any
    ) -> Any:
        optimum = solvers.joint_optimum(xp, log_d, log_ref, reward, beta, weight)
        return joint.joint_gap(xp, log_p, optimum, log_d, beta, weight)

    return _joint(log_d, log_ref, reward, beta, weight, log_p=log_p).map(gap)


def _joint(log_d: Any, log_ref: Any, reward: Any, beta: Any, weight: Any, **laws: Any) -> Arguments:
    return Arguments(
        laws={"log_d": log_d, "log_ref": log_ref, **laws},
        reals={"reward": reward},
        scalars={"beta": beta, "weight": weight},
        positive=("beta", "weight"),
        inside={"log_d": "log_ref"},
    )


def joint_path(log_d: Any, log_ref: Any, reward: Any, beta: Any, *, points: int = 65) -> Any:
    """The joint optima from the tilt (lambda = 0) to the data law (lambda = inf), as log-probabilities.

    Shapes: log_d, log_ref, reward ``[..., n]``, beta scalar -> ``[points, ..., n]``. Errors: fewer than three
    points. Source: J1.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> np.exp(joint_path(d, d, r, 1.0, points=3)).round(3).tolist()
    [[0.269, 0.731], [0.38, 0.62], [0.5, 0.5]]
    """
    if points < 3:
        raise ValueError(f"points={points}: at least 3")
    first = Arguments(
        laws={"log_d": log_d, "log_ref": log_ref},
        reals={"reward": reward},
        inside={"log_d": "log_ref"},
    )
    module, batch = first.module, first.batch
    data, start, values = (
        first.arrays[name].reshape(*batch, -1) for name in ("log_d", "log_ref", "reward")
    )
    # lambda/beta = t/(1 - t); the ends are the tilt and d.
    inner = module.linspace(0.0, 1.0, points, dtype=first.dtype, device=first.device)[1:-1]
    weights = (inner / (1 - inner) * beta).reshape(-1, *(1 for _ in batch))
    middle = joint_optimum(data, start, values, beta, weights)
    return module.concat([gibbs_tilt(start, values, beta)[None], middle, data[None]])


def pareto_frontier(
    log_d: Any, reward: Any, *, log_ref: Any = None, beta: Any = None, points: int = 65
) -> tuple[Any, Any]:
    """Points (SFT loss, reward) on the best trade-off, averaged over prompts, for plots.

    Without ``beta``: raw reward J(p) from J(d) up to just below max r, and the least CE(d, p) that
    reaches it (S5). With ``log_ref`` and ``beta``: CE(d, p) and J_b(p) at the joint optima, from the
    tilt to d (J1, for d << ref). In both, every policy lies on or below; loss in nats. Prompts equally likely.

    Shapes: log_d, reward, log_ref ``[n]`` or ``[prompts, n]``, beta scalar -> two of ``[points]``.
    Source: S5, J1.

    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> loss, best = pareto_frontier(d, r, points=5)
    >>> best.round(3).tolist(), float(loss[0])
    ([0.5, 0.625, 0.75, 0.875, 1.0], 0.693...)
    >>> loss, best = pareto_frontier(d, r, log_ref=d, beta=1.0, points=3)
    >>> loss.round(3).tolist()  # from the tilt to d
    [0.813, 0.723, 0.693]
    """
    if points < 3:
        raise ValueError(f"points={points}: at least 3")
    if (log_ref is None) != (beta is None):
        raise ValueError("log_ref and beta belong together: give both (J1) or neither (S5)")
    first = Arguments(laws={"log_d": log_d}, reals={"reward": reward})
    if len(first.batch) > 1:
        raise ValueError(
            f"log_d {tuple(first.batch)} without its last axis: one axis of prompts at most"
        )
    module, device, dtype = first.module, first.device, first.dtype
    log_d, reward = first.arrays["log_d"], first.arrays["reward"]
    steps = module.linspace(0.0, 1.0, points, dtype=dtype, device=device)
    if beta is None:
        mean = module.mean(expected_reward(log_d, reward))
        top = module.mean(floats_of(reward).max(reward))
        # max r itself costs an infinite loss: the last point stays a little below it.
        share = 1 - float(module.finfo(dtype).eps) ** 0.5
        targets = mean + (top - mean) * steps * share
        return module.mean(entropy(log_d)) + price_of_average_reward(
            log_d, reward, targets
        ), targets
    laws = joint_path(log_d, log_ref, reward, beta, points=points)
    loss, best = cross_entropy(log_d, laws), regularized_reward(laws, log_ref, reward, beta)
    return module.mean(loss, axis=-1), module.mean(best, axis=-1)
