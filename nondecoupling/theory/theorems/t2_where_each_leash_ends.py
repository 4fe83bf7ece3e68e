"""T2: Where each leash ends."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.tilt import gibbs_tilt, tilt_at
from nondecoupling.formulas.trainers import (
    forward_leash_at,
    forward_leash_gap,
    k1,
    k2,
    k2_reward_penalty,
    k3,
    k3_reward_penalty,
    k3_reward_pull,
    pull_in_loss,
    pull_in_reward,
    pull_of_reward,
    pull_with_ratio,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class WhereEachLeashEnds(Statement):
    """Where each leash ends.

    Statement: k1 in the reward, k2 in the loss and k3 times the ratio end at the tilt. k3 in the
        loss ends at p* = beta ref/(mu - r), mu > max r by normalisation, with J(p*) = mu - beta and
        O(p*) - O(p) = beta E_ref[z - 1 - log z], z = p/p*, O = J - beta KL(ref||p). With ref = d it
        is S5's frontier policy at the rate 1/beta: it pays exactly the price of its reward. k3 in
        the reward has no optimum: along every tilt of ref by a direction g its objective is at
        least min r + beta [t (max g - E_ref g) + 2 log min ref]; at p = ref its penalty has zero
        gradient and Hessian. With two responses, ref = (a, 1-a), r = (1, 0), the flow from ref runs
        away iff a >= 1/2 or beta < 1/(log((1-a)/a) - 2(1-2a)). k2 in the reward is bounded by max r
        + beta/2. Both have, at an interior local maximum, at most one response below ref.

    Assumptions: p and ref have full support; exact expected gradients, per response.

    Side: identity, bounds; one refuted claim.

    Equality when: p = p*; the pull of k3 in the reward: c = 1/2.

    Units: reward units; nats per response.

    Source: ours. The tilt: Rafailov et al. 2023; the frontier: S5.

    Proof idea: O is concave with derivative r + beta ref/p = mu at p*. KL(p||ref) - KL(ref||p) is a
        sum of (p + ref) log(p/ref), whose second derivative (p - ref)/p^2 is negative below ref.

    Example:
    >>> import numpy as np
    >>> from nondecoupling.bounds import expected_reward, forward_leash_optimum, kl_divergence
    >>> from nondecoupling.bounds import price_of_reward
    >>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> p = forward_leash_optimum(d, r, beta=0.5)
    >>> paid, price = kl_divergence(d, p), price_of_reward(d, r, expected_reward(p, r))
    >>> bool(np.isclose(paid, price, rtol=1e-12))
    True
    """

    id = "T2"
    title = "Where each leash ends"
    depends = ("T1", "F3", "S5")
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        direction=Logits(),
        beta=Positive(),
        offset=Positive(),
        depth=Positive(),
        start=Unit(),
        share=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        low = w.start / 2  # of two responses, the one with the reward is the rarer in ref
        upward = k3_reward_pull(xp, low, low + (1 - low) * w.share)
        hardest = xp.log((1 - low) / low) - 2 * (1 - 2 * low)
        yield Claim("k3 in the reward pulls hardest at one half", upward, "<=", hardest)
        high = 1 - low
        away = k3_reward_pull(xp, high, high + (1 - high) * w.share)
        zero = xp.full_like(away, 0)
        yield Claim("from one half up k3 in the reward pushes away", away, "<=", zero)

        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        gain = pull_of_reward(xp, tilt, w.reward, w.direction)
        for name, place, k in (
            ("k1 in the reward", pull_in_reward, k1),
            ("k2 in the loss", pull_in_loss, k2),
            ("k3 times the ratio", pull_with_ratio, k3),
        ):
            leash = w.beta * place(xp, k, tilt, w.log_ref, w.direction)
            yield Claim(f"{name} stops at the tilt", gain, "==", leash)

        best, beta, mu = forward_leash_at(xp, w.log_ref, w.reward, w.offset)
        gain = pull_of_reward(xp, best, w.reward, w.direction)
        leash = beta * pull_in_loss(xp, k3, best, w.log_ref, w.direction)
        yield Claim("k3 in the loss stops at beta ref/(mu - r)", gain, "==", leash)
        reached = expected_reward(xp, best, w.reward)
        yield Claim("it reaches mu - beta", reached, "==", mu - beta)

        def forward(log_p: Array) -> Array:
            paid = kl_by_definition(xp, w.log_ref, log_p)
            return expected_reward(xp, log_p, w.reward) - beta * paid

        missed = forward(best) - forward(w.log_p)
        gap = forward_leash_gap(xp, w.log_p, best, w.log_ref, beta)
        yield Claim("the mirror of F3", missed, "==", gap)
        yield Claim("no policy does better", forward(best), ">=", forward(w.log_p))
        line = supporting_line(xp, w.log_ref, w.reward, 1 / beta, w.offset / beta)
        paid = kl_by_definition(xp, w.log_ref, best)
        yield Claim("it pays the price of its reward", paid, "==", reached / beta + line)

        def with_k3(log_p: Array) -> Array:
            penalty = k3_reward_penalty(xp, log_p, w.log_ref)
            return expected_reward(xp, log_p, w.reward) - w.beta * penalty

        far = tilt_at(xp, w.log_ref, w.direction, w.depth)
        room = xp.max(w.direction) - expected_reward(xp, w.log_ref, w.direction)
        least = xp.min(w.reward) + w.beta * (w.depth * room + 2 * xp.min(w.log_ref))
        yield Claim("k3 in the reward has no upper bound", with_k3(far), ">=", least)
        at_tilt, elsewhere = with_k3(tilt), with_k3(w.log_p)
        name = "k3 in the reward is best at the tilt"
        yield Claim(name, at_tilt, ">=", elsewhere, refuted=True)
        with_k2 = expected_reward(xp, w.log_p, w.reward) - w.beta * k2_reward_penalty(
            xp, w.log_p, w.log_ref
        )
        most = xp.max(w.reward) + w.beta / 2
        yield Claim("k2 in the reward has an upper bound", with_k2, "<=", most)
