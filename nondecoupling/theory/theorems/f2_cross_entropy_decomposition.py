"""F2: Cross-entropy decomposition."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy, entropy, kl_divergence
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class CrossEntropyDecomposition(Statement):
    """Cross-entropy decomposition.

    Statement: CE(d, p) = H(d) + KL(d||p), so the smallest SFT loss is H(d), at p = d only.

    Assumptions: p has mass wherever d has (else both sides are inf).

    Side: identity and lower bound.

    Equality when: p = d.

    Units: nats per response.

    Source: Cover and Thomas, section 2.3.

    Proof idea: -log p = -log d + log(d/p), then F1.

    Example:
    >>> from nondecoupling.bounds import cross_entropy, entropy, kl_divergence
    >>> import numpy as np
    >>> d, p = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    >>> bool(np.isclose(cross_entropy(d, p), entropy(d) + kl_divergence(d, p), rtol=1e-15))
    True
    """

    id = "F2"
    title = "Cross-entropy decomposition"
    depends = ("F1",)
    world = dict(log_d=Law(), log_p=Law(full_support=True))

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        loss = cross_entropy(xp, w.log_d, w.log_p)
        least = entropy(xp, w.log_d)
        yield Claim("decomposition", loss, "==", least + kl_divergence(xp, w.log_d, w.log_p))
        yield Claim("the data law is optimal", loss, ">=", least)
