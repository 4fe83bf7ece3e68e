"""Fields: the kinds of ingredient that a world can have, each with all that is to know about it.

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

from nondecoupling.numbers.exact import Exact

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
