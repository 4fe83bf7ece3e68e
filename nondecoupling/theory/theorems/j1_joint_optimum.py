"""J1: The optimum of joint training."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.joint import (
    joint_closed_form,
    joint_objective,
    reward_with_joint_optimum,
)
from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.formulas.tilt import gibbs_tilt, log_partition
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class JointOptimum(Statement):
    """The optimum of joint training.

    Statement: F(p) = J_b(p) - lambda CE(d, p) is strictly concave; its maximiser is p = lambda
        d/(beta u) with u + log u = log(lambda d/beta) - (r + beta log ref - mu)/beta, u =
        W(exp(.)), mu fixed by normalisation; where d = 0, p = ref e^{(r - mu)/beta}. mu = beta log
        Z + lambda - beta KL(p||tilt), between beta log Z and beta log Z + lambda. lambda in [0,
        inf] traces the (CE, J_b) Pareto frontier from the tilt to d: every policy lies on or below
        it (J2).

    Assumptions: ref has full support; beta, lambda > 0; one prompt law for both losses.

    Side: identity, upper bound on every policy.

    Equality when: p is the joint optimum.

    Units: reward units; mu in reward units.

    Source: ours.

    Proof idea: stationarity on the simplex, r - beta log(p/ref) + lambda d/p = mu. A world is given
        by the optimum p itself, from which r is explicit: no root is needed.

    Example:
    >>> from nondecoupling.bounds import joint_optimum
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> [np.exp(joint_optimum(d, d, r, 1.0, lam)).round(3)[1].item() for lam in (1e-6, 1.0, 1e6)]
    [0.731, 0.62, 0.5]
    """

    id = "J1"
    title = "The optimum of joint training"
    depends = ("F1", "F3")
    world = dict(
        log_joint=Law(full_support=True),
        log_p=Law(),
        log_d=Law(),
        log_ref=Law(full_support=True),
        beta=Positive(),
        weight=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        reward = reward_with_joint_optimum(xp, w.log_joint, w.log_d, w.log_ref, w.beta, w.weight)
        ratio = w.weight / w.beta
        # mu = 0 in this parametrisation, and the offset is (mu - beta log Z)/beta.
        offset = -log_partition(xp, w.log_ref, reward, w.beta)
        tilt = gibbs_tilt(xp, w.log_ref, reward, w.beta)
        found, _ = joint_closed_form(xp, w.log_d, tilt, ratio, offset)
        furthest = xp.max(xp.abs(xp.exp(found) - xp.exp(w.log_joint)))
        yield Claim("closed form", furthest, "==", xp.full_like(furthest, 0.0))
        divergence = kl_by_definition(xp, w.log_joint, tilt)
        yield Claim("multiplier", offset, "==", ratio - divergence)
        yield Claim("mu is at least the soft value", offset, ">=", xp.full_like(offset, 0.0))
        yield Claim("mu exceeds it by at most lambda", offset, "<=", ratio)
        best, other = (
            joint_objective(xp, p, w.log_d, w.log_ref, reward, w.beta, w.weight)
            for p in (w.log_joint, w.log_p)
        )
        yield Claim("no policy does better", best, ">=", other)
