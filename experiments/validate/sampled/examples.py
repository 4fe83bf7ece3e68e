"""Responses that the model wrote, before RL and after it, at the prompts where most changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from validate.orders import STAGES
from validate.sampled.digest import Result
from validate.sampled.first_screen import main_policy
from validate.sampled.measuring import Measurement

__all__ = ["ChangedPrompt", "Examples", "examples"]

# Prompts of each end, and responses of each policy.
SHOWN_PROMPTS, SHOWN_RESPONSES = 5, 2


@dataclass(frozen=True)
class ChangedPrompt:
    """Rewards of a prompt on average, before and after, the change of its SFT loss, and some responses with rewards."""

    prompt: str
    label: str
    reward_before: float
    reward_after: float
    loss_change: float
    before: list[tuple[str, float]]
    after: list[tuple[str, float]]


@dataclass(frozen=True)
class Examples:
    """``title`` and ``ref`` name the policies after and before."""

    title: str
    ref: str
    least_gained: list[ChangedPrompt]
    most_gained: list[ChangedPrompt]


def examples(result: Result) -> Examples:
    """The prompts whose average reward changed least (or fell) and most, of those that the verdicts rest on."""
    name = main_policy(result)
    stage, e = STAGES[name], result.evidence(name)
    assert stage.ref is not None
    before, after = (result.measurements[one].part(result.pilot, None) for one in (stage.ref, name))
    questions = result.task.evaluation[result.pilot :]
    # Evaluation prompts are drawn with replacement: each is shown once.
    distinct = list({q.text: i for i, q in reversed(list(enumerate(questions)))}.values())
    gain = e.reward - e.ref_reward
    ranked = sorted(distinct, key=lambda i: (gain[i], i))
    half = min(SHOWN_PROMPTS, len(ranked) // 2)
    changed = {
        i: ChangedPrompt(
            prompt=questions[i].text,
            label=questions[i].label,
            reward_before=float(e.ref_reward[i]),
            reward_after=float(e.reward[i]),
            loss_change=float((e.excess - e.ref_excess)[i]),
            before=_responses(before, i),
            after=_responses(after, i),
        )
        for i in {*ranked[:half], *ranked[len(ranked) - half :]}
    }
    return Examples(
        title=stage.title,
        ref=STAGES[stage.ref].title,
        least_gained=[changed[i] for i in ranked[:half]],
        most_gained=[changed[i] for i in reversed(ranked[len(ranked) - half :])],
    )


def _responses(measured: Measurement, prompt: int) -> list[tuple[str, float]]:
    """The first of them, as they were drawn."""
    rewards: np.ndarray = measured.rewards[prompt]
    return list(zip(measured.texts[prompt], rewards.tolist(), strict=True))[:SHOWN_RESPONSES]
