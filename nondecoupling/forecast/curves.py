"""The path of a trainer over a grid of its betas, and where it reaches a reward or a budget.

The grid is fixed by the reward bounds before any reward is seen, and what is sought changes in one direction along
it. So one interval at each grid point is enough: the truth lies between two neighbours, and only their ends must hold,
whichever point the samples pick.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast.support import Unsupported
from nondecoupling.forecast.trainers import ForecastTrainer


@dataclass
class Path:
    """Reward and SFT loss change where training ends, from weak RL (large beta) to strong."""

    trainer: ForecastTrainer
    delta: float

    @property
    def betas(self) -> Array:
        return self.trainer.grid

    @property
    def supported(self) -> int:
        """How many betas the samples support, from the largest on."""
        return self.trainer.supported

    @property
    def first_unsupported(self) -> Unsupported | None:
        if self.supported == len(self.betas):
            return None
        return self.trainer.unsupported(float(self.betas[self.supported]))

    @cached_property
    def rewards(self) -> Interval:
        """[betas]. Over the whole grid: a limit holds where it says little, too."""
        return self.trainer.on_the_grid.rewards(self.delta)

    @cached_property
    def losses(self) -> Interval:
        """[betas], of the SFT loss on the start policy's own data."""
        return self.trainer.on_the_grid.own_loss_changes(self.delta)

    def around(self, target: float) -> tuple[int, int]:
        """Grid places on either side of the beta whose reward is ``target``: -1 and the number of betas are outside.

        With s- and s+ the neighbours of the true one, the lower end at s- is at most the target unless it fails, and
        the upper end at s+ at least the target: so the last place with the one and the first with the other enclose it.
        """
        weakest = int(np.flatnonzero(self.rewards.high >= target).min(initial=len(self.betas))) - 1
        strongest = int(np.flatnonzero(self.rewards.low <= target).max(initial=-1)) + 1
        return min(weakest, strongest), max(weakest, strongest)

    def loss_between(self, weakest: int, strongest: int) -> tuple[float, float]:
        """Limits of the SFT loss change somewhere between two places; it rises along the path."""
        inside = slice(max(weakest, 0), strongest + 1)
        low = 0.0 if weakest < 0 else float(np.min(self._low_losses[inside]))
        beyond = strongest >= self.supported
        return low, math.inf if beyond else float(np.max(self._high_losses[inside]))

    def beta_within(self, budget: float) -> float | None:
        """The smallest beta before which no loss change, by its upper end, exceeds the budget; None without one.

        The true ones rise along the path, so the answer is wrong only where the upper end of one fixed place fails:
        the first whose loss change exceeds the budget.
        """
        over = np.flatnonzero(self._high_losses > budget).min(initial=len(self.betas))
        return self._last_of(min(int(over), self.supported))

    def plug_in_beta_within(self, budget: float) -> float | None:
        """The same by the estimates alone."""
        over = np.flatnonzero(np.asarray(self.losses.estimate) > budget).min(
            initial=len(self.betas)
        )
        return self._last_of(min(int(over), self.supported))

    def weaker_beta_within(self, budget: float) -> float | None:
        """The smallest beta above the grid, in steps of the grid, whose estimated loss change keeps to the budget."""
        betas = self.trainer.weaker

        def within(beta: float) -> bool:
            return float(self.trainer.ends(np.array([beta])).plug_in_losses()[0]) <= budget

        place = bisect_left(betas, True, key=within)  # losses fall
        return float(betas[place]) if place < len(betas) else None

    def _last_of(self, count: int) -> float | None:
        return float(self.betas[count - 1]) if count else None

    @property
    def _low_losses(self) -> Array:
        return np.asarray(self.losses.low)

    @property
    def _high_losses(self) -> Array:
        return np.asarray(self.losses.high)
