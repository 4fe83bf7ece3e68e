"""R1: Regularised reward falls by beta KL."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.rl_then_sft import regularized_reward_drop
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class RegularizedReward(Statement):
    """Regularised reward falls by beta KL.

    Statement: J_b(tilt) - J_b(p) = beta KL(p||tilt) for every SFT result p: from the exact RL
        optimum SFT can only lower the regularised reward.

    Assumptions: the drop is measured from the exact optimum (for a trained RL result see R8).

    Side: identity and lower bound.

    Equality when: p = tilt.

    Units: reward units.

    Source: [NBHZ] claim 2, KL form. [NBHZ] = arXiv:2601.07389, known here by its abstract; the
        exact form is ours.

    Proof idea: F3.

    Example:
    >>> from nondecoupling.bounds import regularized_reward_drop
    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(regularized_reward_drop(ref, ref, r, 1.0))  # doctest: +ELLIPSIS
    0.12011450695827...
    """

    id = "R1"
    title = "Regularised reward falls by beta KL"
    depends = ("F3",)
    world = dict(log_p=Law(), log_ref=Law(full_support=True), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        before = expected_reward(xp, tilt, w.reward) - w.beta * kl_by_definition(
            xp, tilt, w.log_ref
        )
        after = expected_reward(xp, w.log_p, w.reward) - w.beta * kl_by_definition(
            xp, w.log_p, w.log_ref
        )
        drop = before - after
        closed = regularized_reward_drop(xp, w.log_p, w.log_ref, w.reward, w.beta)
        yield Claim("closed form", drop, "==", closed)
        yield Claim("SFT lowers the regularised reward", drop, ">=", xp.full_like(drop, 0.0))
