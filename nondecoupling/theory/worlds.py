"""Worlds: the objects a statement quantifies over, exact or drawn at random, from its fields."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.numbers.exact import Exact
from nondecoupling.theory.fields import Fields, Fractions, Law, Same


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
