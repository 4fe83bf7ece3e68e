"""The formulas, each once, over any number system (see ``namespaces``).

Shapes: laws and rewards ``[..., n]``; ``beta`` and every per-world scalar, argument or result,
``[..., 1]``. Laws are given as log-probabilities, losses and divergences are in nats per response.
``x`` below is the reward in units of beta, ``tilt`` the exact RL optimum ref e^{r/beta}/Z.
"""

from __future__ import annotations

from collections.abc import Sequence

from nondecoupling.namespaces import Array, Namespace

INF = float("inf")


# --- expectations -----------------------------------------------------------------------------


def expectation(xp: Namespace, log_p: Array, values: Array) -> Array:
    """E_p f, with 0 * anything = 0 outside the support."""
    return xp.sum(xp.where(xp.support(log_p), xp.exp(log_p) * values, 0.0))


def centred(xp: Namespace, log_p: Array, values: Array) -> Array:
    """f - E_p f. Subtracting the value at the mode first keeps ties and offsets exact."""
    at_mode = values - xp.gather(values, xp.mode(log_p))
    return at_mode - expectation(xp, log_p, at_mode)


def variance(xp: Namespace, log_p: Array, values: Array) -> Array:
    """Var_p f."""
    return expectation(xp, log_p, xp.square(centred(xp, log_p, values)))


def max_on_support(xp: Namespace, log_p: Array, values: Array) -> Array:
    return xp.max(xp.where(xp.support(log_p), values, -INF))


def min_on_support(xp: Namespace, log_p: Array, values: Array) -> Array:
    return xp.min(xp.where(xp.support(log_p), values, INF))


def log_sum_exp(xp: Namespace, x: Array) -> Array:
    top = xp.pivot(x)
    return top + xp.log(xp.sum(xp.exp(x - top)))


# --- divergences and losses -------------------------------------------------------------------


def entropy(xp: Namespace, log_p: Array) -> Array:
    """H(p) = -E_p log p."""
    return cross_entropy(xp, log_p, log_p)


def cross_entropy(xp: Namespace, log_d: Array, log_p: Array) -> Array:
    """CE(d, p) = -E_d log p; infinite where p misses mass of d."""
    surprise = xp.where(xp.support(log_d), -log_p, 0.0)
    return expectation(xp, log_d, surprise)


def kl_divergence(xp: Namespace, log_p: Array, log_q: Array) -> Array:
    """KL(p||q) = sum_p p (e^u - 1 - u) + q(outside supp p), u = log q - log p.

    Equal to E_p log(p/q) when both sum to one, and nonnegative term by term, so nothing cancels
    when p is close to q.
    """
    on = xp.support(log_p)
    u = xp.where(on, log_q, 0.0) - xp.where(on, log_p, 0.0)
    # Outside supp p the weight is set to one, with u = 0, so that no branch meets 0 * inf.
    return xp.sum(xp.where(on, xp.excess(xp.where(on, log_p, 0.0), u), xp.exp(log_q)))


def kl_by_definition(xp: Namespace, log_p: Array, log_q: Array) -> Array:
    """E_p log(p/q): the definition side of statements about KL; it cancels when p is near q."""
    on = xp.support(log_p)
    return expectation(xp, log_p, xp.where(on, log_p, 0.0) - xp.where(on, log_q, 0.0))


# --- the tilt ---------------------------------------------------------------------------------


def reward_in_units_of_beta(xp: Namespace, log_ref: Array, reward: Array, beta: Array) -> Array:
    """(r - r(mode of ref)) / beta: the shift first, since r/beta would round large offsets away."""
    return (reward - xp.gather(reward, xp.mode(log_ref))) / beta


def log_partition(xp: Namespace, log_ref: Array, reward: Array, beta: Array) -> Array:
    """log Z = log E_ref e^{r/beta}."""
    x = reward_in_units_of_beta(xp, log_ref, reward, beta)
    return xp.gather(reward, xp.mode(log_ref)) / beta + log_sum_exp(xp, log_ref + x)


