"""The Pareto plot: SFT loss against reward, the limits that the theory sets, and where trained policies landed.

The curves belong to a finite world [prompts, responses]; with enumerated responses it is the model's own law, with
sampled ones it is estimated. Losses are shown above their smallest value H(d), so both protocols share an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from nondecoupling import bounds, plot

__all__ = ["Landing", "Landscape", "pareto_plot"]

POINTS = 129
# How far the tilt path is drawn, in multiples of 1/beta.
LONGEST = 3.0
# Dots nearer than this, in parts of the whole spread, share a label.
SAME_PLACE = 0.03


@dataclass(frozen=True)
class Landscape:
    """log_d, log_ref and reward of one ref, [prompts, responses], and each prompt's highest reward, [prompts, 1]."""

    log_d: np.ndarray
    log_ref: np.ndarray
    reward: np.ndarray
    beta: float
    best: np.ndarray

    @property
    def floor(self) -> float:
        return float(bounds.entropy(self.log_d).mean())

    @property
    def tilt(self) -> np.ndarray:
        return bounds.gibbs_tilt(self.log_ref, self.reward, self.beta)


@dataclass(frozen=True)
class Landing:
    """A trained policy: its averages, with the ends of their intervals where they are estimates."""

    title: str
    excess_loss: float
    reward: float
    regularized_reward: float
    loss_ends: tuple[float, float] | None = None
    reward_ends: tuple[float, float] | None = None


def pareto_plot(landscape: Landscape, landings: Sequence[Landing]) -> str:
    """SVG: left the raw reward with S5, S4 and J1; right the regularised reward with J1's frontier."""
    figure, (left, right) = plot.subplots(1, 2, size=(11.0, 4.8))
    log_d, log_ref, reward, beta = (
        landscape.log_d, landscape.log_ref, landscape.reward, landscape.beta,
    )  # fmt: skip
    # A response with the best reward may exist although ref never gave it: d has no mass there.
    nothing = np.full((len(log_d), 1), -np.inf)
    with_best = np.hstack([log_d, nothing]), np.hstack([reward, landscape.best])
    label = "K_inf frontier: nothing lies below (S5)"
    plot.frontier(*with_best, ax=left, points=POINTS, above_floor=True, label=label)
    times = np.linspace(0, LONGEST / beta, POINTS)[1:]
    label = "RL optima, 1/beta rising (S4)"
    plot.tilt_path(
        log_d, reward, log_ref=log_ref, betas=1 / times, ax=left, above_floor=True, label=label
    )
    joint = bounds.joint_path(log_d, log_ref, reward, beta, points=POINTS)
    label = "joint optima, lambda rising (J1)"
    plot.policies(log_d, joint, reward, ax=left, above_floor=True, label=label)
    loss, best = bounds.pareto_frontier(log_d, reward, log_ref=log_ref, beta=beta, points=POINTS)
    label = "joint frontier: nothing lies below (J1)"
    right.plot(best, loss - landscape.floor, **plot.line(2), label=label)
    right.set_xlabel("regularised reward J_b(p)")
    right.set_ylabel(left.get_ylabel())
    right.legend(loc="upper left")
    highest = max(landing.excess_loss for landing in landings) or 1.0
    for axis, name in ((left, "reward"), (right, "regularized_reward")):
        _draw_landings(axis, landings, name)
        axis.set_ylim(-0.04 * highest, 1.25 * highest)
    reached = [landing.regularized_reward for landing in landings]
    room = 0.1 * (max(*reached, best.max()) - min(reached))
    right.set_xlim(min(reached) - room, max(*reached, best.max()) + room)
    return plot.svg(figure)


def _draw_landings(axis: Axes, landings: Sequence[Landing], name: str) -> None:
    """Numbered dots, with their intervals; those that lie on top of each other share a label."""
    points = np.array([(getattr(landing, name), landing.excess_loss) for landing in landings])
    size = np.maximum(np.ptp(points, axis=0), 1e-12)
    labels: dict[int, list[int]] = {}
    for index, (landing, (x, y)) in enumerate(zip(landings, points, strict=True)):
        if name == "reward" and landing.loss_ends and landing.reward_ends:
            axis.plot((x, x), landing.loss_ends, "-", color=plot.BLUE, lw=0.8)
            axis.plot(landing.reward_ends, (y, y), "-", color=plot.BLUE, lw=0.8)
        axis.plot(x, y, "o", color=plot.BLUE, ms=5)
        near = np.abs((points - points[index]) / size).max(axis=1) < SAME_PLACE
        labels.setdefault(int(np.argmax(near)), []).append(index + 1)
    for first, numbers in labels.items():
        text = ", ".join(map(str, numbers))
        axis.annotate(text, points[first], xytext=(6, -12), textcoords="offset points")
    names = ", ".join(f"{i + 1} {landing.title}" for i, landing in enumerate(landings))
    axis.set_title(names, fontsize=8, loc="left", wrap=True)
