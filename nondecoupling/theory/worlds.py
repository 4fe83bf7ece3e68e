"""Worlds: the objects a statement quantifies over, exact or drawn at random, from its fields."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nondecoupling.numbers.exact import Exact
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.number_system import Array
from nondecoupling.theory.fields import Fields, Fractions, free_fields

A_co = TypeVar("A_co", bound=Array, covariant=True)


class WorldValues(Mapping[str, A_co]):
    """The arguments of formulas in one number system, readable as attributes: ``w.log_d``, ``w.reward``."""

    def __init__(self, values: Mapping[str, A_co]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> A_co:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> A_co:
        if name in self._values:
            return self._values[name]
        raise AttributeError(f"this world has no {name!r}; it has {', '.join(self._values)}")


def world_values(fields: Fields, free: Mapping[str, A_co]) -> WorldValues[A_co]:
    """The arguments of all fields, from those of the free ones."""
    return WorldValues({name: free[field.source(name)] for name, field in fields.items()})


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

    def require(self, fields: Fields) -> None:
        """Raise ``ValueError`` unless the world has values that every free field takes."""
        free = free_fields(fields)
        if missing := sorted(set(free) - set(self.values)):
            raise ValueError(
                f"{missing[0]}: missing from the world; it has {', '.join(self.values) or 'nothing'}"
            )
        responses = {len(self.values[name]) for name, field in free.items() if field.per_response}
        for name, field in free.items():
            values = self.values[name]
            shown = f"{name}={', '.join(map(str, values))}"
            if not values or (len(values) != 1 and not field.per_response):
                raise ValueError(f"{shown}: needs one number, not {len(values)}")
            if field.per_response and len(responses) > 1:
                raise ValueError(
                    f"{shown}: every field has as many numbers as there are responses, "
                    f"and the fields of this world have {', '.join(map(str, sorted(responses)))}"
                )
            if problem := field.problem(values):
                raise ValueError(f"{shown}: {problem}")

    def exact(self, fields: Fields, xp: Exact) -> WorldValues[Array]:
        """The arguments of the formulas in an exact number system."""
        free = {
            name: field.argument(xp, xp.array(list(self.values[name])))
            for name, field in free_fields(fields).items()
        }
        return world_values(fields, free)

    def floats(self, fields: Fields) -> WorldValues[np.ndarray]:
        """The arguments in float64, with a leading axis of one."""
        free = {}
        for name, field in free_fields(fields).items():
            values = np.array([[float(v) for v in self.values[name]]])
            free[name] = np.asarray(field.argument(floats_of(values), values))
        return world_values(fields, free)

    def __str__(self) -> str:
        shown = {name.removeprefix("log_"): value for name, value in self.values.items()}
        return ", ".join(
            f"{name} = ({', '.join(map(str, v))})" if len(v) > 1 else f"{name} = {v[0]}"
            for name, v in shown.items()
        )


def sample_worlds(
    fields: Fields, rng: np.random.Generator, worlds: int, responses: int
) -> WorldValues[np.ndarray]:
    """A batch of random float64 worlds, as arguments of the formulas."""
    shape = worlds, responses
    free = {name: field.sample(rng, shape) for name, field in free_fields(fields).items()}
    return world_values(fields, free)


def rational_worlds(fields: Fields, responses: int, denominator: int) -> Iterator[World]:
    """Every world on the grid whose largest denominator is exactly ``denominator``."""
    free = free_fields(fields)
    sizes = range(1, denominator + 1)
    tables = {
        name: [(size, value) for size in sizes for value in field.grid(responses, size)]
        for name, field in free.items()
    }
    for combination in itertools.product(*tables.values()):
        if max(size for size, _ in combination) == denominator:
            yield World({name: value for name, (_, value) in zip(free, combination, strict=True)})
