"""R3: Raw reward inside the KL ball."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class KlBall(Statement):
    """Raw reward inside the KL ball.

    Statement: If KL(p||ref) <= KL(tilt||ref) then J(p) <= J(tilt) - beta KL(p||tilt).

    Assumptions: p lies in the KL ball around ref on whose surface the tilt lies.

    Side: lower bound on the drop.

    Equality when: KL(p||ref) = KL(tilt||ref).

    Units: reward units.

    Source: direct from R2.

    Proof idea: R2, with KL(tilt||ref) - KL(p||ref) >= 0.

    Example:
    >>> from nondecoupling.bounds import reward_drop, reward_drop_in_kl_ball
    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> p = np.log([0.4, 0.6])
    >>> bool(reward_drop(p, ref, r, 1.0) >= reward_drop_in_kl_ball(p, ref, r, 1.0))
    True
    """

    id = "R3"
    title = "Raw reward inside the KL ball"
    depends = ("R2",)
    world = dict(log_p=Law(), log_ref=Law(full_support=True), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        drop = expected_reward(xp, tilt, w.reward) - expected_reward(xp, w.log_p, w.reward)
        least = w.beta * kl_divergence(xp, w.log_p, tilt)
        yield Claim("the drop inside the ball", drop, ">=", least)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        radius = kl_divergence(xp, tilt, w.log_ref)
        yield Claim("p in the KL ball", kl_divergence(xp, w.log_p, w.log_ref), "<=", radius)
