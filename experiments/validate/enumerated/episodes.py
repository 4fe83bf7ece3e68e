"""The recorded policies of a run, and the episodes that they form.

An episode is one RL (or joint) stage with the SFT before it and the SFT after it. In an episode ref is the policy at
the start of RL, d is the data law, and p is the policy at a checkpoint. With self-distilled data d is the law of ref.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nondecoupling.lm.tolerances import mass_error
from validate.enumerated.endings import Ending
from validate.enumerated.means import PromptMeans
from validate.orders import BASE, EPISODES, STAGES

__all__ = ["Checkpoint", "Episode", "episodes_of"]


@dataclass(frozen=True)
class Checkpoint:
    """A recorded policy: its stage, its step and log p, [prompts, candidates + 1].

    ``mass_before`` is |sum p - 1| before a law with its head in less than float64 was divided by its sum.
    """

    stage: str
    step: int
    log_p: NDArray[np.float64]
    mass_before: float | None = None

    @property
    def place(self) -> str:
        return f"{self.stage} {self.step}"

    @property
    def mass_error(self) -> float:
        """|sum p - 1| as it was summed up."""
        return mass_error(self.log_p) if self.mass_before is None else self.mass_before


@dataclass(frozen=True)
class Episode:
    """SFT (or warm-up), RL or another stage from its result, and perhaps SFT again: lists of checkpoints.

    The last checkpoint of a stage is its result. ``mean`` has the data law of what comes after ref. ``ending`` is where
    the theory says that the stage after ref ends; None where that is the tilt of ref, or the joint optimum.
    """

    mean: PromptMeans
    before: list[Checkpoint]
    rl: list[Checkpoint]
    after: list[Checkpoint]
    ending: Ending | None = None

    @property
    def ref(self) -> Checkpoint:
        return self.before[-1]

    @property
    def is_joint(self) -> bool:
        return STAGES[self.rl[-1].stage].objective == "joint"

    @property
    def best(self) -> Ending:
        """Where the stage after ref leads."""
        if self.ending is not None:
            return self.ending
        ref = self.ref.log_p
        if self.is_joint:
            return Ending(self.mean.joint_optimum(ref), "joint optimum", "J1")
        return Ending(self.mean.tilt(ref), "RL optimum", "S1")

    @property
    def title(self) -> str:
        stages = [stage[-1].stage for stage in (self.before, self.rl, self.after) if stage]
        return " -> ".join(STAGES[name].title for name in stages)


def episodes_of(
    by_stage: Mapping[str, Sequence[Checkpoint]], experts: PromptMeans, self_distilled: bool
) -> list[Episode]:
    """The episodes whose RL stage was trained."""
    episodes = []
    for before, rl, after in EPISODES:
        if rl in by_stage:
            first = [*by_stage[BASE], *by_stage[before]]
            mean = replace(experts, log_d=first[-1].log_p) if self_distilled else experts
            last = by_stage.get(after, []) if after else []
            episodes.append(Episode(mean, first, list(by_stage[rl]), list(last)))
    return episodes
