"""S1: Exact change of the SFT loss."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy
from nondecoupling.formulas.sft_then_rl import sft_loss_change, sft_loss_increase
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ExactChange(Statement):
    """Exact change of the SFT loss.

    Statement: DeltaL(tilt) = log Z - E_d r/beta for every d. For any policy p, DeltaL(p) =
        KL(ref||p) - (E_d - E_ref) log(p/ref).

    Assumptions: d << ref (here: ref and p have full support).

    Side: identities.

    Equality when: always.

    Units: nats per response.

    Source: direct; [NBHZ] = arXiv:2601.07389, known here by its abstract; the exact form is
        ours.

    Proof idea: log tilt - log ref = r/beta - log Z; take -E_d.

    Example:
    >>> from nondecoupling.bounds import sft_loss_increase
    >>> import numpy as np
    >>> ref = np.log([0.5, 0.5])
    >>> float(sft_loss_increase(np.log([0.5, 0.5]), ref, np.array([0.0, 1.0]), 1.0))  # doctest: +ELLIPSIS
    0.12011450695...
    """

    id = "S1"
    title = "Exact change of the SFT loss"
    depends = ("F1",)
    world = dict(
        log_d=Law(),
        log_ref=Law(full_support=True),
        log_p=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        start = cross_entropy(xp, w.log_d, w.log_ref)
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        at_tilt = cross_entropy(xp, w.log_d, tilt) - start
        predicted = sft_loss_increase(xp, w.log_d, w.log_ref, w.reward, w.beta)
        yield Claim("at the tilt", at_tilt, "==", predicted)
        at_p = cross_entropy(xp, w.log_d, w.log_p) - start
        yield Claim("at any policy", at_p, "==", sft_loss_change(xp, w.log_d, w.log_ref, w.log_p))
