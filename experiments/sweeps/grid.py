"""The trials of a sweep: the product of its axes, each combination that makes a difference once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from validate.configuration import Asked, configuration
from validate.errors import InputError

__all__ = ["AXES", "Trial", "trials"]

# Axis -> (option of qwen_validate.py, name in its configuration), in the order of the table's columns.
AXES = {
    "model": ("--model", "model"),
    "order": ("--order", "order"),
    "reward": ("--reward", "reward"),
    "beta": ("--beta", "beta"),
    "lambda": ("--lambda", "weight"),
    "seed": ("--seed", "seed"),
}


@dataclass(frozen=True)
class Trial:
    """One run of the validation; its name is its folder's."""

    values: tuple[tuple[str, Any], ...]
    shared: tuple[str, ...]

    @property
    def name(self) -> str:
        parts = [f"{axis}={str(value).rstrip('/').split('/')[-1]}" for axis, value in self.values]
        return ",".join(parts).replace(":", ".") or "only"

    @property
    def options(self) -> list[str]:
        """The command line of ``qwen_validate.py``, without the folder."""
        own = [word for axis, value in self.values for word in (AXES[axis][0], str(value))]
        return [*own, *self.shared]


def trials(axes: Mapping[str, Sequence[Any]], shared: Sequence[str], asked: Asked) -> list[Trial]:
    """All combinations; lambda is left out where no stage of the order uses it.

    ``shared`` are options of every run, already parsed into ``asked``.

    Raises:
        InputError: an option that the protocol does not have, an axis among the shared options, or two trials of
            one name.
    """
    for option, name in AXES.values():
        if name in asked:
            raise InputError(f"{option} comes before the --, with the values to try")
    found: dict[str, Trial] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        joint = chosen.get("order", "all") in ("joint", "all")
        if not joint:
            chosen.pop("lambda", None)
        configuration({**asked, **{AXES[axis][1]: v for axis, v in chosen.items()}})
        trial = Trial(tuple(chosen.items()), tuple(shared))
        same = found.setdefault(trial.name, trial)
        if same != trial:
            raise InputError(f"two trials would be called {trial.name!r}: rename one of the models")
    return list(found.values())
