"""T8: Replay: mixing data in bounds the cost whatever the policy."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition, mixture
from nondecoupling.formulas.schedules import replay_bound
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class Replay(Statement):
    """Replay: mixing data in bounds the cost whatever the policy.

    Statement: m = (1-v) d + v p, data with a share v of a policy's responses. The reward moves in
        proportion, J(m) - J(d) = v (J(p) - J(d)), and SFT on m costs KL(d||m) <= -log(1 - v + v
        e^{-KL(d||p)}), which is at most -log(1 - v), whatever p, and at most v KL(d||p).

    Assumptions: 0 < v < 1; d and p are any laws.

    Side: identity and upper bounds.

    Equality when: p = d on supp d up to a factor; and for v in {0, 1}. For -log(1 - v): p misses d. For
        v KL(d||p): p = d.

    Units: nats per response; reward units.

    Source: ours in this form.

    Proof idea: log(m/d) = log(1 - v + v e^x) with x = log(p/d), which is convex in x: Jensen under d.

    Example:
    >>> from nondecoupling.bounds import kl_divergence, replay_bound
    >>> import numpy as np
    >>> d, p = np.array([0.5, 0.5]), np.array([0.05, 0.95])
    >>> paid = kl_divergence(np.log(d), np.log(0.9 * d + 0.1 * p))
    >>> bool(paid <= replay_bound(kl_divergence(np.log(d), np.log(p)), 0.1))
    True
    """

    id = "T8"
    title = "Replay: mixing data in bounds the cost whatever the policy"
    depends = ()
    world = dict(log_d=Law(), log_p=Law(), reward=Reward(), share=Unit())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        mixed = mixture(xp, w.log_d, w.log_p, w.share)
        before, there, now = (expected_reward(xp, p, w.reward) for p in (w.log_d, w.log_p, mixed))
        yield Claim(
            "the reward moves in proportion", now - before, "==", w.share * (there - before)
        )
        paid, whole = (kl_by_definition(xp, w.log_d, p) for p in (mixed, w.log_p))
        most = replay_bound(xp, whole, w.share)
        yield Claim("the cost of a mixture", paid, "<=", most)
        yield Claim("bounded whatever the policy", most, "<=", -xp.log1p(-w.share))
        yield Claim("at most its share", most, "<=", w.share * whole)
