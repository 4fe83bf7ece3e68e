"""Advantages normalised within a group, binary rewards (T4): the factor h, and where it settles.

c is the success p(r = 1), a that of ref; groups have G responses. The expected gradient of the
trainer is h(c) times that of c. ``sd`` says which standard deviation of the group is divided by:
"population" divides by G, "sample" by G - 1; ``eps`` is added to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Literal

from nondecoupling.formulas.roots import (
    bracketed_above,
    newton_bisection,
    with_envelope_gradient,
    with_root_gradient,
)
from nondecoupling.formulas.trainers import Advantage, along
from nondecoupling.formulas.trees import added, columns
from nondecoupling.numbers.duals import slope
from nondecoupling.numbers.floats import Floats, detached
from nondecoupling.numbers.number_system import Array, Mask, NumberSystem, Operand

Deviation = Literal["population", "sample"]


def group_deviation(xp: NumberSystem, like: Array, correct: int, size: int, sd: Deviation) -> Array:
    """The standard deviation of a group's rewards, ``correct`` of ``size`` being one, the others zero."""
    one = xp.full_like(like, 1)
    return xp.sqrt(one * (correct * (size - correct)) / (size * (size - (sd == "sample"))))


def normalised(xp: NumberSystem, eps: Array, sd: Deviation) -> Advantage:
    """(r - mean)/(sd + eps) for rewards that are 0 or 1; 0 where all are equal."""

    def advantage(rewards: Sequence[Operand]) -> list[Operand]:
        size, correct = len(rewards), sum(rewards)
        if correct in (0, size):
            return [0 * eps for _ in rewards]
        scale = size * (group_deviation(xp, eps, correct, size, sd) + eps)
        return [(size * r - correct) / scale for r in rewards]

    return advantage


def group_factor(xp: NumberSystem, success: Array, size: int, sd: Deviation, eps: Array) -> Array:
    """T4: h_G(c) = (G-1)/G E[1/(sd + eps)] with 1 + j of G correct, j ~ Bin(G-2, c).

    From h_G = E[m(1-m)/(sd + eps)]/(c(1-c)), m = K/G, K ~ Bin(G, c): the weights K(G-K) turn Bin(G, c) into
    Bin(G-2, c), and nothing cancels or vanishes.
    """
    others = size - 2
    failure = 1 - success
    terms = []
    for j in range(others + 1):
        factors = [success] * j + [failure] * (others - j)
        weight = math.prod(factors, start=xp.full_like(success, math.comb(others, j)))
        terms.append(weight / (group_deviation(xp, success, j + 1, size, sd) + eps))
    return added(terms) * (size - 1) / size


def noisy_group_pull(
    xp: NumberSystem,
    log_p: Array,
    correct: Sequence[int],
    direction: Array,
    size: int,
    f0: Array,
    f1: Array,
) -> Array:
    """E of the mean of advantage times d log p, over all verdicts on a group, each with its joint score.

    Samples are independent, so the sum over the responses behind a verdict is taken sample by sample.
    """
    _, moving = along(xp, log_p, direction)
    p, score = columns(xp, xp.exp(log_p)), columns(xp, slope(moving))
    says = [
        [f0 if not right else 1 - f1 for right in correct],  # the chance of the verdict "correct"
        [1 - f0 if not right else f1 for right in correct],
    ]
    chance = [added(m * v for m, v in zip(p, of, strict=True)) for of in says]
    scored = [added(m * v * s for m, v, s in zip(p, of, score, strict=True)) for of in says]
    advantage = normalised(xp, xp.full_like(f0, 0), "population")
    terms = []
    for verdicts in product((1, 0), repeat=size):
        given = advantage(verdicts)
        for i, a in enumerate(given):
            weight = scored[1 - verdicts[i]]
            for j, verdict in enumerate(verdicts):
                weight = weight if j == i else weight * chance[1 - verdict]
            terms.append(a * weight / size)
    return added(terms)


def large_group_factor(
    xp: NumberSystem, log_success: Array, log_failure: Array, eps: Array
) -> Array:
    """T4, G = inf: h(c) = 1/(sqrt(c(1-c)) + eps)."""
    return 1 / (xp.exp((log_success + log_failure) / 2) + eps)


