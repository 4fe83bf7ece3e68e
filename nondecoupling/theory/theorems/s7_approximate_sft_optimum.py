"""S7: Approximate SFT optimum, any RL algorithm."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import (
    cross_entropy,
    expected_reward,
    kl_divergence,
    total_variation_bounds,
)
from nondecoupling.formulas.price import price_of_reward_dual
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ApproximateSftOptimum(Statement):
    """Approximate SFT optimum, any RL algorithm.

    Statement: If KL(d||ref) <= eps then every policy p, however RL reached it, has DeltaL(p) >=
        K_inf(d, J(p)) - eps, hence J(p) <= J(d) + R sqrt((eps + DeltaL(p))/2): any reward gain
        over the data's beyond R sqrt(eps/2) must raise the SFT loss. Where that root is vacuous,
        from eps + DeltaL(p) = 2 on, J(p) <= J(d) + R sqrt(1 - e^{-(eps + DeltaL(p))}) is not.

    Assumptions: d << ref (here ref and p have full support), r not constant. K_inf enters by its
        dual value at every l = 1 - slack (S5).

    Side: lower bound on the loss, upper bound on the reward.

    Equality when: KL(d||ref) = eps and p on the frontier of S5. Pinsker's form: only in the limit
        p -> d with two responses of mass 1/2; the last: only where p all but misses the data.

    Units: nats per response; reward units for the second form.

    Source: ours, from Honda and Takemura 2010; Bretagnolle and Huber for the last form.

    Proof idea: DeltaL(p) = KL(d||p) - KL(d||ref), then S5; the last form by R4's for d and p.

    Example:
    >>> from nondecoupling.bounds import approximate_price_of_reward
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.5]), np.array([0.0, 1.0])
    >>> float(approximate_price_of_reward(d, r, 0.75, eps=0.05))  # doctest: +ELLIPSIS
    0.0938410362258...
    """

    id = "S7"
    title = "Approximate SFT optimum, any RL algorithm"
    depends = ("S5", "R4")
    world = dict(
        log_d=Law(),
        log_ref=Law(full_support=True),
        log_p=Law(full_support=True),
        reward=Reward(),
        slack=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        eps = kl_divergence(xp, w.log_d, w.log_ref)
        increase = cross_entropy(xp, w.log_d, w.log_p) - cross_entropy(xp, w.log_d, w.log_ref)
        reached = expected_reward(xp, w.log_p, w.reward)
        price = price_of_reward_dual(xp, w.log_d, w.reward, reached, w.slack)
        yield Claim("price of reward", increase + eps, ">=", price)
        gain = reached - expected_reward(xp, w.log_d, w.reward)
        spread = xp.max(w.reward) - xp.min(w.reward)
        pinsker, bretagnolle_huber = total_variation_bounds(xp, eps + increase)
        yield Claim("Pinsker form", gain, "<=", spread * pinsker)
        yield Claim("Bretagnolle-Huber form", gain, "<=", spread * bretagnolle_huber)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = xp.max(w.reward) - xp.min(w.reward)
        yield Claim("the reward is not constant", spread, ">", xp.full_like(spread, 0.0))
