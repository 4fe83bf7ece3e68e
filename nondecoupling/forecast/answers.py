"""What a forecast says: numbers with intervals, at a reward, at a beta, and as a recommendation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.estimate import Interval
from nondecoupling.forecast.support import Unsupported
from nondecoupling.recipes import Recipe

# What threshold, duration and joint are about, for those who read their JSON.
EXACT_RL = "exact RL by the reverse leash, beta KL(p||ref), whatever the recipe"


@dataclass(frozen=True)
class Estimate:
    """``value``, and an interval that contains the truth with probability at least ``level``.

    Each interval by itself: of twenty at level 0.95, one may miss. ``how`` says where it comes from. ``value`` is a
    plug-in estimate, biased where ``how`` names a bias, and may then lie outside the interval. An infinite end means
    that the samples give none.

    >>> print(Estimate(0.5, 0.4, 0.6, level=0.95, how="betting, 100 prompts"))
    0.5 in [0.4, 0.6] at level 0.95 (betting, 100 prompts)
    """

    value: float
    low: float
    high: float
    level: float
    how: str

    @classmethod
    def of(cls, interval: Interval, how: str) -> Estimate:
        """Of an interval of one number, in whatever shape."""
        value, low, high = (
            float(np.reshape(number, ()))
            for number in (interval.estimate, interval.low, interval.high)
        )
        return cls(value, low, high, level=1 - interval.delta, how=how)

    def __str__(self) -> str:
        return f"{self.value:.4g} in [{self.low:.4g}, {self.high:.4g}] at level {self.level:g} ({self.how})"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: None in the place of an infinite end."""
        ends = {name: getattr(self, name) for name in ("value", "low", "high")}
        finite = {name: end if math.isfinite(end) else None for name, end in ends.items()}
        return {**finite, "level": self.level, "how": self.how}


@dataclass(frozen=True)
class AtStart:
    """Where the start policy is: what changes are counted from.

    ``own_loss``: the SFT loss on its own responses, its entropy E[-log ref(y|x)]; ``expert_loss``: on the responses of
    the experts; None without their log-probabilities. Log-probabilities have no bound, so these have no upper end, and
    the lower one is that of losses capped at the largest of half of the prompts, averaged over the other half. Units:
    ``reward`` in its own, the losses in nats per response.
    """

    reward: Estimate
    own_loss: Estimate | None
    expert_loss: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)


@dataclass(frozen=True)
class AtBeta:
    """Where training at ``beta`` ends, and what that costs.

    Without a recipe: exact KL-regularised RL, whose optimum is the tilt ref e^{r/beta}/Z. Averages over prompts.
    ``own_loss_change``: of the SFT loss on responses of the start policy itself, for the tilt the coupling gap
    log Z - E_ref r/beta >= 0 (S2). ``expert_loss_change``: on the expert responses, log Z - E_expert r/beta (S1), which
    may be negative (S6); None without expert rewards. ``kl``, KL(p||ref), and ``soft_value``, beta log Z, are None
    where the end is no tilt. Units: ``reward`` and ``soft_value`` in those of the reward, the others in nats.
    """

    beta: float
    reward: Estimate
    own_loss_change: Estimate
    expert_loss_change: Estimate | None
    kl: Estimate | None
    soft_value: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)


@dataclass(frozen=True)
class AtReward:
    """What an average reward ``target`` costs, in nats per response of SFT loss on the start policy's own data.

    ``price``: the least that *any* policy pays, however it was found (S5). Its lower end is the floor; ``value`` is
    the plug-in price, which few responses push up and a highest reward that no response has pushes down.
    ``trained_price``: what the trainer pays, without a recipe exact KL-regularised RL, at the beta that reaches the
    target, ``beta``. Both are ``UnsupportedBeta`` where the samples do not reach that far, or ``UnsupportedRecipe``.
    """

    target: float
    price: Estimate
    trained_price: Estimate | Unsupported
    beta: Estimate | Unsupported

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)


