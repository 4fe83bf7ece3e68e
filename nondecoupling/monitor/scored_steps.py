"""Which step of a run each checkpoint is that ``lm.score`` has added to the collected samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nondecoupling.collected import LATER, CollectedSamples
from nondecoupling.estimate.arguments import Array, GivenArgument, NamesArguments

__all__ = ["ScoredSteps", "expert_log_ratio", "scored_steps"]

STEP_LAST = re.compile(r"(.*?)(\d+)")
# Before a number they say that it counts something else than steps.
NO_STEPS = re.compile(r"(?i)epoch[-_.]?$|\d\.$|(^|[-_])v$")


@dataclass(frozen=True)
class ScoredSteps:
    """The name of each step's scored checkpoint, in order of steps, and the names that say no step."""

    names: dict[int, str]
    without_step: list[str]


def scored_steps(collected: CollectedSamples, only: Sequence[str] = ()) -> ScoredSteps:
    """A checkpoint's step is the number at the end of its name: 200, checkpoint-200, global_step_200.

    ``only``: these names, where the file has those of several runs.

    Errors: ``only`` names one that the file does not have, or that says no step; two names of one step.
    """
    names: dict[int, str] = {}
    without: list[str] = []
    for name in only:
        if name not in collected.later:
            raise NamesArguments(
                GivenArgument("only", [name]),
                f": the samples have {_listed(collected.later)}; add it with score",
            )
        if _step(name) is None:
            raise NamesArguments(
                GivenArgument("only", [name]),
                ": no step at its end; score that checkpoint again, named by its step",
            )
    for name in only or collected.later:
        step = _step(name)
        if step is None:
            without.append(name)
        elif names.setdefault(step, name) != name:
            raise NamesArguments(
                f"the samples have two scored checkpoints of step {step}, {names[step]!r} and {name!r}: say which are "
                "of this run, as ",
                GivenArgument("only", [names[step]]),
            )
    return ScoredSteps(dict(sorted(names.items())), without)


def expert_log_ratio(collected: CollectedSamples, name: str) -> Array | None:
    """log ref/p of the expert responses, in nats; None without them, or where one is not finite."""
    column = f"expert_{LATER}{name}"
    if column not in collected.table.column_names:
        return None
    log_ref, log_p = (
        np.array(collected.table[each].to_pylist(), dtype=np.float64)
        for each in ("expert_log_ref", column)
    )
    finite = np.isfinite(log_ref).all() and np.isfinite(log_p).all()
    return log_ref - log_p if finite else None


def _step(name: str) -> int | None:
    found = STEP_LAST.fullmatch(name)
    if found is None or NO_STEPS.search(found[1]):
        return None
    return int(found[2])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "no scored checkpoint"
