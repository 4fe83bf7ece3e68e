"""What ``Samples`` checks of each array before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nondecoupling.estimate.arguments import (
    Array,
    GivenArgument,
    finite_array,
    onto_bounds,
    prompt_weights,
)
from nondecoupling.forecast.refusals import RaggedRows, RewardOutsideBounds, TooFewPrompts

LEAST_PROMPTS = 16
LEAST_RESPONSES = 2
# What the log-probability of a response that is certain may come to, in float32.
ROUNDED = 1e-4


def checked_rewards(
    name: str,
    values: ArrayLike,
    least: int,
    bounds: tuple[float, float],
    mask: NDArray[np.bool_] | None = None,
) -> Array:
    """[prompts, responses], within the bounds but for float32's rounding; the lower one where there is no response."""
    if isinstance(values, Sequence):
        _require_even(name, values)
    array = finite_array(name, values if mask is None else np.where(mask, values, bounds[0]))
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}: give [prompts, responses]")
    if array.shape[0] < LEAST_PROMPTS:
        raise TooFewPrompts(
            f"{name} has {array.shape[0]} prompts: give at least {LEAST_PROMPTS}, better some hundreds; more "
            "responses to few prompts do not replace them"
        )
    if array.shape[1] < least:
        raise ValueError(
            f"{name} has {array.shape[1]} responses to a prompt: give at least {least}"
        )
    array = onto_bounds(array, bounds)
    outside = (array < bounds[0]) | (array > bounds[1])
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise RewardOutsideBounds(
            f"{name}[{row}, {column}]={array[row, column]}: outside ",
            GivenArgument("reward_bounds", bounds),
            "; give bounds that hold for every possible response",
        )
    return array


def _require_even(name: str, rows: Sequence[Any]) -> None:
    lengths = [np.size(row) for row in rows]
    if len(set(lengths)) > 1:
        other = next(place for place, length in enumerate(lengths) if length != lengths[0])
        found = (
            f"{name}[{other}] has {lengths[other]} responses, {name}[0] {lengths[0]}: give as many for each prompt, "
            f"or the first {min(lengths)} of each"
        )
        if name != "ref_rewards":  # the only ones that a mask is of
            raise RaggedRows(found)
        raise RaggedRows(
            f"{found}, or a mask (files: ",
            GivenArgument("ragged", True),
            "), if rewards do not decide how many",
        )


def checked_mask(mask: ArrayLike, rewards: ArrayLike) -> NDArray[np.bool_]:
    array = np.asarray(mask)
    if array.dtype != np.bool_ or array.shape != np.shape(rewards):
        raise ValueError(
            f"mask, {array.dtype} of shape {array.shape}: give true or false for each of ref_rewards, of shape "
            f"{np.shape(rewards)}"
        )
    return array


def require_responses(mask: NDArray[np.bool_]) -> None:
    counts = mask.sum(axis=1)
    if counts.min() < LEAST_RESPONSES:
        raise ValueError(
            f"mask[{counts.argmin()}] leaves {counts.min()} responses to its prompt: at least {LEAST_RESPONSES}, or "
            "leave out the prompt"
        )


def positive_weights(weights: ArrayLike, prompts: int) -> Array:
    array = prompt_weights("weights", weights, prompts)
    if not array.all():
        raise ValueError(
            f"weights[{np.flatnonzero(array == 0)[0]}]=0.0: must be positive; leave out prompts that do not count"
        )
    return array


def checked_log_probs(
    name: str,
    values: ArrayLike | None,
    beside: str,
    rewards: Array | None,
    mask: NDArray[np.bool_] | None = None,
) -> Array | None:
    """Of whole responses, one for each reward."""
    if values is None:
        return None
    if rewards is None:
        raise ValueError(f"{name}: give {beside} too, of the same responses")
    if np.shape(values) != rewards.shape:
        raise ValueError(
            f"{name} has shape {np.shape(values)}: give one log-probability for each of {beside}, {rewards.shape}"
        )
    array = finite_array(name, values if mask is None else np.where(mask, values, 0.0))
    above = array > ROUNDED
    if above.any():
        row, column = np.argwhere(above)[0]
        raise ValueError(
            f"{name}[{row}, {column}]={array[row, column]:g}: the log-probability of a response is at most 0"
        )
    return np.minimum(array, 0.0)


def padded(rows: list[list[float]]) -> tuple[list[list[float]], NDArray[np.bool_]]:
    """(rows of one length, where they have a number)"""
    longest = max(map(len, rows))
    mask = np.array([[place < len(row) for place in range(longest)] for row in rows])
    return [row + [0.0] * (longest - len(row)) for row in rows], mask
