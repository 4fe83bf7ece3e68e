"""R7: Along the way from the tilt to the data."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import (
    expectation,
    expected_reward,
    kl_by_definition,
    kl_divergence,
    mixture,
)
from nondecoupling.formulas.rl_then_sft import sft_step_reward_slope
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Same, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class AlongTheWay(Statement):
    """Along the way from the tilt to the data.

    Statement: On the mixture path (1-t) tilt + t d, J is affine in t; J_b falls strictly iff d !=
        tilt: after a share u of the way to t it has fallen by at most u times the fall at t, which
        is beta KL(mixture||tilt). One softmax SFT step from p changes J by -eta <p - d, p (r - E_p
        r)> + O(eta^2). Refuted: "the first SFT step from the tilt lowers the raw reward": its sign
        is indefinite even for ref = d, from three responses on.

    Assumptions: ref = d; RL reached the tilt; small steps for the slope.

    Side: identities, an upper bound on the fall, and a refuted claim.

    Equality when: the share is one, or d = tilt.

    Units: reward units (per unit of step size for the slope).

    Source: ours; it corrects a step-by-step reading of [NBHZ] claim 2. [NBHZ] = arXiv:2601.07389,
        known here by its abstract.

    Proof idea: J is linear; KL(.||tilt) is convex and zero at the tilt; F5 for the slope.

    Example:
    >>> from nondecoupling.bounds import gibbs_tilt, sft_step_reward_slope
    >>> import numpy as np
    >>> d, r = np.log([1 / 14, 6 / 14, 7 / 14]), np.array([8.0, 7.0, 0.0])
    >>> bool(sft_step_reward_slope(gibbs_tilt(d, r, 1.0), d, r) > 0)  # the first step raises it
    True
    """

    id = "R7"
    title = "Along the way from the tilt to the data"
    depends = ("R1", "F5")
    world = dict(
        log_d=Law(full_support=True),
        log_ref=Same("log_d"),
        reward=Reward(),
        beta=Positive(),
        mix=Unit(),
        share=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        at_tilt = expected_reward(xp, tilt, w.reward)
        slope = sft_step_reward_slope(xp, tilt, w.log_d, w.reward)
        pull = xp.exp(w.log_d) - xp.exp(tilt)
        covariance = expectation(xp, tilt, pull * w.reward) - expectation(xp, tilt, pull) * at_tilt
        yield Claim("slope of a step", covariance, "==", slope)
        zero = xp.full_like(slope, 0.0)
        yield Claim("the first SFT step lowers the reward", slope, "<=", zero, refuted=True)
        at_data = expected_reward(xp, w.log_d, w.reward)
        there = mixture(xp, tilt, w.log_d, w.mix)
        affine = (1 - w.mix) * at_tilt + w.mix * at_data
        yield Claim("J is affine", expected_reward(xp, there, w.reward), "==", affine)
        here = mixture(xp, tilt, w.log_d, w.mix * w.share)
        best = at_tilt - w.beta * kl_by_definition(xp, tilt, w.log_ref)
        fallen_here, fallen_there = (
            best - expected_reward(xp, m, w.reward) + w.beta * kl_by_definition(xp, m, w.log_ref)
            for m in (here, there)
        )
        fall = w.beta * kl_divergence(xp, there, tilt)
        yield Claim("fall of J_b", fallen_there, "==", fall)
        yield Claim("J_b falls ever faster", fallen_here, "<=", w.share * fall)
