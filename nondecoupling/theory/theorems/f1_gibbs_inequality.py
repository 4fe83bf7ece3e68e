"""F1: Gibbs inequality."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import kl_by_definition, kl_divergence
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class GibbsInequality(Statement):
    """Gibbs inequality.

    Statement: KL(p||q) >= 0, with equality iff p = q. Values in [0, inf].

    Assumptions: p and q are laws on the same finite set; KL is inf where q misses mass of p.

    Side: identity (stable form) and lower bound.

    Equality when: p = q.

    Units: nats per response.

    Source: Cover and Thomas, Elements of Information Theory, thm 2.6.3.

    Proof idea: KL = sum p (e^u - 1 - u) with u = log(q/p), plus q's mass off supp p; e^u >= 1 +
        u.

    Example:
    >>> from nondecoupling.bounds import kl_divergence
    >>> import numpy as np
    >>> float(kl_divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75])))  # doctest: +ELLIPSIS
    0.1438410362258...
    """

    id = "F1"
    title = "Gibbs inequality"
    depends = ()
    world = dict(log_p=Law(), log_q=Law())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        divergence = kl_by_definition(xp, w.log_p, w.log_q)
        yield Claim("stable form", divergence, "==", kl_divergence(xp, w.log_p, w.log_q))
        yield Claim("KL is nonnegative", divergence, ">=", xp.full_like(divergence, 0.0))
