"""The formulas of the landscape statements P1-P6, over any number system (see ``namespaces``).

Conventions of ``quantities``. ``theta`` are softmax logits: p = softmax(theta). A subscript c means
centred, the mean over the responses taken out; ``step`` is a step size eta, ``direction`` a
direction g in logit space, ``duration`` the RL time s = 1/beta, ``weight`` the multiplier lambda.
"""

from __future__ import annotations

from nondecoupling.namespaces import Array, Namespace
from nondecoupling.quantities import (
    INF,
    cross_entropy,
    expectation,
    expected_reward,
    gibbs_tilt,
    kl_divergence,
    log_softmax,
    max_on_support,
    min_on_support,
    reward_gradient,
    sft_loss_gradient,
    variance,
)


def centred_norm_squared(xp: Namespace, values: Array) -> Array:
    """||v_c||^2 = sum (v - mean v)^2, all responses weighing the same."""
    shifted = values - xp.gather(values, xp.mode(values))
    return xp.sum(xp.square(shifted - xp.sum(shifted) / values.shape[-1]))


def least_probability(xp: Namespace, log_p: Array) -> Array:
    """min_y p(y)."""
    return xp.exp(xp.min(log_p))


# --- P1, P3: Polyak-Lojasiewicz inequalities ----------------------------------------------------


def squared_norm(xp: Namespace, values: Array) -> Array:
    return xp.sum(xp.square(values))


def pl_sft_bound(xp: Namespace, log_d: Array, log_p: Array) -> Array:
    """P1: KL(d||p) <= log(1 + ||p - d||^2/min p), what the gradient says about the excess loss."""
    gradient = squared_norm(xp, sft_loss_gradient(xp, log_p, log_d))
    return xp.log1p(gradient / least_probability(xp, log_p))


def rl_gradient(xp: Namespace, log_p: Array, log_ref: Array, reward: Array, beta: Array) -> Array:
    """p (a - E_p a), a = r - beta log(p/ref): the gradient of J_b(softmax(theta)) in theta (F5)."""
    return reward_gradient(xp, log_p, reward - beta * (log_p - log_ref))


