"""Confidence intervals as values, and the verdicts they allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nondecoupling.estimate.arguments import (
    PerWorld,
    nonnegative_number,
    one_of,
    probability,
    real_array,
    require_one_shape,
    shown,
)

RELATIONS = (">=", "==")
# By which a level that was divided and added up again may exceed what was asked for, relatively.
ROUNDING = 1e-9


class Outcome(Enum):
    """What the samples say about one statement at level 1 - delta."""

    CONFIRMED = "confirmed"
    VIOLATED = "violated"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Interval:
    """Contains the truth with probability at least 1 - delta; either end fails with at most delta/2.

    ``low``, ``high`` and ``estimate`` have the shape of the batch (scalars without one) and the unit
    of what is estimated. ``units`` is the number of independent units (prompts), ``method`` says
    where the interval comes from, ``approximate`` that it holds only for large samples.

    Sums, differences and multiples of intervals are intervals, by a union bound: the deltas add,
    whether or not the samples are shared. Plain numbers are exact.

    Errors: NaN ends, or low > high; delta outside (0, 1), that of a sum too. Source: Bonferroni.

    >>> reward = Interval(0.4, 0.6, 0.5, delta=0.02, units=100, method="betting")
    >>> kl = Interval(0.1, 0.2, 0.15, delta=0.03, units=100, method="bootstrap", approximate=True)
    >>> print(reward - 2.0 * kl)
    0.2 in [0, 0.4] at level 0.95 (betting + bootstrap, 100 units, approximate)
    """

    low: PerWorld
    high: PerWorld
    estimate: PerWorld
    delta: float
    units: int
    method: str
    approximate: bool = False

    __array_ufunc__ = None  # numpy_number * interval is left to __rmul__

    def __post_init__(self) -> None:
        probability("delta", self.delta)
        low, high = real_array("low", self.low), real_array("high", self.high)
        require_one_shape(low=low, high=high, estimate=real_array("estimate", self.estimate))
        if not np.all(low <= high):
            raise ValueError(f"low={self.low}, high={self.high}: give numbers with low <= high")

    @property
    def width(self) -> PerWorld:
        return self.high - self.low

    def contains(self, value: ArrayLike) -> NDArray[np.bool_]:
        """Whether ``value`` lies in the interval; broadcasts."""
        value = real_array("value", value)
        return (self.low <= value) & (value <= self.high)

    def map(self, increasing: Callable[[PerWorld], PerWorld]) -> Interval:
        """The interval of a nondecreasing function of the quantity; the estimate is mapped as well.

        >>> half = Interval(0.25, 0.75, 0.5, delta=0.05, units=9, method="betting")
        >>> print(half.map(lambda p: 4 * p))
        2 in [1, 3] at level 0.95 (betting, 9 units)
        """
        low, high, estimate = map(increasing, (self.low, self.high, self.estimate))
        return Interval(low, high, estimate, self.delta, self.units, self.method, self.approximate)

    def __neg__(self) -> Interval:
        return self * -1.0

    def __mul__(self, factor: ArrayLike) -> Interval:
        if isinstance(factor, Interval):
            return NotImplemented
        factor = real_array("factor", factor)
        require_one_shape(factor=factor, low=self.low)

        def times(end: PerWorld) -> PerWorld:
            with np.errstate(invalid="ignore"):  # nothing times an unknown quantity is nothing
                return np.where(factor == 0, 0.0, end * factor)[()]

        ends = times(self.low), times(self.high)
        low, high = np.minimum(*ends), np.maximum(*ends)
        estimate = times(self.estimate)
        return Interval(low, high, estimate, self.delta, self.units, self.method, self.approximate)

    __rmul__ = __mul__

    def __add__(self, other: Interval | ArrayLike) -> Interval:
        if not isinstance(other, Interval):
            shift = real_array("summand", other)
            require_one_shape(summand=shift, low=self.low)
            return self.map(lambda end: end + shift)
        require_one_shape(low=self.low, summand=other.low)
        delta = self.delta + other.delta
        if delta >= 1:
            raise ValueError(
                f"summand.delta={other.delta:g}: with the other's {self.delta:g} at least 1, so that the sum says "
                "nothing; give intervals whose deltas add up to less"
            )
        methods = dict.fromkeys([*self.method.split(" + "), *other.method.split(" + ")])
        return Interval(
            self.low + other.low,
            self.high + other.high,
            self.estimate + other.estimate,
            delta,
            min(self.units, other.units),
            " + ".join(methods),
            self.approximate or other.approximate,
        )

    __radd__ = __add__

    def __sub__(self, other: Interval | ArrayLike) -> Interval:
        if isinstance(other, Interval):
            return self + -other
        return self + -real_array("subtrahend", other)

    def __rsub__(self, other: ArrayLike) -> Interval:
        return -self + other

    def __str__(self) -> str:
        if np.ndim(self.low):
            return f"{np.shape(self.low)} intervals at level {1 - self.delta:g} ({self.method})"
        note = f"{self.method}, {self.units} units" + ", approximate" * self.approximate
        ends = f"{self.estimate:.6g} in [{self.low:.6g}, {self.high:.6g}]"
        return f"{ends} at level {1 - self.delta:g} ({note})"


def decide(
    margin: Interval, relation: str = ">=", *, tolerance: float = 0.0
) -> Outcome | NDArray[np.object_]:
    """The verdict on ``margin >= -tolerance`` or ``|margin| <= tolerance`` ("==") at level 1 - delta.

    *Confirmed* where the whole interval satisfies it, *violated* where no point of it does,
    *inconclusive* otherwise; wrong with probability at most delta. The margin is the room that a
    claim has: lhs - rhs for ">=", rhs - lhs for "<=". An exact equality (tolerance 0) can be
    violated but not confirmed by samples.

    Shapes: those of the interval; one ``Outcome``, or an object array of them. Units: tolerance in
    those of the margin. Errors: another relation, a tolerance that is negative or not finite.

    >>> kept = Interval(0.1, 0.3, 0.2, delta=0.05, units=50, method="betting")
    >>> decide(kept).value, decide(kept - 0.2).value, decide(kept - 0.5).value
    ('confirmed', 'inconclusive', 'violated')
    >>> decide(kept, "==", tolerance=0.5).value, decide(kept, "==").value
    ('confirmed', 'violated')
    """
    if not isinstance(margin, Interval):
        raise ValueError(f"margin={shown(margin)}: must be an Interval, as mean_interval gives")
    one_of("relation", relation, RELATIONS, "; for '<=' give rhs - lhs and '>='")
    tolerance = nonnegative_number("tolerance", tolerance)
    low, high = np.broadcast_arrays(real_array("low", margin.low), real_array("high", margin.high))
    confirmed, violated = low >= -tolerance, high < -tolerance
    if relation == "==":
        confirmed, violated = confirmed & (high <= tolerance), violated | (low > tolerance)
    outcomes = np.full(low.shape, Outcome.INCONCLUSIVE, dtype=object)
    outcomes[confirmed] = Outcome.CONFIRMED
    outcomes[violated] = Outcome.VIOLATED
    return outcomes[()]


def holm(
    margins: Sequence[Callable[[float], Interval]],
    delta: float,
    relations: str | Sequence[str] = ">=",
    *,
    tolerance: float = 0.0,
) -> NDArray[np.object_]:
    """Verdicts on several statements at once: with probability >= 1 - delta none of them is wrong.

    ``margins`` has one function per statement, which gives the interval of its margin at any level,
    such as ``lambda delta: mean_interval(gain, (-1, 1), delta)``. Holm's step-down procedure is run
    twice, over the lower ends to confirm and over the upper ends to violate, each at delta/2 with
    one-sided ends: a single run would not control wrong *directions* under arbitrary dependence.
    A statement counts as decided at delta/k only if it is at delta/(k-1), ..., delta too, so that
    intervals need not be nested. Simultaneous intervals for display: any statement's at delta/m.

    Assumes that either end of an interval at level 1 - a fails with probability at most a/2, and
    allows any dependence between statements. Approximate intervals give an approximate guarantee.

    Shapes: m statements whose intervals have shape ``[...]`` -> outcomes ``[..., m]``. Errors: no
    statement, one relation too few or too many, delta outside (0, 1); an interval whose delta is above the one
    that its function was called with. Source: Holm 1979.

    >>> def known(estimate, sd):  # a normal estimate with known standard error
    ...     from scipy.special import ndtri
    ...     z = lambda a: -sd * ndtri(a / 2)
    ...     return lambda a: Interval(estimate - z(a), estimate + z(a), estimate, a, 1, "normal")
    >>> [o.value for o in holm([known(5.0, 1.0), known(2.1, 1.0), known(-9.0, 1.0)], delta=0.05)]
    ['confirmed', 'inconclusive', 'violated']
    """
    delta = probability("delta", delta)
    if not isinstance(margins, Sequence) or not all(map(callable, margins)):
        raise ValueError(f"margins={shown(margins)}: give a list of functions delta -> Interval")
    count = len(margins)
    if not count:
        raise ValueError("margins is empty: give one function delta -> Interval per statement")
    if not isinstance(relations, Sequence):
        raise ValueError(f"relations={shown(relations)}: one of {RELATIONS}, or a list of them")
    relations = [relations] * count if isinstance(relations, str) else relations
    for relation in relations:
        one_of("relations", relation, RELATIONS)
    if len(relations) != count:
        raise ValueError(f"relations has {len(relations)} entries, margins {count}: one for each")
    tables = []
    for k in range(1, count + 1):
        row = []
        for place, (margin, relation) in enumerate(zip(margins, relations, strict=True)):
            # An equality is violated at either end, so it pays for both.
            level = delta / k / (2 if relation == "==" else 1)
            interval = margin(level)
            verdict = decide(interval, relation, tolerance=tolerance)
            if interval.delta > level * (1 + ROUNDING):
                raise ValueError(
                    f"margins[{place}]({level:g}).delta={interval.delta:g}: at most what it is called with; give a "
                    "function that passes its delta on, as lambda delta: mean_interval(gain, (-1, 1), delta)"
                )
            row.append(np.asarray(verdict, dtype=object))
        tables.append(np.stack(np.broadcast_arrays(*row), axis=-1))
    outcomes = np.full(tables[0].shape, Outcome.INCONCLUSIVE, dtype=object)
    for side in (Outcome.CONFIRMED, Outcome.VIOLATED):
        reached = np.logical_and.accumulate(np.stack([table == side for table in tables]))
        decided = np.zeros(outcomes.shape, dtype=bool)
        for _ in range(count):
            waiting = np.maximum(count - decided.sum(axis=-1), 1)
            decided |= np.take_along_axis(reached, waiting[None, ..., None] - 1, axis=0)[0]
        outcomes[decided] = side
    return outcomes