@dataclass(frozen=True)
class Recommendation:
    """Two choices of beta: one that holds with probability at least 1 - delta, and the plug-in's; why they differ.

    ``guaranteed`` is None where no beta is sure to do what was asked; it rests on limits, which hold at betas that the
    samples do not support, too: there ``how`` says that the estimates do not. ``cheapest`` is the least that any recipe
    pays for the reward of the plug-in choice, or of ``reward_target``, and ``cheapest_recipe`` one that pays it: a
    forward leash, whose optimum lies on the frontier (T2), at the plug-in beta. Their estimates are those of the
    rewards that responses show; both are None where that reward is free, or above the average of each prompt's highest.

    The level is that of what was asked of ``guaranteed``. The other intervals, those of ``plug_in`` and that of
    ``cheapest`` are at places that the samples chose, and have the level of a place named beforehand.
    """

    asked: str
    guaranteed: AtBeta | Unsupported | None
    plug_in: AtBeta | Unsupported
    cheapest: Estimate | None
    cheapest_recipe: Recipe | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        recipe = self.cheapest_recipe
        return _plain(self) | {
            "cheapest_recipe": None if recipe is None else recipe_to_dict(recipe)
        }


@dataclass(frozen=True)
class Threshold:
    """Whether RL to the tilt at ``beta`` lowers the SFT loss on the expert data, and how much room there is (S6).

    About exact RL by the reverse leash, whatever the recipe; ``to_dict`` says so as ``about``.
    It does iff the experts' reward exceeds ``expert_reward_needed`` = beta log Z; ``expert_reward_margin`` is the
    difference, reward of the experts less that; None without expert rewards. ``lowers`` decides it at the level of the
    margin: True, False, or None where its interval holds both. ``radius``: RL raises the SFT loss on every data law
    nearer to ref than this, KL(d||ref) in nats per response, averaged over prompts; ``pinsker_radius`` is the weaker
    one that needs KL(ref||tilt) and the range of the reward only.
    """

    beta: float
    expert_reward_needed: Estimate
    expert_reward_margin: Estimate | None
    lowers: bool | None
    radius: Estimate
    pinsker_radius: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {"about": EXACT_RL, **_plain(self)}


@dataclass(frozen=True)
class Duration:
    """How long to run RL if a nat of SFT loss costs ``weight`` units of reward (P5).

    About exact RL by the reverse leash, whatever the recipe; ``to_dict`` says so as ``about``.
    ``beta`` maximises J(tilt) - weight * own loss change over betas, one for all prompts; 1/beta is the duration.
    ``at_beta`` is what RL has there. No beta beyond ``least_beta`` was looked at: the samples do not support it. The
    samples chose ``beta``: the intervals there, ``worth`` too, have the level of a beta named beforehand.
    """

    weight: float
    beta: float
    at_beta: AtBeta | Unsupported
    worth: Estimate
    least_beta: float

    def to_dict(self) -> dict[str, Any]:
        return {"about": EXACT_RL, **_plain(self)}


@dataclass(frozen=True)
class Joint:
    """RL with SFT mixed in at ``weight`` (J1): the maximiser of J_b(p) - weight * SFT loss on the start policy's data.

    About exact RL by the reverse leash, whatever the recipe; ``to_dict`` says so as ``about``.
    ``saved``: SFT loss, in nats per response, that the tilt at the same beta pays more; ``reward_lost``: what the
    tilt has more. Plug-in numbers of the sampled laws.
    """

    beta: float
    weight: float
    reward: Estimate
    own_loss_change: Estimate
    saved: Estimate
    reward_lost: Estimate

    def to_dict(self) -> dict[str, Any]:
        return {"about": EXACT_RL, **_plain(self)}


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The arguments of ``Recipe``, ready for JSON."""
    return {**vars(recipe), "outside": [list(item) for item in recipe.outside]}


def _plain(answer: Any) -> dict[str, Any]:
    return {
        name: value.to_dict() if hasattr(value, "to_dict") else value
        for name, value in vars(answer).items()
    }
