"""What an average reward costs, as curves that are made once, before the run, and asked at any reward later.

All limits hold together, so that it does not matter which rewards the run reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import mean_interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast import Samples, UnsupportedRecipe, floors
from nondecoupling.forecast.tilts import Tilts
from nondecoupling.forecast.trainers import GRID, ForecastTrainer
from nondecoupling.recipes import Recipe

__all__ = ["Bounded", "PriceCurves"]

# Rewards at which the floor is computed; between two of them it is that of the lower one.
FLOORS = 256


@dataclass(frozen=True)
class Bounded:
    """An estimate, or a limit of what lies beyond the samples: ``sign`` is "", ">=" or "<=".

    >>> print(Bounded(0.5), Bounded(1.25, ">="))
    0.5 >= 1.25
    """

    value: float
    sign: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.value:.4g}".strip()


@dataclass
class TrainerPrices:
    """What a trainer pays for an average reward, plug-in, between the betas of its grid that the samples support.

    Beyond them a plug-in number would be no limit, as the best responses drawn understate the rewards: ``floor`` is
    less than any algorithm pays for a reward, and limits of the beta fail with probability ``delta``/2 at most.
    """

    trainer: ForecastTrainer
    floor: Callable[[float], float]
    delta: float

    def price(self, reward: float) -> Bounded:
        """In nats per response; beyond the supported betas ">=" the floor."""
        rewards, losses, _ = self.path
        if reward <= rewards[0]:
            return Bounded(0.0)
        if self._beyond_path(reward):
            return Bounded(self.floor(reward), ">=")
        return Bounded(float(np.interp(reward, rewards, losses)))

    def beta(self, reward: float) -> Bounded:
        """The beta, in the trainer's unit, at which it ends with that reward.

        Beyond the supported ones "<=" the least of the grid that has less reward for certain, inf where none has.
        """
        rewards, _, inverse = self.path
        if reward <= rewards[0]:
            return Bounded(math.inf)
        if self._beyond_path(reward):
            less = self.trainer.grid[self.most_rewards < reward]
            return Bounded(float(less.min(initial=math.inf)), "<=")
        return Bounded(float(1 / np.interp(reward, rewards, inverse)))

    @cached_property
    def betas(self) -> Array:
        """Those that the samples support."""
        return self.trainer.grid[: self.trainer.supported]

    @cached_property
    def path(self) -> tuple[Array, Array, Array]:
        """Rewards, losses and 1/beta from the start policy on, rewards in rising order."""
        start = self.trainer.samples.mean_reward
        if not len(self.betas):
            return np.array([start]), np.zeros(1), np.zeros(1)
        ends = self.trainer.ends(self.betas)
        rewards = np.concatenate([[start], ends.plug_in_rewards()])
        losses = np.concatenate([[0.0], ends.plug_in_losses()])
        return np.maximum.accumulate(rewards), losses, np.concatenate([[0.0], 1 / self.betas])

    @cached_property
    def most_rewards(self) -> Array:
        """Upper limits of the rewards at all betas of the grid together."""
        # Of all betas: how many the samples support was read off the same samples.
        each = self.delta / len(self.trainer.grid)
        return np.asarray(self.trainer.on_the_grid.rewards(each).high)

    def _beyond_path(self, reward: float) -> bool:
        """Also at its end: the last ones may differ from the best responses by less than is seen in their rewards."""
        return bool(reward >= self.path[0][-1] - 1e-12 * self.trainer.samples.spread)


@dataclass
class PriceCurves:
    """Prices of an average reward, in nats per response, from samples of the start policy.

    ``exact``: of KL-regularised RL to its optimum, the tilt; ``trained``: of the trainer of ``recipe``, None without
    one and where ``refusal`` says why it ends nowhere that is known. Numbers without a sign are estimates. Each kind of
    limit, the floor, the ceiling and the betas of either trainer, ever fails with probability ``delta``/2 at most.
    """

    samples: Samples
    delta: float
    recipe: Recipe | None = None

    def cheapest(self, reward: float) -> Bounded:
        """The plug-in price of any algorithm (S5); ">=" the floor for more than the best responses have.

        The highest of its tangents at a grid of rates, less than 1 % or 0.001 nats below it; ">=" the floor also where
        the reward lies beyond the last of them, from where on the price may rise to infinity.
        """
        if reward <= self.start:
            return Bounded(0.0)
        rates, offsets, last = self._lines
        if reward > min(last, self._best_average):
            return Bounded(self.floor(reward), ">=")
        return Bounded(float(np.max(rates * reward + offsets)))

    def tilt(self, reward: float) -> Bounded:
        """The plug-in price of exact KL-regularised RL; ">=" the floor beyond the betas that the samples support."""
        return self.exact.price(reward)

    def beta(self, reward: float) -> Bounded:
        """The beta at which exact RL has that reward; beyond those that the samples support an upper limit, "<="."""
        return self.exact.beta(reward)

    def floor(self, reward: float) -> float:
        """Less than any algorithm pays for this reward, whatever was drawn: fails with probability delta/2 at most."""
        targets, lows = self._floors
        below = np.flatnonzero(targets <= reward)
        return float(lows[below[-1]]) if len(below) else 0.0

    def ceiling(self, reward: float) -> float:
        """What exact RL pays at most, so that it can be had for that; inf beyond the samples.

        The price is convex in the average reward, and at most the loss change of each tilt with that reward. Fails
        anywhere with probability delta/2 at most.
        """
        rewards, losses = self._ceilings
        if reward <= rewards[0]:
            return 0.0
        best = float(np.min(losses[rewards >= reward], initial=math.inf))
        for i, j in zip(*np.triu_indices(len(rewards), 1), strict=True):
            (a, b), (x, y) = (rewards[i], rewards[j]), (losses[i], losses[j])
            if a <= reward <= b and a < b:
                best = min(best, float(x + (y - x) * (reward - a) / (b - a)))
        return best

    def prepare(self) -> None:
        """Make the curves now: they take seconds, and the first question would wait for them."""
        _ = self._lines, self._floors, self._ceilings
        for trainer in (self.exact, self.trained):
            _ = None if trainer is None else (trainer.path, trainer.most_rewards)

    @cached_property
    def exact(self) -> TrainerPrices:
        return self._prices_of(None)

    @cached_property
    def trained(self) -> TrainerPrices | None:
        if self.recipe is None or self.refusal is not None:
            return None
        trained = self._prices_of(self.recipe)
        return self.exact if trained.trainer.is_exact else trained

    @cached_property
    def refusal(self) -> UnsupportedRecipe | None:
        """Why nothing can be said of where the recipe ends, at whatever beta."""
        return ForecastTrainer(self.samples, self.recipe).refusal

    @cached_property
    def start(self) -> float:
        """The average reward of the samples."""
        return self.samples.mean_reward

    def _prices_of(self, recipe: Recipe | None) -> TrainerPrices:
        return TrainerPrices(ForecastTrainer(self._rows, recipe), self.floor, self.delta)

    @cached_property
    def _rows(self) -> Samples:
        return self.samples.in_random_order()

    @cached_property
    def _best_average(self) -> float:
        drawn = self.samples.drawn
        best = np.where(drawn.mask, drawn.rewards, -np.inf).max(axis=1)
        return float(drawn.average(best))

    @cached_property
    def _lines(self) -> tuple[Array, Array, float]:
        """Rates and offsets of supporting lines of the sampled laws' price (S5), and the reward where the last touches.

        The first rate is zero.
        """
        laws = self.samples.drawn.distinct_with_best(self.samples.reward_bounds[1], 0.0)
        share = laws.weights / laws.weights.sum()
        rates = 1 / (GRID * self.samples.spread)
        offsets, last = [0.0], 0.0
        for rate in rates.tolist():
            log_p, _, offset = bounds.frontier_policy(*laws.law, rate)
            offsets.append(float(share @ bounds.supporting_line(*laws.law, rate, offset)))
            last = float(share @ np.sum(np.exp(log_p) * laws.reward, axis=-1))
        return np.concatenate([[0.0], rates]), np.array(offsets), last

    @cached_property
    def _floors(self) -> tuple[Array, Array]:
        low, high = self.samples.reward_bounds
        targets = low + (high - low) * np.arange(1, FLOORS + 1) / (FLOORS + 1)
        return targets, np.asarray(floors.price_floor(self._rows, targets, self.delta).low)

    @cached_property
    def _ceilings(self) -> tuple[Array, Array]:
        """Rewards that are reached at least, and losses that are paid at most, of ref and of each tilt."""
        # Of all betas: how many the samples support was read off the same samples.
        rows, each = self._rows, self.delta / (2 * len(GRID) + 1)
        mean, weights = rows.drawn.mean(), rows.weights
        start = mean_interval(mean, rows.reward_bounds, each, weights=weights).low
        tilts = Tilts(rows, self.exact.betas)
        rewards, losses = [np.array([float(start)])], [np.zeros(1)]
        if len(self.exact.betas):
            rewards.append(np.asarray(tilts.rewards(each).low))
            losses.append(np.asarray(tilts.own_loss_changes(each).high))
        return np.maximum.accumulate(np.concatenate(rewards)), np.concatenate(losses)
