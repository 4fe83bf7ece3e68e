"""F3: Gibbs variational principle."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition, kl_divergence
from nondecoupling.formulas.tilt import gibbs_tilt, log_partition
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class GibbsVariationalPrinciple(Statement):
    """Gibbs variational principle.

    Statement: J_b(tilt) - J_b(p) = beta KL(p||tilt) for every p, and J_b(tilt) = beta log Z is
        the maximum of J_b.

    Assumptions: ref has full support; beta > 0.

    Side: identities and upper bound.

    Equality when: p = tilt.

    Units: reward units (beta times nats).

    Source: Donsker and Varadhan 1975; Rafailov et al. 2023.

    Proof idea: log tilt = log ref + r/beta - log Z; take E_p, then F1.

    Example:
    >>> from nondecoupling.bounds import gibbs_tilt, log_partition, regularized_reward
    >>> import numpy as np
    >>> ref, r, beta = np.log([0.5, 0.5]), np.array([0.0, 1.0]), 0.5
    >>> best = regularized_reward(gibbs_tilt(ref, r, beta), ref, r, beta)
    >>> bool(np.isclose(best, beta * log_partition(ref, r, beta), rtol=1e-14))
    True
    """

    id = "F3"
    title = "Gibbs variational principle"
    depends = ("F1",)
    world = dict(log_p=Law(), log_ref=Law(full_support=True), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        reached = expected_reward(xp, w.log_p, w.reward) - w.beta * kl_by_definition(
            xp, w.log_p, w.log_ref
        )
        best = w.beta * log_partition(xp, w.log_ref, w.reward, w.beta)
        at_tilt = expected_reward(xp, tilt, w.reward) - w.beta * kl_by_definition(
            xp, tilt, w.log_ref
        )
        yield Claim("value", at_tilt, "==", best)
        yield Claim("gap", best - reached, "==", w.beta * kl_divergence(xp, w.log_p, tilt))
        yield Claim("the tilt is optimal", reached, "<=", best)
