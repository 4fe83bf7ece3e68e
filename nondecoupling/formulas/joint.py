"""Prompts that are shared (D1), and SFT and RL at once (J1-J3).

The joint optimum maximises J_b(p) - lambda CE(d, p); ``weight`` is the multiplier lambda.
"""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    chi_squared,
    cross_entropy,
    expectation,
    expected_reward,
    kl_by_definition,
    kl_divergence,
    log_sum_exp,
)
from nondecoupling.formulas.roots import newton_bisection, with_root_gradient
from nondecoupling.formulas.tilt import gibbs_tilt, log_partition
from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, NumberSystem


def shared_prompts(xp: NumberSystem, log_sft: Array, log_rl: Array, values: Array) -> Array:
    """sum of q_SFT(x) f(x) over the prompts x that RL trains on too."""
    both = xp.support(log_sft) & xp.support(log_rl)
    return xp.sum(xp.where(both, xp.exp(log_sft) * values, 0.0))


def joint_objective(
    xp: NumberSystem,
    log_p: Array,
    log_d: Array,
    log_ref: Array,
    reward: Array,
    beta: Array,
    weight: Array,
) -> Array:
    """F(p) = E_p r - beta KL(p||ref) - lambda CE(d, p), from the definitions."""
    regularized = expected_reward(xp, log_p, reward) - beta * kl_by_definition(xp, log_p, log_ref)
    return regularized - weight * cross_entropy(xp, log_d, log_p)


def data_ratio(xp: NumberSystem, log_d: Array, log_p: Array) -> Array:
    """d/p, zero where d has no mass."""
    on = xp.support(log_d)
    return xp.where(on, xp.exp(xp.where(on, log_d, 0.0) - xp.where(on, log_p, 0.0)), 0.0)


def reward_with_joint_optimum(
    xp: NumberSystem, log_joint: Array, log_d: Array, log_ref: Array, beta: Array, weight: Array
) -> Array:
    """J1 read backwards: r = beta log(p/ref) - lambda d/p makes p the joint optimum, with mu = 0.

    Every pair (reward, joint optimum) arises like this, so exact worlds need no root.
    """
    return beta * (log_joint - log_ref) - weight * data_ratio(xp, log_d, log_joint)


def joint_closed_form(
    xp: NumberSystem, log_d: Array, log_tilt: Array, ratio: Array, offset: Array
) -> tuple[Array, Array]:
    """J1: log p and u = lambda d/(beta p) at the multiplier mu = beta (log Z + offset).

    u = omega(z), omega + log omega = z = log(ratio d) - log tilt + offset, ratio = lambda/beta, and
    log p = log tilt - offset + u = log(ratio d) - log u: the first form cancels for large u, the
    second for small. Writing mu against log Z keeps a small lambda/beta exact.
    """
    on = xp.support(log_d)
    log_data = xp.where(on, log_d, 0.0) + xp.log(ratio)
    z = log_data - xp.where(on, log_tilt, 0.0) + offset
    u = xp.where(on, xp.wright_omega(z), 0.0)
    large = u > 1
    log_u = xp.log(xp.where(large, u, 1.0))
    return xp.where(large, log_data - log_u, log_tilt - offset + u), u


def own_data_ratio(
    xp: NumberSystem, reward: Array, beta: Array, weight: Array, multiplier: Array
) -> Array:
    """J1 where d = ref: a = ref/p_joint, which a response has by its reward alone.

    The closed form with the mass cancelled: beta log a + lambda a = mu - r at the multiplier mu, which
    E_ref[1/a] = 1 fixes.
    """
    nothing = xp.full_like(reward, 0.0)
    log_tilt = (reward - multiplier) / beta
    _, u = joint_closed_form(xp, nothing, log_tilt, weight / beta, nothing)
    return beta / weight * u


def data_credit(xp: NumberSystem, log_d: Array, weight: Array, ratio: Array) -> Array:
    """lambda (1 + E_d log a) for a ratio a > 0 on supp d."""
    on = xp.support(log_d)
    return weight * (1 + expectation(xp, log_d, xp.log(xp.where(on, ratio, 1.0))))


def joint_ceiling(
    xp: NumberSystem,
    log_d: Array,
    log_ref: Array,
    reward: Array,
    beta: Array,
    weight: Array,
    ratio: Array,
) -> Array:
    """beta log E_ref e^{(r + lambda a)/beta} - lambda (1 + E_d log a), for any a > 0 on supp d and a = 0 off it.

    No policy p has more of J_b(p) - lambda KL(d||p): with z = p a/d, log z <= z - 1 under E_d gives
    E_d log(p/d) <= E_p a - 1 - E_d log a, and then F3 bounds E_p [r + lambda a] - beta KL(p||ref). Equality at
    the joint optimum of J1 with a = d/p_joint; so this is J2 where the joint optimum is not known.
    """
    best = beta * log_partition(xp, log_ref, reward + weight * ratio, beta)
    return best - data_credit(xp, log_d, weight, ratio)


def joint_gap(
    xp: NumberSystem, log_p: Array, log_joint: Array, log_d: Array, beta: Array, weight: Array
) -> Array:
    """J2: F(joint) - F(p) = beta KL(p||joint) + lambda E_d[z - 1 - log z], z = p/joint."""
    on = xp.support(log_d)
    log_z = xp.where(on, log_p, 0.0) - xp.where(on, log_joint, 0.0)
    missed = xp.where(on, xp.excess(xp.where(on, log_d, 0.0), log_z), 0.0)
    return beta * kl_divergence(xp, log_p, log_joint) + weight * xp.sum(missed)


def joint_saving_bounds(
    xp: NumberSystem, log_joint: Array, log_tilt: Array, log_d: Array, beta: Array, weight: Array
) -> tuple[Array, Array]:
    """J3: bounds on CE(d, tilt) - CE(d, joint); times lambda/2, bounds on J_b(tilt) - J_b(joint).

    lambda chi2(d||joint)/(beta + lambda max(d/joint)) and (lambda/beta) chi2(d||tilt).
    """
    largest = xp.max(data_ratio(xp, log_d, log_joint))
    lower = weight * chi_squared(xp, log_d, log_joint) / (beta + weight * largest)
    return lower, weight / beta * chi_squared(xp, log_d, log_tilt)


def joint_optimum(
    xp: Floats, log_d: Array, log_ref: Array, reward: Array, beta: Array, weight: Array
) -> Array:
    """J1: log of argmax J_b(p) - lambda CE(d, p), from one batched root for its multiplier.

    The unknown is offset = (mu - beta log Z)/beta in [0, lambda/beta]; -log sum p rises in it.
    """
    log_tilt, ratio = gibbs_tilt(xp, log_ref, reward, beta), weight / beta
    law, held, fixed = detached(log_d), detached(log_tilt), detached(ratio)

    def excess_mass(offset: Array) -> tuple[Array, Array]:
        log_p, u = joint_closed_form(xp, law, held, fixed, offset)
        log_mass = log_sum_exp(xp, log_p)
        return -log_mass, xp.sum(xp.exp(log_p - log_mass) / (1 + u))

    low = xp.full_like(fixed, 0.0)
    offset = newton_bisection(xp, excess_mass, low, fixed)
    log_p, u = joint_closed_form(xp, log_d, log_tilt, ratio, offset)
    log_mass = log_sum_exp(xp, log_p)
    slope = xp.sum(xp.exp(log_p - log_mass) / (1 + u))
    offset = with_root_gradient(xp, offset, -log_mass, slope)
    log_p, _ = joint_closed_form(xp, log_d, log_tilt, ratio, offset)
    return log_p - log_sum_exp(xp, log_p)
