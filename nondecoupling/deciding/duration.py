"""P5 in ball arithmetic: a certificate that a duration of RL is the globally best one.

The utility U can have several local maxima, so a root of U' found in floats proves nothing. Here
one rational world is treated rigorously: every stationary point lies in a compact interval, one
small core around the root contains exactly one maximiser, and branch and bound excludes the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from nondecoupling.deciding.decisions import Decision, report
from nondecoupling.formulas import duration
from nondecoupling.formulas.duration import (
    duration_curvature,
    duration_slope,
    duration_utility,
    earliest_duration,
    highest_stationary_reward,
    reward_gain,
)
from nondecoupling.formulas.tilt import tilt_at
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.exact import Exact, the_number
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.number_system import Array
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.fields import Fractions, Law, Positive
from nondecoupling.theory.worlds import World

FIELDS = {"log_d": Law(full_support=True)}


@dataclass(frozen=True)
class DurationCertificate:
    """The global maximiser of U lies in ``core``; ``interval`` contains every stationary point.

    ``utility`` encloses max U, ``boxes`` counts the pieces that branch and bound looked at, and
    ``certified`` is False where the budget ran out (near ties between two local maxima).
    """

    core: tuple[float, float]
    interval: tuple[float, float]
    utility: tuple[float, float]
    boxes: int
    certified: bool


def certify_duration(
    data: Fractions,
    reward: Fractions,
    weight: Fraction,
    *,
    core_radius: float = 1e-6,
    max_boxes: int = 4000,
    precision: int = 128,
) -> DurationCertificate:
    """Certify the maximiser of U(s) = J(tilt_s) - lambda DeltaL(tilt_s) on one rational world.

    ``data`` has full support, ``reward`` is not constant and ``weight``, lambda, is positive; anything else
    is a ``ValueError``, and so is a root of the float solver that fails the sign test. The core has
    relative half-width ``core_radius``.
    """
    import flint

    _require(data, reward, weight)
    saved = flint.ctx.prec
    flint.ctx.prec = precision
    try:
        return _certify(data, reward, weight, core_radius, max_boxes)
    finally:
        flint.ctx.prec = saved


def _require(data: Fractions, reward: Fractions, weight: Fraction) -> None:
    if len(data) != len(reward):
        raise ValueError(
            f"reward has {len(reward)} numbers for the {len(data)} responses of data: give one for each"
        )
    fields = {"data": (FIELDS["log_d"], data), "weight": (Positive(), (weight,))}
    for name, (field, values) in fields.items():
        if problem := field.problem(values):
            raise ValueError(f"{name}={', '.join(map(str, values))}: {problem}")
    if len(set(reward)) == 1:
        raise ValueError(f"reward={reward[0]} for every response: every duration is as good")


def _certify(
    data: Fractions,
    reward: Fractions,
    weight: Fraction,
    core_radius: float,
    max_boxes: int,
) -> DurationCertificate:
    import flint

    world = World({"log_d": data})
    xp = arb()
    log_d = world.exact(FIELDS, xp).log_d
    r, multiplier = xp.array(list(reward)), xp.array([weight])

    def at(function: Any, low: Any, high: Any) -> Any:
        s = xp.array([flint.arb(low).union(flint.arb(high))])
        return the_number(function(xp, log_d, r, multiplier, s))

    floats = floats_of(np.zeros(1))
    rows = [np.array([[float(x) for x in v]]) for v in (reward, (weight,))]
    found = duration.optimal_rl_duration(floats, world.floats(FIELDS).log_d, *rows)
    best, _, late = map(float, map(the_number, found))
    first = _below(the_number(earliest_duration(xp, log_d, r, multiplier)))
    last = _certainly_late(xp, log_d, r, multiplier, late)
    left, right = best * (1 - core_radius), best * (1 + core_radius)
    if not (at(duration_slope, left, left) > 0 and at(duration_slope, right, right) < 0):
        raise ValueError(f"duration={best}: U' does not change sign within {core_radius:g} of it")
    unique = at(duration_curvature, left, right) < 0
    reached = at(duration_utility, best, best)
    pieces = [(first, left), (right, last)]
    boxes = 0
    while pieces and boxes < max_boxes:
        low, high = pieces.pop()
        if low >= high:
            continue
        boxes += 1
        slope = at(duration_slope, low, high)
        if slope > 0 or slope < 0:
            continue  # monotone: no stationary point inside
        middle = (low + high) / 2
        # Mean value form: U(s) lies in U(middle) + U'(box) (box - middle)
        change = slope * (flint.arb(low).union(flint.arb(high)) - middle)
        if at(duration_utility, middle, middle) + change < reached:
            continue
        pieces += [(low, middle), (middle, high)]
    certified = bool(unique) and not pieces
    if certified:
        report(Decision(Assurance.CERTIFIED, "P5", "the duration is the globally best one"))
    utility = (_below(reached), -_below(-at(duration_utility, left, right)))
    return DurationCertificate((left, right), (first, last), utility, boxes, certified)


def _below(ball: Any) -> float:
    """A float certainly at or below every number in the ball."""
    return math.nextafter(float(ball.lower()), -math.inf)


def _certainly_late(xp: Exact, log_d: Array, r: Array, multiplier: Array, late: float) -> float:
    """A time from which J(tilt_s) > J+ for certain: nothing stationary comes after it."""
    climb = the_number(highest_stationary_reward(xp, log_d, r, multiplier))
    spread = the_number(xp.max(r) - xp.min(r))
    lagrange = the_number(multiplier)
    if lagrange > spread:
        # s >= -log(1 - R/lambda)/R is late as well ("not too late")
        return -_below((1 - spread / lagrange).log() / spread)
    for _ in range(60):
        late *= 1 + 1e-6
        tilt = tilt_at(xp, log_d, r, xp.array([late]))
        if the_number(reward_gain(xp, log_d, tilt, r)) > climb:
            return late
        late *= 1.1
    raise ValueError(f"late={late}: no time certainly above J+; raise the precision")
