"""T4: Group-normalised advantages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nondecoupling.formulas.groups import Deviation, group_factor, normalised
from nondecoupling.formulas.tilt import tilt_at
from nondecoupling.formulas.trainers import (
    group_pull,
    k2,
    k3,
    pull_in_loss,
    slope_of,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class GroupNormalisedAdvantages(Statement):
    """Group-normalised advantages.

    Statement: Binary reward, c = p(r = 1), a = ref(r = 1), groups of G, advantage (r - mean)/(sd +
        e): the expected gradient is h_G(c) grad c with h_G(c) = E[m(1-m)/(sd + e)]/(c(1-c)) =
        (G-1)/G E[1/(sd + e)], m = K/G, K ~ Bin(G, c), in the last form 1 + j of G correct, j ~
        Bin(G-2, c). h_G is convex, h_2 = 1, h_3 = sqrt 2; for e = 0 and the population sd, 2(G-1)/G
        <= h_G <= sqrt(G-1) and h_G <= sqrt((G-1)/(G c(1-c))). Stationary, conditional laws
        unchanged: with a reverse leash logit c = logit a + h_G(c)/beta, the tilt at beta/h_G(c); with a
        forward leash h_G(c) c(1-c) = beta (c - a), one root in (a, 1), since the left side is
        concave. G >= 4 has several roots for some a and beta. G = inf, reverse leash: stationary only if
        beta >= beta_c = sinh(x/2), (x - logit a) tanh(x/2) = 2. More levels, G = inf: stationary at
        tilt_s with s sd_{tilt_s}(r) = 1/beta.

    Assumptions: a reward of 0 or 1, and 0 < a < 1; exact expected gradients, per response. Here
        every other response is correct. The last line: any reward that is not constant.

    Side: identity, bounds; one refuted claim.

    Equality when: the upper bound sqrt(G-1): c at 0 or 1; the lower: G = 2; the other upper: in the
        limit of large groups. beta_c: at the success with log-odds x.

    Units: h per unit of reward; beta in reward units per nat.

    Source: ours. The advantage: Shao et al. 2024 (GRPO).

    Proof idea: K(G-K) times the weights of Bin(G, c) are weights of Bin(G-2, c); 1/sd is convex in
        K, m(1-m)/(sd + e) concave, and binomial means keep both. cosh lies above its tangent.

    Example:
    >>> from nondecoupling.bounds import critical_beta, group_normalized_success
    >>> round(float(critical_beta(0.2)), 4)
    0.8957
    >>> result = group_normalized_success(0.2, 16, beta=0.04)  # a usual beta
    >>> bool(result.success > 1 - 1e-15)  # the leash holds next to nothing
    True
    """

    id = "T4"
    title = "Group-normalised advantages"
    depends = ("T1", "T2", "F3")
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        direction=Logits(),
        duration=Positive(),
        eps=Positive(),
        success=Unit(),
        other=Unit(),
        critical=Positive(),
        ahead=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        zero, c = xp.full_like(w.success, 0), w.success

        def h(success: Array, size: int, sd: Deviation = "population", eps: Array = zero) -> Array:
            return group_factor(xp, success, size, sd, eps)

        for size in (4, 8):
            factor, groups = h(c, size), f"groups of {size}"
            yield Claim(
                f"h is at least 2(G-1)/G, {groups}", factor, ">=", zero + 2 * (size - 1) / size
            )
            largest = xp.sqrt(zero + (size - 1))
            yield Claim(f"h is at most sqrt(G-1), {groups}", factor, "<=", largest)
            spread = xp.square(factor) * c * (1 - c)
            most = zero + (size - 1) / size
            yield Claim(f"h^2 c(1-c) is at most (G-1)/G, {groups}", spread, "<=", most)
        middle = (c + w.other) / 2
        ends = (h(c, 4, "sample", w.eps) + h(w.other, 4, "sample", w.eps)) / 2
        yield Claim("h is convex", h(middle, 4, "sample", w.eps), "<=", ends)

        def pull(success: Array) -> Array:
            return h(success, 4, "sample", w.eps) * success * (1 - success)

        between = (pull(c) + pull(w.other)) / 2
        yield Claim("the forward pull is concave", pull(middle), ">=", between)
        # 2 cosh(y/2)/(y - logit a) >= sinh(x/2), both over e^{x/2}: x critical, y = x + past log-odds.
        small = xp.exp(-w.critical)
        past = w.ahead - 2 * (1 + small) / -xp.expm1(-w.critical)
        cosh = xp.exp(past / 2) + small * xp.exp(-past / 2)
        sinh = -xp.expm1(-w.critical) / 2
        yield Claim("no stationary policy below the critical beta", cosh, ">=", w.ahead * sinh)
        # Two stationary policies share a beta and an a unless h falls from one half up.
        high = (1 + c) / 2
        low = (1 + c * w.other) / 2
        name = "groups of four have one stationary policy"
        yield Claim(name, h(low, 4), ">=", h(high, 4), refuted=True)
        yield Claim("h = 1 in groups of two", h(c, 2), "==", zero + 1)
        yield Claim("h = sqrt 2 in groups of three", h(c, 3), "==", xp.sqrt(zero + 2))

        n = w.log_p.shape[-1]
        correct = [1 - index % 2 for index in range(n)]
        one = xp.full_like(w.log_p, 1)
        binary = xp.where(np.array(correct) == 1, one, 0 * one)

        def expected(log_p: Array, size: int, sd: Deviation, eps: Array) -> Array:
            advantage = normalised(xp, eps, sd)
            return group_pull(xp, log_p, correct, w.direction, size, advantage)

        def share(xp: NumberSystem, log_p: Array) -> Array:
            return xp.sum(xp.exp(log_p) * binary)

        def missed(log_p: Array) -> Array:
            return xp.sum(xp.exp(log_p) * (1 - binary))

        now, moves = share(xp, w.log_p), slope_of(xp, share, w.log_p, w.direction)
        cases: list[tuple[int, Deviation, Array]] = [
            *((size, "population", zero) for size in (2, 3, 4)),
            (4, "sample", w.eps),
        ]
        for size, sd, eps in cases:
            by_groups = expected(w.log_p, size, sd, eps)
            which = "" if sd == "population" else ", n-1 and eps"
            name = f"groups of {size} pull by h(c){which}"
            yield Claim(name, by_groups, "==", h(now, size, sd, eps) * moves)

        tilt = tilt_at(xp, w.log_ref, binary, w.duration)
        start, reached = share(xp, w.log_ref), share(xp, tilt)
        moved = xp.log(reached / missed(tilt)) - xp.log(start / missed(w.log_ref))
        yield Claim("the odds move by h/beta", moved, "==", w.duration)
        by_groups, factor = expected(tilt, 4, "population", zero), h(reached, 4)
        leash = factor / w.duration * pull_in_loss(xp, k2, tilt, w.log_ref, w.direction)
        yield Claim("the reverse leash stops at the tilt at beta/h", by_groups, "==", leash)
        beta = factor * reached * missed(tilt) / (reached - start)
        leash = beta * pull_in_loss(xp, k3, tilt, w.log_ref, w.direction)
        name = "the forward leash stops where h c(1-c) = beta(c - a)"
        yield Claim(name, by_groups, "==", leash)
