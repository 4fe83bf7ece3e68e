"""R2: Raw reward: the three-point identity."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward
from nondecoupling.formulas.rl_then_sft import reward_drop
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ThreePoints(Statement):
    """Raw reward: the three-point identity.

    Statement: J(tilt) - J(p) = beta [KL(p||tilt) + KL(tilt||ref) - KL(p||ref)]: SFT lowers the
        raw reward iff KL(p||ref) < KL(p||tilt) + KL(tilt||ref).

    Assumptions: ref has full support; beta > 0.

    Side: identity.

    Equality when: always.

    Units: reward units.

    Source: direct from F3.

    Proof idea: add beta KL(.||ref) back to R1 at p and at the tilt.

    Example:
    >>> from nondecoupling.bounds import reward_drop
    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(reward_drop(np.log([0.1, 0.9]), ref, r, 1.0)) < 0  # this SFT result raises the reward
    True
    """

    id = "R2"
    title = "Raw reward: the three-point identity"
    depends = ("R1",)
    world = dict(log_p=Law(), log_ref=Law(full_support=True), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        drop = expected_reward(xp, tilt, w.reward) - expected_reward(xp, w.log_p, w.reward)
        yield Claim(
            "three points", drop, "==", reward_drop(xp, w.log_p, w.log_ref, w.reward, w.beta)
        )
