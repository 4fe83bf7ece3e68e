"""Softmax logits: gradients (F5), the inequalities of the landscape (P1-P4), kernels of features (P6).

``theta`` are softmax logits: p = softmax(theta). A subscript c means centred: the mean over the
responses is subtracted, since softmax does not see it. ``step`` is a step size eta, ``direction`` a
direction g in logit space.
"""

from __future__ import annotations

from nondecoupling.formulas.laws import (
    INF,
    centred,
    cross_entropy,
    expectation,
    from_mode,
    kl_divergence,
    log_softmax,
    log_sum_exp,
)
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, Mask, NumberSystem


def sft_loss_gradient(xp: NumberSystem, log_p: Array, log_d: Array) -> Array:
    """F5: the gradient p - d of CE(d, softmax(theta)) in the logits."""
    return xp.exp(log_p) - xp.exp(log_d)


def reward_gradient(xp: NumberSystem, log_p: Array, reward: Array) -> Array:
    """F5: the gradient p (r - E_p r) of J(softmax(theta)) in the logits."""
    return xp.exp(log_p) * centred(xp, log_p, reward)


def bregman_of_log_sum_exp(xp: NumberSystem, at: Array, logits: Array) -> Array:
    """F5: lse(at) - lse(logits) - <softmax(logits), at - logits>, the Bregman divergence."""
    slope = expectation(xp, log_softmax(xp, logits), at - logits)
    return log_sum_exp(xp, at) - log_sum_exp(xp, logits) - slope


def centred_norm_squared(xp: NumberSystem, values: Array) -> Array:
    """||v_c||^2 = sum (v - mean v)^2, all responses weighing the same."""
    shifted = from_mode(xp, values, values)
    return xp.sum(xp.square(shifted - xp.sum(shifted) / values.shape[-1]))


def least_probability(xp: NumberSystem, log_p: Array) -> Array:
    """min_y p(y)."""
    return xp.exp(xp.min(log_p))


def squared_norm(xp: NumberSystem, values: Array) -> Array:
    return xp.sum(xp.square(values))


def pl_sft_bound(xp: NumberSystem, log_d: Array, log_p: Array) -> Array:
    """P1: KL(d||p) <= log(1 + ||p - d||^2/min p), what the gradient says about the excess loss."""
    somewhere = xp.support(log_p) | xp.support(log_d)
    least = xp.min(xp.where(somewhere, log_p, INF))
    gradient = sft_loss_gradient(xp, log_p, log_d)
    moves = xp.positive(xp.abs(gradient))
    scaled = xp.where(moves, xp.where(moves, gradient, 1.0) * xp.exp(-least / 2), 0.0)
    return xp.log1p(squared_norm(xp, scaled))


