"""T6: Alternating RL and SFT: where it ends, how fast, and what it pays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import (
    cross_entropy,
    expectation,
    expected_reward,
    kl_by_definition,
    mixture,
)
from nondecoupling.formulas.price import supporting_line
from nondecoupling.formulas.schedules import alternated
from nondecoupling.formulas.tilt import gibbs_tilt, tilt_at
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement


class Alternation(Statement):
    """Alternating RL and SFT: where it ends, how fast, and what it pays.

    Statement: natural gradient on J for the time s is p -> tilt_s(p); on the SFT loss, until a share
        eta of the way to d is gone, p -> (1-eta) p + eta d. From any start the cycles converge to p =
        eta d/(1 - k e^{s(r-M)}) after SFT and to a multiple of d e^{sr}/(1 - k e^{s(r-M)}) after RL, k
        in (0, 1) by normalisation. That is S5's frontier policy of the reward e^{sr}. With v = p/limit,
        max v/min v - 1 shrinks by the factor k a cycle or more, k <= (1-eta)/(1-eta + eta d(argmax
        r)). On KL(p||d) instead, SFT is p -> p^{1-eta} d^eta/norm: the limits are tilt_{s/eta}(d) after
        RL and tilt_{s(1-eta)/eta}(d) after SFT, and log-odds errors shrink by exactly 1 - eta.
        With s/eta = nu fixed and eta -> 0 the limit is S5's frontier policy at the rate nu of the reward r
        itself; it overpays by nu^4 eta^2/8 min_{a,b} sum (p^2/d)(r^2 - a - b r)^2 + O(eta^3), zero for
        two levels, and after half an RL phase only by O(eta^4).

    Assumptions: d has full support; 0 < eta < 1; exact natural gradients.

    Side: identities and upper bounds.

    Equality when: identities always. The rate: p at the limit; approached where the best response is rare
        and too likely under p. The bound on the rate: r constant; approached as s -> inf.

    Units: nats per response; s is one over reward.

    Source: ours.

    Proof idea: in V = v up to a factor, a cycle is V -> w V + (1-w) E_q V with w = k e^{s(r-M)} and q the
        limit after RL: an average, and w <= k.

    Example:
    >>> from nondecoupling.bounds import alternation_limit, gibbs_tilt
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> limit = np.exp(alternation_limit(d, r, rl_time=0.6, sft_share=0.5))
    >>> again = 0.5 * np.exp(gibbs_tilt(np.log(limit), r, 1 / 0.6)) + 0.5 * np.exp(d)
    >>> bool(np.allclose(limit, again, rtol=1e-14))
    True
    """

    id = "T6"
    title = "Alternating RL and SFT: where it ends, how fast, and what it pays"
    depends = ("S5",)
    world = dict(
        log_law=Law(),
        log_d=Law(full_support=True),
        log_p=Law(full_support=True),
        reward=Reward(),
        rl_time=Positive(),
        slack=Unit(),
        share=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        yield from _mixtures(xp, w)
        yield from _logits(xp, w)


def _mixtures(xp: NumberSystem, w: Any) -> Iterator[Claim]:
    """The share of SFT is the one that belongs to the slack 1 - k: no root is needed."""
    log_slack = xp.log(w.slack)
    limit, log_total = alternated(xp, w.log_d, w.reward, w.rl_time, log_slack, 0)
    share, rate = xp.exp(-log_total), 1 - w.slack

    def loss(log_p: Array) -> Array:
        # Two policies are the same iff every law has the same loss on both.
        return cross_entropy(xp, w.log_law, log_p)

    risen = gibbs_tilt(xp, limit, w.reward, 1 / w.rl_time)
    cycled = mixture(xp, risen, w.log_d, share)
    yield Claim("a cycle returns to its limit", loss(cycled), "==", loss(limit))
    after, _ = alternated(xp, w.log_d, w.reward, w.rl_time, log_slack, 1)
    yield Claim("the limit after RL", loss(risen), "==", loss(after))
    grown = xp.exp(w.rl_time * (w.reward - xp.max(w.reward)))
    line = supporting_line(xp, w.log_d, grown, rate / share, w.slack / share)
    price = rate / share * expected_reward(xp, limit, grown) + line
    paid = kl_by_definition(xp, w.log_d, limit)
    yield Claim("the frontier of the reward e^{sr}", paid, "==", price)
    moved = mixture(xp, gibbs_tilt(xp, w.log_p, w.reward, 1 / w.rl_time), w.log_d, share)
    before, now = (xp.expm1(spread(xp, p - limit)) for p in (w.log_p, moved))
    yield Claim("errors shrink by the rate", now, "<=", rate * before)
    best = xp.where(w.reward < xp.max(w.reward), 0.0, xp.full_like(w.reward, 1.0))
    kept = 1 - share
    most = kept / (kept + share * expectation(xp, w.log_d, best))
    yield Claim("the rate is below one", rate, "<=", most)


def _logits(xp: NumberSystem, w: Any) -> Iterator[Claim]:
    limit = tilt_at(xp, w.log_d, w.reward, w.rl_time * (1 - w.share) / w.share)

    def cycle(log_p: Array) -> Array:
        risen = gibbs_tilt(xp, log_p, w.reward, 1 / w.rl_time)
        blend = (1 - w.share) * risen + w.share * w.log_d
        return blend - xp.log(xp.sum(xp.exp(blend)))

    lhs, rhs = (cross_entropy(xp, w.log_law, p) for p in (cycle(limit), limit))
    yield Claim("the limit of logits", lhs, "==", rhs)
    before, now = (spread(xp, p - limit) for p in (w.log_p, cycle(w.log_p)))
    yield Claim("log-odds errors shrink by 1 - eta", now, "==", (1 - w.share) * before)


def spread(xp: NumberSystem, values: Array) -> Array:
    """max - min: unchanged by a constant."""
    return xp.max(values) - xp.min(values)
