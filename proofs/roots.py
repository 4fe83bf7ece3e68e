"""Joint optima of given rewards, enclosed in balls: the multiplier by a certified sign change."""

from __future__ import annotations

from typing import Any

import numpy as np

from nondecoupling.formulas.joint import joint_closed_form
from nondecoupling.formulas.laws import log_sum_exp
from nondecoupling.numbers.arb import arb

Ball = Any


def mass_at(log_d: Any, log_tilt: Any, ratio: Any, offset: Ball) -> Ball:
    """log of the total mass of J1's closed form; it falls in the offset of the multiplier."""
    xp = arb()
    log_p, _ = joint_closed_form(xp, log_d, log_tilt, ratio, xp.array([offset]))
    return log_sum_exp(xp, log_p).flat[0]


def enclose_offset(log_d: Any, log_tilt: Any, ratio: Any, digits: int = 60) -> Ball:
    """A ball that certainly contains the offset (mu - beta log Z)/beta, by Newton and sign change."""
    import flint

    xp = arb()
    guess = flint.arb(0)
    for _ in range(60):
        log_p, u = joint_closed_form(xp, log_d, log_tilt, ratio, xp.array([guess]))
        mass = xp.sum(xp.exp(log_p)).flat[0]
        slope = xp.sum(xp.exp(log_p) / (1 + u)).flat[0]
        # The mass is convex in the offset: from the left of the root Newton rises monotonically.
        guess = (guess + (mass - 1) / slope).mid()
    width = flint.arb(10) ** -digits * ratio.flat[0].mid()
    low, high = guess - width, guess + width
    assert mass_at(log_d, log_tilt, ratio, low) > 0, "no sign change below"
    assert mass_at(log_d, log_tilt, ratio, high) < 0, "no sign change above"
    return low.union(high)


def enclose_joint(log_d: Any, log_tilt: Any, ratio: Any, digits: int = 60) -> np.ndarray:
    """log of the joint optimum, in balls."""
    xp = arb()
    offset = enclose_offset(log_d, log_tilt, ratio, digits)
    return joint_closed_form(xp, log_d, log_tilt, ratio, xp.array([offset]))[0]
