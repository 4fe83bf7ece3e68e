"""S3: Two-sided size of the coupling gap."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy, variance
from nondecoupling.formulas.sft_then_rl import coupling_gap_bounds
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Same
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class TwoSidedSize(Statement):
    """Two-sided size of the coupling gap.

    Statement: With s = 1/beta, v = s^2 Var_d r, a = s(E_d r - min r), b = s(max r - E_d r):
        log[(a^2 e^{v/a} + v e^{-a})/(a^2+v)] <= DeltaL(tilt) <= log[(b^2 e^{-v/b} + v
        e^{b})/(b^2+v)], all extremes over supp d. The upper one is at most s^2 R^2/8, R = max r -
        min r, which is the simple form.

    Assumptions: ref = d.

    Side: lower (Bennett), upper (Bennett), upper (Hoeffding).

    Equality when: Bennett: d has two atoms. Hoeffding: only in the limit beta -> inf with two
        atoms of mass 1/2.

    Units: nats per response.

    Source: Boucheron, Lugosi, Massart 2013, section 2.

    Proof idea: Among laws with given mean, variance and one end, a two-point law is extremal
        for E e^x; Hoeffding's lemma, for d and for that two-point law, whose range is smaller.

    Example:
    >>> from nondecoupling.bounds import coupling_gap, coupling_gap_bounds
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> lower, upper = coupling_gap_bounds(d, r, 1.0)
    >>> bool(lower < coupling_gap(d, r, 1.0) < upper)
    True
    """

    id = "S3"
    title = "Two-sided size of the coupling gap"
    depends = ("S2",)
    world = dict(log_d=Law(), log_ref=Same("log_d"), reward=Reward(), beta=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
        increase = cross_entropy(xp, w.log_d, tilt) - cross_entropy(xp, w.log_d, w.log_ref)
        lower, upper, hoeffding = coupling_gap_bounds(xp, w.log_d, w.reward, w.beta)
        yield Claim("Bennett lower bound", increase, ">=", lower)
        yield Claim("Bennett upper bound", increase, "<=", upper)
        yield Claim("Hoeffding upper bound", increase, "<=", hoeffding)
        yield Claim("Bennett's is the smaller upper bound", upper, "<=", hoeffding)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        # For a constant reward all sides are zero; excluded because 0/0 has no enclosure.
        spread = variance(xp, w.log_d, w.reward)
        yield Claim("the reward varies on supp d", spread, ">", xp.full_like(spread, 0.0))
