"""Which objective a trainer has: estimators of KL, leashes, groups, noise (T1, T2, T4, T11).

A trainer is known by the gradient that it expects. Here that is a derivative along a direction in
the logits, taken from the trainer's own definition; the objective that belongs to it is written
beside it. u = log(p/ref) throughout, and estimators k(u) are per response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement
from math import factorial, prod

from nondecoupling.formulas.laws import (
    expectation,
    expected_reward,
    kl_by_definition,
    kl_divergence,
    log_softmax,
    log_sum_exp,
)
from nondecoupling.formulas.price import bernoulli_kl, frontier_policy
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.trees import added, columns
from nondecoupling.numbers.duals import Dual, Duals, slope
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, NumberSystem, Operand

Estimator = Callable[[NumberSystem, Array], Array]


def k1(xp: NumberSystem, u: Array) -> Array:
    """u: unbiased, of either sign."""
    return u


def k2(xp: NumberSystem, u: Array) -> Array:
    """u^2/2."""
    return xp.square(u) / 2


def k3(xp: NumberSystem, u: Array) -> Array:
    """e^{-u} - 1 + u: unbiased and nonnegative."""
    return xp.excess(xp.full_like(u, 0), -u)


def along(xp: NumberSystem, log_p: Array, direction: Array) -> tuple[Duals, Array]:
    """The policy with logits log p + e direction at e = 0, with its derivative in e."""
    duals = Duals(xp)
    return duals, log_softmax(duals, Dual(log_p, direction))


def slope_of(
    xp: NumberSystem,
    objective: Callable[[NumberSystem, Array], Array],
    log_p: Array,
    direction: Array,
) -> Array:
    """The derivative of an objective ``f(xp, log_p)`` along a direction in the logits."""
    duals, moving = along(xp, log_p, direction)
    return slope(objective(duals, moving))


def pull_in_loss(
    xp: NumberSystem, k: Estimator, log_p: Array, log_ref: Array, direction: Array
) -> Array:
    """T1: E_p of the derivative of k, at responses that are held: what k in the loss contributes."""
    duals, moving = along(xp, log_p, direction)
    return expectation(xp, log_p, slope(k(duals, moving - log_ref)))


def pull_in_reward(
    xp: NumberSystem, k: Estimator, log_p: Array, log_ref: Array, direction: Array
) -> Array:
    """T1: E_p[k d log p]: what k subtracted from the reward of each response contributes."""
    _, moving = along(xp, log_p, direction)
    return expectation(xp, log_p, k(xp, log_p - log_ref) * slope(moving))


def pull_with_ratio(
    xp: NumberSystem, k: Estimator, log_p: Array, log_ref: Array, direction: Array
) -> Array:
    """T1: E_p of the derivative of (p/p_held) k, the ratio being differentiated too."""
    duals, moving = along(xp, log_p, direction)
    ratio = duals.exp(moving - log_p)
    return expectation(xp, log_p, slope(ratio * k(duals, moving - log_ref)))


def pull_of_reward(xp: NumberSystem, log_p: Array, reward: Array, direction: Array) -> Array:
    """E_p[r d log p], the policy gradient."""
    _, moving = along(xp, log_p, direction)
    return expectation(xp, log_p, reward * slope(moving))


def k2_reward_penalty(xp: NumberSystem, log_p: Array, log_ref: Array) -> Array:
    """T1: E_p[u^2/2 - u], what k2 in the reward penalises; at least -1/2."""
    u = log_p - log_ref
    return expectation(xp, log_p, xp.square(u) / 2 - u)


def k3_reward_penalty(xp: NumberSystem, log_p: Array, log_ref: Array) -> Array:
    """T1: KL(p||ref) - KL(ref||p), what k3 in the reward penalises; without a lower bound."""
    return kl_by_definition(xp, log_p, log_ref) - kl_by_definition(xp, log_ref, log_p)


# Rewards, and so advantages, are columns [..., 1] or plain numbers.
Advantage = Callable[[Sequence[Operand]], Sequence[Operand]]


def leave_one_out(rewards: Sequence[Operand]) -> list[Operand]:
    """Each reward minus the mean of the others."""
    others = len(rewards) - 1
    return [r - (added(rewards) - r) / others for r in rewards]


def minus_group_mean(rewards: Sequence[Operand]) -> list[Operand]:
    """Each reward minus the mean of all, its own among them."""
    mean = added(rewards) / len(rewards)
    return [r - mean for r in rewards]


def group_pull(
    xp: NumberSystem,
    log_p: Array,
    rewards: Sequence[Operand],
    direction: Array,
    size: int,
    advantage: Advantage,
) -> Array:
    """E of the mean of advantage times d log p over a group: a sum over all groups of ``size`` responses."""
    _, moving = along(xp, log_p, direction)
    p, score = columns(xp, xp.exp(log_p)), columns(xp, slope(moving))
    terms = []
    for group in combinations_with_replacement(range(len(p)), size):
        orders = factorial(size) // prod(factorial(group.count(i)) for i in set(group))
        weight = prod((p[i] for i in group[1:]), start=p[group[0]]) * orders
        given = advantage([rewards[i] for i in group])
        pulls = added(a * score[i] for a, i in zip(given, group, strict=True))
        terms.append(weight * pulls / size)
    return added(terms)


def forward_regularized_reward(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """T2: O(p) = E_p r - beta KL(ref||p), the objective of k3 in the loss."""
    return expected_reward(xp, log_p, reward) - beta * kl_divergence(xp, log_ref, log_p)


def forward_leash_optimum(xp: Floats, log_ref: Array, reward: Array, beta: Array) -> Array:
    """T2: log of beta ref/(mu - r), the maximiser of O: S5's frontier policy at the rate 1/beta."""
    log_p, _, _ = frontier_policy(xp, log_ref, reward, 1 / beta)
    return log_p


