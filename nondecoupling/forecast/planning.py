"""A trainer's answers at a beta, at a reward, within a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from nondecoupling.estimate import Interval
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast import floors
from nondecoupling.forecast.answers import AtBeta, Estimate, Recommendation
from nondecoupling.forecast.curves import Path
from nondecoupling.forecast.ends import Ends
from nondecoupling.forecast.support import (
    Unsupported,
    UnsupportedBeta,
    UnsupportedRecipe,
    out_of_reach,
)
from nondecoupling.forecast.trainers import ForecastTrainer
from nondecoupling.recipes import Recipe


@dataclass(frozen=True)
class Plans:
    """What ``Forecast`` answers, its arguments being checked and the prompts in random order."""

    trainer: ForecastTrainer
    delta: float

    @cached_property
    def path(self) -> Path:
        return Path(self.trainer, self.delta)

    @cached_property
    def _half_path(self) -> Path:
        """Beta and cost of a reward rest on two intervals at each place of the path, which share delta."""
        return Path(self.trainer, self.delta / 2)

    def at_beta(self, beta: float) -> AtBeta | Unsupported:
        return self.trainer.unsupported(beta) or self._numbers(beta)

    def _numbers(self, beta: float, remark: str = "") -> AtBeta:
        """Limits hold whatever the samples support, estimates do not."""
        ends, delta = self._ends(beta), self.delta

        def known(interval: Interval, number: str) -> Estimate:
            return Estimate.of(interval, ends.how(number) + remark)

        def known_if_any(interval: Interval | None, number: str) -> Estimate | None:
            return None if interval is None else known(interval, number)

        return AtBeta(
            beta=beta,
            reward=known(ends.rewards(delta), "reward"),
            own_loss_change=known(ends.own_loss_changes(delta), "own_loss_change"),
            expert_loss_change=known_if_any(ends.expert_loss_changes(delta), "expert_loss_change"),
            kl=known_if_any(ends.kl(delta), "kl"),
            soft_value=known_if_any(ends.soft_values(delta), "soft_value"),
        )

    def _guaranteed(self, beta: float) -> tuple[AtBeta | Unsupported, str]:
        """At a beta that limits chose, which need no support: the answer, and what to add to the reason."""
        refused = self.trainer.unsupported(beta)
        if not isinstance(refused, UnsupportedBeta):
            return refused or self._numbers(beta), ""
        found = self._numbers(beta, "; the samples do not support the estimate, only the limits")
        return found, f"; of guaranteed read the limits, not the estimates: {refused}"

    def price(self, target: float) -> Estimate:
        """Of any policy."""
        samples = self.trainer.samples
        floor = floors.price_floor(samples, target, self.delta)
        how = f"lower end: supporting lines, {floor.method}, {floor.units} prompts; value: plug-in"
        value = floors.plug_in_price(samples, target)
        return Estimate(value, float(floor.low), math.inf, 1 - self.delta, how)

    def floor(self, targets: Array) -> Array:
        """Of the prices of all ``targets`` together, rising."""
        return np.asarray(floors.price_floor(self.trainer.samples, targets, self.delta).low)

    def plug_in_prices(self, targets: Array) -> Array:
        samples = self.trainer.samples
        return np.array([floors.plug_in_price(samples, float(target)) for target in targets])

    def beta_reaching(self, target: float) -> Estimate | Unsupported:
        if self.trainer.refusal:
            return self.trainer.refusal
        path = self._half_path
        weakest, strongest = path.around(target)
        value = self._plug_in_beta(target)
        if not isinstance(value, float):
            return value
        low = float(path.betas[strongest]) if strongest < path.supported else 0.0
        high = float(path.betas[weakest]) if weakest >= 0 else math.inf
        how = f"intervals of the reward on a grid of betas, {self.trainer.samples.prompts} prompts"
        return Estimate(value, low, high, 1 - self.delta, how + self._note(value))

    def trained_price(self, target: float, beta: float) -> Estimate:
        path = self._half_path
        low, high = path.loss_between(*path.around(target))
        value = 0.0
        if 0 < beta < math.inf:
            value = float(self._ends(beta).plug_in_losses()[0])
        how = f"loss changes over the interval of beta, {self.trainer.samples.prompts} prompts"
        return Estimate(value, low, high, 1 - self.delta, how + self._note(beta))

    def _note(self, beta: float) -> str:
        return self._ends(beta).note if 0 < beta < math.inf else ""

    def within_budget(self, budget: float) -> Recommendation:
        asked = f"SFT loss change of at most {budget:g} nats per response"
        why = (
            "guaranteed keeps to the budget by the upper end of the loss change, which allows for the number of "
            "prompts and for the bias of few responses; plug_in by its estimate, which is biased down"
        )
        if self.trainer.refusal:
            return self._refused(asked, self.trainer.refusal, None)
        sure, likely = self.path.beta_within(budget), self.path.plug_in_beta_within(budget)
        always = self._always_within(budget)
        if always is not None and (sure is None or always < sure):
            sure = always
            why += "; here guaranteed keeps to it by Hoeffding's bound (S3), without samples"
        guaranteed: AtBeta | Unsupported | None = None
        stop, supported = self.path.first_unsupported, self.path.supported
        if sure is not None:
            guaranteed, remark = self._guaranteed(sure)
            why += remark
        elif stop and not supported:
            why += f"; {stop}"
        else:
            why += (
                "; here no beta of the grid is sure to keep to it: the reward can be had for less"
            )
        plug_in = self._weaker(budget, always) if likely is None else self.at_beta(likely)
        if stop and supported and likely == float(self.path.betas[supported - 1]):
            why += f"; stronger RL may fit too, but {stop}"
        reward = plug_in.reward.value if isinstance(plug_in, AtBeta) else None
        return Recommendation(asked, guaranteed, plug_in, *self.cheapest(reward), why)

    def _always_within(self, budget: float) -> float | None:
        """A beta that keeps to the budget by Hoeffding's bound (S3), without samples; None where it says nothing."""
        reach = self.trainer.reach
        if reach is None:
            return None
        beta = max(reach / math.sqrt(8 * budget), self.trainer.least_beta)
        while np.any(self._ends(beta).own_loss_changes(self.delta).high > budget):  # by rounding
            beta = math.nextafter(beta, math.inf)
        return beta

    def _weaker(self, budget: float, always: float | None) -> AtBeta | Unsupported:
        """The plug-in choice where no supported beta of the grid keeps to the budget."""
        stop = self.path.first_unsupported
        if stop and not self.path.supported:
            return stop
        weakest = float(self.trainer.weaker[-1])  # whose estimate is zero but for rounding
        return self.at_beta(self.path.weaker_beta_within(budget) or always or weakest)

    def reaching(self, target: float) -> Recommendation:
        asked = f"average reward of at least {target:g}"
        if self.trainer.refusal:
            return self._refused(asked, self.trainer.refusal, target)
        path = self.path
        _, strongest = path.around(target)
        guaranteed: AtBeta | Unsupported | None = None
        remark = "; here no beta is sure to reach it: give more prompts or more responses to each"
        if strongest < len(path.betas):
            guaranteed, remark = self._guaranteed(float(path.betas[strongest]))
        value = self._plug_in_beta(target)
        if isinstance(value, float):
            plug_in = self.at_beta(min(value, float(path.betas[0])))
        else:
            plug_in = value
        why = (
            "guaranteed reaches the reward by the lower end of its interval, plug_in by its estimate; the lower end "
            "allows for the number of prompts and for what few responses hide"
        )
        return Recommendation(asked, guaranteed, plug_in, *self.cheapest(target), why + remark)

    def cheapest(self, reward: float | None) -> tuple[Estimate | None, Recipe | None]:
        """The price of a reward, and a recipe that pays it: its optimum is on the frontier at 1/beta (T2).

        The estimate is by rewards that responses show, as is where the recipe ends; the floor allows for others.
        """
        samples = self.trainer.samples
        if reward is None or not samples.mean_reward < reward < self._best_shown:
            return None, None
        paid = floors.price_and_rate(samples.drawn, reward)
        if paid is None:
            return None, None
        value, rate = paid
        recipe = Recipe("leave-one-out", "k3-in-loss", beta=1 / rate)
        return replace(self.price(reward), value=value), recipe

    @property
    def _best_shown(self) -> float:
        drawn = self.trainer.samples.drawn
        return float(drawn.average(drawn.highest()))

    def _refused(
        self, asked: str, refusal: UnsupportedRecipe, reward: float | None
    ) -> Recommendation:
        return Recommendation(asked, None, refusal, *self.cheapest(reward), refusal.reason)

    def _ends(self, beta: float) -> Ends:
        return self.trainer.ends(np.array([beta]))

    def _plug_in_beta(self, target: float) -> float | Unsupported:
        """By the sampled laws; inf for what the start policy has."""
        path, samples = self._half_path, self.trainer.samples
        if target <= samples.mean_reward:
            return math.inf
        stop = path.first_unsupported
        if stop and not path.supported:
            return stop

        def missing(log_beta: float) -> float:
            return float(self._ends(math.exp(log_beta)).plug_in_rewards()[0]) - target

        most = math.log(self.trainer.weaker[-1])
        least = math.log(path.betas[path.supported - 1])
        if missing(least) < 0:
            return stop or out_of_reach(samples, math.exp(least), target)
        return math.exp(brentq(missing, least, most)) if missing(most) < 0 else math.inf
