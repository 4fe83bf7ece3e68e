"""The finite world of a run: its averages over prompts, the recorded policies, and the episodes they form.

An episode is one RL (or joint) stage with the SFT before it and the SFT after it. In an episode ref is the policy at
the start of RL, d is the data law, and p is the policy at a checkpoint. With self-distilled data d is the law of ref.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.lm.tolerances import mass_error
from validate.orders import STAGES

__all__ = ["Checkpoint", "Episode", "World", "measures"]


class World:
    """Data law and reward, [prompts, responses], and the averages over prompts that the rows are made of.

    ``weight`` is lambda, the weight of the SFT loss in joint training.
    """

    def __init__(self, log_d: np.ndarray, reward: np.ndarray, beta: float, weight: float) -> None:
        self.log_d, self.reward, self.beta, self.weight = log_d, reward, beta, weight
        self.range = float((self.reward.max(axis=1) - self.reward.min(axis=1)).max())
        self.data_entropy = float(bounds.entropy(self.log_d).mean())
        self.data_reward = self.j(self.log_d)

    def ce(self, log_d: np.ndarray, log_p: np.ndarray) -> float:
        return float(bounds.cross_entropy(log_d, log_p).mean())

    def entropy(self, log_p: np.ndarray) -> float:
        return float(bounds.entropy(log_p).mean())

    def kl(self, log_p: np.ndarray, log_q: np.ndarray) -> float:
        return float(bounds.kl_divergence(log_p, log_q).mean())

    def j(self, log_p: np.ndarray) -> float:
        return float(bounds.expected_reward(log_p, self.reward).mean())

    def jb(self, log_p: np.ndarray, log_ref: np.ndarray) -> float:
        return float(bounds.regularized_reward(log_p, log_ref, self.reward, self.beta).mean())

    def tilt(self, log_ref: np.ndarray) -> np.ndarray:
        return bounds.gibbs_tilt(log_ref, self.reward, self.beta)

    def joint_optimum(self, log_ref: np.ndarray) -> np.ndarray:
        return bounds.joint_optimum(self.log_d, log_ref, self.reward, self.beta, self.weight)

    def joint_gap(self, log_p: np.ndarray, log_ref: np.ndarray) -> float:
        """F(p_joint) - F(p) with F(p) = J_b(p) - lambda CE(d, p)."""
        laws = log_p, self.log_d, log_ref
        return float(bounds.joint_gap(*laws, self.reward, self.beta, self.weight).mean())

    def joint_saving(self, log_ref: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """J3's bounds, per prompt."""
        return bounds.joint_saving_bounds(self.log_d, log_ref, self.reward, self.beta, self.weight)

    def soft_value(self, log_ref: np.ndarray) -> float:
        return self.beta * float(bounds.log_partition(log_ref, self.reward, self.beta).mean())

    def gap(self, log_d: np.ndarray) -> float:
        return float(bounds.coupling_gap(log_d, self.reward, self.beta).mean())

    @property
    def two_levels(self) -> bool:
        """Whether every prompt has at most two rewards: the equality case of S3 and S5."""
        return all(len(np.unique(rewards)) <= 2 for rewards in self.reward)

    def price(self, log_d: np.ndarray, log_p: np.ndarray) -> float:
        """E_q K_inf(d_x, J_x(p)): each prompt pays for its own reward."""
        return float(bounds.price_of_policy(log_d, log_p, self.reward).mean())

    def threshold(self, log_ref: np.ndarray) -> float:
        """S6: an eps below this makes RL to the tilt raise the SFT loss (Pinsker form)."""
        if self.range == 0:
            return 0.0
        return 2 * (self.beta * self.kl(log_ref, self.tilt(log_ref)) / self.range) ** 2

    def of_tilt(self, function: Callable[..., Any], *laws: np.ndarray) -> float:
        return float(function(*laws, self.reward, self.beta).mean())


@dataclass(frozen=True)
class Checkpoint:
    """A recorded policy: its stage, its step and log p, [prompts, candidates + 1]."""

    stage: str
    step: int
    log_p: np.ndarray

    @property
    def place(self) -> str:
        return f"{self.stage} {self.step}"


@dataclass(frozen=True)
class Episode:
    """SFT (or warm-up), RL or joint training, and perhaps SFT again; each a list of checkpoints, the last its result.

    ``world`` has the data law of what comes after ref.
    """

    world: World
    before: list[Checkpoint]
    rl: list[Checkpoint]
    after: list[Checkpoint]

    @property
    def ref(self) -> Checkpoint:
        return self.before[-1]

    @property
    def is_joint(self) -> bool:
        return STAGES[self.rl[-1].stage].objective == "joint"


def measures(
    world: World, log_p: np.ndarray, log_ref: np.ndarray | None
) -> dict[str, float | None]:
    """What is reported at every checkpoint; None where there is no ref yet."""
    against_ref: dict[str, float | None] = dict.fromkeys(
        ("regularized_reward", "kl_to_ref", "kl_to_tilt")
    )
    if log_ref is not None:
        against_ref = {
            "regularized_reward": world.jb(log_p, log_ref),
            "kl_to_ref": world.kl(log_p, log_ref),
            "kl_to_tilt": world.kl(log_p, world.tilt(log_ref)),
        }
    return {
        "sft_loss": world.ce(world.log_d, log_p),
        "eps": world.kl(world.log_d, log_p),
        "reward": world.j(log_p),
        **against_ref,
        "price_of_reward": world.price(world.log_d, log_p),
        "p_other": float(np.exp(log_p[:, -1]).mean()),
        "mass_error": mass_error(log_p),
        "smallest_p": float(np.exp(log_p).min()),
    }
