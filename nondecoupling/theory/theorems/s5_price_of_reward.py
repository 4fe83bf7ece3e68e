"""S5: Price of reward: the exact Pareto frontier."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition, log_sum_exp
from nondecoupling.formulas.price import bernoulli_kl, price_of_reward_dual, supporting_line
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class PriceOfReward(Statement):
    """Price of reward: the exact Pareto frontier.

    Statement: min{KL(d||p): E_p r >= c} = K_inf(d, c) = max_{0<=l<=1} E_d log(1 - l
        (r-c)/(M-c)), M = max r, for J(d) < c < M. Hence every policy, reached by any algorithm,
        pays at least the dual value of every l = 1 - slack; p = d/(tau - r) normalised, tau >
        M, pays exactly K_inf. Weaker: >= kl_bernoulli >= 2 (c - J(d))^2/R^2. For averages over
        prompts: KL(d||p) + nu (M - E_p r) >= 1 + E_d log(t + nu (M - r)) - t for all nu, t > 0 is
        linear in p's reward, so it may be averaged with one nu and a t for each prompt; the best
        choice is the price of an average reward.

    Assumptions: ref = d; the reward reached exceeds J(d). (The solver handles d(argmax r) = 0
        as well; here d has full support.)

    Side: lower bounds, and an identity on the frontier. The two weaker forms are checked at the frontier's policy
        of this slack, the least that any policy with its reward pays, and not at log_p.

    Equality when: p = d/(1 - l (r-c)/(M-c)) at the maximising l. Bernoulli: two reward levels.
        Supporting line: p = d/(t + nu (M - r)).

    Units: nats per response.

    Source: Honda and Takemura 2010, K_inf; Pinsker for the last form.

    Proof idea: log t <= t - 1 under E_d with t = (p/d)(1 - l (r-c)/(M-c)) gives weak duality;
        equality there is the optimum.

    Example:
    >>> from nondecoupling.bounds import price_of_reward
    >>> import numpy as np
    >>> float(price_of_reward(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 0.75))  # doctest: +ELLIPSIS
    0.14384103622589...
    """

    id = "S5"
    title = "Price of reward: the exact Pareto frontier"
    depends = ("F1",)
    world = dict(
        log_d=Law(full_support=True),
        log_p=Law(full_support=True),
        reward=Reward(),
        slack=Unit(),
        rate=Positive(),
        offset=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        top, least = xp.max(w.reward), xp.min(w.reward)
        reached = expected_reward(xp, w.log_p, w.reward)
        paid = kl_by_definition(xp, w.log_d, w.log_p)
        dual = price_of_reward_dual(xp, w.log_d, w.reward, reached, w.slack)
        yield Claim("weak duality", paid, ">=", dual)
        line = supporting_line(xp, w.log_d, w.reward, w.rate, w.offset) + w.rate * top
        yield Claim("supporting line", paid + w.rate * (top - reached), ">=", line)
        # A frontier point without solving: tau = M + R slack/(1 - slack), p = d/(tau - r)/Z.
        tau = top + (top - least) * w.slack / (1 - w.slack)
        weights = w.log_d - xp.log(tau - w.reward)
        log_z = log_sum_exp(xp, weights)
        frontier = weights - log_z
        target = expected_reward(xp, frontier, w.reward)
        on_frontier = kl_by_definition(xp, w.log_d, frontier)
        frontier_slack = xp.exp(log_z) * (tau - top)
        price = price_of_reward_dual(xp, w.log_d, w.reward, target, frontier_slack)
        yield Claim("the frontier is attained", on_frontier, "==", price)
        spread = top - least
        here, there = mean_of_unit_reward(xp, w.log_d, w), mean_of_unit_reward(xp, frontier, w)
        bernoulli = bernoulli_kl(xp, here, there)
        yield Claim("Bernoulli bound", on_frontier, ">=", bernoulli)
        gain = target - expected_reward(xp, w.log_d, w.reward)
        yield Claim("Pinsker bound", on_frontier, ">=", 2 * xp.square(gain / spread))

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = xp.max(w.reward) - xp.min(w.reward)
        yield Claim("the reward is not constant", spread, ">", xp.full_like(spread, 0.0))


def mean_of_unit_reward(xp: NumberSystem, log_p: Array, w: WorldValues[Array]) -> Array:
    """E_p of the reward rescaled to [0, 1]."""
    least = xp.min(w.reward)
    return expected_reward(xp, log_p, (w.reward - least) / (xp.max(w.reward) - least))
