"""P1: PL inequality of the SFT loss."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.formulas.logits import (
    least_probability,
    pl_sft_bound,
    sft_loss_gradient,
    squared_norm,
)
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Unit
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class PlOfTheSftLoss(Statement):
    """PL inequality of the SFT loss.

    Statement: For softmax logits, p = softmax(theta): 1/2 ||p - d||^2 >= (min p/2) KL(d||p), and
        sharper KL(d||p) <= log(1 + ||p - d||^2/min p). For the average over prompts with law q
        the constant is q_min min p/2.

    Assumptions: p has full support (every softmax policy has).

    Side: upper bounds on the excess loss.

    Equality when: sharper form: p uniform and d uniform on a part of the responses (or d = p). The
        PL constant is approached by p uniform on n, d uniform on n - 1 of them, as n grows.

    Units: squared gradient per nat.

    Source: [NBHZ] v2 names a PL form (arXiv:2601.07389, known here by its abstract); the constants
        and the sharper form are ours.

    Proof idea: Jensen: KL(d||p) <= log E_d d/p = log(1 + chi2(d||p)), and chi2 <= ||p - d||^2/min
        p; averages: the gradient carries q(x), squared.

    Example:
    >>> from nondecoupling.bounds import kl_divergence, pl_sft_bound
    >>> import numpy as np
    >>> d, p = np.log([0.5, 0.5]), np.log([0.4, 0.6])
    >>> bool(kl_divergence(d, p) <= pl_sft_bound(d, p))
    True
    """

    id = "P1"
    title = "PL inequality of the SFT loss"
    depends = ("F1", "F5")
    world = dict(
        log_d=Law(),
        log_p=Law(full_support=True),
        log_d_two=Law(),
        log_p_two=Law(full_support=True),
        share=Unit(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        excess = kl_by_definition(xp, w.log_d, w.log_p)
        least = least_probability(xp, w.log_p)
        steepness = squared_norm(xp, sft_loss_gradient(xp, w.log_p, w.log_d))
        yield Claim("PL inequality", steepness / 2, ">=", least / 2 * excess)
        yield Claim("sharper form", excess, "<=", pl_sft_bound(xp, w.log_d, w.log_p))
        share, rest = w.share, 1 - w.share
        excess_two = kl_by_definition(xp, w.log_d_two, w.log_p_two)
        steepness_two = squared_norm(xp, sft_loss_gradient(xp, w.log_p_two, w.log_d_two))
        gradient = xp.square(share) * steepness + xp.square(rest) * steepness_two
        average = share * excess + rest * excess_two
        least = xp.minimum(least, least_probability(xp, w.log_p_two)) * xp.minimum(share, rest)
        yield Claim("two prompts", gradient / 2, ">=", least / 2 * average)
