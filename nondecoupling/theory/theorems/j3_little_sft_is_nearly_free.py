"""J3: A little SFT inside RL is nearly free."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.joint import joint_saving_bounds, reward_with_joint_optimum
from nondecoupling.formulas.laws import cross_entropy, expected_reward, kl_by_definition
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class LittleSftIsNearlyFree(Statement):
    """A little SFT inside RL is nearly free.

    Statement: For every lambda > 0, joint training saves SFT loss, CE(d, tilt) - CE(d, p_joint),
        between lambda chi2(d||p_joint)/(beta + lambda max d/p_joint) and (lambda/beta)
        chi2(d||tilt), and costs J_b(tilt) - J_b(p_joint) between lambda/2 times the former and
        lambda/2 times the latter. Hence for lambda -> 0, saving = (lambda/beta) chi2(d||tilt) +
        O(lambda^2), cost = (lambda^2/(2 beta)) chi2(d||tilt) + O(lambda^3): first order in the
        saving, second order in the cost. chi2(d||t) = sum d^2/t - 1.

    Assumptions: ref has full support; beta, lambda > 0; one prompt law for both losses.

    Side: two-sided bounds.

    Equality when: d = tilt (all zero); otherwise in the limit lambda -> 0.

    Units: nats for the saving, reward units for the cost.

    Source: ours. The bounds hold for every lambda and imply the expansions.

    Proof idea: with w = d/p along the path, -dCE/dlambda = sum p (w - c)^2/(beta + lambda w), c its
        weighted mean, and dJ_b/dlambda = lambda dCE/dlambda; chi2(d||p) and max w fall along the
        path, lambda max w rises.

    Example:
    >>> from nondecoupling.bounds import cross_entropy, gibbs_tilt, joint_optimum
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, np.log(3.0)])
    >>> tilt, joint = gibbs_tilt(d, r, 1.0), joint_optimum(d, d, r, 1.0, 1e-6)
    >>> saving = cross_entropy(d, tilt) - cross_entropy(d, joint)
    >>> round(float(saving / 1e-6), 4)  # chi2 = 1/3
    0.3333
    """

    id = "J3"
    title = "A little SFT inside RL is nearly free"
    depends = ("J1", "J2")
    world = dict(
        log_joint=Law(full_support=True),
        log_d=Law(),
        log_ref=Law(full_support=True),
        beta=Positive(),
        weight=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        reward = reward_with_joint_optimum(xp, w.log_joint, w.log_d, w.log_ref, w.beta, w.weight)
        tilt = gibbs_tilt(xp, w.log_ref, reward, w.beta)
        saving = cross_entropy(xp, w.log_d, tilt) - cross_entropy(xp, w.log_d, w.log_joint)
        best, reached = (
            expected_reward(xp, p, reward) - w.beta * kl_by_definition(xp, p, w.log_ref)
            for p in (tilt, w.log_joint)
        )
        cost = best - reached
        lower, upper = joint_saving_bounds(xp, w.log_joint, tilt, w.log_d, w.beta, w.weight)
        yield Claim("saving at least", saving, ">=", lower)
        yield Claim("saving at most", saving, "<=", upper)
        yield Claim("cost at least", cost, ">=", w.weight / 2 * lower)
        yield Claim("cost at most", cost, "<=", w.weight / 2 * upper)
