"""D1: Exact decoupling."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.joint import shared_prompts
from nondecoupling.formulas.laws import cross_entropy
from nondecoupling.formulas.sft_then_rl import coupling_gap
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ExactDecoupling(Statement):
    """Exact decoupling.

    Statement: With prompt laws q_SFT and q_RL and ref = d, the RL optimum that equals ref on prompts
        without RL changes the SFT loss by sum q_SFT(x) gap(x) over the prompts x in both supports,
        gap(x) the coupling gap S2. It vanishes iff r(x, .) is constant on supp d(.|x) for every
        such x. So disjoint prompts decouple a tabular policy, and "RL always raises the SFT loss"
        is false without shared prompts.

    Assumptions: ref = d on every prompt; a tabular policy. In a network prompts share parameters,
        and the cross-prompt block of P6's kernel couples them.

    Side: identity, lower bound, and a refuted claim.

    Equality when: r(x, .) is constant on supp d(.|x) for every shared x.

    Units: nats per response, averaged over SFT prompts.

    Source: ours.

    Proof idea: S2 prompt by prompt; a sum of nonnegative terms vanishes iff each does.

    Example:
    >>> from nondecoupling.bounds import decoupled
    >>> import numpy as np
    >>> d, r = np.log([[0.5, 0.5], [0.1, 0.9]]), np.array([[0.0, 1.0], [0.0, 1.0]])
    >>> with np.errstate(divide="ignore"):
    ...     sft, rl = np.log([1.0, 0.0]), np.log([0.0, 1.0])
    >>> bool(decoupled(sft, rl, d, r)), bool(decoupled(sft, sft, d, r))
    (True, False)
    """

    id = "D1"
    title = "Exact decoupling"
    depends = ("S2",)
    # As many prompts as responses; those with kind > 0 share (log_d, reward), the others (.._two).
    world = dict(
        log_sft=Law(),
        log_rl=Law(),
        kind=Logits(),
        log_d=Law(),
        reward=Reward(),
        log_d_two=Law(),
        reward_two=Reward(),
        beta=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        kinds = ((w.log_d, w.reward), (w.log_d_two, w.reward_two))
        before = [cross_entropy(xp, log_d, log_d) for log_d, _ in kinds]
        tilted = [
            cross_entropy(xp, log_d, gibbs_tilt(xp, log_d, reward, w.beta))
            for log_d, reward in kinds
        ]
        first, trained = w.kind > 0, xp.support(w.log_rl)
        loss_before = xp.where(first, *before)
        loss_after = xp.where(trained, xp.where(first, *tilted), loss_before)
        law = xp.exp(w.log_sft)
        change = xp.sum(law * loss_after) - xp.sum(law * loss_before)
        gaps = [coupling_gap(xp, log_d, reward, w.beta) for log_d, reward in kinds]
        shared = shared_prompts(xp, w.log_sft, w.log_rl, xp.where(first, *gaps))
        zero = xp.full_like(change, 0.0)
        yield Claim("only shared prompts pay", change, "==", shared)
        yield Claim("RL never lowers the SFT loss", change, ">=", zero)
        yield Claim("RL always raises the SFT loss", change, ">", zero, refuted=True)
