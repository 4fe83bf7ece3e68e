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
from nondecoupling.numbers.symbolic import sympy_numbers
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
    sub-box left undecided, or at whose centre the claim certainly fails. ``inside`` is the room that
    every condition has in the worlds that the certificate is about.
    """

    statement: str
    claim: str
    status: Status
    boxes: int
    skipped: int
    smallest: float
    open: Mapping[str, Interval] | None = None
    inside: float = 0.0

    def __str__(self) -> str:
        outside = f", {self.skipped} outside the conditions" if self.skipped else ""
        least = f", margin >= {_rounded_down(self.smallest)}" if self.status is Status.HOLDS else ""
        where = f"on the box{_where_inside(self.inside)}"
        return f"{self.claim}: {self.status.value} {where}{least} ({self.boxes} sub-boxes{outside})"


@dataclass(frozen=True)
class TangentCertificate:
    """What decided a claim on a box by convexity, next to where its margin vanishes.

    ``status`` is ``HOLDS`` if the margin and its slope in ``parameter`` vanish where it equals ``at`` and
    the margin is convex in it; ``UNDECIDED``, with the ``reason``, otherwise. ``smallest`` is a lower bound
    on the second derivative over the box, NaN where none was found, ``boxes`` the number of sub-boxes
    examined, ``open`` the one on which the margin is not known to be convex.
    """

    statement: str
    claim: str
    status: Status
    parameter: str
    at: Fraction
    boxes: int
    smallest: float
    reason: str = ""
    open: Mapping[str, Interval] | None = None

    def __str__(self) -> str:
        if self.status is not Status.HOLDS:
            return f"{self.claim}: undecided, {self.reason} ({self.boxes} sub-boxes)"
        return (
            f"{self.claim}: holds on the box, tangent at {self.parameter} = {self.at}, second derivative in "
            f"{self.parameter} >= {_rounded_down(self.smallest)} ({self.boxes} sub-boxes)"
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

    ``inside``: worlds whose side conditions have less room than this are excluded, a neighbourhood of
    the conditions' boundary, where a claim may be attained. The certificate and its scope say so.
    """
    if not 0 <= inside < math.inf:
        raise ValueError(f"inside={inside}: the room that conditions must have is at least 0")
    program = _record(only(statement, claim), box)
    start: Cell = tuple(box.parameters.values())
    counter = itertools.count()
    queue = [(0.0, next(counter), start)]
    examined = skipped = 0
    smallest = math.inf

    def result(status: Status, cell: Cell | None = None) -> BoxCertificate:
        where = None if cell is None else dict(zip(box.parameters, cell, strict=True))
        least = smallest if cell is None else math.nan
        scope = f"{box}{_where_inside(inside)}"
        report_verdict(Assurance.CERTIFIED, statement, claim, status, scope)
        return BoxCertificate(statement.id, claim, status, examined, skipped, least, where, inside)

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
    statement: StatementType,
    claim: str,
    box: Box,
    parameter: str,
    at: Fraction | int,
    *,
    max_boxes: int = 20_000,
) -> TangentCertificate:
    """Prove one inequality on a box next to its equality case, whatever the conditions.

    Where ``parameter`` equals ``at`` the margin and its slope vanish, which sympy proves identically in the
    other parameters; from there a margin that is convex in the parameter, which balls prove over the whole
    box, cannot fall below zero. Where one of the two fails nothing is decided.
    """
    if parameter not in box.parameters:
        raise ValueError(f"parameter={parameter!r}: the box has {', '.join(box.parameters)}")
    low, high = box.parameters[parameter]
    if not low <= at <= high:
        raise ValueError(f"at={at}: {parameter} runs from {low} to {high} on the box")
    target = only(statement, claim)
    examined, smallest, cell = _second_derivative(target, box, parameter, max_boxes)
    where = None if cell is None else dict(zip(box.parameters, cell, strict=True))
    reason = ""
    if where is not None:
        reason = f"the margin is not known to be convex in {parameter} on the whole box"
    elif not _is_tangent(target, box, parameter, at):
        reason = f"the margin and its slope are not known to vanish at {parameter} = {at}"
    status = Status.UNDECIDED if reason else Status.HOLDS
    scope = f"{box}: convex in {parameter}, tangent at {parameter} = {at}"
    report_verdict(Assurance.CERTIFIED, statement, claim, status, scope)
    return TangentCertificate(
        statement.id, claim, status, parameter, Fraction(at), examined, smallest, reason, where
    )


def _second_derivative(
    target: StatementType, box: Box, parameter: str, max_boxes: int
) -> tuple[int, float, Cell | None]:
    """How many cells were examined, the least second derivative, and a cell where it may be negative."""
    program = _record(target, box)
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
            return examined, math.nan, cell
        else:
            queue += _halves(cell, start, [flint.arb("nan")])
    return examined, smallest, None


def _is_tangent(target: StatementType, box: Box, parameter: str, at: Fraction | int) -> bool:
    """Whether sympy proves that the margin and its slope vanish on the face of the box."""
    symbols = {
        name: sympy.Symbol(name, real=True, positive=True if low > 0 else None)
        for name, (low, _) in box.parameters.items()
    }
    margin = symbolic_margin(target, box.world(**symbols))
    return vanishes_with_its_slope(margin, symbols[parameter], sympy.Rational(at))


def symbolic_margin(target: StatementType, world: Mapping[str, Sequence[Any]]) -> Any:
    """Of a statement with one claim, at a world of sympy's expressions."""
    xp = sympy_numbers()
    free = {
        name: field.argument(xp, xp.array([sympy.sympify(x) for x in world[name]]))
        for name, field in free_fields(target.world).items()
    }
    (claim,) = target.claims(xp, world_values(target.world, free))
    return the_number(claim.margin())


def vanishes_with_its_slope(margin: Any, x: Any, at: Any) -> bool:
    """Whether sympy proves it."""
    return all(sympy.simplify(f.subs(x, at)) == 0 for f in (margin, sympy.diff(margin, x)))


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


def _where_inside(inside: float) -> str:
    return f" where every condition has room >= {inside:g}" if inside else ""


def _rounded_down(x: float) -> str:
    """Two digits, never more than x."""
    return (
        f"{Context(prec=2, rounding=ROUND_FLOOR).plus(Decimal(x)):e}"
        if math.isfinite(x)
        else str(x)
    )


__all__ = ["Box", "BoxCertificate", "TangentCertificate", "certify_box", "certify_convex"]
