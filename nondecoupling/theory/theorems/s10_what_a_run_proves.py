"""S10: What a run's logs already prove about the exact optimum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import cross_entropy, expected_reward, kl_by_definition
from nondecoupling.formulas.sft_then_rl import coupling_from_run
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class WhatARunProves(Statement):
    """What a run's logs already prove about the exact optimum.

    Statement: For every policy p and every beta, (J(p) - J(d))/beta - KL(p||ref) = DeltaL(tilt_beta) -
        KL(p||tilt_beta) <= DeltaL(tilt_beta). In s = 1/beta each checkpoint is an affine minorant of
        the convex curve s -> DeltaL(tilt_s). So if J(p) - J(d) > beta KL(p||ref) for some checkpoint p,
        reached by any algorithm, then RL to the exact optimum at beta raises the SFT loss.

    Assumptions: d, p << ref (here ref has full support). KL per response: a mean over tokens is too
        small, and the bound is false with it. Averages over prompts: linear, so take E_q of both.

    Side: identity and lower bound on DeltaL(tilt).

    Equality when: p is the tilt at beta.

    Units: nats per response.

    Source: ours; S1 with the Gibbs variational principle.

    Proof idea: log tilt = log ref + r/beta - log Z, so KL(p||tilt) = KL(p||ref) - J(p)/beta + log Z; and
        DeltaL(tilt) = log Z - J(d)/beta.

    Example:
    >>> from nondecoupling.bounds import coupling_from_run, sft_loss_increase
    >>> from nondecoupling.bounds import expected_reward, kl_divergence
    >>> import numpy as np
    >>> d = ref = np.log([0.5, 0.3, 0.2])
    >>> p, r = np.log([0.2, 0.4, 0.4]), np.array([0.0, 1.0, 3.0])
    >>> gain = expected_reward(p, r) - expected_reward(d, r)
    >>> proved = coupling_from_run(gain, kl_divergence(p, ref), 0.5)
    >>> round(float(proved), 4), round(float(sft_loss_increase(d, ref, r, 0.5)), 4)
    (1.1909, 2.6237)
    """

    id = "S10"
    title = "What a run's logs already prove about the exact optimum"
    depends = ("S1", "F3")
    world = dict(
        log_d=Law(),
        log_p=Law(),
        log_ref=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        gain, kl = logged(xp, w)
        proved = coupling_from_run(xp, gain, kl, w.beta)
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        start = cross_entropy(xp, w.log_d, w.log_ref)
        change = cross_entropy(xp, w.log_d, tilt) - start
        missing = kl_by_definition(xp, w.log_p, tilt)
        yield Claim("what the logs leave out", proved, "==", change - missing)
        yield Claim("a checkpoint bounds the optimum", proved, "<=", change)


def logged(xp: NumberSystem, w: WorldValues[Array]) -> tuple[Any, Any]:
    """(J(p) - J(d), KL(p||ref)), as a run that evaluates its reward on the data as well logs them."""
    gain = expected_reward(xp, w.log_p, w.reward) - expected_reward(xp, w.log_d, w.reward)
    return gain, kl_by_definition(xp, w.log_p, w.log_ref)