def gibbs_tilt(xp: Namespace, log_ref: Array, reward: Array, beta: Array) -> Array:
    """log of tilt = ref e^{r/beta} / Z, the exact optimum of KL-regularised RL."""
    x = log_ref + reward_in_units_of_beta(xp, log_ref, reward, beta)
    return x - log_sum_exp(xp, x)


def expected_reward(xp: Namespace, log_p: Array, reward: Array) -> Array:
    """J(p) = E_p r, taken from the mode: exact for a constant reward, and not above max r."""
    at_mode = xp.gather(reward, xp.mode(log_p))
    return at_mode + expectation(xp, log_p, reward - at_mode)


def regularized_reward(
    xp: Namespace, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """J_b(p) = E_p r - beta KL(p||ref)."""
    return expected_reward(xp, log_p, reward) - beta * kl_divergence(xp, log_p, log_ref)


# --- softmax logits (F5) ----------------------------------------------------------------------


def log_softmax(xp: Namespace, logits: Array) -> Array:
    """log p of p = softmax(theta)."""
    return logits - log_sum_exp(xp, logits)


def sft_loss_gradient(xp: Namespace, log_p: Array, log_d: Array) -> Array:
    """F5: the gradient p - d of CE(d, softmax(theta)) in the logits."""
    return xp.exp(log_p) - xp.exp(log_d)


def reward_gradient(xp: Namespace, log_p: Array, reward: Array) -> Array:
    """F5: the gradient p (r - E_p r) of J(softmax(theta)) in the logits."""
    return xp.exp(log_p) * centred(xp, log_p, reward)


def bregman_of_log_sum_exp(xp: Namespace, at: Array, logits: Array) -> Array:
    """F5: lse(at) - lse(logits) - <softmax(logits), at - logits>, the Bregman divergence."""
    slope = expectation(xp, log_softmax(xp, logits), at - logits)
    return log_sum_exp(xp, at) - log_sum_exp(xp, logits) - slope


# --- token trees (F4) -------------------------------------------------------------------------


def column(xp: Namespace, x: Array, index: int) -> Array:
    """The entry of each row at one index, with a last axis of one."""
    return xp.gather(x, 0 * xp.mode(x) + index)


def log_mass(xp: Namespace, log_p: Array, leaves: Sequence[int]) -> Array:
    """log of the probability of a set of sequences: of a prefix, if they are its continuations."""
    tops = [column(xp, log_p, leaf) for leaf in leaves]
    top = tops[0]
    for other in tops[1:]:
        top = xp.maximum(top, other)
    top = xp.pivot(top)
    total = sum(xp.exp(column(xp, log_p, leaf) - top) for leaf in leaves)
    some = xp.positive(total)
    return xp.where(some, top + xp.log(xp.where(some, total, 1.0)), -INF)


def token_kl_divergence(
    xp: Namespace, log_p: Array, log_q: Array, nodes: Sequence[Sequence[Sequence[int]]]
) -> Array:
    """F4: sum over prefixes of p(prefix) KL(p(. | prefix) || q(. | prefix)).

    A node lists, for each of its next tokens, the indices of the sequences that continue with it.
    """
    return sum(token_kl_at(xp, log_p, log_q, node) for node in nodes)


def token_kl_at(xp: Namespace, log_p: Array, log_q: Array, node: Sequence[Sequence[int]]) -> Array:
    """p(prefix) KL(p(. | prefix) || q(. | prefix)), from the conditional laws of the next token."""
    everything = [leaf for leaves in node for leaf in leaves]
    at_p, at_q = log_mass(xp, log_p, everything), log_mass(xp, log_q, everything)
    reached, known = xp.support(at_p), xp.support(at_q)
    total = 0.0
    for leaves in node:
        next_p, next_q = log_mass(xp, log_p, leaves), log_mass(xp, log_q, leaves)
        # Where q misses the prefix its token law is arbitrary: an earlier token paid for that.
        token_q = xp.where(known, next_q, 0.0) - xp.where(known, at_q, 0.0)
        on = xp.support(next_p)
        token_p = xp.where(on, next_p, 0.0) - xp.where(on, at_p, 0.0)
        u = xp.where(on, token_q, 0.0) - token_p
        missed = xp.where(reached, xp.exp(at_p + token_q), 0.0)
        total = total + xp.where(on, xp.excess(xp.where(on, next_p, 0.0), u), missed)
    return total


# --- SFT then RL ------------------------------------------------------------------------------


def sft_loss_increase(
    xp: Namespace, log_d: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """S1, at the tilt: DeltaL = log Z - E_d r / beta."""
    x = reward_in_units_of_beta(xp, log_ref, reward, beta)
    return log_sum_exp(xp, log_ref + x) - expectation(xp, log_d, x)


def sft_loss_change(xp: Namespace, log_d: Array, log_ref: Array, log_p: Array) -> Array:
    """S1, for any policy: DeltaL(p) = KL(ref||p) - (E_d - E_ref) log(p/ref), d << ref.

    Both terms diverge where p misses mass of ref; there their difference is -E_d log(p/ref), which is
    inf only where p misses mass of d.
    """
    reached = xp.support(log_p)
    shared = xp.where(reached, log_ref, -INF)
    on = xp.support(shared)
    ratio = xp.where(on, log_p, 0.0) - xp.where(on, log_ref, 0.0)
    difference = expectation(xp, log_d, ratio) - expectation(xp, shared, ratio)
    missed_d, missed_ref = (xp.sum(xp.where(reached, 0.0, xp.exp(law))) for law in (log_d, log_ref))
    change = kl_divergence(xp, shared, log_p) - missed_ref - difference
    return xp.where(missed_d > 0, INF, change)


def coupling_gap(xp: Namespace, log_d: Array, reward: Array, beta: Array) -> Array:
    """S2: log E_d e^{r/beta} - E_d r/beta = log(1 + sum d (e^x - 1 - x)), x = (r - E_d r)/beta."""
    return log_one_plus_excess(xp, log_d, centred(xp, log_d, reward) / beta)


def overflow_shift(xp: Namespace, exponents: Array) -> Array:
    """The largest exponent where it exceeds one, else 0: a smaller shift would only cancel."""
    top = xp.pivot(exponents)
    return xp.where(top > 1, top, 0.0)


def log_one_plus_excess(xp: Namespace, log_w: Array, x: Array) -> Array:
    """log(1 + sum w (e^x - 1 - x)), stable for tiny and for huge x."""
    on = xp.support(log_w)
    x = xp.where(on, x, 0.0)
    weight = xp.where(on, log_w, 0.0)
    shift = overflow_shift(xp, xp.where(on, weight + x, -INF))
    terms = xp.where(on, xp.excess(weight - shift, x), 0.0)
    return shift + xp.log1p(xp.expm1(-shift) + xp.sum(terms))


def two_point_gap(xp: Namespace, second_moment: Array, point: Array) -> Array:
    """Coupling gap of the centred two-point law with one atom at ``point``, variance as given.

    The other atom is at -variance/point, with mass point^2/(point^2 + variance). Zero where the
    law is degenerate (point = 0).
    """
    # The square of a tiny point would underflow: weights come from point : other end instead.
    spread = xp.positive(xp.abs(point)) & xp.positive(second_moment)
    x1 = xp.where(spread, point, 1.0)
    x2 = -xp.where(spread, second_moment, 1.0) / x1
    log_w1, log_w2 = xp.log(x2 / (x2 - x1)), xp.log(x1 / (x1 - x2))
    shift = overflow_shift(xp, xp.maximum(log_w1 + x1, log_w2 + x2))
    terms = xp.excess(log_w1 - shift, x1) + xp.excess(log_w2 - shift, x2)
    gap = shift + xp.log1p(xp.expm1(-shift) + terms)
    return xp.where(spread, gap, 0.0)


def coupling_gap_bounds(
    xp: Namespace, log_d: Array, reward: Array, beta: Array
) -> tuple[Array, Array, Array]:
    """S3: (lower Bennett, upper Bennett, Hoeffding s^2 R^2/8), ranges over the support of d."""
    x = centred(xp, log_d, reward) / beta
    v = expectation(xp, log_d, xp.square(x))
    below, above = -min_on_support(xp, log_d, x), max_on_support(xp, log_d, x)
    return (
        two_point_gap(xp, v, -below),
        two_point_gap(xp, v, above),
        xp.square(below + above) / 8,
    )


def implicit_reward(xp: Namespace, log_p: Array, log_ref: Array, beta: Array) -> Array:
    """I1: r' = beta log(p/ref), the reward for which p is the exact RL optimum."""
    return beta * (log_p - log_ref)


def total_variation(xp: Namespace, log_p: Array, log_q: Array) -> Array:
    """TV(p, q) = 1/2 sum |p - q|."""
    return xp.sum(xp.abs(xp.exp(log_p) - xp.exp(log_q))) / 2


def log_partition_at(xp: Namespace, log_ref: Array, reward: Array, time: Array) -> Array:
    """log E_ref e^{t (r - E_ref r)}, stable at small t: S2's gap, in times instead of betas."""
    return log_one_plus_excess(xp, log_ref, time * centred(xp, log_ref, reward))


def decoupling_radius_dual(
    xp: Namespace, log_ref: Array, reward: Array, beta: Array, time: Array
) -> Array:
    """S6: t beta log Z - log Z_t, a lower bound on the exact radius for every t >= 0.

    The largest value, at J(tilt_t) = beta log Z, is the exact radius KL(tilt_t||ref).
    """
    soft_gain = beta * coupling_gap(xp, log_ref, reward, beta)
    return time * soft_gain - log_partition_at(xp, log_ref, reward, time)


def pinsker_decoupling_radius(xp: Namespace, log_ref: Array, reward: Array, beta: Array) -> Array:
    """S6: 2 (beta KL(ref||tilt)/R)^2; zero for constant rewards."""
    spread = max_on_support(xp, log_ref, reward) - min_on_support(xp, log_ref, reward)
    gap = beta * coupling_gap(xp, log_ref, reward, beta)
    varies = xp.positive(spread)
    return xp.where(varies, 2 * xp.square(gap / xp.where(varies, spread, 1.0)), 0.0)


def samples_to_detect(xp: Namespace, log_d: Array, reward: Array, beta: Array, z: Array) -> Array:
    """S8: n = z^2 s^2 Var_d(r) / DeltaL^2, in units of beta so that s^2 never overflows."""
    x = centred(xp, log_d, reward) / beta
    gap = log_one_plus_excess(xp, log_d, x)
    varies = xp.positive(gap)
    safe = xp.where(varies, gap, 1.0)
    per_gap = expectation(xp, log_d, xp.square(x)) / safe
    return xp.where(varies, xp.square(z) * per_gap / safe, INF)


# --- price of reward (S5) ---------------------------------------------------------------------


def price_of_reward_dual(
    xp: Namespace, log_d: Array, reward: Array, target: Array, slack: Array
) -> Array:
    """S5's dual value E_d log(1 - l (r - c)/(M - c)) at slack w = 1 - l.

    Written as E_d log((1 - w) b + w) with b = (M - r)/(M - c) >= 0: a sum of nonnegative terms.
    Every l in [0, 1] gives a lower bound on KL(d||p) for every p with E_p r >= c.
    """
    b = (xp.max(reward) - reward) / (xp.max(reward) - target)
    return expectation(xp, log_d, xp.log((1 - slack) * b + slack))


def frontier_ratio(xp: Namespace, reward: Array, rate: Array, offset: Array) -> Array:
    """S5: b = offset + rate (M - r) > 0; a policy p = d/b lies on the frontier."""
    return offset + rate * (xp.max(reward) - reward)


def supporting_line(
    xp: Namespace, log_d: Array, reward: Array, rate: Array, offset: Array
) -> Array:
    """S5: h = 1 + E_d log b - offset - rate M, with KL(d||p) >= rate E_p r + h for every p.

    Holds for every rate, offset > 0, with equality iff p = d/b. Linear in the reward of p, so it
    holds for averages over prompts with one rate.
    """
    b = frontier_ratio(xp, reward, rate, offset)
    return 1 + expectation(xp, log_d, xp.log(b)) - offset - rate * xp.max(reward)


def bernoulli_kl(xp: Namespace, a: Array, b: Array) -> Array:
    """kl(a, b) = a log(a/b) + (1 - a) log((1 - a)/(1 - b)) for 0 < a, b < 1."""
    return a * xp.log(a / b) + (1 - a) * xp.log((1 - a) / (1 - b))


# --- RL then SFT ------------------------------------------------------------------------------


def regularized_reward_drop(
    xp: Namespace, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """R1: J_b(tilt) - J_b(p) = beta KL(p||tilt)."""
    return beta * kl_divergence(xp, log_p, gibbs_tilt(xp, log_ref, reward, beta))


def reward_drop(xp: Namespace, log_p: Array, log_ref: Array, reward: Array, beta: Array) -> Array:
    """R2: J(tilt) - J(p) = beta [KL(p||tilt) + KL(tilt||ref) - KL(p||ref)]."""
    tilt = gibbs_tilt(xp, log_ref, reward, beta)
    return beta * (
        kl_divergence(xp, log_p, tilt)
        + kl_divergence(xp, tilt, log_ref)
        - kl_divergence(xp, log_p, log_ref)
    )


def reward_drop_in_kl_ball(
    xp: Namespace, log_p: Array, log_ref: Array, reward: Array, beta: Array
) -> Array:
    """R3: beta KL(p||tilt) inside the ball KL(p||ref) <= KL(tilt||ref); -inf (no bound) outside."""
    tilt = gibbs_tilt(xp, log_ref, reward, beta)
    inside = kl_divergence(xp, log_p, log_ref) <= kl_divergence(xp, tilt, log_ref)
    return xp.where(inside, beta * kl_divergence(xp, log_p, tilt), -INF)


def jeffreys_divergence(xp: Namespace, log_p: Array, log_q: Array) -> Array:
    """KL(p||q) + KL(q||p)."""
    return kl_divergence(xp, log_p, log_q) + kl_divergence(xp, log_q, log_p)


def cycle_loss(xp: Namespace, log_d: Array, reward: Array, beta: Array) -> Array:
    """R6, ref = d: J(tilt) - J(d) = beta [KL(d||tilt) + KL(tilt||d)]."""
    return beta * jeffreys_divergence(xp, log_d, gibbs_tilt(xp, log_d, reward, beta))


def reward_change_bounds(
    xp: Namespace, log_tilt: Array, reward: Array, kl: Array
) -> tuple[Array, Array, Array, Array]:
    """R4: (Pinsker, Bretagnolle-Huber, Bernstein for drops, Bernstein for rises) at KL(p||tilt).

    R sqrt(A/2), R sqrt(1 - e^{-A}), sqrt(2 A Var) + (E r - min r) A/3 and with (max r - E r).
    """
    x = centred(xp, log_tilt, reward)
    below, above = -min_on_support(xp, log_tilt, x), max_on_support(xp, log_tilt, x)
    spread = below + above
    product = 2 * kl * expectation(xp, log_tilt, xp.square(x))
    varies = xp.positive(product)  # the slope of a square root at 0 is infinite
    gaussian = xp.where(varies, xp.sqrt(xp.where(varies, product, 1.0)), 0.0)
    return (
        spread * xp.sqrt(kl / 2),
        spread * xp.sqrt(-xp.expm1(-kl)),
        gaussian + below * kl / 3,
        gaussian + above * kl / 3,
    )


def mixture(xp: Namespace, log_p: Array, log_q: Array, share: Array) -> Array:
    """log of (1 - t) p + t q."""
    return xp.log((1 - share) * xp.exp(log_p) + share * xp.exp(log_q))


def sft_step_reward_slope(xp: Namespace, log_p: Array, log_d: Array, reward: Array) -> Array:
    """R7: dJ/d eta of a gradient step on CE(d, softmax(theta)): -<p - d, p (r - E_p r)>."""
    return -xp.sum(sft_loss_gradient(xp, log_p, log_d) * reward_gradient(xp, log_p, reward))