# In Python's own numbers: torch's compiler would turn NumPy's into tensors of another precision.
@lru_cache(maxsize=64)
def _log_peaks(trials: int) -> list[float]:
    """log of C(N,j) (j/N)^j (1-j/N)^(N-j), the binomial weight of j at its own best c, by Stirling's series."""
    error = [_stirling_error(n) for n in range(trials + 1)]
    peaks = [0.0] * (trials + 1)
    for j in range(1, trials):
        spread = 0.5 * math.log(trials / (2 * math.pi * j * (trials - j)))
        peaks[j] = spread + error[trials] - error[j] - error[trials - j]
    return peaks


def _stirling_error(n: int) -> float:
    """log n! - (n + 1/2) log n + n - log(2 pi)/2; past 16 by five terms of its series, exact in float64."""
    if n == 0:
        return 0.0
    if n < 17:
        return (
            math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi)
        )
    y = 1 / (n * n)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / n


def binomial_weights(xp: Floats, log_success: Array, log_failure: Array, trials: int) -> Array:
    """The weights [..., N + 1] of Bin(N, c), relatively accurate for N in the thousands and any c.

    log of a weight is its peak minus N times a divergence of j/N from c: two ``excess`` that do not cancel.
    """
    j = xp.constants([float(n) for n in range(trials + 1)], log_success)
    peaks = xp.constants(_log_peaks(trials), log_success)

    def short_of(count: Array, log_share: Array) -> Array:
        some = count > 0
        log_count = xp.log(xp.where(some, count, 1.0))
        expected = math.log(max(trials, 1)) + log_share
        # count log(count/expected) + expected - count; expected itself where nothing is counted
        moved = xp.excess(log_count, xp.where(some, expected - log_count, 0.0))
        return xp.where(some, moved, trials * xp.exp(log_share))

    away = short_of(j, log_success) + short_of(trials - j, log_failure)
    weights = xp.exp(peaks - away)
    return weights / xp.sum(weights)


class GroupFactor:
    """h of a trainer in floats, at a success given by its log-odds, with its derivative in the success c.

    A noisy verifier (T11) turns h(c) into k h(f0 + k c), k = 1 - f0 - f1, which is convex in c as h is.
    """

    def __init__(
        self,
        xp: Floats,
        size: int | None,
        sd: Deviation,
        eps: Array,
        false_positives: float = 0.0,
        false_negatives: float = 0.0,
    ) -> None:
        self.xp, self.size, self.sd, self.eps = xp, size, sd, eps
        self.noise = false_positives, false_negatives
        self.told = 1 - false_positives - false_negatives

    def _accepted(self, log_odds: Array) -> tuple[Array, Array]:
        """log of the share of accepted responses, and of the others."""
        logs = log_sigmoid(self.xp, log_odds), log_sigmoid(self.xp, -log_odds)
        if self.noise == (0.0, 0.0):
            return logs
        accepted, refused = (
            self.xp.log(f + self.told * self.xp.exp(x))
            for f, x in zip(self.noise, logs, strict=True)
        )
        return accepted, refused

    def _inverse_deviations(self, like: Array) -> Array:
        """(G-1)/G/(sd + eps) for 1 to G-1 correct responses."""
        size = self.size or 2
        divisor = size * (size - (self.sd == "sample"))
        deviation = [math.sqrt(correct * (size - correct) / divisor) for correct in range(1, size)]
        return (size - 1) / size / (self.xp.constants(deviation, like) + self.eps)

    def __call__(self, log_odds: Array) -> Array:
        xp, logs = self.xp, self._accepted(log_odds)
        if self.size is None:
            return self.told * large_group_factor(xp, *logs, self.eps)
        weights = binomial_weights(xp, *logs, self.size - 2)
        return self.told * xp.sum(weights * self._inverse_deviations(log_odds))

    def turning_point(self) -> float:
        """The log-odds at which h is least: where half of the responses are accepted."""
        false_positives, false_negatives = self.noise
        accepted, refused = (
            0.5 - false_positives,
            0.5 - false_negatives,
        )  # over k, the success and its rest
        if accepted <= 0:
            return -math.inf
        return math.log(accepted / refused) if refused > 0 else GONE

    def least(self) -> Array:
        """A lower bound on all values: 1/(sd + eps) at the largest deviation, one half."""
        size = self.size or 2
        largest = 0.5 * math.sqrt(size / (size - (self.sd == "sample")))
        shrink = 1.0 if self.size is None else (size - 1) / size
        return self.told * shrink / (largest + self.eps)

    def slope(self, log_odds: Array) -> Array:
        """d/dx in the log-odds, not differentiable in turn; in c it would overflow where h does not."""
        xp, logs = self.xp, self._accepted(log_odds)
        log_moved = log_sigmoid(xp, log_odds) + log_sigmoid(xp, -log_odds)  # of dc/dx
        if self.size is None:
            half = (logs[0] + logs[1]) / 2
            turn = (xp.exp(logs[1]) - xp.exp(logs[0])) / 2
            return (
                -xp.square(self.told / (xp.exp(half) + self.eps)) * turn * xp.exp(log_moved - half)
            )
        if self.size == 2:
            return xp.full_like(log_odds, 0.0)
        weights = binomial_weights(xp, *logs, self.size - 3)
        inverse = self._inverse_deviations(log_odds)
        rises = inverse[..., 1:] - inverse[..., :-1]
        return (
            xp.square(self.told * xp.exp(log_moved / 2)) * (self.size - 2) * xp.sum(weights * rises)
        )


