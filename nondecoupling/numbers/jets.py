"""Formulas recorded once, then replayed on balls that carry their first two derivatives.

``Recorder().numbers()`` is a number system for ``formulas``: it turns a formula into a graph,
shared subexpressions kept once. ``replay`` evaluates that graph on ``Jet``s, Arb balls around the
value, the gradient and the Hessian over a whole box of parameters. What the outputs do not need is
never computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flint

from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.exact import Exact, Operations

Ball = Any
Operation = Callable[..., "Jet"]


class Jet:
    """Balls around a value, its gradient (a column) and, at order 2, its Hessian.

    ``None`` stands for zero derivatives. Where max, min or abs may switch sides the gradient is the
    hull of both, which the mean-value form allows, and the Hessian is NaN, which decides nothing.
    """

    __slots__ = ("bends", "order", "slopes", "value")

    def __init__(self, value: Ball, slopes: Any = None, bends: Any = None, order: int = 0) -> None:
        self.value, self.slopes, self.bends, self.order = value, slopes, bends, order

    def chain(self, value: Ball, slope: Ball, bend: Callable[[], Ball]) -> Jet:
        """f(x) from f, f' and f'' at x."""
        s = self.slopes
        if s is None:
            return Jet(value)
        if self.order == 1:
            return Jet(value, s * slope, None, 1)
        bends = _combined(s * s.transpose(), bend(), self.bends, slope)
        return Jet(value, s * slope, bends, 2)


def seeds(cell: Sequence[Ball], order: int) -> list[Jet]:
    """The parameters themselves, as jets over the cell."""
    size = len(cell)
    return [
        Jet(ball, flint.arb_mat(size, 1, [int(i == j) for j in range(size)]), None, order)
        for i, ball in enumerate(cell)
    ]


def _combined(p: Any, s: Ball, q: Any, t: Ball) -> Any:
    """s p + t q for balls s, t and matrices p, q, of which None is zero."""
    if p is None:
        return None if q is None else q * t
    return p * s if q is None else p * s + q * t


def _plus(p: Any, q: Any) -> Any:
    if p is None or q is None:
        return p if q is None else q
    return p + q


def add(a: Jet, b: Jet) -> Jet:
    value, order = a.value + b.value, max(a.order, b.order)
    return Jet(value, _plus(a.slopes, b.slopes), _plus(a.bends, b.bends), order)


def negate(a: Jet) -> Jet:
    if a.slopes is None:
        return Jet(-a.value)
    return Jet(-a.value, -a.slopes, None if a.bends is None else -a.bends, a.order)


def multiply(a: Jet, b: Jet) -> Jet:
    value, order = a.value * b.value, max(a.order, b.order)
    slopes = _combined(a.slopes, b.value, b.slopes, a.value)
    if order < 2:
        return Jet(value, slopes, None, order)
    bends = _combined(a.bends, b.value, b.bends, a.value)
    if a.slopes is not None and b.slopes is not None:
        cross = a.slopes * b.slopes.transpose()
        bends = _plus(bends, cross + cross.transpose())
    return Jet(value, slopes, bends, 2)


def invert(a: Jet) -> Jet:
    inverse = 1 / a.value
    square = inverse * inverse
    return a.chain(inverse, -square, lambda: 2 * square * inverse)


def exp(a: Jet) -> Jet:
    value = a.value.exp()
    return a.chain(value, value, lambda: value)


def expm1(a: Jet) -> Jet:
    slope = a.value.exp()
    return a.chain(a.value.expm1(), slope, lambda: slope)


def log(a: Jet) -> Jet:
    if a.slopes is None and a.value.is_zero():
        return Jet(flint.arb("-inf"))
    inverse = 1 / a.value
    return a.chain(a.value.log(), inverse, lambda: -inverse * inverse)


def log1p(a: Jet) -> Jet:
    inverse = 1 / (1 + a.value)
    return a.chain(a.value.log1p(), inverse, lambda: -inverse * inverse)


