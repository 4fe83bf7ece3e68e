"""T1: Which divergence a KL estimator trains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.formulas.trainers import (
    group_pull,
    k1,
    k2,
    k2_reward_penalty,
    k3,
    k3_reward_penalty,
    leave_one_out,
    minus_group_mean,
    pull_in_loss,
    pull_in_reward,
    pull_of_reward,
    pull_with_ratio,
    slope_of,
)
from nondecoupling.formulas.trees import columns
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class EstimatorsAndDivergences(Statement):
    """Which divergence a KL estimator trains.

    Statement: u = log(p/ref), k1 = u, k2 = u^2/2, k3 = e^{-u} - 1 + u. In the loss, differentiated
        at held samples: E_p grad k1 = 0, E_p grad k2 = grad KL(p||ref), E_p grad k3 = grad
        KL(ref||p). In the reward, E_p[k grad log p]: k1 trains KL(p||ref), k2 trains E_p[u^2/2 - u],
        k3 trains KL(p||ref) - KL(ref||p). Times the differentiable ratio p/p_held: any k trains
        E_p[k], which for k1 and k3 is KL(p||ref). A leave-one-out baseline changes nothing; the
        mean of a group of G, the sample itself among it, scales reward and in-reward penalty by
        (G - 1)/G.

    Assumptions: p and ref have full support; gradients are exact expectations under the current
        policy.

    Side: identity; one refuted claim.

    Equality when: always.

    Units: nats per response and per unit of logits; reward units for the baselines.

    Source: ours. The estimators: Schulman 2020.

    Proof idea: grad E_p f(u) = E_p[(f + f') grad log p], and E_p[c grad log p] = 0 for a constant c.

    Example:
    >>> from nondecoupling.deciding.attack import smallest_witness
    >>> claim = "k3 in the loss trains KL(p||ref)"
    >>> print(smallest_witness(EstimatorsAndDivergences, claim))  # what it does not train
    p = (1/2, 1/2), ref = (1/3, 2/3), reward = (0, 0), direction = (0, 1)
    """

    id = "T1"
    title = "Which divergence a KL estimator trains"
    depends = ("F5",)
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        direction=Logits(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        held = w.log_p, w.log_ref, w.direction

        def trained(objective: Any) -> Array:
            return slope_of(xp, lambda xp, log_p: objective(xp, log_p), w.log_p, w.direction)

        def reverse(xp: NumberSystem, log_p: Array) -> Array:
            return kl_by_definition(xp, log_p, w.log_ref)

        def forward(xp: NumberSystem, log_p: Array) -> Array:
            return kl_by_definition(xp, w.log_ref, log_p)

        no_pull = pull_in_loss(xp, k1, *held)
        yield Claim("k1 in the loss trains nothing", no_pull, "==", xp.full_like(no_pull, 0))
        from_k2, from_k3 = pull_in_loss(xp, k2, *held), pull_in_loss(xp, k3, *held)
        yield Claim("k2 in the loss trains KL(p||ref)", from_k2, "==", trained(reverse))
        yield Claim("k3 in the loss trains KL(ref||p)", from_k3, "==", trained(forward))
        yield Claim(
            "k3 in the loss trains KL(p||ref)", from_k3, "==", trained(reverse), refuted=True
        )

        def second(xp: NumberSystem, log_p: Array) -> Array:
            return k2_reward_penalty(xp, log_p, w.log_ref)

        def third(xp: NumberSystem, log_p: Array) -> Array:
            return k3_reward_penalty(xp, log_p, w.log_ref)

        for k, name, objective in (
            (k1, "k1 in the reward trains KL(p||ref)", reverse),
            (k2, "k2 in the reward trains E_p[u^2/2 - u]", second),
            (k3, "k3 in the reward trains KL(p||ref) - KL(ref||p)", third),
        ):
            yield Claim(name, pull_in_reward(xp, k, *held), "==", trained(objective))

        def mean_square(xp: NumberSystem, log_p: Array) -> Array:
            return k2_reward_penalty(xp, log_p, w.log_ref) + reverse(xp, log_p)

        for k, name, objective in (
            (k1, "k1 with the ratio trains KL(p||ref)", reverse),
            (k2, "k2 with the ratio trains E_p[u^2/2]", mean_square),
            (k3, "k3 with the ratio trains KL(p||ref)", reverse),
        ):
            yield Claim(name, pull_with_ratio(xp, k, *held), "==", trained(objective))

        whole = pull_of_reward(xp, w.log_p, w.reward, w.direction)
        for size in (2, 3):
            alone, mean = (
                group_pull(xp, w.log_p, columns(xp, w.reward), w.direction, size, baseline)
                for baseline in (leave_one_out, minus_group_mean)
            )
            yield Claim(f"leaving one out changes nothing, groups of {size}", alone, "==", whole)
            shrunk = whole * (size - 1) / size
            yield Claim(f"the group mean shrinks, groups of {size}", mean, "==", shrunk)
