"""Where training ends, at several betas: what a forecast asks of a trainer's law, whichever leash it has.

``Tilts`` are the ends of exact KL-regularised RL, and of every trainer with a reverse leash whose advantages are not
normalised. ``leashes`` has those of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import Array, PerWorld
from nondecoupling.estimate.betting import at_fixed_size, lower_end
from nondecoupling.forecast.samples import Samples


@dataclass(frozen=True)
class Ends(ABC):
    """At each of the betas: limits [betas] for averages over prompts, at level 1 - delta, and plug-in values.

    A number that a leash gives no limits for is None.
    """

    samples: Samples
    betas: Array

    @property
    def note(self) -> str:
        """What the samples hide of the end, to be added to where a number comes from."""
        return ""

    @abstractmethod
    def rewards(self, delta: float) -> Interval: ...

    @abstractmethod
    def own_loss_changes(self, delta: float) -> Interval: ...

    @abstractmethod
    def kl(self, delta: float) -> Interval | None: ...

    @abstractmethod
    def expert_loss_changes(self, delta: float) -> Interval | None: ...

    @abstractmethod
    def soft_values(self, delta: float) -> Interval | None: ...

    @abstractmethod
    def plug_in_rewards(self) -> Array: ...

    @abstractmethod
    def plug_in_losses(self) -> Array: ...

    @abstractmethod
    def how(self, number: str) -> str:
        """Where the interval of a number comes from."""

    def _low_end(self, values: Array, least: PerWorld, most: PerWorld, delta: float) -> Array:
        """[betas], lower limits for means of values of at least ``least``; what exceeds ``most`` may be cut."""
        width = np.asarray(most - least)
        safe = np.where(width > 0, width, 1.0)  # for a beta so large that no float holds the width
        shares = np.clip((values - least) / safe, 0.0, 1.0)
        counts = self.samples.drawn.weights
        low = lower_end(shares, delta, at_fixed_size, counts / counts.max())
        return np.asarray(np.squeeze(least + width * np.reshape(low, (-1, 1)), 1))

    def _high_end(self, values: Array, least: PerWorld, most: PerWorld, delta: float) -> Array:
        """[betas], upper limits for means of values of at most ``most``; what falls below ``least`` may be raised."""
        return -self._low_end(-values, -most, -least, delta)

    def _enclosed(
        self,
        low: Array,
        high: Array,
        estimate: Array,
        delta: float,
        limits: tuple[PerWorld, PerWorld],
    ) -> Interval:
        high = np.clip(high, *limits)
        low = np.minimum(np.clip(low, *limits), high)
        return Interval(low, high, estimate, delta, self.samples.prompts, "betting")
