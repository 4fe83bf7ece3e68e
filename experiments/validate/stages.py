"""Which training stages an order has, and the training of one stage.

SFT minimises CE(d, p) averaged over the prompts with the known data law, RL maximises
J_b(p) = J(p) - beta KL(p || ref) with ref the policy at the start of the stage. Both are exact sums over the
enumerated responses and both use every prompt in every step, so training is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nondecoupling import bounds
from validate.data import Task
from validate.enumerate import Enumeration
from validate.models import LanguageModel

__all__ = ["ORDERS", "Stage", "Trainer", "TrainingFailed", "plan"]

WARM_UP_SHARE = 0.05
FINAL_RATE_SHARE = 0.01
LARGEST_GRADIENT = 1.0


class TrainingFailed(Exception):
    """The run cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Stage:
    """One stage. ``start`` is "base" (the model before any training) or "previous"."""

    name: str
    title: str
    objective: str
    start: str


STAGES = {
    stage.name: stage
    for stage in (
        Stage("sft", "SFT", "sft", "base"),
        Stage("rl", "RL after SFT", "rl", "previous"),
        Stage("sft-again", "SFT after RL (cycle)", "sft", "previous"),
        Stage("warm-up", "warm-up SFT", "sft", "base"),
        Stage("rl-first", "RL from the warm-up", "rl", "previous"),
        Stage("sft-after", "SFT after RL", "sft", "previous"),
    )
}
ORDERS = {
    "sft-rl": ("sft", "rl"),
    "rl-sft": ("warm-up", "rl-first", "sft-after"),
    "cycle": ("sft", "rl", "sft-again"),
}


def plan(order: str) -> list[Stage]:
    """The stages to train, in turn. "all" trains the SFT and RL that sft-rl and cycle share once."""
    names = [*ORDERS["cycle"], *ORDERS["rl-sft"]] if order == "all" else ORDERS[order]
    return [STAGES[name] for name in names]


class Trainer:
    """AdamW with warm-up and cosine, one step at a time; its state is all that a stage needs to go on."""

    def __init__(
        self,
        language_model: LanguageModel,
        enumeration: Enumeration,
        task: Task,
        beta: float,
        objective: str,
        log_ref: Tensor | None,
        steps: int,
        rate: float,
    ) -> None:
        self.language_model = language_model
        self.enumeration = enumeration
        self.objective, self.log_ref = objective, log_ref
        self.steps, self.rate, self.beta = steps, rate, beta
        device = language_model.device
        self.log_d = torch.from_numpy(task.log_d).to(device)
        self.reward = torch.from_numpy(task.reward).to(device)
        self.parameters = list(language_model.trainable.values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate_share)
        self.step = 0

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
        log_p = self.enumeration.log_law()
        if not torch.isfinite(log_p).all():
            raise TrainingFailed(
                f"the policy has a probability that is 0 or not a number before step {self.step + 1} of "
                f"{self.objective}; lower the learning rate of this stage (now {self.rate:g})"
            )
        if self.objective == "sft":
            return bounds.cross_entropy(self.log_d, log_p).mean()
        return -bounds.regularized_reward(log_p, self.log_ref, self.reward, self.beta).mean()

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
            yield self.step % checkpoint_every == 0 or self.step == self.steps

    def state_dict(self) -> dict:
        return {
            "step": self.step,
            "parameters": self.language_model.state(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.step = state["step"]
        self.language_model.restore(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