def rl_gradient(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """p (a - E_p a), a = r - beta log(p/ref): the gradient of J_b(softmax(theta)) in theta (F5)."""
    return xp.exp(log_p) * regularized_advantage(xp, log_p, log_ref, reward, beta)


def pl_reward_bound(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """P3: J_b(tilt) - J_b(p) <= ||grad J_b||^2/(4 beta (min p)^2)."""
    advantage = regularized_advantage(xp, log_p, log_ref, reward, beta)
    return pl_bound_of_advantage(xp, log_p, advantage, beta)


def regularized_advantage(
    xp: NumberSystem, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """a - E_p a, a = r - beta log(p/ref)."""
    return centred(xp, log_p, reward - beta * (log_p - log_ref))


def pl_bound_of_advantage(xp: NumberSystem, log_p: Array, advantage: Array, beta: Array) -> Array:
    """P3: ||p A||^2/(4 beta (min p)^2) for the advantages A."""
    return squared_norm(xp, xp.exp(log_p - xp.min(log_p)) * advantage) / (4 * beta)


def logit_sandwich(xp: NumberSystem, theta: Array, theta_prime: Array) -> tuple[Array, Array]:
    """P2: (m/2) D <= KL(p_theta||p_theta') <= D/4, D = ||(theta - theta')_c||^2."""
    log_p, log_q = log_softmax(xp, theta), log_softmax(xp, theta_prime)
    least = xp.minimum(least_probability(xp, log_p), least_probability(xp, log_q))
    distance = centred_norm_squared(xp, theta - theta_prime)
    return least * distance / 2, distance / 4


def after_step(xp: NumberSystem, log_p: Array, direction: Array, step: Array) -> Array:
    """log p_{theta + eta g}: a step in logit space is a tilt with reward g and beta = 1/eta."""
    return gibbs_tilt(xp, log_p, direction, 1 / step)


def alignment(xp: NumberSystem, log_d: Array, log_p: Array, direction: Array) -> Array:
    """<d - p, g> = E_d g - E_p g."""
    shifted = from_mode(xp, log_d, direction)
    return xp.sum((xp.exp(log_d) - xp.exp(log_p)) * shifted)


def step_change(
    xp: NumberSystem, log_d: Array, log_p: Array, direction: Array, step: Array
) -> Array:
    """P4, exact: L(theta + eta g) - L(theta) = KL(p_theta||p_{theta + eta g}) - eta <d - p, g>."""
    moved = kl_divergence(xp, log_p, after_step(xp, log_p, direction, step))
    return moved - step * alignment(xp, log_d, log_p, direction)


def excess_that_raises(
    xp: NumberSystem, log_d: Array, log_p: Array, direction: Array, step: Array
) -> Array:
    """P4: (m/8) eta^2 ||g_c||^2; from an excess loss below it the step raises the SFT loss."""
    after = after_step(xp, log_p, direction, step)
    least = least_probability(xp, log_d)
    for law in (log_p, after):
        least = xp.minimum(least, least_probability(xp, law))
    return least * xp.square(step) * centred_norm_squared(xp, direction) / 8


def excess_that_lowers(
    xp: NumberSystem, log_d: Array, log_p: Array, direction: Array, step: Array
) -> Array:
    """P4: log(1 + (eta ||g_c||/(4 rho))^2/min p), rho = cos(d - p, g_c); infinite for rho <= 0.

    From an excess loss above it the step lowers the SFT loss.
    """
    size = xp.square(step) * centred_norm_squared(xp, direction)
    gradient = squared_norm(xp, sft_loss_gradient(xp, log_p, log_d))
    aligned = step * alignment(xp, log_d, log_p, direction)
    toward = (aligned > 0) & (gradient > 0)  # the latter fails only by underflow
    # eta ||g_c||/rho = size ||p - d||/aligned: no division by ||p - d||
    safe = xp.where(toward, aligned, 1.0)
    above = xp.square(size / (4 * safe)) * gradient / least_probability(xp, log_p)
    return xp.where(toward, xp.log1p(above), INF)


def rl_improves_sft_threshold(
    xp: NumberSystem, log_d: Array, log_p: Array, direction: Array, step: Array
) -> tuple[Array, Array, Array]:
    """P4: (exact change, excess loss below which the step raises L, above which it lowers L)."""
    arguments = (xp, log_d, log_p, direction, step)
    return step_change(*arguments), excess_that_raises(*arguments), excess_that_lowers(*arguments)


def spectral_cosine_bound(
    xp: NumberSystem, spectrum: Array, u: Array, v: Array, inside: Mask
) -> Array:
    """P6, in the eigenbasis: (|<u, v>_in| + sqrt(<u, u>_out <v, v>_out))/sqrt(<u, u> <v, v>).

    <u, v> = sum lambda_i u_i v_i, "in" the eigendirections where ``inside`` is true. This is
    sqrt((1 - tau_u)(1 - tau_v)) |cos in| + sqrt(tau_u tau_v). Zero where a norm vanishes.
    """
    uu, vv = spectrum * xp.square(u), spectrum * xp.square(v)
    tails = xp.sum(xp.where(inside, 0.0, uu)) * xp.sum(xp.where(inside, 0.0, vv))
    within = xp.abs(xp.sum(xp.where(inside, spectrum * u * v, 0.0)))
    return cosine_of_products(xp, within + xp.sqrt(tails), xp.sum(uu), xp.sum(vv))


def spectral_cosine(xp: NumberSystem, spectrum: Array, u: Array, v: Array) -> Array:
    """P6: cos_K(u, v) in the eigenbasis of K; zero where a norm vanishes."""
    uu, vv = (xp.sum(spectrum * xp.square(x)) for x in (u, v))
    return cosine_of_products(xp, xp.sum(spectrum * u * v), uu, vv)


def cosine_of_products(xp: NumberSystem, uv: Array, uu: Array, vv: Array) -> Array:
    """<u, v>/sqrt(<u, u> <v, v>); zero where a norm vanishes."""
    norms = uu * vv
    defined = norms > 0
    return xp.where(defined, uv / xp.sqrt(xp.where(defined, norms, 1.0)), 0.0)


def reflect(xp: NumberSystem, normal: Array, x: Array) -> Array:
    """x - 2 h <h, x>/<h, h>: a rotation of the eigenbasis that stays rational."""
    return x - 2 * normal * xp.sum(normal * x) / squared_norm(xp, normal)


def sft_loss_after_step(
    xp: NumberSystem, log_d: Array, theta: Array, direction: Array, step: Array
) -> Array:
    """L(theta + eta g) - L(theta), from the definition."""
    before = cross_entropy(xp, log_d, log_softmax(xp, theta))
    return cross_entropy(xp, log_d, log_softmax(xp, theta + step * direction)) - before
