"""S4: Longer RL costs more."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import cross_entropy, expected_reward
from nondecoupling.formulas.rl_then_sft import cycle_loss
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Same
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class LongerRlCostsMore(Statement):
    """Longer RL costs more.

    Statement: ref = d, s = 1/beta: d/ds DeltaL(tilt_s) = J(tilt_s) - J(d) = int_0^s Var_{tilt_u}(r)
        du >= 0, so DeltaL is nondecreasing and convex in s. Between the times s and s + h it grows
        by at least h (J(tilt_s) - J(d)) and at most h (J(tilt_{s+h}) - J(d)). And RL gains at
        least beta DeltaL(tilt) of reward: J(tilt) - J(d) = beta DeltaL(tilt) + beta KL(tilt||ref).

    Assumptions: ref = d; RL reaches the tilt of each time. The last claim needs no ref = d.

    Side: lower and upper bounds, which pin the derivative; the derivative itself is derived with
        sympy.

    Equality when: r is constant on supp d. Otherwise all are strict.

    Units: nats per response; reward units for the gain.

    Source: ours (exponential families).

    Proof idea: DeltaL = log E_d e^{sr} - s E_d r; the derivatives of the cumulant function are the
        mean and the variance under the tilt.

    Example:
    >>> from nondecoupling.bounds import coupling_gap, cycle_loss
    >>> import numpy as np
    >>> d, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> s, h = 1.0, 1e-6
    >>> slope = (coupling_gap(d, r, 1 / (s + h)) - coupling_gap(d, r, 1 / s)) / h
    >>> bool(np.isclose(slope, cycle_loss(d, r, 1 / s), rtol=1e-5))
    True
    """

    id = "S4"
    title = "Longer RL costs more"
    depends = ("S2", "R6")
    world = dict(
        log_d=Law(), log_ref=Same("log_d"), reward=Reward(), time=Positive(), longer=Positive()
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        sooner, later = w.time, w.time + w.longer
        start = cross_entropy(xp, w.log_d, w.log_ref)
        before, after = (
            cross_entropy(xp, w.log_d, gibbs_tilt(xp, w.log_ref, w.reward, 1 / s)) - start
            for s in (sooner, later)
        )
        yield Claim("the loss is nondecreasing", after, ">=", before)
        least = w.longer * cycle_loss(xp, w.log_d, w.reward, 1 / sooner)
        yield Claim("grows at least at the rate before", after - before, ">=", least)
        most = w.longer * cycle_loss(xp, w.log_d, w.reward, 1 / later)
        yield Claim("grows at most at the rate after", after - before, "<=", most)
        tilt = gibbs_tilt(xp, w.log_ref, w.reward, 1 / sooner)
        gain = expected_reward(xp, tilt, w.reward) - expected_reward(xp, w.log_d, w.reward)
        yield Claim("the gain pays beta times the loss", gain, ">=", before / sooner)
