"""R6: Cycle law: what RL gained, SFT takes back."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward
from nondecoupling.formulas.rl_then_sft import cycle_loss
from nondecoupling.formulas.sft_then_rl import coupling_gap
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Same
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class CycleLaw(Statement):
    """Cycle law: what RL gained, SFT takes back.

    Statement: ref = d, cycle SFT -> RL -> SFT back to d: J(tilt) - J(d) = beta [KL(d||tilt) +
        KL(tilt||d)], and that is at least beta DeltaL(tilt).

    Assumptions: ref = d; the second SFT returns to d.

    Side: identity and lower bound.

    Equality when: identity always; the bound iff r is constant on supp d.

    Units: reward units.

    Source: direct from R2 and S2.

    Proof idea: R2 at p = ref = d; KL(tilt||d) >= 0.

    Example:
    >>> from nondecoupling.bounds import cycle_loss
    >>> import numpy as np
    >>> float(cycle_loss(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))  # doctest: +ELLIPSIS
    0.2310585786300...
    """

    id = "R6"
    title = "Cycle law: what RL gained, SFT takes back"
    depends = ("S2", "R2")
    world = dict(log_d=Law(), log_ref=Same("log_d"), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        lost = expected_reward(xp, tilt, w.reward) - expected_reward(xp, w.log_d, w.reward)
        yield Claim("Jeffreys form", lost, "==", cycle_loss(xp, w.log_d, w.reward, w.beta))
        gap = coupling_gap(xp, w.log_d, w.reward, w.beta)
        yield Claim("at least beta times the coupling gap", lost, ">=", w.beta * gap)
