"""What a forecast says: numbers with intervals, at a reward, at a beta, and as a recommendation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.estimate import Interval
from nondecoupling.forecast.support import UnsupportedBeta


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
class AtBeta:
    """Exact KL-regularised RL at ``beta``: what its optimum, the tilt ref e^{r/beta}/Z, has and costs.

    Averages over prompts. ``own_loss_change``: of the SFT loss on responses of the start policy itself, the coupling
    gap log Z - E_ref r/beta >= 0 (S2). ``expert_loss_change``: on the expert responses, log Z - E_expert r/beta (S1),
    which may be negative (S6); None without expert rewards. Units: ``reward`` and ``soft_value`` (beta log Z) in
    those of the reward, ``kl`` (KL(tilt||ref)) and the losses in nats per response.
    """

    beta: float
    reward: Estimate
    kl: Estimate
    own_loss_change: Estimate
    expert_loss_change: Estimate | None
    soft_value: Estimate

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)


@dataclass(frozen=True)
class AtReward:
    """What an average reward ``target`` costs, in nats per response of SFT loss on the start policy's own data.

    ``price``: the least that *any* policy pays, however it was found (S5). Its lower end is the floor; ``value`` is
    the plug-in price, which few responses push up and a highest reward that no response has pushes down.
    ``tilt_price``: what exact KL-regularised RL pays at the beta that reaches the target, ``beta``. Both are
    ``UnsupportedBeta`` where the samples do not reach that far.
    """

    target: float
    price: Estimate
    tilt_price: Estimate | UnsupportedBeta
    beta: Estimate | UnsupportedBeta

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)


@dataclass(frozen=True)
class Recommendation:
    """Two choices of beta: one that holds with probability at least 1 - delta, and the plug-in's; why they differ.

    ``guaranteed`` is None where no beta is sure to do what was asked.
    """

    asked: str
    guaranteed: AtBeta | UnsupportedBeta | None
    plug_in: AtBeta | UnsupportedBeta
    why: str

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)


def _plain(answer: Any) -> dict[str, Any]:
    return {
        name: value.to_dict() if hasattr(value, "to_dict") else value
        for name, value in vars(answer).items()
    }
