"""R9: Refuted: the second theorem as secondary sources report it."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import (
    cross_entropy,
    expected_reward,
    kl_by_definition,
    kl_divergence,
)
from nondecoupling.formulas.tilt import gibbs_tilt, regularized_reward
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class SecondTheoremRefuted(Statement):
    """Refuted: the second theorem as secondary sources report it.

    Statement: As secondary sources report it, Theorem 4.1 of [NBHZ] assumes 0 < a <= E_q KL(p_SFT||p_RL)
        <= A and concludes J(p_SFT) <= J(p_RL) - C with some C > 0. False: the raw reward can stay, for
        a constant reward or inside a level set of r, and it can rise. Every full-support p_RL is the
        exact RL optimum of ref prop. to p_RL e^{-r/beta}, so this holds at exact RL optima. For every
        non-constant r and 0 < a <= A with a < -log p_RL(argmax r), some policy in that shell gains
        reward: a longer run. What is true: the regularised reward falls, from beta a to beta A (R1); the
        raw reward falls inside the KL ball (R3) and for p_SFT = d iff J(d) < J(p_RL) (R6); and it
        changes by at most R sqrt(A/2) (R4, the paper's Proposition 1 as reported).

    Assumptions: their hypothesis, p_SFT != p_RL; p_RL is the exact RL optimum.

    Side: two refuted claims; identities and a lower bound that are true.

    Equality when: the longer run gains nothing iff r is constant.

    Units: reward units; nats for the divergence.

    Source: ours. [NBHZ] (arXiv:2601.07389) is known here by its abstracts and by secondary sources only;
        the paper may state more than they report.

    Proof idea: KL between the policies says how far SFT went, not in which direction of the reward.

    Example:
    >>> from nondecoupling.deciding.attack import smallest_witness
    >>> print(smallest_witness(SecondTheoremRefuted, "SFT never gains raw reward"))
    sft = (1/2, 1/2), rl = (1/3, 2/3), reward = (1, 0), beta = 1, longer = 1
    """

    id = "R9"
    title = "Refuted: the second theorem as secondary sources report it"
    depends = ("I1", "R1", "R4")
    world = dict(
        log_sft=Law(full_support=True),
        log_rl=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
        longer=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        log_ref = gibbs_tilt(xp, w.log_rl, -w.reward, w.beta)
        tilt = gibbs_tilt(xp, log_ref, w.reward, w.beta)
        # Two policies are the same iff every law has the same loss on both.
        same = cross_entropy(xp, w.log_sft, w.log_rl)
        yield Claim("p_RL is an exact RL optimum", cross_entropy(xp, w.log_sft, tilt), "==", same)
        kept = expected_reward(xp, w.log_rl, w.reward)
        after = expected_reward(xp, w.log_sft, w.reward)
        yield Claim("SFT loses raw reward", kept, ">", after, refuted=True)
        yield Claim("SFT never gains raw reward", kept, ">=", after, refuted=True)
        regularized_kept = regularized_reward(xp, w.log_rl, log_ref, w.reward, w.beta)
        regularized_after = regularized_reward(xp, w.log_sft, log_ref, w.reward, w.beta)
        lost = w.beta * kl_by_definition(xp, w.log_sft, w.log_rl)
        fall = regularized_kept - regularized_after
        yield Claim("the regularised reward falls by beta KL", fall, "==", lost)
        onwards = gibbs_tilt(xp, w.log_rl, w.reward, 1 / w.longer)
        gained = expected_reward(xp, onwards, w.reward)
        yield Claim("a longer run gains raw reward", gained, ">=", kept)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        moved = kl_divergence(xp, w.log_sft, w.log_rl)
        yield Claim("0 < KL(p_SFT||p_RL)", moved, ">", xp.full_like(moved, 0.0))
