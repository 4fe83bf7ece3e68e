"""G1: Proxy and gold: what training on one reward guarantees for another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import expectation, expected_reward, kl_by_definition
from nondecoupling.formulas.logits import reward_gradient
from nondecoupling.formulas.proxy import covariance, disagreement, overrated
from nondecoupling.formulas.tilt import tilt_at
from nondecoupling.formulas.verifiable import two_outcome_kl
from nondecoupling.numbers.number_system import NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement


class ProxyAndGold(Statement):
    """Proxy and gold: what training on one reward guarantees for another.

    Statement: trained on r, judged by g. Along the exact optima, d/ds E_{tilt_s} g = Cov_{tilt_s}(g, r):
        gold can turn only where the covariance vanishes. For any policy p and any algorithm, J_g(p) -
        J_g(ref) >= J_r(p) - J_r(ref) - range(r - g) sqrt(KL(p||ref)/2). Sharper, with f = (r - g -
        min)/range: kl(E_p f, E_ref f) <= KL(p||ref).

    Assumptions: p << ref (here both have full support); r - g is not constant, else both gains agree.

    Side: identity (the slope; the derivative itself is derived with sympy), upper bounds on how much more
        proxy than gold was gained.

    Equality when: Pinsker's form: in the limit of small KL, r - g of two levels, each of mass 1/2. The
        sharper form: p/ref depends on f only, f in {0, 1}.

    Units: reward units; nats for the divergences.

    Source: Pinsker and data processing [CT]; the use is ours.

    Proof idea: the proxy's gain less gold's is E_p - E_ref of r - g; flip a coin of bias f on each response.

    Example:
    >>> from nondecoupling.bounds import gibbs_tilt, gold_gain_bound
    >>> import numpy as np
    >>> ref, r, g = np.log([0.6, 0.2, 0.2]), np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0])
    >>> round(float(gold_gain_bound(gibbs_tilt(ref, r, 2.0), ref, r, g)), 4)
    0.0183
    """

    id = "G1"
    title = "Proxy and gold: what training on one reward guarantees for another"
    depends = ("F1", "F5", "R4")
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        gold=Reward(),
        time=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        tilt = tilt_at(xp, w.log_ref, w.reward, w.time)
        slope = xp.sum(w.gold * reward_gradient(xp, tilt, w.reward))
        yield Claim("the slope of gold", slope, "==", covariance(xp, tilt, w.gold, w.reward))
        by_proxy, by_gold = (
            expected_reward(xp, w.log_p, r) - expected_reward(xp, w.log_ref, r)
            for r in (w.reward, w.gold)
        )
        kl = kl_by_definition(xp, w.log_p, w.log_ref)
        spread = disagreement(xp, w.log_ref, w.reward, w.gold)
        yield Claim("Pinsker's form", by_proxy - by_gold, "<=", spread * xp.sqrt(kl / 2))
        parts = overrated(xp, w.log_ref, w.reward, w.gold)
        now, before = (
            [expectation(xp, law, f / spread) for f in parts] for law in (w.log_p, w.log_ref)
        )
        coarse = two_outcome_kl(xp, *now, *before)
        yield Claim("the sharper form", coarse, "<=", kl)
        least = 2 * xp.square(now[0] - before[0])
        yield Claim("the sharper form is sharper", coarse, ">=", least)

    @staticmethod
    def conditions(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        spread = disagreement(xp, w.log_ref, w.reward, w.gold)
        yield Claim("r - g is not constant", spread, ">", xp.full_like(spread, 0.0))
