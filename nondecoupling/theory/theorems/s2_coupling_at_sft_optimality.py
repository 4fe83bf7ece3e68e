"""S2: Coupling at SFT optimality."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy, kl_divergence
from nondecoupling.formulas.sft_then_rl import coupling_gap
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Same
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class CouplingAtSftOptimality(Statement):
    """Coupling at SFT optimality.

    Statement: If ref = d, RL to the exact optimum raises the SFT loss: DeltaL(tilt) = log E_d
        e^{r/beta} - E_d r/beta = KL(d||tilt) >= 0.

    Assumptions: ref = d (SFT is optimal when RL starts); RL reaches the tilt.

    Side: identities and lower bound.

    Equality when: r is constant on supp d. Point-mass data are such a case: nothing to see
        there.

    Units: nats per response.

    Source: [NBHZ] claim 1, KL form. [NBHZ] = arXiv:2601.07389, known here by its abstract; the
        exact form is ours.

    Proof idea: S1 with ref = d, then Jensen: log E e^x >= E x.

    Example:
    >>> from nondecoupling.bounds import coupling_gap
    >>> import numpy as np
    >>> float(coupling_gap(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 1.0))  # doctest: +ELLIPSIS
    0.12011450695827...
    """

    id = "S2"
    title = "Coupling at SFT optimality"
    depends = ("F1", "S1")
    world = dict(log_d=Law(), log_ref=Same("log_d"), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        increase = cross_entropy(xp, w.log_d, tilt) - cross_entropy(xp, w.log_d, w.log_ref)
        gap = coupling_gap(xp, w.log_d, w.reward, w.beta)
        yield Claim("closed form", increase, "==", gap)
        yield Claim("KL form", increase, "==", kl_divergence(xp, w.log_d, tilt))
        yield Claim("RL raises the SFT loss", increase, ">=", xp.full_like(increase, 0.0))
