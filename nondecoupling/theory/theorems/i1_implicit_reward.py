"""I1: Implicit reward: every full-support policy is a tilt."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import (
    cross_entropy,
    expected_reward,
    jeffreys_divergence,
    total_variation,
)
from nondecoupling.formulas.tilt import gibbs_tilt, implicit_reward
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ImplicitReward(Statement):
    """Implicit reward: every full-support policy is a tilt.

    Statement: p is the tilt of ref for r' = beta log(p/ref) (up to a constant per prompt). With
        ref = d: J(p) - J(d) = beta [KL(d||p) + KL(p||d)] + (E_p - E_d)(r - r'), the last term at
        most range(r - r') TV(p, d) in size.

    Assumptions: p and ref have full support. The statements about the tilt (S1-S4, S6, R1-R6) then
        hold for any trained policy with its implicit reward.

    Side: identities and two-sided bound.

    Equality when: p - d charges only the responses where r - r' is largest and smallest; always
        for two responses.

    Units: reward units.

    Source: Rafailov et al. 2023 for the implicit reward; the rest is ours.

    Proof idea: ref e^{r'/beta} = p sums to one; E_p - E_d of beta log(p/d) is beta times the
        Jeffreys divergence.

    Example:
    >>> from nondecoupling.bounds import gibbs_tilt, implicit_reward
    >>> import numpy as np
    >>> p, ref = np.log([0.1, 0.9]), np.log([0.4, 0.6])
    >>> np.exp(gibbs_tilt(ref, implicit_reward(p, ref, 2.0), 2.0)).round(12).tolist()
    [0.1, 0.9]
    """

    id = "I1"
    title = "Implicit reward: every full-support policy is a tilt"
    depends = ("F3", "R6")
    world = dict(
        log_law=Law(),
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        implied = implicit_reward(xp, w.log_p, w.log_ref, w.beta)
        tilt = gibbs_tilt(xp, w.log_ref, implied, w.beta)
        # Two policies are the same iff every law (here log_law) has the same loss on both.
        at_tilt = cross_entropy(xp, w.log_law, tilt)
        yield Claim("p is a tilt", at_tilt, "==", cross_entropy(xp, w.log_law, w.log_p))
        gain = expected_reward(xp, w.log_p, w.reward) - expected_reward(xp, w.log_ref, w.reward)
        coupled = w.beta * jeffreys_divergence(xp, w.log_ref, w.log_p)
        left = w.reward - implied
        mismatch = expected_reward(xp, w.log_p, left) - expected_reward(xp, w.log_ref, left)
        yield Claim("cycle law with mismatch", gain, "==", coupled + mismatch)
        largest = (xp.max(left) - xp.min(left)) * total_variation(xp, w.log_p, w.log_ref)
        yield Claim("size of the mismatch", xp.abs(gain - coupled), "<=", largest)
