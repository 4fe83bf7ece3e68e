"""From samples of the start policy to answers about a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from nondecoupling.estimate.arguments import (
    finite_array,
    finite_number,
    positive_number,
    probability,
    shown,
)
from nondecoupling.forecast import floors
from nondecoupling.forecast.answers import AtBeta, AtReward, Estimate, Recommendation
from nondecoupling.forecast.curves import TiltPath
from nondecoupling.forecast.samples import Samples
from nondecoupling.forecast.support import UnsupportedBeta, out_of_reach, unsupported
from nondecoupling.forecast.tilts import Tilts

LEAST_BETA = 1e-6  # of the range of the reward
FORMAT = "nondecoupling forecast 1"


def forecast(
    samples: Samples,
    *,
    betas: ArrayLike = (),
    targets: ArrayLike = (),
    delta: float = 0.05,
) -> Forecast:
    """A forecast of RL from the policy that made the samples; ``betas`` and ``targets`` are those ``to_dict`` lists.

    Every interval is at level 1 - delta by itself. Answers are computed when asked, on the prompts in a random order
    of fixed seed, so that a sorted file does no harm. Units: losses and KL in nats per response, the rest in those of
    the reward.

    Errors: betas below 1e-6 of the range of the reward, targets outside the open ``reward_bounds``, delta outside
    (0, 1), something other than ``Samples``. Source: S1, S2, S5, F3.

    >>> samples = Samples([[0, 1, 0, 0, 1, 0, 1, 0]] * 100, reward_bounds=(0, 1))
    >>> plan = forecast(samples, betas=[1.0])
    >>> print(plan.at_beta(1.0).own_loss_change)
    0.1223 in [0.11..., 0.125] at level 0.95 (betting, 100 prompts, upper end cross-fitted over 8 responses)
    """
    return Forecast(samples, betas, targets, delta)


class Forecast:
    """What ``forecast`` returns; see there."""

    def __init__(
        self, samples: Samples, betas: ArrayLike, targets: ArrayLike, delta: float
    ) -> None:
        if not isinstance(samples, Samples):
            raise ValueError(f"samples={shown(samples)}: give Samples(rewards, reward_bounds=...)")
        self.samples = samples
        self.delta = probability("delta", delta)
        self.betas = [self._beta("betas", b) for b in finite_array("betas", betas).ravel().tolist()]
        self.targets = [self._target(c) for c in finite_array("targets", targets).ravel()]
        self._rows = samples.in_random_order()
        # Beta and cost of a reward rest on two intervals at each place of the path, which share delta.
        self._path, self._half_path = (
            TiltPath(self._rows, self.delta),
            TiltPath(self._rows, self.delta / 2),
        )

    def at_beta(self, beta: float) -> AtBeta | UnsupportedBeta:
        """What exact KL-regularised RL at this beta has and costs.

        Errors: beta below 1e-6 of the range of the reward. Source: S1, S2, F3.
        """
        beta = self._beta("beta", beta)
        refused = unsupported(self._rows, beta)
        if refused:
            return refused
        tilt, delta = self._tilt(beta), self.delta
        how = f"betting, {self.samples.prompts} prompts"
        pairs = f"{how}, both ends cross-fitted over {self.samples.responses} responses"
        cross_fitted = f"{how}, upper end cross-fitted over {self.samples.responses} responses"
        experts = tilt.expert_loss_changes(delta)
        return AtBeta(
            beta=beta,
            reward=Estimate.of(tilt.rewards(delta), pairs),
            kl=Estimate.of(tilt.kl(delta), pairs),
            own_loss_change=Estimate.of(tilt.own_loss_changes(delta), cross_fitted),
            expert_loss_change=None if experts is None else Estimate.of(experts, cross_fitted),
            soft_value=Estimate.of(tilt.soft_values(delta), cross_fitted),
        )

    def at_reward(self, target: float) -> AtReward:
        """What an average reward costs: any algorithm at least, exact KL-regularised RL, and the beta that reaches it.

        Errors: a target outside the open ``reward_bounds``. Source: S5, S2.
        """
        target = self._target(target)
        floor = floors.price_floor(self._rows, target, self.delta)
        how = f"lower end: supporting line, {floor.method}, {floor.units} prompts; value: plug-in"
        value = floors.plug_in_price(self._rows, target)
        price = Estimate(value, float(floor.low), math.inf, 1 - self.delta, how)
        beta = self._beta_reaching(target)
        if isinstance(beta, UnsupportedBeta):
            return AtReward(target, price, beta, beta)
        return AtReward(target, price, self._tilt_price(target, beta.value), beta)

    def recommend(
        self, *, loss_budget: float | None = None, reward_target: float | None = None
    ) -> Recommendation:
        """The beta that spends a loss budget, or that reaches a reward: guaranteed, and by the plug-in estimates.

        With a ``loss_budget`` (nats per response, on the start policy's own data): the smallest beta on a grid of
        15 % steps whose SFT loss change keeps to it. With a ``reward_target``: the largest whose reward is at least
        that. The guaranteed choice is wrong with probability at most delta; it assumes that RL reaches its optimum.

        Errors: both or neither given; a budget that is not positive; a target outside the open ``reward_bounds``.
        Source: S2, S3.
        """
        if (loss_budget is None) == (reward_target is None):
            raise ValueError(
                f"loss_budget={loss_budget}, reward_target={reward_target}: give one of the two"
            )
        if loss_budget is not None:
            return self._within_budget(positive_number("loss_budget", loss_budget))
        assert reward_target is not None
        return self._reaching(self._target(reward_target))

    def to_dict(self) -> dict[str, Any]:
        """The answers at ``betas`` and ``targets``, ready for JSON."""
        return {
            "prompts": self.samples.prompts,
            "responses": self.samples.responses,
            "reward_bounds": list(self.samples.reward_bounds),
            "reward": self.samples.mean_reward,
            "level": 1 - self.delta,
            "at_beta": [self.at_beta(beta).to_dict() for beta in self.betas],
            "at_reward": [self.at_reward(target).to_dict() for target in self.targets],
        }

    def save(self, path: str | Path) -> None:
        """Write samples, settings and answers to a JSON file, for ``Forecast.load``."""
        settings = {"betas": self.betas, "targets": self.targets, "delta": self.delta}
        content = {"format": FORMAT, "samples": self.samples.to_dict(), **settings}
        text = json.dumps({**content, "answers": self.to_dict()}, allow_nan=False)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Forecast:
        """The forecast that ``save`` wrote; its answers are computed again from its samples.

        Errors: no such file; a file of another kind.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"{path}: not a file that Forecast.save wrote ({FORMAT})")
        settings = {name: content[name] for name in ("betas", "targets", "delta")}
        return cls(Samples(**content["samples"]), **settings)

    def _tilt(self, beta: float) -> Tilts:
        return Tilts(self._rows, np.array([beta]))

    def _beta(self, name: str, beta: float) -> float:
        beta, least = positive_number(name, beta), LEAST_BETA * self.samples.spread
        if beta < least:
            raise ValueError(
                f"{name}={beta:g}: at least {least:g}, or the digits of r/beta do not suffice; RL with so little of a "
                "leash has no optimum to speak of"
            )
        return beta

    def _target(self, target: float) -> float:
        target, (low, high) = finite_number("target", target), self.samples.reward_bounds
        if not low < target < high:
            raise ValueError(f"target={target}: choose a reward inside ({low:g}, {high:g})")
        return target

    def _beta_reaching(self, target: float) -> Estimate | UnsupportedBeta:
        path = self._half_path
        weakest, strongest = path.around(target)
        value = self._plug_in_beta(target)
        if isinstance(value, UnsupportedBeta):
            return value
        low = float(path.betas[strongest]) if strongest < path.supported else 0.0
        high = float(path.betas[weakest]) if weakest >= 0 else math.inf
        how = f"intervals of the reward on a grid of betas, {self.samples.prompts} prompts"
        return Estimate(value, low, high, 1 - self.delta, how)

    def _plug_in_beta(self, target: float) -> float | UnsupportedBeta:
        """By the sampled laws; inf for what the start policy has."""
        path = self._half_path
        if target <= self._rows.mean_reward:
            return math.inf
        stop = path.first_unsupported
        if stop and not path.supported:
            return stop

        def missing(log_beta: float) -> float:
            return float(self._tilt(math.exp(log_beta)).plug_in_rewards()[0]) - target

        # Above the grid, up to where the reward is that of the start policy but for rounding.
        most = math.log(1e9 * self.samples.spread)
        least = math.log(path.betas[path.supported - 1])
        if missing(least) < 0:
            return stop or out_of_reach(self._rows, math.exp(least), target)
        return math.exp(brentq(missing, least, most)) if missing(most) < 0 else math.inf

    def _tilt_price(self, target: float, beta: float) -> Estimate:
        path = self._half_path
        low, high = path.loss_between(*path.around(target))
        value = 0.0
        if 0 < beta < math.inf:
            value = float(self._tilt(beta).plug_in_losses()[0])
        how = f"loss changes over the interval of beta, {self.samples.prompts} prompts"
        return Estimate(value, low, high, 1 - self.delta, how)

    def _within_budget(self, budget: float) -> Recommendation:
        asked = f"SFT loss change of at most {budget:g} nats per response"
        # Hoeffding's bound (S3) keeps any budget, without samples.
        always = self.samples.spread / math.sqrt(8 * budget)
        sure, likely = self._path.beta_within(budget), self._path.plug_in_beta_within(budget)
        guaranteed = self.at_beta(min(always, sure or math.inf))
        plug_in = self.at_beta(likely or always)
        why = (
            "guaranteed keeps to the budget by the upper end of the loss change, which allows for the number of "
            "prompts and for the bias of few responses; plug_in by its estimate, which is biased down"
        )
        stop = self._path.first_unsupported
        if stop and likely == float(self._path.betas[self._path.supported - 1]):
            why += f"; stronger RL may fit too, but {stop}"
        return Recommendation(asked, guaranteed, plug_in, why)

    def _reaching(self, target: float) -> Recommendation:
        asked = f"average reward of at least {target:g}"
        path = self._path
        _, strongest = path.around(target)
        guaranteed = None
        if strongest < len(path.betas):
            guaranteed = self.at_beta(float(path.betas[strongest]))
        value = self._plug_in_beta(target)
        if isinstance(value, float):
            plug_in = self.at_beta(min(value, float(path.betas[0])))
        else:
            plug_in = value
        why = (
            "guaranteed reaches the reward by the lower end of its interval, plug_in by its estimate; the lower end "
            "allows for the number of prompts and for what few responses hide"
        )
        if guaranteed is None:
            why += "; here no beta is sure to reach it: give more prompts or more responses to each"
        return Recommendation(asked, guaranteed, plug_in, why)