def sqrt(a: Jet) -> Jet:
    value = a.value.nonnegative_part().sqrt()
    slope = 1 / (2 * value)
    return a.chain(value, slope, lambda: -slope / (2 * a.value))


def square(a: Jet) -> Jet:
    return a.chain(square_ball(a.value), 2 * a.value, lambda: flint.arb(2))


def square_ball(x: Ball) -> Ball:
    if not x.contains(0):
        return x * x
    return (x.abs_upper() * x.abs_upper()).union(flint.arb(0))


def curve(a: Jet) -> Jet:
    """e^u - 1 - u, which falls to 0 at u = 0 and rises after."""
    u = a.value
    low, high = u.lower(), u.upper()
    value = (low.expm1() - low).union(high.expm1() - high)
    if u.contains(0):
        value = value.union(flint.arb(0))
    return a.chain(value, u.expm1(), lambda: u.exp())


def wright_omega(a: Jet) -> Jet:
    value = a.value.exp().lambertw()
    slope = value / (1 + value)
    return a.chain(value, slope, lambda: slope / ((1 + value) * (1 + value)))


def maximum(a: Jet, b: Jet) -> Jet:
    if a.value >= b.value:
        return a
    if b.value >= a.value:
        return b
    order = max(a.order, b.order)
    if order == 0:
        return Jet(a.value.max(b.value))
    size = (b if a.slopes is None else a).slopes.nrows()
    zero = flint.arb_mat(size, 1)
    pairs = zip(_plus(zero, a.slopes).entries(), _plus(zero, b.slopes).entries(), strict=True)
    slopes = flint.arb_mat(size, 1, [x.union(y) for x, y in pairs])
    unknown = flint.arb_mat(size, size, [flint.arb("nan")] * size**2) if order == 2 else None
    return Jet(a.value.max(b.value), slopes, unknown, order)


def minimum(a: Jet, b: Jet) -> Jet:
    return negate(maximum(negate(a), negate(b)))


def absolute(a: Jet) -> Jet:
    return maximum(a, negate(a))


class Node:
    """A number of the recorded formula. ``jet`` encloses it over the whole box."""

    __slots__ = ("arguments", "fixed", "jet", "operation", "recorder")

    def __init__(
        self,
        recorder: Recorder,
        jet: Jet,
        operation: Operation | None = None,
        arguments: tuple[Node, ...] = (),
        fixed: bool = False,
    ) -> None:
        self.recorder, self.jet, self.fixed = recorder, jet, fixed
        self.operation, self.arguments = operation, arguments

    def __neg__(self) -> Node:
        return self.recorder.apply(negate, self)

    def __add__(self, other: Any) -> Node:
        return self.recorder.apply(add, self, other)

    def __mul__(self, other: Any) -> Node:
        return self.recorder.apply(multiply, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: Any) -> Node:
        return self + (-self.recorder.node(other))

    def __rsub__(self, other: Any) -> Node:
        return -self + other

    def __truediv__(self, other: Any) -> Node:
        return self * self.recorder.apply(invert, other)

    def __rtruediv__(self, other: Any) -> Node:
        return self.recorder.apply(invert, self) * other

    def __lt__(self, other: Any) -> bool:
        return self._decided(other, lambda a, b: a < b, lambda a, b: a >= b)

    def __le__(self, other: Any) -> bool:
        return self._decided(other, lambda a, b: a <= b, lambda a, b: a > b)

    def __gt__(self, other: Any) -> bool:
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def _decided(self, other: Any, yes: Callable[..., bool], no: Callable[..., bool]) -> bool:
        """A comparison that comes out the same in every world of the box; Arb's are three-valued."""
        a, b = self.jet.value, self.recorder.node(other).jet.value
        if not yes(a, b) and not no(a, b):
            raise ValueError(f"the formula branches inside the box ({a} against {b}): cut the box")
        return bool(yes(a, b))


