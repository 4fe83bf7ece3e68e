"""Laws on responses: expectations, entropies, divergences.

Shapes, here and in every file of ``formulas``: laws and rewards ``[..., n]``; ``beta`` and every
per-world scalar, argument or result, ``[..., 1]``. Laws are given as log-probabilities, losses and
divergences are in nats per response.
"""

from __future__ import annotations

from nondecoupling.numbers.number_system import Array, NumberSystem

INF = float("inf")


def expectation(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    """E_p f, with 0 * anything = 0 outside the support."""
    return xp.sum(xp.where(xp.support(log_p), xp.exp(log_p) * values, 0.0))


def at_mode(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    """f at the most probable response: what to subtract so that ties and offsets stay exact."""
    return xp.gather(values, xp.mode(log_p))


def from_mode(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    """f minus its value at the most probable response."""
    return values - at_mode(xp, log_p, values)


def centred(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    """f - E_p f."""
    shifted = from_mode(xp, log_p, values)
    return shifted - expectation(xp, log_p, shifted)


def variance(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    """Var_p f."""
    return expectation(xp, log_p, xp.square(centred(xp, log_p, values)))


def max_on_support(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    return xp.max(xp.where(xp.support(log_p), values, -INF))


def min_on_support(xp: NumberSystem, log_p: Array, values: Array) -> Array:
    return xp.min(xp.where(xp.support(log_p), values, INF))


def log_sum_exp(xp: NumberSystem, x: Array) -> Array:
    top = xp.pivot(x)
    return top + xp.log(xp.sum(xp.exp(x - top)))


def log_add_exp(xp: NumberSystem, x: Array, y: Array) -> Array:
    """log(e^x + e^y), where either may be -inf."""
    high, low = xp.maximum(x, y), xp.minimum(x, y)
    both = xp.support(low)
    gap = xp.where(both, low, 0.0) - xp.where(both, high, 0.0)
    return xp.where(both, high + xp.log1p(xp.exp(gap)), high)


def log_or_minus_infinity(xp: NumberSystem, x: Array) -> Array:
    """log x for x >= 0, with a gradient of zero at 0 instead of an infinite one."""
    some = xp.positive(x)
    return xp.where(some, xp.log(xp.where(some, x, 1.0)), -INF)


def log_sum_exp_of_some(xp: NumberSystem, x: Array) -> Array:
    """log sum e^x; -inf where all x are, with a gradient of zero there instead of none."""
    some = xp.support(xp.max(x))
    return xp.where(some, log_sum_exp(xp, xp.where(some, x, 0.0)), -INF)


def log_softmax(xp: NumberSystem, logits: Array) -> Array:
    """log p of p = softmax(theta)."""
    return logits - log_sum_exp(xp, logits)


def mixture(xp: NumberSystem, log_p: Array, log_q: Array, share: Array) -> Array:
    """log of (1 - t) p + t q."""
    return xp.log((1 - share) * xp.exp(log_p) + share * xp.exp(log_q))


def entropy(xp: NumberSystem, log_p: Array) -> Array:
    """H(p) = -E_p log p."""
    return cross_entropy(xp, log_p, log_p)


def cross_entropy(xp: NumberSystem, log_d: Array, log_p: Array) -> Array:
    """CE(d, p) = -E_d log p; infinite where p misses mass of d."""
    on, reached = xp.support(log_d), xp.support(log_p)
    missed = xp.max(xp.where(on & ~reached, xp.full_like(log_p, 1.0), 0.0))
    loss = expectation(xp, log_d, xp.where(on & reached, -log_p, 0.0))
    return xp.where(xp.positive(missed), INF, loss)


def kl_divergence(xp: NumberSystem, log_p: Array, log_q: Array) -> Array:
    """KL(p||q) = sum_p p (e^u - 1 - u) + q(outside supp p), u = log q - log p.

    Equal to E_p log(p/q) when both sum to one, and nonnegative term by term, so nothing cancels
    when p is close to q.
    """
    on = xp.support(log_p)
    u = xp.where(on, log_q, 0.0) - xp.where(on, log_p, 0.0)
    # Outside supp p the weight is set to one, with u = 0, so that no branch meets 0 * inf.
    return xp.sum(xp.where(on, xp.excess(xp.where(on, log_p, 0.0), u), xp.exp(log_q)))


def kl_by_definition(xp: NumberSystem, log_p: Array, log_q: Array) -> Array:
    """E_p log(p/q): the definition side of statements about KL; it cancels when p is near q."""
    on = xp.support(log_p)
    return expectation(xp, log_p, xp.where(on, log_p, 0.0) - xp.where(on, log_q, 0.0))


def jeffreys_divergence(xp: NumberSystem, log_p: Array, log_q: Array) -> Array:
    """KL(p||q) + KL(q||p)."""
    return kl_divergence(xp, log_p, log_q) + kl_divergence(xp, log_q, log_p)


def total_variation(xp: NumberSystem, log_p: Array, log_q: Array) -> Array:
    """TV(p, q) = 1/2 sum |p - q|."""
    return xp.sum(xp.abs(xp.exp(log_p) - xp.exp(log_q))) / 2


def total_variation_bounds(xp: NumberSystem, kl: Array) -> tuple[Array, Array]:
    """(sqrt(kl/2), sqrt(1 - e^-kl)), Pinsker and Bretagnolle-Huber: above TV(p, q) where KL(p||q) = kl."""
    return xp.sqrt(kl / 2), xp.sqrt(-xp.expm1(-kl))


def expected_reward(xp: NumberSystem, log_p: Array, reward: Array) -> Array:
    """J(p) = E_p r, taken from the mode: exact for a constant reward, and not above max r."""
    base = at_mode(xp, log_p, reward)
    return base + expectation(xp, log_p, reward - base)


def overflow_shift(xp: NumberSystem, exponents: Array) -> Array:
    """The largest exponent where it exceeds one, else 0: a smaller shift would only cancel."""
    top = xp.pivot(exponents)
    return xp.where(top > 1, top, 0.0)


def log_one_plus_excess(xp: NumberSystem, log_w: Array, x: Array) -> Array:
    """log(1 + sum w (e^x - 1 - x)), stable for tiny and for huge x."""
    on = xp.support(log_w)
    x = xp.where(on, x, 0.0)
    weight = xp.where(on, log_w, 0.0)
    shift = overflow_shift(xp, log_w + x)
    terms = xp.where(on, xp.excess(weight - shift, x), 0.0)
    return shift + xp.log1p(xp.expm1(-shift) + xp.sum(terms))


def chi_squared(xp: NumberSystem, log_p: Array, log_q: Array) -> Array:
    """chi2(p||q) = sum p^2/q - 1 = sum q (p/q - 1)^2, q with full support."""
    on = xp.support(log_p)
    u = xp.where(on, log_p, 0.0) - xp.where(on, log_q, 0.0)
    # q (e^u - 1)^2 = q (e^{2u} - 1 - 2u) - 2 q (e^u - 1 - u): no product of 0 and infinity.
    law = xp.where(on, log_q, 0.0)
    squares = xp.excess(law, 2 * u) - 2 * xp.excess(law, u)
    return xp.sum(xp.where(on, squares, xp.exp(log_q)))


def reward_range(xp: NumberSystem, log_d: Array, reward: Array) -> Array:
    """The range of r on supp d: zero iff RL and SFT do not meet on this prompt."""
    return max_on_support(xp, log_d, reward) - min_on_support(xp, log_d, reward)
