"""The independent units of sampled responses: prompts, each with the mean of its responses."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import ArrayLike

from nondecoupling.estimate.arguments import Array, prompt_labels, sample_array


def _clustered(
    name: str, values: ArrayLike, label_name: str, labels: ArrayLike
) -> tuple[list[Hashable], Array]:
    """(prompts in order of first appearance, means [..., prompts])."""
    array = sample_array(name, values)
    listed = prompt_labels(label_name, labels, array.shape[-1])
    place = {prompt: column for column, prompt in enumerate(dict.fromkeys(listed))}
    column = np.array([place[prompt] for prompt in listed])
    order = np.argsort(column, kind="stable")
    starts = np.searchsorted(column[order], np.arange(len(place)))
    grouped = array[..., order]
    means = np.add.reduceat(grouped, starts, axis=-1) / np.bincount(column)
    # Rounding must not carry a mean outside the bounds of its values.
    means = np.maximum(means, np.minimum.reduceat(grouped, starts, axis=-1))
    means = np.minimum(means, np.maximum.reduceat(grouped, starts, axis=-1))
    return list(place), means


def cluster_means(values: ArrayLike, prompts: ArrayLike) -> Array:
    """The mean of each prompt's responses: the independent units of a sampled policy.

    Their mean estimates E_q E_p f, every prompt with the same weight, however many responses it
    has; within the bounds of the values. Order: the first appearance of the prompts.

    Shapes: values ``[..., n]``, prompts ``[n]`` -> ``[..., number of prompts]``. Labels are whole
    numbers or strings, not both: floats, NaN and None would merge prompts or tear one apart. Units:
    those of the values. Errors: NaN, no values, another number of labels, another kind of label.

    >>> cluster_means([1.0, 0.0, 1.0, 1.0], prompts=["b", "b", "a", "b"]).round(3).tolist()
    [0.667, 1.0]
    """
    return _clustered("values", values, "prompts", prompts)[1]


def paired_differences(
    before: ArrayLike,
    after: ArrayLike,
    prompts: ArrayLike,
    prompts_after: ArrayLike | None = None,
) -> Array:
    """Per prompt, the mean after minus the mean before: what two policies do on the same prompts.

    The difficulty of a prompt cancels, so intervals are shorter than for two separate means. Values
    in (a, b) give differences in (a - b, b - a). ``prompts_after`` defaults to ``prompts``.

    Shapes: before ``[..., n]``, after ``[..., k]``, prompts ``[n]``, prompts_after ``[k]`` ->
    ``[..., number of prompts]``. Units: those of the values. Errors: as ``cluster_means``; a prompt
    that has responses on one side only.

    >>> paired_differences([0.0, 1.0, 2.0], [3.0, 1.0], ["x", "x", "y"], ["y", "x"]).tolist()
    [0.5, 1.0]
    """
    first, means = _clustered("before", before, "prompts", prompts)
    if prompts_after is None:
        second, other = _clustered("after", after, "prompts", prompts)
    else:
        second, other = _clustered("after", after, "prompts_after", prompts_after)
    alone = sorted(set(first) ^ set(second), key=str)
    if alone:
        raise ValueError(
            f"prompts: {alone[0]!r} (and {len(alone) - 1} more) has responses before or after "
            "only; a pair needs both, so leave such prompts out of both"
        )
    place = {prompt: column for column, prompt in enumerate(second)}
    return other[..., [place[prompt] for prompt in first]] - means
