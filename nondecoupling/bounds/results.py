"""What functions with several results return: tuples whose places have names."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from nondecoupling.numbers.floats import is_torch

X_co = TypeVar("X_co", covariant=True)
"""NumPy arrays or tensors, as the arguments were."""
Truth_co = TypeVar("Truth_co", covariant=True)
"""Those of truth values."""


def plain(result: Any) -> dict[str, Any]:
    """The results by name as numbers and nested lists, ready for JSON but for infinities.

    >>> Range(np.array(0.5), np.array([1.0, 2.0])).to_dict()
    {'lower': 0.5, 'upper': [1.0, 2.0]}
    """
    return {
        name: value.tolist() if is_torch(value) else np.asarray(value).tolist()
        for name, value in zip(result._fields, result, strict=True)
    }


class Range(NamedTuple, Generic[X_co]):
    """A quantity lies between two bounds."""

    lower: X_co
    upper: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class Frontier(NamedTuple, Generic[X_co]):
    """Points on the best trade-off."""

    loss: X_co
    """SFT loss, in nats."""
    reward: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class FrontierPolicy(NamedTuple, Generic[X_co]):
    """A policy on the frontier of SFT loss and reward, and its supporting line rate c + line."""

    log_p: X_co
    line: X_co
    offset: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class DecouplingThreshold(NamedTuple, Generic[X_co]):
    """KL radii around ref inside which no policy has the tilt's reward, in nats."""

    pinsker: X_co
    exact: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class EarlyStop(NamedTuple, Generic[X_co]):
    """The time 1/beta at which RL repays the reward of the data, and the SFT loss change until then."""

    time: X_co
    change: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class Duration(NamedTuple, Generic[X_co]):
    """The best time 1/beta of RL, and the interval that contains every stationary one."""

    best: X_co
    earliest: X_co
    latest: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class StepChange(NamedTuple, Generic[X_co]):
    """What a step along a direction of the logits does to the SFT loss, and what decides it."""

    change: X_co
    raises_below: X_co
    lowers_above: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class BestOfNBounds(NamedTuple, Generic[X_co]):
    """Bounds on the divergence of best of n and ref, in both directions, in nats."""

    to_ref: X_co
    from_ref: X_co

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class GroupNormalizedSuccess(NamedTuple, Generic[X_co, Truth_co]):
    """The success that a trainer with normalised advantages reaches from ref."""

    success: X_co
    """The first stationary success above that of ref, or 1 where there is none."""
    stationary: Truth_co
    """Whether a stationary policy above ref exists: truth values."""

    def to_dict(self) -> dict[str, Any]:
        return plain(self)


class StationaryPolicy(NamedTuple, Generic[X_co, Truth_co]):
    """Where a trainer ends, from ref."""

    log_p: X_co
    """Log-probabilities; NaN in rows that have no stationary policy, or none that is known."""
    stationary: Truth_co
    """Where there is one: truth values."""
    why: str
    """For the rows without one, the reason; empty if there are none."""

    def to_dict(self) -> dict[str, Any]:
        return plain(self)
