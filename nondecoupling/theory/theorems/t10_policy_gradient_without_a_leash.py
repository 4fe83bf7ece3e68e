"""T10: The exact path of policy gradient without a leash."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition
from nondecoupling.formulas.logits import reward_gradient
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.schedules import leashless_law
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class PolicyGradientWithoutALeash(Statement):
    """The exact path of policy gradient without a leash.

    Statement: theta' = grad J from ref runs through p = 1/(C D), D = 1/ref + sigma - tau r, where
        tau' = 1/sum e^theta, sigma' = J tau' and sum log(ref D) = 0: e^{-theta} is affine in r, and
        the sum of the logits is kept. It ends at the best response that is most likely under ref, with
        KL(p||ref) = -log max_{argmax r} ref; several equally likely ones share the end, with -log of
        their mass. From a uniform ref the path is the frontier of S5: what p pays is the price of
        its reward.

    Assumptions: tabular softmax logits, exact gradients, ref has full support. The claims hold for every
        sigma with D > 0; from a ref that is not uniform, the path needs the one of sum log(ref D) = 0.

    Side: identities.

    Equality when: always.

    Units: nats per response; tau is one over reward.

    Source: ours; the flow is Mei et al. 2020.

    Proof idea: (e^{-theta})' = -e^{-theta} p (r - J) = (J - r)/sum e^theta, and sum p (r - J) = 0.

    Example:
    >>> from nondecoupling.bounds import leashless_policy
    >>> import numpy as np
    >>> ref, r = np.log([0.5, 0.25, 0.25]), np.array([1.0, 1.0, 0.0])
    >>> (137 * np.exp(leashless_policy(ref, r, 23 / 3))).round(9).tolist()
    [96.0, 32.0, 9.0]
    """

    id = "T10"
    title = "The exact path of policy gradient without a leash"
    depends = ("F5", "S5")
    world = dict(
        log_ref=Law(full_support=True),
        reward=Reward(),
        direction=Logits(),
        tau=Positive(),
        room=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        log_p, log_inverse = leashless_law(xp, w.log_ref, w.reward, w.tau, w.room)
        mean = expected_reward(xp, log_p, w.reward)
        # theta = -log D, and per unit of tau D moves by J - r.
        velocity = (w.reward - mean) * xp.exp(-log_inverse)
        total = xp.sum(xp.exp(-log_inverse))
        along = xp.sum(w.direction * velocity)
        gradient = xp.sum(w.direction * reward_gradient(xp, log_p, w.reward))
        yield Claim("the path follows the gradient", along, "==", total * gradient)
        kept = xp.sum(velocity)
        yield Claim("the sum of the logits is kept", kept, "==", xp.full_like(kept, 0.0))
        even = -xp.log(xp.full_like(w.log_ref, w.log_ref.shape[-1]))
        from_even, log_inverse = leashless_law(xp, even, w.reward, w.tau, w.room)
        scale = xp.sum(xp.exp(-log_inverse)) / w.log_ref.shape[-1]
        rate, offset = w.tau * scale, w.room * scale
        line = supporting_line(xp, even, w.reward, rate, offset)
        price = rate * expected_reward(xp, from_even, w.reward) + line
        paid = kl_by_definition(xp, even, from_even)
        yield Claim("from a uniform ref it pays the price", paid, "==", price)
