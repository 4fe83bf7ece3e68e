"""J2: No free order of SFT and RL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.joint import joint_gap, joint_objective, reward_with_joint_optimum
from nondecoupling.formulas.laws import cross_entropy, expected_reward, kl_by_definition
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class NoFreeOrder(Statement):
    """No free order of SFT and RL.

    Statement: For every policy p, hence for the outcome of every schedule, J_b(p) - J_b(p_joint) <=
        lambda [CE(d, p) - CE(d, p_joint)]; exactly, F(p_joint) - F(p) = beta KL(p||p_joint) +
        lambda E_d[z - 1 - log z], z = p/p_joint.

    Assumptions: ref has full support; beta, lambda > 0; one prompt law for both losses.

    Side: identity and upper bound.

    Equality when: p = p_joint.

    Units: reward units.

    Source: ours.

    Proof idea: insert r = mu + beta log(p_joint/ref) - lambda d/p_joint; log z <= z - 1.

    Example:
    >>> from nondecoupling.bounds import cross_entropy, joint_optimum, regularized_reward
    >>> import numpy as np
    >>> d, r, p = np.log([0.5, 0.5]), np.array([0.0, 1.0]), np.log([0.3, 0.7])
    >>> joint = joint_optimum(d, d, r, 1.0, 1.0)
    >>> gain = regularized_reward(p, d, r, 1.0) - regularized_reward(joint, d, r, 1.0)
    >>> bool(gain <= cross_entropy(d, p) - cross_entropy(d, joint))
    True
    """

    id = "J2"
    title = "No free order of SFT and RL"
    depends = ("F1", "J1")
    world = dict(
        log_p=Law(full_support=True),
        log_joint=Law(full_support=True),
        log_d=Law(),
        log_ref=Law(full_support=True),
        beta=Positive(),
        weight=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        reward = reward_with_joint_optimum(xp, w.log_joint, w.log_d, w.log_ref, w.beta, w.weight)
        best, reached = (
            joint_objective(xp, p, w.log_d, w.log_ref, reward, w.beta, w.weight)
            for p in (w.log_joint, w.log_p)
        )
        gap = joint_gap(xp, w.log_p, w.log_joint, w.log_d, w.beta, w.weight)
        yield Claim("exact gap", best - reached, "==", gap)
        gain = regularized(xp, w, reward, w.log_p) - regularized(xp, w, reward, w.log_joint)
        paid = cross_entropy(xp, w.log_d, w.log_p) - cross_entropy(xp, w.log_d, w.log_joint)
        yield Claim("reward is paid for in SFT loss", gain, "<=", w.weight * paid)


def regularized(xp: NumberSystem, w: WorldValues[Array], reward: Any, log_p: Any) -> Any:
    """J_b from its definition."""
    return expected_reward(xp, log_p, reward) - w.beta * kl_by_definition(xp, log_p, w.log_ref)
