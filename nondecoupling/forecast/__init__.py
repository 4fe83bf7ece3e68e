"""Before RL: what it will cost in SFT loss and which beta fits, from rewards of the start policy's own samples.

k responses of the start policy to each of n prompts, scored by the reward function, are all that is needed; nothing
is trained. ``forecast(samples)`` answers by reward (``at_reward``: what any algorithm pays at least, what exact
KL-regularised RL pays), by beta (``at_beta``) and by purpose (``recommend``); ``at_start`` says where it starts.
Every number is an ``Estimate`` whose interval contains the truth with probability at least ``level``; what the
samples do not support is answered by ``UnsupportedBeta``. The truth is an average over the law from which the prompts
were drawn. Prompts outside it, and what a network does that a table of policies would not, are not in it (D1, P6).

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> chances = rng.uniform(0.02, 0.5, size=(400, 1))  # success of the start policy, by prompt
>>> plan = forecast(Samples(rng.random((400, 16)) < chances, reward_bounds=(0, 1)))
>>> print(plan.at_reward(0.8).price)  # no algorithm reaches 0.8 for less than the lower end
0.66... in [0.50..., inf] at level 0.95 (lower end: supporting lines, betting, 400 prompts; value: plug-in)
>>> print(plan.at_beta(0.05))
beta = 0.05 is not supported: RL would move 1.6 nats ...; draw at least ... responses to each prompt
"""

from __future__ import annotations

from nondecoupling.forecast.answers import (
    AtBeta,
    AtReward,
    AtStart,
    Duration,
    Estimate,
    Joint,
    Recommendation,
    Threshold,
)
from nondecoupling.forecast.forecasts import Forecast, forecast
from nondecoupling.forecast.refusals import (
    NoSpread,
    RaggedRows,
    RepeatedPrompts,
    RewardOutsideBounds,
    TooFewPrompts,
)
from nondecoupling.forecast.samples import Samples
from nondecoupling.forecast.support import UnsupportedBeta, UnsupportedRecipe

__all__ = [
    "AtBeta",
    "AtReward",
    "AtStart",
    "Duration",
    "Estimate",
    "Forecast",
    "Joint",
    "NoSpread",
    "RaggedRows",
    "Recommendation",
    "RepeatedPrompts",
    "RewardOutsideBounds",
    "Samples",
    "Threshold",
    "TooFewPrompts",
    "UnsupportedBeta",
    "UnsupportedRecipe",
    "forecast",
]
