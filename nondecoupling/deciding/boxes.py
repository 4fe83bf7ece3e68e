"""Box certificates: an inequality proved for *every* world in a box of parameters.

Branch and bound in Arb balls. On each sub-box the margin is enclosed directly, by the mean-value
form and by Taylor's formula to second order around the centre; a sub-box on which the margin is
certainly monotone in a parameter is replaced by its lower face.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Any

import flint
import sympy

from nondecoupling.deciding.decisions import report_verdict
from nondecoupling.deciding.verdict import Status
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.exact import the_number
from nondecoupling.numbers.jets import Jet, Program, Recorder, add, multiply, square_ball
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.fields import free_fields
from nondecoupling.theory.statement import StatementType, only
from nondecoupling.theory.worlds import world_values

Interval = tuple[Fraction, Fraction]
Cell = tuple[Interval, ...]
# Sub-boxes after which a field that should be positive counts as not being so
MOST_RANGE_CHECKS = 1000


@dataclass(frozen=True)
class Box:
    """Ranges of parameters, and the world they stand for.

    ``world(**parameters)`` returns the fields as lists of rational expressions in the parameters;
    laws are lists of probabilities. Example: ``Box({"t": (F(1, 100), F(99, 100)), "g": (F(1, 2),
    F(8))}, lambda t, g: dict(log_d=[t, 1 - t], reward=[0, g], beta=[1]))``.
    """

    parameters: Mapping[str, Interval]
    world: Callable[..., Mapping[str, Sequence[Any]]]

    def __str__(self) -> str:
        return ", ".join(f"{name} in [{a}, {b}]" for name, (a, b) in self.parameters.items())


@dataclass(frozen=True)
class BoxCertificate:
    """What branch and bound decided about one claim on one box.

    ``smallest`` is a lower bound on the margin over the box (in the conditions), ``boxes`` the
    number of sub-boxes examined, ``skipped`` how many lay outside the conditions, ``open`` the
    sub-box left undecided, or at whose centre the claim certainly fails.
    """

    statement: str
    claim: str
    status: Status
    boxes: int
    skipped: int
    smallest: float
    open: Mapping[str, Interval] | None = None

    def __str__(self) -> str:
        outside = f", {self.skipped} outside the conditions" if self.skipped else ""
        least = f", margin >= {_rounded_down(self.smallest)}" if self.status is Status.HOLDS else ""
        return (
            f"{self.claim}: {self.status.value} on the box{least} ({self.boxes} sub-boxes{outside})"
        )


class _Enclosure:
    """A quantity over a cell, from its jets over the cell and at the centre."""

    def __init__(self, over: Jet, at: Jet, steps: list[Any]) -> None:
        self.over, self.at, self.steps = over, at, steps
        self.middle = at.value
        self.slopes = self._entries(over)
        forms = [over.value, at.value + _dot(self.slopes, steps)]
        if over.bends is not None:
            second = flint.arb(0)
            for i, h in enumerate(steps):
                second += over.bends[i, i] * square_ball(h) / 2
                for j in range(i):
                    second += over.bends[i, j] * h * steps[j]
            forms.append(at.value + _dot(self.slopes_at_centre, steps) + second)
        known = [form for form in forms if not form.is_nan()] or [flint.arb("nan")]
        self.low = max((form.lower() for form in known), key=float)
        self.high = min((form.upper() for form in known), key=float)

    def _entries(self, jet: Jet) -> list[Any]:
        return [flint.arb(0)] * len(self.steps) if jet.slopes is None else jet.slopes.entries()

    @property
    def slopes_at_centre(self) -> list[Any]:
        return self._entries(self.at)

    def nonnegative_where(self, condition: _Enclosure, inside: float) -> bool:
        """Whether m >= k (c - inside) over the cell for some k >= 0: then m >= 0 where c >= inside."""
        gradients = self.slopes_at_centre, condition.slopes_at_centre
        common, size = (float(_dot(g, gradients[1]).mid()) for g in gradients)
        if not (common > 0 and size > 0 and math.isfinite(common / size)):
            return False
        k = Jet(-flint.arb(common / size))
        over, at = (
            add(m, multiply(k, add(c, Jet(-flint.arb(inside)))))
            for m, c in ((self.over, condition.over), (self.at, condition.at))
        )
        return bool(_Enclosure(over, at, self.steps).low >= 0)


def certify_box(
    statement: StatementType,
    claim: str,
    box: Box,
    *,
    max_boxes: int = 20_000,
    inside: float = 0.0,
) -> BoxCertificate:
    """Prove one inequality for every world in a box, or say where it stayed open.

    ``inside``: worlds whose side conditions have less room than this are excluded, a stated
    neighbourhood of the conditions' boundary, where a claim may be attained.
    """
    program = _record(only(statement, claim), box)
    start: Cell = tuple(box.parameters.values())
    counter = itertools.count()
    queue = [(0.0, next(counter), start)]
    examined = skipped = 0
    smallest = math.inf

    def result(status: Status, cell: Cell | None = None) -> BoxCertificate:
        where = None if cell is None else dict(zip(box.parameters, cell, strict=True))
        least = smallest if cell is None else math.nan
        report_verdict(Assurance.CERTIFIED, statement, claim, status, str(box))
        return BoxCertificate(statement.id, claim, status, examined, skipped, least, where)

    while queue:
        _, _, cell = heapq.heappop(queue)
        examined += 1
        margin, *conditions = _enclosures(program, cell)
        if any(c.high < inside for c in conditions):
            skipped += 1
            continue
        if margin.low >= 0:
            smallest = min(smallest, math.nextafter(float(margin.low), -math.inf))
            continue
        if margin.middle < 0 and all(c.middle >= inside for c in conditions):
            return result(Status.REFUTED, cell)
        if examined >= max_boxes or all(a == b for a, b in cell):
            return result(Status.UNDECIDED, cell)
        unsure = [c for c in conditions if not c.low >= inside]
        if any(margin.nonnegative_where(c, inside) for c in unsure):
            smallest = min(smallest, 0.0)
            continue
        if not unsure:
            cell = tuple(map(_lowest_end, cell, margin.slopes))
        low = float(margin.low)
        for half in _halves(cell, start, margin.slopes):
            heapq.heappush(queue, (-math.inf if math.isnan(low) else low, next(counter), half))
    return result(Status.HOLDS if smallest < math.inf else Status.OUT_OF_SCOPE)


def certify_convex(
    statement: StatementType, claim: str, box: Box, parameter: str, *, max_boxes: int = 20_000
) -> BoxCertificate:
    """Prove the margin convex in one parameter over a box, whatever the conditions.

    What takes over next to an equality case: where margin and slope vanish, a convex margin cannot
    fall below zero. ``smallest`` bounds the second derivative.
    """
    program = _record(only(statement, claim), box)
    which = tuple(box.parameters).index(parameter)
    start: Cell = tuple(box.parameters.values())
    queue, examined, smallest = [start], 0, math.inf
    while queue:
        cell = queue.pop()
        examined += 1
        margin = _enclosures(program, cell)[0].over
        bend = flint.arb(0) if margin.bends is None else margin.bends[which, which]
        if bend >= 0:
            smallest = min(smallest, math.nextafter(float(bend.lower()), -math.inf))
        elif bend < 0 or examined >= max_boxes:
            status = Status.REFUTED if bend < 0 else Status.UNDECIDED
            where = dict(zip(box.parameters, cell, strict=True))
            report_verdict(Assurance.CERTIFIED, statement, claim, status, str(box))
            return BoxCertificate(statement.id, claim, status, examined, 0, math.nan, where)
        else:
            queue += _halves(cell, start, [flint.arb("nan")])
    scope = f"{box}: convex in {parameter}"
    report_verdict(Assurance.CERTIFIED, statement, claim, Status.HOLDS, scope)
    return BoxCertificate(statement.id, claim, Status.HOLDS, examined, 0, smallest)


def _record(target: StatementType, box: Box) -> Program:
    """The margins of the claim and of the conditions, as a program in the parameters of the box."""
    for name, (low, high) in box.parameters.items():
        if not low < high:
            raise ValueError(
                f"{name} in [{low}, {high}]: an empty range; give constants in the world"
            )
    _require_laws(target, box)
    recorder = Recorder()
    parameters = [recorder.parameter(_ball(interval)) for interval in box.parameters.values()]
    xp = recorder.numbers()
    values = box.world(**dict(zip(box.parameters, parameters, strict=True)))
    free = {}
    for name, field in free_fields(target.world).items():
        numbers = [recorder.node(x) for x in values[name]]
        if parts := field.positive_parts(numbers):
            _require_positive(name, Program(parameters, parts), tuple(box.parameters.values()))
        free[name] = field.argument(xp, xp.array(numbers))
    w = world_values(target.world, free)
    (claim,) = target.claims(xp, w)
    if claim.relation not in ("<=", ">="):
        raise ValueError(f"claim={claim.name!r}: {claim.relation} is no inequality")
    outputs = [the_number(c.margin()) for c in (claim, *target.conditions(xp, w))]
    return Program(parameters, [recorder.node(x) for x in outputs])


def _require_laws(target: StatementType, box: Box) -> None:
    """Laws sum to one identically in the parameters."""
    fields = box.world(**{name: sympy.Symbol(name) for name in box.parameters})
    for name, field in free_fields(target.world).items():
        if field.sums_to_one and sympy.simplify(sum(fields[name]) - 1) != 0:
            raise ValueError(f"{name}={list(fields[name])}: does not sum to one on the box")


def _require_positive(name: str, program: Program, start: Cell) -> None:
    """The outputs, a field of the world, are positive on the whole box."""
    cells = [start]
    for _ in range(MOST_RANGE_CHECKS):
        cell = cells.pop()
        if not all(x.low > 0 for x in _enclosures(program, cell)):
            cells += _halves(cell, start, [flint.arb("nan")])
        if not cells:
            return
    raise ValueError(f"{name}: leaves its range on the box")


def _enclosures(program: Program, cell: Cell) -> list[_Enclosure]:
    whole = [_ball(interval) for interval in cell]
    centre = [_ball(((a + b) / 2, (a + b) / 2)) for a, b in cell]
    steps = [x - c for x, c in zip(whole, centre, strict=True)]
    return [_Enclosure(x, c, steps) for x, c in program.replay(whole, centre)]


def _dot(slopes: list[Any], steps: list[Any]) -> Any:
    return sum((s * h for s, h in zip(slopes, steps, strict=True)), start=flint.arb(0))


def _lowest_end(interval: Interval, slope: Any) -> Interval:
    """The end at which a certainly monotone margin is smallest; the whole interval otherwise."""
    if slope >= 0:
        return interval[0], interval[0]
    if slope <= 0:
        return interval[1], interval[1]
    return interval


def _halves(cell: Cell, start: Cell, slopes: list[Any]) -> list[Cell]:
    """The cell cut in two across the parameter along which the slope varies most."""

    if all(a == b for a, b in cell):
        return [cell]

    def variation(i: int) -> float:
        return float(slopes[i].rad()) * float(cell[i][1] - cell[i][0])

    def width(i: int) -> Fraction:
        return (cell[i][1] - cell[i][0]) / (start[i][1] - start[i][0])

    known = all(slope.is_finite() for slope in slopes)
    widest = max(range(len(cell)), key=variation if known else width)
    low, high = cell[widest]
    middle = (low + high) / 2
    return [(*cell[:widest], half, *cell[widest + 1 :]) for half in ((low, middle), (middle, high))]


def _ball(interval: Interval) -> Any:
    low, high = (arb().number(end) for end in interval)
    return low if interval[0] == interval[1] else low.union(high)


def _rounded_down(x: float) -> str:
    """Two digits, never more than x."""
    return (
        f"{Context(prec=2, rounding=ROUND_FLOOR).plus(Decimal(x)):e}"
        if math.isfinite(x)
        else str(x)
    )


__all__ = ["Box", "BoxCertificate", "certify_box", "certify_convex"]
