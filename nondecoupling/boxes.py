"""Box certificates: an inequality proved for *every* world in a box of parameters.

Branch and bound in Arb balls. On each sub-box the margin is enclosed three ways: directly, by the
mean-value form m(centre) + grad m(box) (box - centre), and at the end points of parameters in
which the margin is certainly monotone. The gradients come from the same formulas, evaluated in
``BALL_DUALS``: balls that carry their partial derivatives.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from nondecoupling.namespaces import Exact, arb
from nondecoupling.statement import Arguments, Claim, StatementType, only
from nondecoupling.verdict import Status
from nondecoupling.worlds import Law, Same

Interval = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Box:
    """Ranges of parameters, and the world they stand for.

    ``world(**parameters)`` returns the fields as lists; laws are lists of probabilities. Example:
    ``Box({"t": (F(1, 100), F(99, 100)), "g": (F(1, 2), F(8))},
    lambda t, g: dict(log_d=[t, 1 - t], reward=[0, g], beta=[1]))``.
    """

    parameters: Mapping[str, Interval]
    world: Callable[..., Mapping[str, Sequence[Any]]]

    def __str__(self) -> str:
        return ", ".join(f"{name} in [{a}, {b}]" for name, (a, b) in self.parameters.items())


@dataclass(frozen=True)
class BoxCertificate:
    """What branch and bound decided about one claim on one box.

    ``smallest`` is a lower bound on the margin over the whole box, ``boxes`` the number of
    sub-boxes examined, ``skipped`` how many lay outside the conditions, ``open`` the first
    sub-box left undecided (or on which the claim certainly fails).
    """

    statement: str
    claim: str
    status: Status
    boxes: int
    skipped: int
    smallest: float
    open: Mapping[str, Interval] | None = None

    def __str__(self) -> str:
        return (
            f"{self.claim}: {self.status.value} on the box, margin >= {self.smallest:.2g} "
            f"({self.boxes} sub-boxes, {self.skipped} outside the conditions)"
        )


class Dual:
    """A ball with the balls of its partial derivatives (forward-mode differentiation)."""

    __slots__ = ("slopes", "value")

    def __init__(self, value: Any, slopes: tuple[Any, ...]) -> None:
        self.value = value
        self.slopes = slopes

    def chain(self, value: Any, slope: Any) -> Dual:
        return Dual(value, tuple(slope * s for s in self.slopes))

    def __neg__(self) -> Dual:
        return Dual(-self.value, tuple(-s for s in self.slopes))

    def __add__(self, other: Any) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value + other, self.slopes)
        return Dual(
            self.value + other.value,
            tuple(a + b for a, b in _paired(self.slopes, other.slopes)),
        )

    __radd__ = __add__

    def __sub__(self, other: Any) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Any) -> Dual:
        return (-self) + other

    def __mul__(self, other: Any) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value * other, tuple(s * other for s in self.slopes))
        return Dual(
            self.value * other.value,
            tuple(
                a * other.value + self.value * b for a, b in _paired(self.slopes, other.slopes)
            ),
        )

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Dual:
        if not isinstance(other, Dual):
            return Dual(self.value / other, tuple(s / other for s in self.slopes))
        return self * other.chain(1 / other.value, -1 / (other.value * other.value))

    def __rtruediv__(self, other: Any) -> Dual:
        return self.chain(1 / self.value, -1 / (self.value * self.value)) * other

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < _value(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= _value(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > _value(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= _value(other))


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Dual) else x


def _paired(a: tuple[Any, ...], b: tuple[Any, ...]) -> Any:
    return itertools.zip_longest(a, b, fillvalue=0)  # a constant has no slopes


def _larger(a: Dual, b: Dual) -> Dual:
    """max: of one side where certain, else of either, with the hull of the slopes."""
    if a.value >= b.value:
        return a
    if b.value >= a.value:
        return b
    hull = tuple((x + 0 * y).union(y + 0 * x) for x, y in _paired(a.slopes, b.slopes))
    return Dual(a.value.max(b.value), hull)


@lru_cache(maxsize=1)
def ball_duals() -> Exact:
    """The number system of balls with partial derivatives."""
    import flint

    plain = arb()

    def number(x: Any) -> Dual:
        return x if isinstance(x, Dual) else Dual(plain.number(x), ())

    def excess(log_w: Dual, u: Dual) -> Dual:
        one = flint.arb(0)
        zero_weight = log_w.value
        value = plain.excess(plain.array([zero_weight]), plain.array([u.value])).flat[0]
        slope = log_w.value.exp() * u.value.expm1()
        first, second = log_w.chain(value, value), u.chain(one, slope)
        return first + second

    def absolute(x: Dual) -> Dual:
        return _larger(x, -x)

    def wright_omega(x: Dual) -> Dual:
        value = plain.wright_omega(plain.array([x.value])).flat[0]
        return x.chain(value, value / (1 + value))

    return Exact(
        "balls with derivatives",
        dict(
            number=number,
            truth=bool,
            exp=lambda x: x.chain(x.value.exp(), x.value.exp()),
            log=lambda x: x.chain(x.value.log(), 1 / x.value),
            log1p=lambda x: x.chain(x.value.log1p(), 1 / (1 + x.value)),
            expm1=lambda x: x.chain(x.value.expm1(), x.value.exp()),
            sqrt=lambda x: x.chain(x.value.sqrt(), 1 / (2 * x.value.sqrt())),
            abs=absolute,
            square=lambda x: x.chain(
                plain.square(plain.array([x.value])).flat[0], 2 * x.value
            ),
            maximum=_larger,
            minimum=lambda a, b: -_larger(-a, -b),
            wright_omega=wright_omega,
            positive_mass=lambda x: not (x.value == flint.arb("-inf")),
            positive=lambda x: not (x.value <= 0),
            excess=excess,
        ),
    )


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
    target = only(statement, claim)
    names = tuple(box.parameters)
    counter = itertools.count()
    start = tuple(box.parameters[name] for name in names)
    queue = [(0.0, next(counter), start)]
    examined = skipped = 0
    smallest = float("inf")
    while queue:
        _, _, cell = heapq.heappop(queue)
        examined += 1
        low, slopes, out = _margin_on(target, box, names, cell, inside)
        if out:
            skipped += 1
            continue
        if low is not None and low >= 0:
            smallest = min(smallest, float(low))
            continue
        if examined >= max_boxes or _certainly_fails(target, box, names, cell, inside):
            failed = examined < max_boxes
            status = Status.REFUTED if failed else Status.UNDECIDED
            where = dict(zip(names, cell, strict=True))
            return BoxCertificate(
                statement.id, claim, status, examined, skipped, float("nan"), where
            )
        widest = max(range(len(names)), key=lambda i: _influence(slopes, cell, i))
        for half in _halves(cell, widest):
            heapq.heappush(queue, (0.0 if low is None else float(low), next(counter), half))
    return BoxCertificate(statement.id, claim, Status.HOLDS, examined, skipped, smallest)


def _margin_on(
    target: StatementType,
    box: Box,
    names: tuple[str, ...],
    cell: tuple[Interval, ...],
    inside: float,
) -> tuple[Any, tuple[Any, ...], bool]:
    """A lower bound on the margin over a cell, its slopes, and whether the cell is out of scope."""
    whole = [_ball(interval) for interval in cell]
    w = _arguments(target, box, names, _seeded(whole))
    for condition in target.conditions(ball_duals(), w):
        if condition.margin().flat[0].value < inside:
            return None, (), True
    (found,) = target.claims(ball_duals(), w)
    enclosure = found.margin().flat[0]
    slopes = tuple(enclosure.slopes) + (0,) * (len(names) - len(enclosure.slopes))
    corner = [_best_corner(interval, slope) for interval, slope in zip(cell, slopes, strict=True)]
    base = _margin_at(target, box, names, [_ball(i) for i in corner])
    centre = [((a + b) / 2, (a + b) / 2) for a, b in corner]
    mean_value = _margin_at(target, box, names, [_ball(i) for i in centre])
    for interval, middle, slope in zip(corner, centre, slopes, strict=True):
        mean_value = mean_value + slope * (_ball(interval) - _ball(middle))
    bounds = [m.lower() for m in (enclosure.value, base, mean_value) if not m.is_nan()]
    return (max(bounds, key=float) if bounds else None), slopes, False


def _best_corner(interval: Interval, slope: Any) -> Interval:
    """The end at which a certainly monotone margin is smallest; the whole interval otherwise."""
    if slope >= 0:
        return interval[0], interval[0]
    if slope <= 0:
        return interval[1], interval[1]
    return interval


def _certainly_fails(
    target: StatementType,
    box: Box,
    names: tuple[str, ...],
    cell: tuple[Interval, ...],
    inside: float,
) -> bool:
    """Whether the claim is violated at the centre of the cell, inside the conditions."""
    point = [_ball(((a + b) / 2, (a + b) / 2)) for a, b in cell]
    w = _arguments(target, box, names, [Dual(p, ()) for p in point])
    if any(c.margin().flat[0].value < inside for c in target.conditions(ball_duals(), w)):
        return False
    return bool(_margin_at(target, box, names, point) < 0)


def _margin_at(
    target: StatementType, box: Box, names: tuple[str, ...], values: list[Any]
) -> Any:
    w = _arguments(target, box, names, [Dual(v, ()) for v in values])
    (found,) = target.claims(ball_duals(), w)
    return found.margin().flat[0].value


def _arguments(
    target: StatementType, box: Box, names: tuple[str, ...], values: Sequence[Dual]
) -> Arguments:
    xp = ball_duals()
    fields = box.world(**dict(zip(names, values, strict=True)))
    w = Arguments()
    for name, field in target.world.items():
        if isinstance(field, Same):
            w[name] = w[field.other]
        else:
            array = xp.array(list(fields[name]))
            w[name] = xp.log(array) if isinstance(field, Law) else array
    return w


def _seeded(whole: list[Any]) -> list[Dual]:
    import flint

    size = len(whole)
    unit = [[flint.arb(int(i == j)) for j in range(size)] for i in range(size)]
    return [Dual(ball, tuple(unit[i])) for i, ball in enumerate(whole)]


def _ball(interval: Interval) -> Any:
    xp = arb()
    low, high = xp.number(interval[0]), xp.number(interval[1])
    return low if interval[0] == interval[1] else low.union(high)


def _influence(slopes: tuple[Any, ...], cell: tuple[Interval, ...], i: int) -> float:
    """How much the margin can move along parameter i: the cell is cut where it moves most."""
    width = float(cell[i][1] - cell[i][0])
    if not slopes or isinstance(slopes[i], int):
        return 1e-3 * width
    slope = float(abs(slopes[i]).upper())
    return width * (slope if math.isfinite(slope) else 1e6)


def _halves(cell: tuple[Interval, ...], i: int) -> list[tuple[Interval, ...]]:
    low, high = cell[i]
    middle = (low + high) / 2
    return [(*cell[:i], half, *cell[i + 1 :]) for half in ((low, middle), (middle, high))]


__all__ = ["Box", "BoxCertificate", "Claim", "certify_box"]
