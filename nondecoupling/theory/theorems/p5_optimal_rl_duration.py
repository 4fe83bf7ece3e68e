"""P5: Optimal duration of RL."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.duration import (
    reward_gain,
    stationary_weight,
    surrogate_duration,
    surrogate_shortfall,
)
from nondecoupling.formulas.laws import expected_reward
from nondecoupling.formulas.tilt import tilt_at
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class OptimalRlDuration(Statement):
    """Optimal duration of RL.

    Statement: ref = d, U(s) = J(tilt_s) - lambda DeltaL(tilt_s), M(s) = J(tilt_s) - J(d). U' = M' -
        lambda M and M' = Var_{tilt_s}(r): a maximiser s* > 0 exists and solves M' = lambda M. At
        every root, with R the range of r on supp d: R/(e^{Rs} - 1) <= lambda <= R/(1 - e^{-Rs}),
        so log(1 + R/lambda)/R <= s, for lambda > R also s <= -log(1 - R/lambda)/R, and s* lambda
        -> 1 as lambda -> inf; and lambda M <= (max r - J)(J - min r), a compact interval. There
        can be several roots. PL surrogate: G(1 - e^{-aT}) - lambda b T^2 is largest at T* =
        W(a^2 G/(2 lambda b))/a.

    Assumptions: ref = d, lambda > 0, r not constant on supp d.

    Side: bounds on every root; identity and upper bound for the surrogate.

    Equality when: Bhatia-Davis: two reward levels. The bounds on lambda: in the limits s -> 0 and of
        a vanishing probability of the best (or worst) response.

    Units: lambda in reward units per nat, s in nats per reward unit.

    Source: ours; [NBHZ] v2 names an optimal duration (arXiv:2601.07389, known here by its abstract).
        The inequality: Bhatia and Davis 2000.

    Proof idea: |d/ds log Var| = |third cumulant|/Var <= R, so Var_u is between Var_s e^{-R(s-u)} and
        Var_s e^{R(s-u)} for u < s; M integrates Var.

    Example:
    >>> from nondecoupling.bounds import optimal_rl_duration
    >>> import numpy as np
    >>> s, low, high = optimal_rl_duration(np.log([0.5, 0.5]), np.array([0.0, 1.0]), 10.0)
    >>> bool(low <= s <= high), round(float(s), 3)
    (True, 0.1)
    """

    id = "P5"
    title = "Optimal duration of RL"
    depends = ("S2", "S4")
    world = dict(
        log_d=Law(full_support=True),
        reward=Reward(),
        duration=Positive(),
        rate=Positive(),
        other=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        weight = stationary_weight(xp, w.log_d, w.reward, w.duration)
        tilt = tilt_at(xp, w.log_d, w.reward, w.duration)
        top, least = xp.max(w.reward), xp.min(w.reward)
        mean = expected_reward(xp, tilt, w.reward)
        gain = reward_gain(xp, w.log_d, tilt, w.reward)
        room = (top - mean) * (mean - least)
        yield Claim("no root above J+", weight * gain, "<=", room)
        scaled = (top - least) * w.duration
        # lambda s against x/(e^x - 1) and x/(1 - e^{-x}), x = R s
        yield Claim("not too early", weight * w.duration, ">=", scaled / xp.expm1(scaled))
        yield Claim("not too late", weight * w.duration, "<=", scaled / -xp.expm1(-scaled))
        # The surrogate with lambda b = 1 whose maximiser is the duration: log G = log(2T/a) + aT.
        one = xp.full_like(w.rate, 1.0)
        log_gain = xp.log(2 * w.duration / w.rate) + w.rate * w.duration
        peak = surrogate_duration(xp, log_gain, w.rate, one)
        yield Claim("surrogate root", peak, "==", w.duration)
        least_shortfall, other = (
            surrogate_shortfall(xp, log_gain, w.rate, one, t) for t in (w.duration, w.other)
        )
        yield Claim("surrogate maximum", least_shortfall, "<=", other)

    @staticmethod
    def conditions(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        spread = xp.max(w.reward) - xp.min(w.reward)
        yield Claim("the reward is not constant", spread, ">", xp.full_like(spread, 0.0))
