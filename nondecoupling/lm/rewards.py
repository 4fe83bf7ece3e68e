"""Reward functions in TRL's signature, called outside of a training, and checked.

TRL calls ``reward(prompts=..., completions=..., completion_ids=..., **columns)`` with one entry for each response in
every list; ``trainer_state``, ``log_metric`` and ``log_extra`` come along. Of several functions the weighted sum
counts; None says that a function has nothing to say about a response.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.estimate.arguments import Array, checked_bounds, finite_array, onto_bounds, shown
from nondecoupling.lm.digests import digest_of
from nondecoupling.lm.errors import RewardFunctionError
from nondecoupling.lm.function_digests import function_digest

__all__ = ["Reward", "RewardFunctions", "checked_rewards", "name_of", "total_reward"]

Reward = Callable[..., Any]
"""A reward function in TRL's signature."""


@dataclass(frozen=True)
class RewardFunctions:
    """One or several reward functions whose weighted sum lies within ``bounds``."""

    functions: tuple[Reward, ...]
    weights: Array
    bounds: tuple[float, float]

    @classmethod
    def of(
        cls,
        rewards: Reward | Sequence[Reward],
        weights: Sequence[float] | None,
        bounds: Sequence[float],
    ) -> RewardFunctions:
        """
        Raises:
            RewardFunctionError: something is no function, or there is not one weight for each.
        """
        functions = tuple(rewards) if isinstance(rewards, Sequence) else (rewards,)
        for function in functions:
            if not callable(function) or inspect.iscoroutinefunction(function):
                raise RewardFunctionError(
                    f"reward={shown(function)}: give a function in TRL's signature that is not async; a reward model "
                    "may be called inside of one"
                )
        given = finite_array(
            "reward_weights", [1.0] * len(functions) if weights is None else weights
        )
        if not functions or given.shape != (len(functions),):
            raise RewardFunctionError(
                f"reward_weights={shown(weights)} for {len(functions)} functions: give one for each, at least one"
            )
        return cls(functions, given, checked_bounds("reward_bounds", bounds))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(name_of, self.functions))

    @property
    def untold(self) -> tuple[str, ...]:
        """Names of those that cannot be told from others of their name."""
        return tuple(name_of(f) for f in self.functions if function_digest(f) is None)

    @property
    def digest(self) -> str:
        """Of functions and weights: whether rewards given before still count. Empty where that cannot be told."""
        if self.untold:
            return ""
        digests = [str(function_digest(function)).encode() for function in self.functions]
        return digest_of([*digests, self.weights.tobytes()])

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[list[int]],
        columns: Mapping[str, list[Any]],
    ) -> Array:
        """[n], the reward of each response.

        Raises:
            RewardFunctionError: a function raised, or did not return one reward within the bounds for each.
        """
        given = []
        for function, name in zip(self.functions, self.names, strict=True):
            try:
                values = function(
                    prompts=list(prompts),
                    completions=list(completions),
                    completion_ids=list(completion_ids),
                    trainer_state=_at_the_start(),
                    log_metric=_unlogged,
                    log_extra=_unlogged,
                    **columns,
                )
            except Exception as error:  # whatever a user's function raises
                raise RewardFunctionError(
                    f"the reward function {name} raised {type(error).__name__}: {error}"
                ) from error
            given.append(checked_rewards(values, len(prompts), name))
        total = total_reward(np.array(given), self.weights)
        low, high = self.bounds
        total = onto_bounds(total, self.bounds, total_reward(np.abs(given), np.abs(self.weights)))
        bad = ~((total >= low) & (total <= high))
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            what = " + ".join(self.names)
            raise RewardFunctionError(
                f"the reward ({what}) of the response {shown(completions[place])} to {shown(prompts[place])} is "
                f"{total[place]:g}; give a number within reward_bounds=({low:g}, {high:g}), or bounds that hold for "
                "every possible response"
            )
        return total


def checked_rewards(values: Any, count: int, name: str) -> Array:
    """[count], NaN where the function returned None.

    Raises:
        RewardFunctionError: not as many numbers as responses.
    """
    try:
        listed = [math.nan if value is None else float(value) for value in values]
    except (TypeError, ValueError):
        raise RewardFunctionError(
            f"the reward function {name} returned {shown(values)}: return one number for each response"
        ) from None
    if len(listed) != count:
        raise RewardFunctionError(
            f"the reward function {name} returned {len(listed)} rewards for {count} responses: return one for each"
        )
    return np.array(listed)


def total_reward(given: Array, weights: Array) -> Array:
    """The weighted sum, [functions, n] -> [n], as TRL forms it; NaN where no function said anything."""
    silent = np.isnan(given).all(axis=0)
    return np.where(silent, math.nan, np.nansum(given * weights[:, None], axis=0))


def name_of(function: Reward) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _unlogged(*args: Any, **kwargs: Any) -> None:
    """Outside of a training nothing is logged."""


def _at_the_start() -> Any:
    from transformers import TrainerState

    return TrainerState()
