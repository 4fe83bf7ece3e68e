"""The training of one stage on the enumerated law.

SFT minimises CE(d, p), RL maximises J_b(p) = J(p) - beta KL(p || ref), joint training maximises
J_b(p) - lambda CE(d, p); all are averages over the prompts, exact sums over the enumerated responses, and use every
prompt in every step, so training is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nondecoupling import bounds
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.means import PromptMeans
from validate.errors import RunError
from validate.orders import BASE, plan

__all__ = ["Goal", "Trainer", "TrainerState", "TrainingFailed", "planned"]

WARM_UP_SHARE = 0.05
FINAL_RATE_SHARE = 0.01
LARGEST_GRADIENT = 1.0


def planned(config: EnumeratedConfiguration) -> list[tuple[str, int]]:
    """Stages and steps of all checkpoints of a run."""
    found = [(BASE, 0)]
    for stage in plan(config.order):
        steps = range(1, stage.steps(config) + 1)
        found += [(stage.name, n) for n in steps if _is_due(n, steps[-1], config.checkpoint_every)]
    return found


def _is_due(step: int, steps: int, checkpoint_every: int) -> bool:
    return step % checkpoint_every == 0 or step == steps


class TrainingFailed(RunError):
    """The run cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Goal:
    """What a stage optimises: "sft", "rl" or "joint", on the data law and the reward of ``mean``."""

    objective: str
    mean: PromptMeans
    log_ref: NDArray[np.float64] | None

    def loss(self, log_p: Tensor, processes: Processes) -> Tensor:
        """The average over this process's prompts, scaled so that the mean over processes is that over all."""

        def mine(array: NDArray[np.floating[Any]]) -> Tensor:
            return torch.from_numpy(processes.share(array)).to(log_p.device)

        loss = torch.zeros(len(log_p), dtype=log_p.dtype, device=log_p.device)
        mean = self.mean
        if self.objective in ("rl", "joint"):
            assert self.log_ref is not None
            ref, reward = mine(self.log_ref), mine(mean.reward)
            loss = loss - bounds.regularized_reward(log_p, ref, reward, mean.beta)
        if self.objective in ("sft", "joint"):
            share = 1.0 if self.objective == "sft" else mean.weight
            loss = loss + share * bounds.cross_entropy(mine(mean.log_d), log_p)
        return loss.sum() * processes.count / len(mean.reward)


class TrainerState(TypedDict):
    """All that a stage needs to go on; of the optimizer and the scheduler as torch lays them out."""

    step: int
    parameters: State
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]


class Trainer:
    """AdamW with warm-up and cosine, one step at a time; its state is all that a stage needs to go on."""

    def __init__(
        self, policy: nn.Module, processes: Processes, goal: Goal, steps: int, rate: float
    ) -> None:
        self.policy, self.processes, self.goal = policy, processes, goal
        self.steps, self.rate, self.step = steps, rate, 0
        self.parameters = [p for p in policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate_share)

    def _rate_share(self, step: int) -> float:
        warm_up = max(1, round(WARM_UP_SHARE * self.steps))
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, self.steps - warm_up)
        return FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * done))

    def loss(self) -> Tensor:
        """The number that the stage minimises.

        Raises:
            TrainingFailed: a probability has become 0 or not a number.
        """
        log_p = self.policy()
        if not torch.isfinite(log_p).all():
            raise TrainingFailed(
                f"the policy has a probability that is 0 or not a number before step {self.step + 1} of "
                f"{self.goal.objective}; lower the learning rate of this stage (now {self.rate:g})"
            )
        return self.goal.loss(log_p, self.processes)

    def advance(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, LARGEST_GRADIENT)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1

    def steps_left(self, checkpoint_every: int) -> Iterator[bool]:
        """Advance to the end of the stage; yields after each step whether a checkpoint is due."""
        while self.step < self.steps:
            self.advance()
            yield _is_due(self.step, self.steps, checkpoint_every)

    def state_dict(self) -> TrainerState:
        return {
            "step": self.step,
            "parameters": self.processes.trained_state(self.policy),
            "optimizer": self.processes.optimizer_state(self.policy, self.optimizer),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: TrainerState) -> None:
        self.step = state["step"]
        self.processes.set_trained_state(self.policy, state["parameters"])
        self.processes.set_optimizer_state(self.policy, self.optimizer, state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
