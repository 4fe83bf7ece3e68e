"""T11: Verifier noise and entropy bonus are temperatures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nondecoupling.formulas.groups import group_factor, noisy_group_pull
from nondecoupling.formulas.laws import cross_entropy, entropy, expected_reward, kl_by_definition
from nondecoupling.formulas.sft_then_rl import coupling_gap
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.trainers import (
    entropy_bonus_optimum,
    k2,
    noisy_beta,
    pull_in_loss,
    pull_of_reward,
    slope_of,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement


class NoiseAndEntropyAreTemperatures(Statement):
    """Verifier noise and entropy bonus are temperatures.

    Statement: A verifier with false-positive rate f0 and false-negative rate f1, independent given
        correctness, f0 + f1 < 1: RL on its verdicts at beta ends at the tilt of the true binary reward
        at beta/(1 - f0 - f1). With group-normalised advantages the factor of T4 is (1-f0-f1) h_G(f0 +
        (1-f0-f1) c); for G = inf it is at most (1-f0-f1)/sqrt(min(f0(1-f0), f1(1-f1))), so a
        stationary policy exists at every beta. Entropy bonus alpha H(p): the optimum is proportional
        to ref^{beta/(alpha+beta)} e^{r/(alpha+beta)}, every p misses it by (alpha+beta) KL(p||opt), and
        with ref = d it costs S2's gap for the reward r - alpha log ref at alpha + beta.

    Assumptions: ref has full support; noise independent given correctness. Here every other
        response is correct. For entropy: any reward.

    Side: identity, bounds.

    Equality when: the bound for G = inf: at accepted shares f0 or 1 - f1; otherwise always.

    Units: reward units; beta and alpha in reward units per nat.

    Source: ours.

    Proof idea: given the response, the mean verdict is f0 + (1-f0-f1) r. beta KL(p||ref) - alpha H(p) =
        (alpha+beta) KL(p||ref) + alpha E_p log ref.

    Example:
    >>> import numpy as np
    >>> from nondecoupling.bounds import entropy_bonus_optimum, gibbs_tilt, noisy_beta
    >>> round(float(noisy_beta(0.04, 0.05, 0.15)), 6)
    0.05
    >>> ref, r = np.log([0.9, 0.1]), np.array([0.0, 1.0])
    >>> np.exp(entropy_bonus_optimum(ref, r, beta=0.5, bonus=0.5)).round(3).tolist()
    [0.525, 0.475]
    """

    id = "T11"
    title = "Verifier noise and entropy bonus are temperatures"
    depends = ("F3", "S2", "T4")
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        direction=Logits(),
        beta=Positive(),
        bonus=Positive(),
        success=Unit(),
        wrong=Unit(),
        told=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        # f0 + f1 = 1 - told, split by wrong: every pair of rates with f0 + f1 < 1.
        f0, f1 = (1 - w.told) * w.wrong, (1 - w.told) * (1 - w.wrong)
        accepted = f0 + w.told * w.success
        factor = w.told / xp.sqrt(accepted * (1 - accepted))
        least = xp.minimum(f0 * (1 - f0), f1 * (1 - f1))
        name = "noise bounds the factor of large groups"
        yield Claim(name, factor, "<=", w.told / xp.sqrt(least))

        best = entropy_bonus_optimum(xp, w.log_ref, w.reward, w.beta, w.bonus)

        def with_bonus(log_p: Array) -> Array:
            regularized = w.beta * kl_by_definition(xp, log_p, w.log_ref)
            return expected_reward(xp, log_p, w.reward) - regularized + w.bonus * entropy(xp, log_p)

        missed = with_bonus(best) - with_bonus(w.log_p)
        gap = (w.bonus + w.beta) * kl_by_definition(xp, w.log_p, best)
        yield Claim("the entropy bonus is a temperature", missed, "==", gap)
        name = "no policy does better with the bonus"
        yield Claim(name, with_bonus(best), ">=", with_bonus(w.log_p))
        power = w.beta * w.log_ref + w.reward
        other = gibbs_tilt(xp, 0 * w.log_ref, power, w.beta + w.bonus)
        differ = xp.sum(w.direction * (best - other))
        yield Claim("the optimum is a power of ref", differ, "==", xp.full_like(differ, 0))
        increase = cross_entropy(xp, w.log_ref, best) - entropy(xp, w.log_ref)
        effective = w.reward - w.bonus * w.log_ref
        price = coupling_gap(xp, w.log_ref, effective, w.beta + w.bonus)
        yield Claim("S2 prices the bonus", increase, "==", price)

        n = w.log_p.shape[-1]
        correct = [1 - index % 2 for index in range(n)]
        one = xp.full_like(w.log_p, 1)
        binary = xp.where(np.array(correct) == 1, one, 0 * one)
        tilt = gibbs_tilt(xp, w.log_ref, binary, noisy_beta(xp, w.beta, f0, f1))
        # The mean over both verdicts of verdict times d log p, at the tilt of the true reward.
        by_verdicts = pull_of_reward(xp, tilt, binary * (1 - f1) + (1 - binary) * f0, w.direction)
        leash = w.beta * pull_in_loss(xp, k2, tilt, w.log_ref, w.direction)
        yield Claim(
            "RL on noisy verdicts stops at the tilt of noisy beta", by_verdicts, "==", leash
        )

        def share(xp: NumberSystem, log_p: Array) -> Array:
            return xp.sum(xp.exp(log_p) * binary)

        zero, size = xp.full_like(w.success, 0), 4
        now, moves = share(xp, w.log_p), slope_of(xp, share, w.log_p, w.direction)
        by_groups = noisy_group_pull(xp, w.log_p, correct, w.direction, size, f0, f1)
        of_noise = group_factor(xp, f0 + w.told * now, size, "population", zero)
        name = "groups of 4 pull by (1-f0-f1) h(f0 + (1-f0-f1) c)"
        yield Claim(name, by_groups, "==", w.told * of_noise * moves)
