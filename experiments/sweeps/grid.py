"""The trials of a sweep: the product of its axes, each combination that makes a difference once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from validate.configuration import Asked, RunConfiguration, configuration, of_order, option
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

    ``shared`` are options of every run, already parsed into ``asked``; where there are several orders, one that only
    some of them have goes to these.

    Raises:
        InputError: an option that the protocol or no order has, an axis among the shared options, or two trials of
            one name.
    """
    for of_run, name in AXES.values():
        if name in asked:
            raise InputError(f"{of_run} comes before the --, with the values to try")
    orders = axes.get("order", (RunConfiguration.order,))
    found: dict[str, Trial] = {}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        order = chosen.get("order", RunConfiguration.order)
        if order not in ("joint", "all"):
            chosen.pop("lambda", None)
        own = _without_those_of_others(asked, order, orders)
        configuration({**own, **{AXES[axis][1]: v for axis, v in chosen.items()}})
        words = shared if own == asked else _words(own)
        trial = Trial(tuple(chosen.items()), tuple(words))
        same = found.setdefault(trial.name, trial)
        if same != trial:
            raise InputError(f"two trials would be called {trial.name!r}: rename one of the models")
    return list(found.values())


def _without_those_of_others(asked: Asked, order: str, orders: Sequence[str]) -> Asked:
    """What no order of the sweep has stays, to be refused."""
    of_some = {name for one in orders for name in of_order(asked, one)}
    own = of_order(asked, order)
    return {name: value for name, value in asked.items() if name in own or name not in of_some}


def _words(asked: Asked) -> list[str]:
    return [word for name, value in asked.items() for word in (option(name), str(value))]
