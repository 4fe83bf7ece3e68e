"""What a reader sees before anything else: a verdict, a picture, five numbers, what was confirmed and what was not."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Figure", "FirstScreen", "figures_of"]


@dataclass(frozen=True)
class Figure:
    """A number in large type; ``note`` says in small type what it is compared with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class FirstScreen:
    """``title`` names the stage that the figures are about, ``picture`` is the file name of its plot."""

    title: str
    verdict: str
    picture: str
    figures: list[Figure]
    confirmed: str
    not_confirmed: str


def figures_of(
    action: str,
    *,
    loss: tuple[float, float],
    predicted: tuple[float, float],
    by: str,
    least: float,
    reward: tuple[float, float],
    notes: tuple[str, str, str] = ("", "for this reward, by any algorithm (S5)", ""),
) -> list[Figure]:
    """SFT losses above H(d), nats per response, before and after a stage; the same for the reward.

    ``predicted``: loss and reward at the end that a statement, ``by``, gives the stage; ``least``: the loss of any
    policy with the reward that was reached. ``notes`` are added to the loss afterwards, to the least one and to the
    reward.
    """
    before, after = loss
    loss_at_end, reward_at_end = predicted
    end = f"{loss_at_end - before:+.3f} at the exact end of {action} ({by}), for a reward of {reward_at_end:.3f}"
    start, reached = reward
    return [
        Figure(f"SFT loss before {action}", f"{before:.3f}", "nats above H(d)"),
        Figure(f"SFT loss after {action}", f"{after:.3f}", f"{after - before:+.3f}{notes[0]}"),
        Figure("predicted", f"{loss_at_end:.3f}", end),
        Figure("least possible", _shown(least), notes[1]),
        Figure("reward", f"{reached:.3f}", f"{start:.3f} before{notes[2]}"),
    ]


def _shown(loss: float) -> str:
    return f"{loss:.3f}" if math.isfinite(loss) else "not known"
