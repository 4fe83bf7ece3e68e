"""Alternation by natural gradient in the network's own parameters: T6 as it is stated, but for the shared parameters.

RL for the time s moves a law to its tilt at 1/s, SFT for the time t moves it the share eta = 1 - e^-t of the way to
the data (T6). Each phase is made by a few steps of Gauss-Newton: with Phi the Jacobian of log p, prompts x responses
by parameters, and p their probabilities, a step solves

    min over moves of   sum p (Phi move - (log target - log p))^2 + damping |move|^2

in the space of responses, a system as large as they are many, and is halved while it would lead farther from the
target. A phase that does not get close to its target ends the cycles: they would not be those of T6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from validate.enumerated.coupling import features, move
from validate.enumerated.means import PromptMeans
from validate.errors import RunError

from nondecoupling import bounds
from nondecoupling.bounds.schedules import After
from nondecoupling.lm.enumerated_law import EnumeratedLaw

__all__ = ["NotReached", "cycles", "limit", "move_to", "settled_after"]

Law = NDArray[np.floating[Any]]
# In parts of the mean eigenvalue of the weighted kernel.
DAMPING = 1e-6
# A phase ends within this many nats of its target, and fails after so many steps.
CLOSE, MOST_STEPS, MOST_HALVINGS = 1e-6, 30, 6
# Cycles are made until T6 says that less than this is left of the distance to the limit.
LEFT = 1e-2


class NotReached(RunError):
    """A phase ended too far from its target."""


def limit(mean: PromptMeans, rl_time: float, share: float, after: After) -> Law:
    """T6: log of where the cycles end. The data lack `other`, whose mass the cycles shrink to nothing."""
    listed = mean.log_d[:, :-1], mean.reward[:, :-1]
    law = bounds.alternation_limit(*listed, rl_time, share, after)
    return np.hstack([law, np.full((len(law), 1), -math.inf)])


def settled_after(mean: PromptMeans, rl_time: float, share: float) -> int:
    """How many cycles T6's rate asks for, at the slowest prompt."""
    rate = bounds.alternation_rate(mean.log_d[:, :-1], mean.reward[:, :-1], rl_time, share).max()
    return math.ceil(math.log(LEFT) / math.log(rate))


def cycles(
    policy: EnumeratedLaw, mean: PromptMeans, rl_time: float, share: float, count: int
) -> Iterator[tuple[After, Law]]:
    """Makes the cycles, then half of one more RL phase and its other half: the last three laws, each as it is made."""
    for _ in range(count):
        _rl(policy, mean, rl_time)
        law = policy.measured()
        kept, new = math.log1p(-share) + law, math.log(share) + mean.log_d
        move_to(policy, np.logaddexp(kept, new))
    yield "sft", policy.measured()
    _rl(policy, mean, rl_time / 2)
    yield "half-rl", policy.measured()
    _rl(policy, mean, rl_time / 2)
    yield "rl", policy.measured()


def _rl(policy: EnumeratedLaw, mean: PromptMeans, time: float) -> None:
    move_to(policy, bounds.gibbs_tilt(policy.measured(), mean.reward, 1 / time))


def move_to(policy: EnumeratedLaw, target: Law) -> None:
    """Move the parameters so that the law becomes the target.

    Raises:
        NotReached: it does not, to ``CLOSE``.
    """
    for _ in range(MOST_STEPS):
        log_p, phi = features(policy)
        left = bounds.kl_divergence(target, log_p).mean()
        if left < CLOSE:
            return
        root = torch.from_numpy(np.exp(log_p / 2)).flatten()
        weighted = root[:, None] * phi
        wanted = root * torch.from_numpy(target - log_p).flatten()
        kernel = weighted @ weighted.T
        kernel += DAMPING * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=kernel.dtype)
        step = weighted.T @ torch.linalg.solve(kernel, wanted)
        _step_towards(policy, target, step, float(left))
    left = bounds.kl_divergence(target, policy.measured()).mean()
    if left >= CLOSE:
        raise NotReached(
            f"a phase of natural gradient is {left:.1g} nats from its target after {MOST_STEPS} steps of Gauss-Newton, "
            f"more than {CLOSE:g}: the parameters cannot follow T6 here"
        )


@torch.no_grad()
def _step_towards(policy: EnumeratedLaw, target: Law, step: Tensor, before: float) -> None:
    """The step, halved until it leads nearer to the target than ``before`` nats, ``MOST_HALVINGS`` times at most."""
    move(policy, step)
    for _ in range(MOST_HALVINGS):
        if bounds.kl_divergence(target, policy.measured()).mean() < before:
            return
        step = step / 2
        move(policy, -step)
