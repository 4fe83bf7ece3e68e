"""The training of one stage on the enumerated law.

SFT minimises CE(d, p), RL maximises J_b(p) = J(p) - beta KL(p || ref) or follows the gradient that another recipe
expects, joint training maximises J_b(p) - lambda CE(d, p), alternation minimises -J(p) and CE(d, p) by turns; all are
averages over the prompts, exact sums over the enumerated responses, and use every prompt in every step, so training is
deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nondecoupling import bounds
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes
from nondecoupling.recipes import Recipe
from validate.configuration import EnumeratedConfiguration
from validate.enumerated.endings import ending_of, recipe_of
from validate.enumerated.means import PromptMeans
from validate.errors import RunError
from validate.orders import BASE, Stage, plan

__all__ = ["Goal", "Trainer", "TrainerState", "TrainingFailed", "goal_of", "planned"]

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
    """What a stage optimises: "sft", "rl", "joint" or "alternate", on the data law and the reward of ``mean``.

    RL follows ``recipe``, or maximises J_b where there is none. ``cycle`` counts the RL and the SFT steps of a cycle.
    """

    objective: str
    mean: PromptMeans
    log_ref: NDArray[np.float64] | None
    recipe: Recipe | None = None
    cycle: tuple[int, int] | None = None

    @property
    def settles(self) -> bool:
        """Whether the stage minimises one loss to its end. Where losses alternate it reaches a cycle instead."""
        return self.cycle is None

    def loss(self, log_p: Tensor, processes: Processes, step: int) -> Tensor:
        """The average over this process's prompts, scaled so that the mean over processes is that over all."""

        def mine(array: NDArray[np.floating[Any]]) -> Tensor:
            return torch.from_numpy(processes.share(array)).to(log_p.device)

        loss = torch.zeros(len(log_p), dtype=log_p.dtype, device=log_p.device)
        mean, turn = self.mean, self._turn(step)
        if turn in ("rl", "joint"):
            assert self.log_ref is not None
            ref, reward = mine(self.log_ref), mine(mean.reward)
            if self.recipe is None:
                loss = loss - bounds.regularized_reward(log_p, ref, reward, mean.beta)
            else:
                # A number whose gradient is the one that the recipe expects: not all of them have an objective.
                held = log_p.detach()
                pull = bounds.expected_gradient(held, ref, reward, self.recipe)
                loss = loss - (pull * log_p).sum(dim=-1)
        if turn == "reward":
            loss = loss - bounds.expected_reward(log_p, mine(mean.reward))
        if turn in ("sft", "joint"):
            share = 1.0 if turn == "sft" else mean.weight
            loss = loss + share * bounds.cross_entropy(mine(mean.log_d), log_p)
        return loss.sum() * processes.count / len(mean.reward)

    def _turn(self, step: int) -> str:
        if self.cycle is None:
            return self.objective
        rl, sft = self.cycle
        return "reward" if step % (rl + sft) < rl else "sft"


def goal_of(
    stage: Stage,
    config: EnumeratedConfiguration,
    mean: PromptMeans,
    laws: Mapping[str, NDArray[np.float64]],
) -> Goal:
    """``laws`` holds log p at the end of the stages before; ``mean`` the data law and the reward.

    Raises:
        InputError: the stage is RL by a recipe that has no end from its ref.
    """
    ref = None if stage.ref is None else laws[stage.ref]
    if stage.objective == "distil":
        return Goal("sft", replace(mean, log_d=ending_of(stage, config, mean, laws).log_p), ref)
    if stage.objective == "alternate":
        return Goal("alternate", mean, ref, cycle=config.cycle())
    if stage.objective == "rl" and (recipe := recipe_of(config)):
        ending_of(stage, config, mean, laws)
        return Goal("rl", mean, ref, recipe)
    return Goal(stage.objective, mean, ref)


class TrainerState(TypedDict):
    """All that a stage needs to go on; of the optimizer and the scheduler as torch lays them out."""

    step: int
    parameters: State
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]


class Trainer:
    """AdamW with warm-up and cosine, one step at a time; its state is all that a stage needs to go on.

    Where losses alternate the rate stays, or the cycles would shrink, and gradients are not clipped, which would weigh
    the longer ones of SFT less: the balance of the two is what decides where cycles end.
    """

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
        if not self.goal.settles:
            return 1.0
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
        return self.goal.loss(log_p, self.processes, self.step)

    def advance(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        if self.goal.settles:
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
