"""S9: Overpayment: what a policy paid beyond the price of its reward."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import centred, expectation, expected_reward, kl_by_definition
from nondecoupling.formulas.price import (
    dual_ratio,
    frontier_ratio,
    overpaid,
    price_of_reward_dual,
    supporting_line,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class Overpayment(Statement):
    """Overpayment: what a policy paid beyond the price of its reward.

    Statement: w = (r - c)/(M - c), M = max r, z = p (1 - l w)/d on supp d. For every p >> d, c < M
        and l in [0, 1) (l = 1 too, where d(argmax r) = 0): KL(d||p) - E_d log(1 - l w) = E_d[z - 1 -
        log z] + l (J(p) - c)/(M - c) + E_p[1_{d=0} (1 - l w)]. At c = J(p) > J(d) and the l of S5 the
        left side is what p paid beyond the price of its reward; the middle term is 0, the others are
        nonnegative. Averages over prompts, with one nu >= 0 and mu_x > nu max r: E_q KL(d||p) - {nu c
        + 1 + E_q[E_d log(mu - nu r) - mu]} = E_q E_d[z - 1 - log z] + nu (J(p) - c) + E_q
        E_p[1_{d=0} (mu - nu r)], z = p (mu - nu r)/d. Small moves p prop. to d e^{eh}, e -> 0: paid
        over price tends to 1/corr_d(h, r)^2. For a small gain t the price is t^2/(2V) - k3 t^3/(3V^3)
        + O(t^4), V = Var_d r, k3 = E_d (r - J(d))^3, and the tilt pays t^4/(8V^2) (kurt - skew^2 - 1)
        + O(t^5) more, kurt and skew of r under d.

    Assumptions: ref = d, so that the SFT loss rises by KL(d||p); d << p; r is not constant. (Here p has
        full support.)

    Side: identities, and a lower bound.

    Equality when: the overpayment is zero iff p is on the frontier of S5. kurt = skew^2 + 1 iff r has
        two levels under d.

    Units: nats per response.

    Source: ours.

    Proof idea: log(1 - l w) + log(d/p) = -log z, and E_d z = 1 - l (J(p) - c)/(M - c) less what p keeps
        off the data; z - 1 >= log z.

    Example:
    >>> from nondecoupling.bounds import gibbs_tilt, overpayment
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> round(float(overpayment(d, gibbs_tilt(d, r, 0.5), r)), 4)  # RL at beta = 0.5
    0.2467
    """

    id = "S9"
    title = "Overpayment: what a policy paid beyond the price of its reward"
    depends = ("S5",)
    world = dict(
        log_d=Law(),
        log_p=Law(full_support=True),
        reward=Reward(),
        below_top=Positive(),
        slack=Unit(),
        log_d_two=Law(),
        log_p_two=Law(full_support=True),
        reward_two=Reward(),
        share=Unit(),
        rate=Positive(),
        offset=Positive(),
        offset_two=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        top = xp.max(w.reward)
        target = top - w.below_top
        reached = expected_reward(xp, w.log_p, w.reward)
        paid = kl_by_definition(xp, w.log_d, w.log_p)
        dual = price_of_reward_dual(xp, w.log_d, w.reward, target, w.slack)
        missed = (1 - w.slack) * (reached - target) / (top - target)
        ratio = xp.log(dual_ratio(xp, w.reward, target, w.slack))
        over = overpaid(xp, w.log_d, w.log_p, ratio)
        yield Claim("three terms", paid - dual, "==", over + missed)
        at_own_reward = price_of_reward_dual(xp, w.log_d, w.reward, reached, w.slack)
        own_ratio = dual_ratio(xp, w.reward, reached, w.slack)
        least = at_own_reward + off_the_data(xp, w.log_d, w.log_p, own_ratio)
        yield Claim("mass off the data is paid for", paid, ">=", least)
        yield average_over_two_prompts(xp, w)
        x = centred(xp, w.log_d, w.reward)
        v, fourth = (expectation(xp, w.log_d, y) for y in (xp.square(x), xp.square(xp.square(x))))
        third = expectation(xp, w.log_d, x * xp.square(x))
        pearson = xp.square(third) + v * xp.square(v)
        yield Claim("the tilt's excess at a small gain", fourth * v, ">=", pearson)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = xp.max(w.reward) - xp.min(w.reward)
        yield Claim("the reward is not constant", spread, ">", xp.full_like(spread, 0.0))


def off_the_data(xp: NumberSystem, log_d: Array, log_p: Array, ratio: Array) -> Array:
    """E_p[1_{d=0} b]."""
    return expectation(xp, log_p, xp.where(xp.support(log_d), 0.0, ratio))


def average_over_two_prompts(xp: NumberSystem, w: WorldValues[Array]) -> Claim:
    """S9 for averages: mu = offset + nu M at each prompt, and c one below the best average reward."""
    prompts = (
        (w.share, w.log_d, w.log_p, w.reward, w.offset),
        (1 - w.share, w.log_d_two, w.log_p_two, w.reward_two, w.offset_two),
    )
    target = sum(q * xp.max(reward) for q, _, _, reward, _ in prompts) - w.below_top
    left, right = w.rate * -target, w.rate * -target
    for q, log_d, log_p, reward, offset in prompts:
        line = supporting_line(xp, log_d, reward, w.rate, offset)
        left = left + q * (kl_by_definition(xp, log_d, log_p) - line)
        over = overpaid(xp, log_d, log_p, xp.log(frontier_ratio(xp, reward, w.rate, offset)))
        right = right + q * (over + w.rate * expected_reward(xp, log_p, reward))
    return Claim("one rate for two prompts", left, "==", right)
