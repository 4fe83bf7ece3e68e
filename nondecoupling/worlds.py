"""Worlds: the objects a statement quantifies over, declared once per statement.

A statement declares ``world = dict(log_d=Law(), reward=Reward(), beta=Positive())``. From that one
declaration come exact rational worlds (for Arb and sympy), random float worlds (for sampling), the
parametrisation that the attack differentiates, and the Hypothesis strategies in ``testing``.

A field is named as the argument it becomes: laws are stored as probabilities in a ``World`` and
handed to formulas as log-probabilities.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from nondecoupling.namespaces import Exact

Fractions = tuple[Fraction, ...]


@dataclass(frozen=True)
class Field:
    """One ingredient of a world."""

    per_response: ClassVar[bool] = True

    def exact(self, xp: Exact, values: Fractions) -> Any:
        """The argument that formulas take, from rational values."""
        return xp.array(list(values))

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} has no sampler")

    def from_raw(self, xp: Any, raw: Any) -> Any:
        """The argument from unconstrained torch parameters; onto the whole range of the field."""
        raise TypeError(f"{type(self).__name__} has no parametrisation")

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        """All values of the field whose smallest common denominator is ``denominator``."""
        raise TypeError(f"{type(self).__name__} has no grid")


@dataclass(frozen=True)
class Law(Field):
    """A probability law on the responses. Zero mass is allowed unless ``full_support``."""

    full_support: bool = False

    def exact(self, xp: Exact, values: Fractions) -> Any:
        return xp.log(xp.array(list(values)))

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        spread = 10.0 ** rng.uniform(-1.0, 1.5, size=(shape[0], 1))
        logits = spread * rng.standard_normal(shape)
        if not self.full_support:
            logits = np.where(rng.random(shape) < 0.05, -np.inf, logits)
            logits[:, 0] = np.where(np.isinf(logits).all(axis=1), 0.0, logits[:, 0])
        top = logits.max(axis=1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))

    def from_raw(self, xp: Any, raw: Any) -> Any:
        return xp.module.log_softmax(4.0 * raw, dim=-1)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        low = 1 if self.full_support else 0
        for parts in itertools.product(range(low, denominator + 1), repeat=responses - 1):
            rest = denominator - sum(parts)
            if rest >= low and np.gcd.reduce([*parts, rest, denominator]) == 1:
                yield tuple(Fraction(k, denominator) for k in (*parts, rest))


@dataclass(frozen=True)
class Same(Field):
    """The same law as another field: an assumption, which a test can drop."""

    other: str = ""

    def named(self, name: str) -> str:
        return f"{name} = {self.other}"


@dataclass(frozen=True)
class Reward(Field):
    """Real rewards, one per response."""

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        rewards = rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 1, size=(shape[0], 1))
        tied = rng.random((shape[0], 1)) < 0.1
        return np.where(tied, np.round(rewards), rewards)

    def from_raw(self, xp: Any, raw: Any) -> Any:
        return raw

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        # Rewards enter only through differences over beta: integers with smallest 0 suffice.
        for levels in itertools.product(range(denominator + 1), repeat=responses):
            constant = max(levels) == 0 and denominator == 1
            if min(levels) == 0 and (constant or max(levels) == denominator):
                yield tuple(Fraction(level) for level in levels)


@dataclass(frozen=True)
class Positive(Field):
    """A positive number: beta, a step size, a weight."""

    per_response: ClassVar[bool] = False

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return 10.0 ** rng.uniform(-1.5, 1.5, size=(shape[0], 1))

    def from_raw(self, xp: Any, raw: Any) -> Any:
        return xp.exp(2.0 * raw)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        yield (Fraction(denominator),)


@dataclass(frozen=True)
class Unit(Field):
    """A number in the open interval (0, 1)."""

    per_response: ClassVar[bool] = False

    def sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        logit = rng.uniform(-6, 6, size=(shape[0], 1))
        return 1 / (1 + np.exp(-logit))

    def from_raw(self, xp: Any, raw: Any) -> Any:
        return xp.module.sigmoid(3.0 * raw)

    def grid(self, responses: int, denominator: int) -> Iterator[Fractions]:
        for k in range(1, denominator):
            if np.gcd(k, denominator) == 1:
                yield (Fraction(k, denominator),)


@dataclass(frozen=True)
class Logits(Reward):
    """Softmax logits, or a direction in logit space: real, defined up to a constant."""


Fields = Mapping[str, Field]


@dataclass(frozen=True)
class World:
    """One exact rational world: the values of every free field, laws as probabilities."""

    values: Mapping[str, Fractions]

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if name.startswith("log_") and (sum(value) != 1 or min(value) < 0):
                raise ValueError(
                    f"{name}={', '.join(map(str, value))}: probabilities must be nonnegative and "
                    f"sum to one exactly; they sum to {sum(value)}. Give them as fractions."
                )

    def arguments(self, fields: Fields, xp: Exact) -> dict[str, Any]:
        """The arguments of the formulas in an exact number system."""
        out: dict[str, Any] = {}
        for name, field in fields.items():
            source = field.other if isinstance(field, Same) else name
            out[name] = (
                out[source] if isinstance(field, Same) else field.exact(xp, self.values[source])
            )
        return out

    def floats(self, fields: Fields) -> dict[str, np.ndarray]:
        """The arguments in float64, with a leading axis of one."""
        out: dict[str, np.ndarray] = {}
        for name, field in fields.items():
            if isinstance(field, Same):
                out[name] = out[field.other]
                continue
            values = np.array([[float(v) for v in self.values[name]]])
            with np.errstate(divide="ignore"):
                out[name] = np.log(values) if isinstance(field, Law) else values
        return out

    def __str__(self) -> str:
        shown = {name.removeprefix("log_"): value for name, value in self.values.items()}
        return ", ".join(
            f"{name} = ({', '.join(map(str, v))})" if len(v) > 1 else f"{name} = {v[0]}"
            for name, v in shown.items()
        )


def sample_worlds(
    fields: Fields, rng: np.random.Generator, worlds: int, responses: int
) -> dict[str, np.ndarray]:
    """A batch of random float64 worlds, as arguments of the formulas."""
    out: dict[str, np.ndarray] = {}
    for name, field in fields.items():
        if isinstance(field, Same):
            out[name] = out[field.other]
        else:
            out[name] = field.sample(rng, (worlds, responses))
    return out


def rational_worlds(fields: Fields, responses: int, denominator: int) -> Iterator[World]:
    """Every world on the grid whose largest denominator is exactly ``denominator``."""
    free = {name: field for name, field in fields.items() if not isinstance(field, Same)}
    sizes = range(1, denominator + 1)
    tables = {
        name: [(size, value) for size in sizes for value in field.grid(responses, size)]
        for name, field in free.items()
    }
    for combination in itertools.product(*tables.values()):
        if max(size for size, _ in combination) == denominator:
            yield World({name: value for name, (_, value) in zip(free, combination, strict=True)})
