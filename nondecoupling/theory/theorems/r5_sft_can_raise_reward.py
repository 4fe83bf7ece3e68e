"""R5: Refuted: "SFT after RL always lowers the raw reward"."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class SftCanRaiseReward(Statement):
    """Refuted: "SFT after RL always lowers the raw reward".

    Statement: False without a condition. "J(p) < J(tilt) for every p != tilt" fails (i) for
        constant r, (ii) for p that moves mass only within level sets of r; and even "J(p) <=
        J(tilt)" fails (iii) where KL(p||ref) > KL(p||tilt) + KL(tilt||ref). For every non-
        constant r some p has J(p) > J(tilt): the greedy policy, all mass on argmax r.

    Assumptions: none, which is the point; R3 gives the condition under which it is true.

    Side: two refuted claims and one true lower bound.

    Equality when: the greedy policy gains nothing iff r is constant.

    Units: reward units.

    Source: ours; it corrects the unconditional reading of [NBHZ] claim 2.

    Proof idea: The library searches for the witnesses; the tilt has full support, so it keeps
        mass off argmax r.

    Example:
    >>> from nondecoupling.deciding.attack import smallest_witness
    >>> print(smallest_witness(SftCanRaiseReward, "SFT never raises the raw reward"))
    p = (0, 1), ref = (1/2, 1/2), reward = (0, 1), beta = 1
    """

    id = "R5"
    title = 'Refuted: "SFT after RL always lowers the raw reward"'
    depends = ("R2",)
    world = dict(log_p=Law(), log_ref=Law(full_support=True), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        kept = expected_reward(xp, tilt, w.reward)
        after = expected_reward(xp, w.log_p, w.reward)
        yield Claim("SFT never raises the raw reward", kept, ">=", after, refuted=True)
        moved = xp.abs(kept - after)
        zero = xp.full_like(moved, 0.0)
        yield Claim("SFT moves the raw reward", moved, ">", zero, refuted=True)
        yield Claim("the greedy policy beats the tilt", xp.max(w.reward), ">=", kept)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        moved = kl_divergence(xp, w.log_p, tilt)
        yield Claim("p differs from the tilt", moved, ">", xp.full_like(moved, 0.0))
