"""Fields: the kinds of ingredient that a world can have, each with everything that is to know about it.

A statement declares ``world = dict(log_d=Law(), reward=Reward(), beta=Positive())``. From that one
declaration come exact rational worlds (for Arb and sympy), random float worlds (for sampling), the
parametrisation that the attack differentiates, the boxes of certificates, the symbols of derivations
and what Hypothesis draws. A new kind of field is one class here; nothing else asks which kind it has.

A field is named as the argument it becomes: laws are stored as probabilities in a ``World`` and
handed to formulas as log-probabilities.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, NumberSystem

if TYPE_CHECKING:
    import sympy

Fractions = tuple[Fraction, ...]
# Hypothesis' draw: it takes a strategy and returns a value.
Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Field:
    """One ingredient of a world, free unless it says otherwise."""

    per_response: ClassVar[bool] = True
    """One number for each response, or one for the whole world."""
    sums_to_one: ClassVar[bool] = False

    @property
    def description(self) -> str:
        """What it is, for a reader."""
        raise self._lacks("description")

    def source(self, name: str) -> str:
        """The name of the free field whose values it takes: its own, unless it is given by another."""
        return name

    def assumption(self, name: str) -> str | None:
        """What the field assumes beyond its kind, which a test can drop."""
        return None

    def relaxed(self) -> Field:
        """The field without its assumption."""
        return self

    def problem(self, values: Fractions) -> str:
        """Why the values are none that the field takes, or nothing."""
        return ""

    def argument(self, xp: NumberSystem, values: Array) -> Array:
        """What formulas take, from the values."""
        return values

    def positive_parts(self, values: Sequence[Any]) -> list[Any]:
        """Numbers that are positive wherever the values lie in the interior of the field's range."""
        return []

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Random arguments of formulas, float64 of shape [worlds, responses] or [worlds, 1]."""
        raise self._lacks("sampler")

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        """The argument from unconstrained torch parameters; onto the whole range of the field."""
        raise self._lacks("parametrisation")

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        """All values of the field whose smallest common denominator is ``denominator``."""
        raise self._lacks("grid")

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        """The values as sympy symbols; ``scale`` is the unit of rewards (beta, where the world has one)."""
        raise self._lacks("symbols")

    def draw(self, draw: Draw, responses: int) -> Fractions:
        """Rational values, extremes included, drawn with Hypothesis."""
        raise self._lacks("strategy")

    def _lacks(self, what: str) -> TypeError:
        return TypeError(f"the world field {type(self).__name__} has no {what}")


@dataclass(frozen=True)
class Law(Field):
    """A probability law on the responses. Zero mass is allowed unless ``full_support``."""

    full_support: bool = False
    sums_to_one: ClassVar[bool] = True

    @property
    def description(self) -> str:
        return "law with full support" if self.full_support else "law, zeros allowed"

    def assumption(self, name: str) -> str | None:
        return f"{name} has full support" if self.full_support else None

    def relaxed(self) -> Law:
        return replace(self, full_support=False)

    def problem(self, values: Fractions) -> str:
        if min(values) < 0:
            return f"{min(values)} is negative; a probability is at least 0"
        if sum(values) != 1:
            return (
                f"probabilities sum to one exactly, these sum to {sum(values)}; write them as fractions, "
                "for example 1/3,2/3"
            )
        if self.full_support and min(values) == 0:
            return "this law needs a positive probability for every response"
        return ""

    def argument(self, xp: NumberSystem, values: Array) -> Array:
        return xp.log(values)

    def positive_parts(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        spread = 10.0 ** rng.uniform(-1.0, 1.5, size=(shape[0], 1))
        logits = spread * rng.standard_normal(shape)
        if not self.full_support:
            logits = np.where(rng.random(shape) < 0.05, -np.inf, logits)
            logits[:, 0] = np.where(np.isinf(logits).all(axis=1), 0.0, logits[:, 0])
        top = logits.max(axis=1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        return xp.module.log_softmax(4.0 * raw, dim=-1)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        low = 1 if self.full_support else 0
        for parts in itertools.product(range(low, denominator + 1), repeat=responses - 1):
            rest = denominator - sum(parts)
            if rest >= low and np.gcd.reduce([*parts, rest, denominator]) == 1:
                yield tuple(Fraction(k, denominator) for k in (*parts, rest))

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        import sympy

        free = sympy.symbols(f"{name.removeprefix('log_')}1:{responses}", positive=True)
        return [*free, 1 - sum(free)]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        """Even, spread over up to 30 decades, near-deterministic, or with zeros."""
        from hypothesis import strategies as st

        n = responses
        kind = draw(st.sampled_from(("even", "decades", "near-deterministic")))
        if kind == "even":
            weights = draw(st.lists(st.integers(1, 12), min_size=n, max_size=n))
        elif kind == "decades":
            weights = [10**k for k in draw(st.lists(st.integers(0, 30), min_size=n, max_size=n))]
        else:
            weights = [1] * n
            weights[draw(st.integers(0, n - 1))] = 10 ** draw(st.integers(3, 30))
        if not self.full_support and draw(st.integers(0, 5)) == 0:
            kept = draw(st.integers(0, n - 1))
            drop = draw(st.lists(st.booleans(), min_size=n, max_size=n))
            weights = [w if i == kept or not drop[i] else 0 for i, w in enumerate(weights)]
        total = sum(weights)
        return tuple(Fraction(w, total) for w in weights)


@dataclass(frozen=True)
class Same(Field):
    """The same law as another field: an assumption, which a test can drop."""

    other: str = ""

    @property
    def description(self) -> str:
        return f"the same as {self.other}"

    def source(self, name: str) -> str:
        return self.other

    def assumption(self, name: str) -> str | None:
        return f"{name} = {self.other}"

    def relaxed(self) -> Law:
        return Law(full_support=True)


@dataclass(frozen=True)
class Reward(Field):
    """Real rewards, one per response."""

    @property
    def description(self) -> str:
        return "reward"

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        rewards = rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 1, size=(shape[0], 1))
        tied = rng.random((shape[0], 1)) < 0.1
        return np.where(tied, np.round(rewards), rewards)

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        return raw

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        # Rewards enter only through differences over beta: integers with smallest 0 suffice.
        for levels in itertools.product(range(denominator + 1), repeat=responses):
            constant = max(levels) == 0 and denominator == 1
            if min(levels) == 0 and (constant or max(levels) == denominator):
                yield tuple(Fraction(level) for level in levels)

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        """r_i = scale log e_i with e_i > 0, which is no loss of generality."""
        import sympy

        letter = "e" if name == "reward" else f"e_{name}"
        e = sympy.symbols(f"{letter}1:{responses + 1}", positive=True)
        return [scale * sympy.log(x) for x in e]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        """With ties, real-valued, wide, or with a large common offset."""
        from hypothesis import strategies as st

        n = responses
        kind = draw(st.sampled_from(("levels", "fractions", "wide", "offset")))
        if kind == "levels":
            levels = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
            values = [Fraction(k) for k in levels]
        else:
            numerators = draw(st.lists(st.integers(-1000, 1000), min_size=n, max_size=n))
            scale = Fraction(1000) if kind == "wide" else Fraction(1, 250)
            offset = 10**6 if kind == "offset" else 0
            values = [k * scale + offset for k in numerators]
        if len(set(values)) == 1:  # a ball cannot tell 1/250 - 1/250 from a small range
            values = [Fraction(round(value)) for value in values]
        return tuple(values)


@dataclass(frozen=True)
class Logits(Reward):
    """Softmax logits, or a direction in logit space: real, defined up to a constant."""

    @property
    def description(self) -> str:
        return "logits"

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        import sympy

        e = sympy.symbols(f"exp_{name}1:{responses + 1}", positive=True)
        return [sympy.log(x) for x in e]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        from hypothesis import strategies as st

        sixths = draw(st.lists(st.integers(-60, 60), min_size=responses, max_size=responses))
        return tuple(Fraction(k, 6) for k in sixths)


@dataclass(frozen=True)
class Correct(Field):
    """A verifiable reward: one for correct responses, zero for the others; both occur."""

    @property
    def description(self) -> str:
        return "verifiable reward, 0 or 1"

    def problem(self, values: Fractions) -> str:
        return "" if set(values) == {0, 1} else "must be 0 or 1, each for some response"

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        scores = rng.standard_normal(shape)
        best, worst = scores.max(axis=1, keepdims=True), scores.min(axis=1, keepdims=True)
        return np.where((scores > 0) & (scores > worst) | (scores == best), 1.0, 0.0)

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        right = ((raw > 0) & (raw > xp.min(raw))) | (raw == xp.max(raw))
        return xp.where(right, xp.full_like(raw, 1.0), 0.0)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        if denominator == 1:
            for values in itertools.product((Fraction(0), Fraction(1)), repeat=responses):
                if len(set(values)) == 2:
                    yield values

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        """Every second response is correct."""
        import sympy

        return [sympy.Integer(k % 2) for k in range(responses)]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        from hypothesis import strategies as st

        right, wrong = draw(st.permutations(range(responses)))[:2]
        values = draw(st.lists(st.integers(0, 1), min_size=responses, max_size=responses))
        values[right], values[wrong] = 1, 0
        return tuple(map(Fraction, values))


@dataclass(frozen=True)
class Positive(Field):
    """A positive number: beta, a step size, a weight."""

    per_response: ClassVar[bool] = False

    @property
    def description(self) -> str:
        return "positive number"

    def problem(self, values: Fractions) -> str:
        return "" if values[0] > 0 else "must be positive"

    def positive_parts(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return 10.0 ** rng.uniform(-1.5, 1.5, size=(shape[0], 1))

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        return xp.exp(2.0 * raw)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        yield (Fraction(denominator),)

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        import sympy

        return [sympy.Symbol(name, positive=True)]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        """Between 1e-6 and 1e6."""
        from hypothesis import strategies as st

        if draw(st.booleans()):
            return (Fraction(draw(st.integers(1, 40)), 10),)
        return (Fraction(10) ** draw(st.integers(-6, 6)),)


@dataclass(frozen=True)
class Unit(Field):
    """A number in the open interval (0, 1)."""

    per_response: ClassVar[bool] = False

    @property
    def description(self) -> str:
        return "number between 0 and 1"

    def problem(self, values: Fractions) -> str:
        return "" if 0 < values[0] < 1 else "must lie strictly between 0 and 1"

    def positive_parts(self, values: Sequence[Any]) -> list[Any]:
        return [*values, *(1 - value for value in values)]

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        logit = rng.uniform(-6, 6, size=(shape[0], 1))
        return 1 / (1 + np.exp(-logit))

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        return xp.module.sigmoid(3.0 * raw)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        for k in range(1, denominator):
            if np.gcd(k, denominator) == 1:
                yield (Fraction(k, denominator),)

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        import sympy

        return [sympy.Symbol(name, positive=True)]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        """Also within 1e-12 of either end."""
        from hypothesis import strategies as st

        small = Fraction(1, 10 ** draw(st.integers(2, 12)))
        middle = Fraction(draw(st.integers(1, 19)), 20)
        return (draw(st.sampled_from((middle, small, 1 - small))),)


@dataclass(frozen=True)
class Whole(Field):
    """A whole number, at least ``least``: the size of a group, the n of best-of-n."""

    per_response: ClassVar[bool] = False
    least: int = 1

    @property
    def description(self) -> str:
        return f"whole number, at least {self.least}"

    def problem(self, values: Fractions) -> str:
        fine = values[0].denominator == 1 and values[0] >= self.least
        return "" if fine else f"must be a whole number, at least {self.least}"

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return self.least + np.floor(10.0 ** rng.uniform(0, 2, size=(shape[0], 1))) - 1

    def from_raw(self, xp: Floats, raw: Any) -> Any:
        return self.least + xp.module.floor(xp.exp(2.0 * xp.abs(raw))) - 1

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        yield (Fraction(self.least + denominator - 1),)

    def symbols(self, name: str, responses: int, scale: sympy.Expr) -> list[sympy.Expr]:
        import sympy

        return [sympy.Symbol(name, positive=True, integer=True)]

    def draw(self, draw: Draw, responses: int) -> Fractions:
        from hypothesis import strategies as st

        small = st.integers(self.least, self.least + 8)
        return (Fraction(draw(st.one_of(small, st.integers(self.least, self.least + 1000)))),)


Fields = Mapping[str, Field]


def free_fields(fields: Fields) -> dict[str, Field]:
    """The fields that have values of their own."""
    return {name: field for name, field in fields.items() if field.source(name) == name}