def pl_reward_bound(
    xp: Namespace, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """P3: J_b(tilt) - J_b(p) <= ||grad J_b||^2/(4 beta (min p)^2)."""
    scaled = rl_gradient(xp, log_p, log_ref, reward, beta) / least_probability(xp, log_p)
    return squared_norm(xp, scaled) / (4 * beta)


# --- P2: the sandwich ---------------------------------------------------------------------------


def logit_sandwich(xp: Namespace, theta: Array, theta_prime: Array) -> tuple[Array, Array]:
    """P2: (m/2) D <= KL(p_theta||p_theta') <= D/4, D = ||(theta - theta')_c||^2."""
    log_p, log_q = log_softmax(xp, theta), log_softmax(xp, theta_prime)
    least = xp.minimum(least_probability(xp, log_p), least_probability(xp, log_q))
    distance = centred_norm_squared(xp, theta - theta_prime)
    return least * distance / 2, distance / 4


# --- P4: one RL step ----------------------------------------------------------------------------


def after_step(xp: Namespace, log_p: Array, direction: Array, step: Array) -> Array:
    """log p_{theta + eta g}: a step in logit space is a tilt with reward g and beta = 1/eta."""
    return gibbs_tilt(xp, log_p, direction, 1 / step)


def alignment(xp: Namespace, log_d: Array, log_p: Array, direction: Array) -> Array:
    """<d - p, g> = E_d g - E_p g."""
    shifted = direction - xp.gather(direction, xp.mode(log_d))
    return xp.sum((xp.exp(log_d) - xp.exp(log_p)) * shifted)


def step_change(xp: Namespace, log_d: Array, log_p: Array, direction: Array, step: Array) -> Array:
    """P4, exact: L(theta + eta g) - L(theta) = KL(p_theta||p_{theta + eta g}) - eta <d - p, g>."""
    moved = kl_divergence(xp, log_p, after_step(xp, log_p, direction, step))
    return moved - step * alignment(xp, log_d, log_p, direction)


def excess_that_raises(
    xp: Namespace, log_d: Array, log_p: Array, direction: Array, step: Array
) -> Array:
    """P4: (m/8) eta^2 ||g_c||^2; from an excess loss below it the step raises the SFT loss."""
    after = after_step(xp, log_p, direction, step)
    least = least_probability(xp, log_d)
    for law in (log_p, after):
        least = xp.minimum(least, least_probability(xp, law))
    return least * xp.square(step) * centred_norm_squared(xp, direction) / 8


def excess_that_lowers(
    xp: Namespace, log_d: Array, log_p: Array, direction: Array, step: Array
) -> Array:
    """P4: (eta ||g_c||/(4 rho))^2/min p, rho = cos(d - p, g_c); infinite for rho <= 0.

    From an excess loss above it the step lowers the SFT loss.
    """
    size = xp.square(step) * centred_norm_squared(xp, direction)
    gradient = squared_norm(xp, sft_loss_gradient(xp, log_p, log_d))
    aligned = step * alignment(xp, log_d, log_p, direction)
    toward = (aligned > 0) & (gradient > 0)  # the latter fails only by underflow
    # eta ||g_c||/rho = size ||p - d||/aligned: no division by ||p - d||
    safe = xp.where(toward, aligned, 1.0)
    above = xp.square(size / (4 * safe)) * gradient / least_probability(xp, log_p)
    return xp.where(toward, above, INF)


def rl_improves_sft_threshold(
    xp: Namespace, log_d: Array, log_p: Array, direction: Array, step: Array
) -> tuple[Array, Array, Array]:
    """P4: (exact change, excess loss below which the step raises L, above which it lowers L)."""
    arguments = (xp, log_d, log_p, direction, step)
    return step_change(*arguments), excess_that_raises(*arguments), excess_that_lowers(*arguments)


# --- P5: how long to run RL ---------------------------------------------------------------------


def tilt_at(xp: Namespace, log_d: Array, reward: Array, duration: Array) -> Array:
    """log tilt_s, s = 1/beta, from ref = d."""
    return gibbs_tilt(xp, log_d, reward, 1 / duration)


def duration_utility(
    xp: Namespace, log_d: Array, reward: Array, weight: Array, duration: Array
) -> Array:
    """P5: U(s) = J(tilt_s) - lambda DeltaL(tilt_s), ref = d."""
    tilt = tilt_at(xp, log_d, reward, duration)
    return expected_reward(xp, tilt, reward) - weight * kl_divergence(xp, log_d, tilt)


def duration_slope(
    xp: Namespace, log_d: Array, reward: Array, weight: Array, duration: Array
) -> Array:
    """P5: U'(s) = Var_{tilt_s}(r) - lambda (J(tilt_s) - J(d))."""
    tilt = tilt_at(xp, log_d, reward, duration)
    return variance(xp, tilt, reward) - weight * reward_gain(xp, log_d, tilt, reward)


def reward_gain(xp: Namespace, log_d: Array, log_p: Array, reward: Array) -> Array:
    """J(p) - J(d), offsets of the reward taken out first."""
    shifted = reward - xp.gather(reward, xp.mode(log_d))
    return expectation(xp, log_p, shifted) - expectation(xp, log_d, shifted)


def stationary_weight(xp: Namespace, log_d: Array, reward: Array, duration: Array) -> Array:
    """P5: the lambda for which s is a stationary point of U: Var_{tilt_s}(r)/(J(tilt_s) - J(d))."""
    tilt = tilt_at(xp, log_d, reward, duration)
    return variance(xp, tilt, reward) / reward_gain(xp, log_d, tilt, reward)


def earliest_duration(xp: Namespace, log_d: Array, reward: Array, weight: Array) -> Array:
    """P5: every stationary point has s >= log(1 + R/lambda)/R, R the range of r on supp d."""
    spread = max_on_support(xp, log_d, reward) - min_on_support(xp, log_d, reward)
    return xp.log1p(spread / weight) / spread


def highest_stationary_reward(xp: Namespace, log_d: Array, reward: Array, weight: Array) -> Array:
    """P5: J+ - J(d), where (max r - J+)(J+ - min r) = lambda (J+ - J(d)), J+ > J(d).

    With x = J+ - J(d), A = max r - J(d), B = J(d) - min r: x^2 + (lambda + B - A) x - A B = 0.
    """
    shifted = reward - xp.gather(reward, xp.mode(log_d))
    mean = expectation(xp, log_d, shifted)
    above = max_on_support(xp, log_d, shifted) - mean
    below = mean - min_on_support(xp, log_d, shifted)
    linear = weight + below - above
    root = xp.sqrt(xp.square(linear) + 4 * above * below)
    # The branch that does not cancel.
    safe = xp.where(linear > 0, linear + root, 1.0)
    return xp.where(linear > 0, 2 * above * below / safe, (root - linear) / 2)


def surrogate_shortfall(
    xp: Namespace, log_gain: Array, rate: Array, cost: Array, duration: Array
) -> Array:
    """P5: G - [G (1 - e^{-aT}) - lambda b T^2] = G e^{-aT} + lambda b T^2, cost = lambda b."""
    return xp.exp(log_gain - rate * duration) + cost * xp.square(duration)


def surrogate_duration(xp: Namespace, log_gain: Array, rate: Array, cost: Array) -> Array:
    """P5: T* = W(a^2 G/(2 lambda b))/a, where the shortfall is smallest."""
    return xp.wright_omega(log_gain + 2 * xp.log(rate) - xp.log(2 * cost)) / rate


# --- P6: kernels --------------------------------------------------------------------------------


def spectral_cosine_bound(
    xp: Namespace, spectrum: Array, u: Array, v: Array, inside: Array
) -> Array:
    """P6, in the eigenbasis: (|<u, v>_in| + sqrt(<u, u>_out <v, v>_out))/sqrt(<u, u> <v, v>).

    <u, v> = sum lambda_i u_i v_i, "in" the eigendirections where ``inside`` is true. This is
    sqrt((1 - tau_u)(1 - tau_v)) |cos in| + sqrt(tau_u tau_v). Zero where a norm vanishes.
    """
    uu, vv = spectrum * xp.square(u), spectrum * xp.square(v)
    tails = xp.sum(xp.where(inside, 0.0, uu)) * xp.sum(xp.where(inside, 0.0, vv))
    within = xp.abs(xp.sum(xp.where(inside, spectrum * u * v, 0.0)))
    norms = xp.sum(uu) * xp.sum(vv)
    defined = norms > 0
    bound = (within + xp.sqrt(tails)) / xp.sqrt(xp.where(defined, norms, 1.0))
    return xp.where(defined, bound, 0.0)


def spectral_cosine(xp: Namespace, spectrum: Array, u: Array, v: Array) -> Array:
    """P6: cos_K(u, v) in the eigenbasis of K; zero where a norm vanishes."""
    norms = xp.sum(spectrum * xp.square(u)) * xp.sum(spectrum * xp.square(v))
    defined = norms > 0
    cosine = xp.sum(spectrum * u * v) / xp.sqrt(xp.where(defined, norms, 1.0))
    return xp.where(defined, cosine, 0.0)


def reflect(xp: Namespace, normal: Array, x: Array) -> Array:
    """x - 2 h <h, x>/<h, h>: a rotation of the eigenbasis that stays rational."""
    return x - 2 * normal * xp.sum(normal * x) / squared_norm(xp, normal)


def sft_loss_after_step(
    xp: Namespace, log_d: Array, theta: Array, direction: Array, step: Array
) -> Array:
    """L(theta + eta g) - L(theta), from the definition."""
    before = cross_entropy(xp, log_d, log_softmax(xp, theta))
    return cross_entropy(xp, log_d, log_softmax(xp, theta + step * direction)) - before
