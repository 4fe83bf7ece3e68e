"""R4: Size of the reward change."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import expected_reward, kl_by_definition, kl_divergence
from nondecoupling.formulas.rl_then_sft import reward_change_bounds
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class SizeOfTheChange(Statement):
    """Size of the reward change.

    Statement: A = KL(p||tilt), V = Var_tilt(r): |J(p) - J(tilt)| <= R sqrt(A/2) [Pinsker] and <= R
        sqrt(1 - e^{-A}) [Bretagnolle-Huber]; rises are <= sqrt(2 A V) + (max r - J(tilt)) A/3 and
        drops <= sqrt(2 A V) + (J(tilt) - min r) A/3 [Bernstein]. Exact: for every t > 0, t (J(p) -
        J(tilt_t)) <= A - KL(tilt_t||tilt), tilt_t = tilt e^{t r}/Z: inside the ball KL(p||tilt) <=
        KL(tilt_t||tilt) the reward is at most J(tilt_t); for drops, with -r in place of r.

    Assumptions: the tilt has full support; nothing else about it is used, so it may be any policy.

    Side: upper bounds.

    Equality when: exact: p = tilt_t. The others only in limits: Pinsker and Bernstein A -> 0,
        Bretagnolle-Huber A -> inf.

    Units: reward units.

    Source: Pinsker; Bretagnolle and Huber, see Tsybakov 2009, section 2.4; Boucheron, Lugosi,
        Massart 2013, section 4.

    Proof idea: E_p f - log E_tilt e^f <= KL(p||tilt) for every f; f = t r gives the exact form,
        and bounds on log E_tilt e^{t r} give the others.

    Example:
    >>> from nondecoupling.bounds import reward_change_bounds, reward_change_extremes
    >>> import numpy as np
    >>> tilt, r = np.log([0.9, 0.1]), np.array([0.0, 1.0])
    >>> lower, upper = reward_change_bounds(tilt, r, 0.01)
    >>> lowest, highest = reward_change_extremes(tilt, r, 0.01)
    >>> bool(lower <= lowest < 0 < highest <= upper)
    True
    """

    id = "R4"
    title = "Size of the reward change"
    depends = ("F1", "F3")
    world = dict(log_p=Law(), log_tilt=Law(full_support=True), reward=Reward(), time=Positive())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        change = expected_reward(xp, w.log_p, w.reward) - expected_reward(xp, w.log_tilt, w.reward)
        distance = kl_divergence(xp, w.log_p, w.log_tilt)
        pinsker, bretagnolle_huber, drops, rises = reward_change_bounds(
            xp, w.log_tilt, w.reward, distance
        )
        yield Claim("Pinsker", xp.abs(change), "<=", pinsker)
        yield Claim("Bretagnolle-Huber", xp.abs(change), "<=", bretagnolle_huber)
        yield Claim("Bernstein, rises", change, "<=", rises)
        yield Claim("Bernstein, drops", -change, "<=", drops)
        for name, reward in (("rise", w.reward), ("drop", -w.reward)):
            extreme = gibbs_tilt(xp, w.log_tilt, reward, 1 / w.time)
            radius = kl_by_definition(xp, extreme, w.log_tilt)
            beyond = expected_reward(xp, w.log_p, reward) - expected_reward(xp, extreme, reward)
            yield Claim(f"exact {name}", w.time * beyond + radius, "<=", distance)
            room = kl_divergence(xp, w.log_p, extreme)
            yield Claim(
                f"room below the exact {name}", distance - radius - w.time * beyond, "==", room
            )