def forward_leash_at(
    xp: NumberSystem, log_ref: Array, reward: Array, offset: Array
) -> tuple[Array, Array, Array]:
    """T2 without a root: log p, beta and mu of the policy beta ref/(mu - r) with mu = max r + offset."""
    mu = xp.max(reward) + offset
    weights = log_ref - xp.log(mu - reward)
    log_z = log_sum_exp(xp, weights)
    return weights - log_z, xp.exp(-log_z), mu


def forward_leash_gap(
    xp: NumberSystem, log_p: Array, log_best: Array, log_ref: Array, beta: Array
) -> Array:
    """T2: O(best) - O(p) = beta E_ref[z - 1 - log z], z = p/best."""
    return beta * xp.sum(xp.excess(log_ref, log_p - log_best))


def k3_reward_pull(xp: NumberSystem, ref_success: Array, success: Array) -> Array:
    """T2, two responses: d/dc of KL(p||ref) - KL(ref||p) at p = (c, 1 - c), from the definition."""
    duals = Duals(xp)
    c, a = Dual(success, xp.full_like(success, 1)), duals.constant(ref_success)
    return slope(bernoulli_kl(duals, c, a) - bernoulli_kl(duals, a, c))


def noisy_beta(
    xp: NumberSystem, beta: Array, false_positives: Array, false_negatives: Array
) -> Array:
    """T11: beta/(1 - f0 - f1), the leash that a noisy verifier leaves of beta."""
    return beta / (1 - false_positives - false_negatives)


def entropy_bonus_optimum(
    xp: NumberSystem, log_ref: Array, reward: Array, beta: Array, bonus: Array
) -> Array:
    """T11: log of the maximiser of E_p r - beta KL(p||ref) + alpha H(p), the tilt by r - alpha log ref."""
    return gibbs_tilt(xp, log_ref, reward - bonus * log_ref, beta + bonus)
