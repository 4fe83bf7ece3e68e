"""During RL: what the run pays in SFT loss for its reward, what that reward costs at least, and alarms that hold.

``CouplingMonitor`` is made from what ``lm.collect`` drew from the start policy. In a training with TRL its ``wrap``
goes around the reward function and its ``callback`` among the callbacks; for runs of any framework ``update`` takes
arrays, and ``nondecoupling monitor`` the rollouts that trainers write down. Every look gives a ``Reading``. NumPy
only, but for ``wrap`` and ``callback``.

>>> import numpy as np
>>> from nondecoupling.forecast import Samples
>>> rng = np.random.default_rng(0)
>>> chances = rng.uniform(0.2, 0.7, size=(400, 1))
>>> monitor = CouplingMonitor(Samples(rng.random((400, 16)) < chances, reward_bounds=(0, 1)))
>>> rollouts = rng.random((200, 8)) < 0.7
>>> print(monitor.update(50, None, rollouts))  # without log-probabilities: prices only
step 50, reward 0.69... in [0.6..., 0.7...], price 0.11..., of exact RL 0.11... at beta 0.9...
"""

from __future__ import annotations

from nondecoupling.monitor.limits import average_interval, rise_lower_limit, share_of
from nondecoupling.monitor.monitors import CouplingMonitor
from nondecoupling.monitor.prices import Bounded, PriceCurves
from nondecoupling.monitor.readings import Reading
from nondecoupling.monitor.refusals import SamplesOfAnotherModel, SamplingDiffers
from nondecoupling.monitor.rollout_files import Rollouts, read_rollouts

__all__ = [
    "Bounded",
    "CouplingMonitor",
    "PriceCurves",
    "Reading",
    "Rollouts",
    "SamplesOfAnotherModel",
    "SamplingDiffers",
    "average_interval",
    "read_rollouts",
    "rise_lower_limit",
    "share_of",
]