class Recorder:
    """Builds the graph of a formula, each subexpression once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Node] = {}

    def parameter(self, ball: Ball) -> Node:
        return Node(self, Jet(ball))

    def node(self, x: Any) -> Node:
        return x if isinstance(x, Node) else Node(self, Jet(arb().number(x)), fixed=True)

    def apply(self, operation: Operation, *arguments: Any) -> Node:
        nodes = tuple(self.node(a) for a in arguments)
        if operation is exp and nodes[0].operation is log and nodes[0].arguments[0].jet.value >= 0:
            return nodes[0].arguments[0]
        if all(n.fixed for n in nodes):
            return Node(self, operation(*(n.jet for n in nodes)), fixed=True)
        key = (operation, *map(id, nodes))
        if key not in self._known:
            jet = operation(*(n.jet for n in nodes))
            self._known[key] = Node(self, jet, operation, nodes)  # it keeps the ids of nodes taken
        return self._known[key]

    def numbers(self) -> Exact:
        def recorded(operation: Operation) -> Callable[..., Node]:
            return lambda *arguments: self.apply(operation, *arguments)

        def excess(log_w: Node, u: Node) -> Node:
            return self.apply(exp, log_w) * self.apply(curve, u)

        return Exact(
            Operations(
                number=self.node,
                truth=bool,
                exp=recorded(exp),
                log=recorded(log),
                log1p=recorded(log1p),
                expm1=recorded(expm1),
                sqrt=recorded(sqrt),
                abs=recorded(absolute),
                square=recorded(square),
                wright_omega=recorded(wright_omega),
                maximum=recorded(maximum),
                minimum=recorded(minimum),
                excess=excess,
                positive=lambda x: not (x.jet.value <= 0),
                has_mass=lambda x: not (x.jet.value == flint.arb("-inf")),
            )
        )


class Program:
    """The steps from the parameters to some outputs, in an order in which they can be taken."""

    def __init__(self, parameters: Sequence[Node], outputs: Sequence[Node]) -> None:
        self._place = {id(p): i for i, p in enumerate(parameters)}
        self._fixed: list[tuple[int, Jet]] = []
        self._steps: list[tuple[Operation, tuple[int, ...]]] = []
        self._targets: list[int] = []
        self._kept = (tuple(parameters), tuple(outputs))
        self._outputs = [self._visit(node) for node in outputs]

    def _visit(self, node: Node) -> int:
        if id(node) not in self._place:
            places = tuple(self._visit(a) for a in node.arguments)
            place = self._place[id(node)] = len(self._place)
            if node.operation is None:
                self._fixed.append((place, node.jet))
            else:
                self._steps.append((node.operation, places))
                self._targets.append(place)
        return self._place[id(node)]

    def __len__(self) -> int:
        return len(self._steps)

    def replay(self, cell: Sequence[Ball], centre: Sequence[Ball]) -> list[tuple[Jet, Jet]]:
        """The outputs over a cell and at its centre: pairs of jets of order 2 and 1.

        Every intermediate value over the cell is cut by its mean-value form, so that overestimates
        do not pile up along the formula.
        """
        steps = flint.arb_mat(1, len(cell), [x - c for x, c in zip(cell, centre, strict=True)])
        over, at = self._start(seeds(cell, order=2)), self._start(seeds(centre, order=1))
        for target, (operation, places) in zip(self._targets, self._steps, strict=True):
            there = at[target] = operation(*[at[i] for i in places])
            here = operation(*[over[i] for i in places])
            if here.slopes is not None:
                value = _cut(here.value, there.value + (steps * here.slopes)[0, 0])
                here = Jet(value, here.slopes, here.bends, here.order)
            over[target] = here
        return [(over[i], at[i]) for i in self._outputs]

    def _start(self, parameters: list[Jet]) -> list[Any]:
        values: list[Any] = [*parameters] + [None] * (len(self._place) - len(parameters))
        for place, jet in self._fixed:
            values[place] = jet
        return values


def _cut(ball: Ball, other: Ball) -> Ball:
    """The intersection of two enclosures of the same number."""
    if not other.is_finite() or other.contains(ball):
        return ball
    return ball.intersection(other) if ball.is_finite() else other
