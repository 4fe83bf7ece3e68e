"""Rewards of a response: built in, or one's own by ``module:function``.

    strict       1 if the response is exactly "Final answer: <right label>", else 0: what RL is usually trained on
    last-label   1 if the last label word in the response is the right one, else 0: robust, for evaluation
    combined     the mean of the two

A reward function has the signature that TRL uses, ``f(prompts, completions, label, **columns) -> list of numbers``,
one per completion, and says between which numbers they lie in its attribute ``bounds``; without one, (0, 1). With
the attribute ``binary`` it promises to return the two ends only, which allows sharper intervals.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from validate.errors import RunError
from validate.sampled.task import FORMAL, LABELS

__all__ = ["BUILT_IN", "CheckedReward", "RewardError", "last_label", "load_reward", "strict"]

LAST_LABEL = re.compile(rf"\b(?:{'|'.join(LABELS)})\b", flags=re.IGNORECASE)


class RewardError(RunError):
    """A reward function is missing or returned what is no reward; the message names the response."""


def strict(completions: Sequence[str], label: Sequence[str], **columns: Any) -> list[float]:
    return [float(c.strip() == FORMAL + right) for c, right in zip(completions, label, strict=True)]


def last_label(completions: Sequence[str], label: Sequence[str], **columns: Any) -> list[float]:
    found = [LAST_LABEL.findall(completion) for completion in completions]
    return [
        float(bool(f) and f[-1].lower() == right) for f, right in zip(found, label, strict=True)
    ]


def combined(completions: Sequence[str], label: Sequence[str], **columns: Any) -> list[float]:
    both = strict(completions, label), last_label(completions, label)
    return [(a + b) / 2 for a, b in zip(*both, strict=True)]


strict.binary = last_label.binary = True  # type: ignore[attr-defined]
BUILT_IN: dict[str, Callable[..., list[float]]] = {
    "strict": strict,
    "last-label": last_label,
    "combined": combined,
}


class CheckedReward:
    """A reward function whose results are checked: ``reward(prompts, completions, **columns)``."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.__name__ = name
        self.function = function
        self.bounds: tuple[float, float] = getattr(function, "bounds", (0.0, 1.0))
        self.binary = bool(getattr(function, "binary", False))
        try:
            low, high = self.bounds
            fine = -math.inf < low < high < math.inf
        except (TypeError, ValueError):
            fine = False
        if not fine:
            raise RewardError(
                f"{name}.bounds is {self.bounds!r}: give two finite numbers, low < high"
            )

    @property
    def range(self) -> float:
        return self.bounds[1] - self.bounds[0]

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """One number per completion.

        Raises:
            RewardError: the function failed, or returned another number of them, one that is no finite number, or
                one outside ``bounds``.
        """
        places = columns.get("place", prompts)
        try:
            values = self.function(prompts=prompts, completions=completions, **columns)
        except Exception as error:  # whatever a user's function raises
            raise RewardError(
                f"reward {self.__name__} failed with {type(error).__name__}: {error}; it was given "
                f"{len(completions)} responses, the first to {places[0]}: {completions[0]!r}"
            ) from error
        try:
            values = [float(value) for value in values]
        except (TypeError, ValueError) as error:
            raise RewardError(
                f"reward {self.__name__} returned {values!r} ({error}): return one number per completion"
            ) from None
        if len(values) != len(completions):
            raise RewardError(
                f"reward {self.__name__} returned {len(values)} values for {len(completions)} completions: "
                "return one per completion"
            )
        low, high = self.bounds
        for value, completion, place in zip(values, completions, places, strict=True):
            if not low <= value <= high or (self.binary and value not in self.bounds):
                remedy = (
                    f"declare what it can return, function.bounds = (low, high), now {self.bounds}"
                    f"{', and not function.binary' * self.binary}"
                    if math.isfinite(value)
                    else "return a finite number"
                )
                raise RewardError(
                    f"reward {self.__name__} is {value} for the response {completion!r} to {place}: {remedy}"
                )
        return values


def load_reward(name: str) -> CheckedReward:
    """A built-in reward, or ``module:function`` found on the path or in the current folder.

    Raises:
        RewardError: there is no such reward.
    """
    if name in BUILT_IN:
        return CheckedReward(name, BUILT_IN[name])
    module_name, _, function_name = name.partition(":")
    if not function_name:
        choices = ", ".join(BUILT_IN)
        raise RewardError(f"--reward is {name!r}: choose {choices}, or give module:function")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing runs whatever the module does
        raise RewardError(
            f"--reward {name}: cannot import {module_name!r} ({type(error).__name__}: {error})"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise RewardError(
            f"--reward {name}: the module {module_name!r} has no function {function_name!r}"
        )
    return CheckedReward(name, function)
