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

from typing import Any

from nondecoupling import quantities, solvers
from nondecoupling.validation import Arguments


def _laws(**laws: Any) -> Arguments:
    return Arguments(laws=laws)


def _tilted(laws: dict[str, Any], reward: Any, beta: Any) -> Arguments:
    return Arguments(
        laws=laws, reals={"reward": reward}, scalars={"beta": beta}, positive=("beta",)
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
    return _tilted(laws, reward, beta).map(quantities.sft_loss_increase)


def sft_loss_change(log_d: Any, log_ref: Any, log_p: Any) -> Any:
    """DeltaL(p) = CE(d, p) - CE(d, ref) = KL(ref||p) - (E_d - E_ref) log(p/ref), for any policy p.

    In nats per response. Assumes d << ref.

    Shapes: log_d, log_ref, log_p ``[..., n]`` -> ``[...]``. Source: S1.

    >>> import numpy as np
    >>> d = np.log([0.5, 0.5])
    >>> float(sft_loss_change(d, d, np.log([0.25, 0.75])))
    0.1438...
    """
    return _laws(log_d=log_d, log_ref=log_ref, log_p=log_p).map(quantities.sft_loss_change)


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

    Negative exactly where SFT *raised* the raw reward (R5).

    Shapes: log_p, log_ref, reward ``[..., n]``, beta scalar or ``[...]`` -> ``[...]``. Source: R2.

    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(reward_drop(np.log([0.1, 0.9]), ref, r, 1.0))
    -0.1689...
    """
    laws = {"log_p": log_p, "log_ref": log_ref}
    return _tilted(laws, reward, beta).map(quantities.reward_drop)


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