def log_sigmoid(xp: Floats, x: Array) -> Array:
    """log 1/(1 + e^-x)."""
    return xp.minimum(x, 0.0) - xp.log1p(xp.exp(-xp.abs(x)))


def log_odds_of(xp: Floats, share: Array) -> Array:
    """log a/(1 - a)."""
    return xp.log(share) - xp.log1p(-share)


def critical_beta(xp: Floats, ref_success: Array) -> Array:
    """T4: beta_c = sinh(x/2) at (x - logit a) tanh(x/2) = 2, x > max(0, logit a).

    The unknown is x - max(0, logit a), which lies in [0, 2.4]. beta_c is the least of 2 cosh(x/2)/(x - logit a),
    so its gradient is that of this function at the x found.
    """
    return critical_beta_from(xp, log_odds_of(xp, ref_success))


def critical_beta_from(xp: Floats, start: Array) -> Array:
    """The same from the log-odds of ref's success."""
    fixed = detached(start)
    floor, below = xp.maximum(fixed, 0.0), xp.maximum(-fixed, 0.0)

    def excess(d: Array) -> tuple[Array, Array]:
        half = (floor + d) / 2
        tanh = -xp.expm1(-2 * half) / (1 + xp.exp(-2 * half))
        return (below + d) * tanh - 2, tanh + (below + d) * (1 - tanh * tanh) / 2

    d = newton_bisection(xp, excess, xp.full_like(fixed, 0.0), xp.full_like(fixed, 2.4))
    half, ahead = (floor + d) / 2, below + d
    value = (xp.exp(half) - xp.exp(-half)) / 2
    value = xp.where(half < 0.5, -xp.expm1(-2 * half) * xp.exp(half) / 2, value)
    # d beta_c/d logit a = beta_c/(x - logit a)
    return with_envelope_gradient(value, value / ahead * (start - fixed))


OUTER_STEPS = 200
GONE = 1400.0  # log-odds; where h is unbounded, a path that gets here has no root before it


def first_stationary_success(
    xp: Floats, factor: GroupFactor, ref_success: Array, beta: Array
) -> tuple[Array, Mask]:
    """T4, reverse leash: the first c above a with logit c = logit a + h(c)/beta, or 1; whether there is one."""
    root, there = first_stationary_log_odds(xp, factor, log_odds_of(xp, ref_success), beta)
    return xp.where(there, xp.exp(log_sigmoid(xp, root)), 1.0), there


