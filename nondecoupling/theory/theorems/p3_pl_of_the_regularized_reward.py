"""P3: PL inequality of the regularised reward."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.logits import (
    centred_norm_squared,
    least_probability,
    rl_gradient,
    squared_norm,
)
from nondecoupling.formulas.rl_then_sft import regularized_reward_drop
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class PlOfTheRegularizedReward(Statement):
    """PL inequality of the regularised reward.

    Statement: For softmax logits, 1/2 ||grad J_b||^2 >= 2 beta (min p)^2 (J_b(tilt) - J_b(p)); for
        averages over prompts times q_min. And J_b(tilt) - J_b(p) >= beta (m/2) D with D =
        ||(log p - log tilt)_c||^2, m = min over y of min(p, tilt): SFT started at the tilt that
        moves the centred logits by D lowers J_b by at least that.

    Assumptions: p and ref have full support; beta > 0.

    Side: upper and lower bound on the drop of J_b.

    Equality when: both in the limit p -> tilt, the tilt uniform; the PL inequality for two
        responses only.

    Units: squared gradient; reward units.

    Source: Mei et al. 2020, the constant doubled by P2; [NBHZ] v2, claim 2, PL form
        (arXiv:2601.07389, known here by its abstract).

    Proof idea: grad J_b = -beta p (u - E_p u), u = log(p/tilt), so ||grad||^2 >= beta^2 (min p)^2
        ||u_c||^2 >= 4 beta^2 (min p)^2 KL(p||tilt) by P2; R1 turns KL into the drop.

    Example:
    >>> from nondecoupling.bounds import pl_reward_bound, regularized_reward_drop
    >>> import numpy as np
    >>> p, ref, r = np.log([0.4, 0.6]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> bool(regularized_reward_drop(p, ref, r, 1.0) <= pl_reward_bound(p, ref, r, 1.0))
    True
    """

    id = "P3"
    title = "PL inequality of the regularised reward"
    depends = ("F5", "P2", "R1")
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
        log_p_two=Law(full_support=True),
        reward_two=Reward(),
        share=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        ref, beta = w.log_ref, w.beta
        steepness = squared_norm(xp, rl_gradient(xp, w.log_p, ref, w.reward, beta))
        drop = regularized_reward_drop(xp, w.log_p, ref, w.reward, beta)
        least = least_probability(xp, w.log_p)
        yield Claim("PL inequality", steepness / 2, ">=", 2 * beta * xp.square(least) * drop)
        tilt = gibbs_tilt(xp, ref, w.reward, beta)
        best, reached = (
            expected_reward(xp, p, w.reward) - beta * kl_by_definition(xp, p, ref)
            for p in (tilt, w.log_p)
        )
        either = xp.minimum(least, least_probability(xp, tilt))
        moved = centred_norm_squared(xp, w.log_p - ref - w.reward / beta)
        yield Claim("moved logits lower J_b", best - reached, ">=", beta * either / 2 * moved)
        # A second prompt with the same reference; its own policy and reward.
        share, rest = w.share, 1 - w.share
        steepness_two = squared_norm(xp, rl_gradient(xp, w.log_p_two, ref, w.reward_two, beta))
        drop_two = regularized_reward_drop(xp, w.log_p_two, ref, w.reward_two, beta)
        gradient = xp.square(share) * steepness + xp.square(rest) * steepness_two
        least = xp.minimum(least, least_probability(xp, w.log_p_two))
        constant = 2 * beta * xp.minimum(share, rest) * xp.square(least)
        average = share * drop + rest * drop_two
        yield Claim("two prompts", gradient / 2, ">=", constant * average)