def first_stationary_log_odds(
    xp: Floats, factor: GroupFactor, start: Array, beta: Array
) -> tuple[Array, Mask]:
    """logit c of that c, from ``start`` = logit a, and whether there is one; 0 where there is none.

    As long as h falls there is one root at most, which is bracketed. Beyond, h is convex in c, so its tangent at
    a point left of the root bounds it from below: the root of beta (x - logit a) = tangent, x = logit c, is never
    past the first root. Steps rise to it like Newton's.
    """
    fixed, leash = detached(start), detached(beta)
    large = xp.full_like(factor.eps, float(factor.size is None)) > 0
    unbounded = large & (factor.eps <= 0)
    # Close below the critical beta the path slows down; there the answer is known.
    clean = xp.full_like(leash, float(factor.noise == (0.0, 0.0))) > 0
    hopeless = unbounded & clean & (leash < critical_beta_from(xp, fixed))

    def gone(x: Array) -> Mask:
        return hopeless | (unbounded & (x > GONE))

    def past(x: Array) -> tuple[Array, Array]:
        return leash * (x - fixed) - detached(factor(x)), leash - detached(factor.slope(x))

    turn = xp.maximum(fixed, factor.turning_point())
    early = past(turn)[0] >= 0
    x = xp.where(early, newton_bisection(xp, past, fixed, turn), turn)
    for _ in range(OUTER_STEPS):
        value, rise = detached(factor(x)), detached(factor.slope(x))
        short = value - leash * (x - fixed)
        moved = _where_tangent_is_reached(xp, x, value, rise, fixed, leash)
        moved = xp.where((short > 0) & ~early & ~gone(x), moved, x)
        settled = xp.abs(moved - x) <= 2 * xp.eps(x) * (1 + xp.abs(x))
        x = moved
        if bool(xp.module.all(settled)):
            break
    there = ~gone(x)
    x = xp.where(there, x, 0.0)
    slope = leash - detached(factor.slope(x))
    return with_root_gradient(xp, x, beta * (x - start) - factor(x), slope), there


def _where_tangent_is_reached(
    xp: Floats, x: Array, value: Array, rise: Array, start: Array, beta: Array
) -> Array:
    """The root t > x of beta (t - start) = value + rise (c(t) - c(x))/c'(x), c the logistic function."""
    log_c, log_rest = log_sigmoid(xp, x), log_sigmoid(xp, -x)

    def ahead(t: Array) -> tuple[Array, Array]:
        log_ratio = log_sigmoid(xp, t) - log_c
        gained = -xp.exp(log_ratio) * xp.expm1(x - t)
        bends = xp.exp(log_ratio + log_sigmoid(xp, -t) - log_rest)
        return beta * (t - start) - value - rise * gained, beta - rise * bends

    most = value + xp.maximum(rise, 0.0) * xp.exp(-log_c)
    return newton_bisection(xp, ahead, x, xp.maximum(start + most / beta, x))


def forward_stationary_success(
    xp: Floats, factor: GroupFactor, ref_success: Array, beta: Array
) -> Array:
    """T4, forward leash: the one c in (a, 1) with h(c) c (1-c) = beta (c - a)."""
    log_rise = forward_stationary_rise(xp, factor, log_odds_of(xp, ref_success), beta)
    return ref_success + (1 - ref_success) * xp.exp(log_sigmoid(xp, log_rise))


def forward_stationary_log_odds(
    xp: Floats, factor: GroupFactor, start: Array, beta: Array
) -> Array:
    """logit c of that c, from ``start`` = logit a."""
    return _log_odds_after(xp, start, forward_stationary_rise(xp, factor, start, beta))


def _log_odds_after(xp: Floats, start: Array, w: Array) -> Array:
    """logit c of c = a + (1-a) v, w = logit v: c/(1-c) = a/((1-a)(1-v)) + v/(1-v)."""
    most = xp.maximum(start - log_sigmoid(xp, -w), w)
    both = xp.exp(start - log_sigmoid(xp, -w) - most) + xp.exp(w - most)
    return most + xp.log(both)


def forward_stationary_rise(xp: Floats, factor: GroupFactor, start: Array, beta: Array) -> Array:
    """w = logit v of that c = a + (1-a) v: w = log(h(c) c/beta)."""

    def short(w: Array, start: Array, beta: Array) -> tuple[Array, Array]:
        log_odds = _log_odds_after(xp, start, w)
        h, log_success = factor(log_odds), log_sigmoid(xp, log_odds)
        # c'(w) = (1-a) v (1-v), and 1 - c = (1-a)(1-v): in the log-odds of c that is v/c.
        moves = xp.exp(log_sigmoid(xp, w) - log_success)
        grows = factor.slope(log_odds) / h + xp.exp(log_sigmoid(xp, -log_odds))
        return w - xp.log(h / beta) - log_success, detached(1 - grows * moves)

    fixed, leash = detached(start), detached(beta)
    low = xp.log(detached(factor.least()) / leash) + log_sigmoid(xp, fixed)

    def at(w: Array) -> tuple[Array, Array]:
        return short(w, fixed, leash)

    high = bracketed_above(xp, at, xp.maximum(low + 1, 1.0))
    found = detached(newton_bisection(xp, at, low, high))
    return with_root_gradient(xp, found, *short(found, start, beta))
