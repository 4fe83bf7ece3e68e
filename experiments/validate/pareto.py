"""The Pareto plot: SFT loss against reward, the limits that the theory sets, and where trained policies landed.

The curves belong to a finite world [prompts, responses]; with enumerated responses it is the model's own law, with
sampled ones it is estimated. Losses are shown above their smallest value H(d), so both protocols share an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from nondecoupling import bounds
from validate.style import BOUND, INK, OBSERVED, PREDICTED, SECOND, plt, png

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

    def price_frontier(self) -> tuple[np.ndarray, np.ndarray]:
        """S5: the policies that buy reward at one rate for all prompts; no policy lies above them."""
        spread = float(np.ptp(self.reward, axis=1).max()) or 1.0
        rates = np.geomspace(1e-2, 1e3, POINTS)[:, None] / spread
        # A response with the best reward may exist although ref never gave it: d has no mass there.
        nothing = np.full((len(self.log_d), 1), -np.inf)
        log_d = np.hstack([self.log_d, nothing])
        reward = np.hstack([self.reward, self.best])
        policies, *_ = bounds.frontier_policy(log_d[None], reward[None], rates)
        laws = np.concatenate([log_d[None], policies])
        loss = bounds.cross_entropy(log_d, laws).mean(axis=-1) - self.floor
        return loss, bounds.expected_reward(laws, reward).mean(axis=-1)

    def tilt_path(self) -> tuple[np.ndarray, np.ndarray]:
        """S4: RL optima for RL weights from nothing to ``LONGEST``/beta."""
        times = np.linspace(0, LONGEST / self.beta, POINTS)[1:]
        tilts = bounds.gibbs_tilt(self.log_ref[None], self.reward[None], 1 / times[:, None])
        return self._points(np.concatenate([self.log_ref[None], tilts]))

    def joint_path(self) -> tuple[np.ndarray, np.ndarray]:
        """J1: joint optima, from the RL optimum (lambda = 0) to the data law."""
        worlds = self.log_d, self.log_ref, self.reward, self.beta
        return self._points(bounds.joint_path(*worlds, points=POINTS))

    def joint_frontier(self) -> tuple[np.ndarray, np.ndarray]:
        """J1: the best regularised reward of any policy for its SFT loss."""
        loss, best = bounds.pareto_frontier(
            self.log_d, self.reward, log_ref=self.log_ref, beta=self.beta, points=POINTS
        )
        return loss - self.floor, best

    def _points(self, laws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        loss = bounds.cross_entropy(self.log_d, laws).mean(axis=-1) - self.floor
        return loss, bounds.expected_reward(laws, self.reward).mean(axis=-1)


@dataclass(frozen=True)
class Landing:
    """A trained policy: its averages, with the ends of their intervals where they are estimates."""

    title: str
    excess_loss: float
    reward: float
    regularized_reward: float
    loss_ends: tuple[float, float] | None = None
    reward_ends: tuple[float, float] | None = None


def pareto_plot(landscape: Landscape, landings: Sequence[Landing]) -> bytes:
    """PNG: left the raw reward with S5, S4 and J1; right the regularised reward with J1's frontier."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11.0, 4.8), layout="constrained")
    left.plot(
        *landscape.price_frontier(), color=BOUND, label="K_inf frontier: nothing lies above (S5)"
    )
    left.plot(
        *landscape.tilt_path(), color=PREDICTED, ls="--", label="RL optima, 1/beta rising (S4)"
    )
    left.plot(*landscape.joint_path(), color=SECOND, label="joint optima, lambda rising (J1)")
    right.plot(
        *landscape.joint_frontier(), color=SECOND, label="joint frontier: nothing lies above (J1)"
    )
    for axis, height in ((left, "reward"), (right, "regularized_reward")):
        _draw_landings(axis, landings, height)
        axis.set_xlabel("SFT loss above its minimum  [nats per response]")
    left.set_ylabel("reward J")
    right.set_ylabel("regularised reward J_b")
    widest = max(landing.excess_loss for landing in landings)
    for axis in (left, right):
        axis.set_xlim(-0.04 * widest, 1.25 * widest)
    lows = [landing.regularized_reward for landing in landings]
    curve = landscape.joint_frontier()[1]
    room = 0.1 * (max(*lows, curve.max()) - min(lows))
    right.set_ylim(min(lows) - room, max(*lows, curve.max()) + room)
    left.legend(loc="lower right")
    right.legend(loc="lower right")
    return png(figure)


def _draw_landings(axis: Axes, landings: Sequence[Landing], height: str) -> None:
    """Numbered dots; those that lie on top of each other share a label."""
    points = np.array([(landing.excess_loss, getattr(landing, height)) for landing in landings])
    size = np.maximum(np.ptp(points, axis=0), 1e-12)
    labels: dict[int, list[int]] = {}
    for index, (landing, (x, y)) in enumerate(zip(landings, points, strict=True)):
        if height == "reward" and landing.loss_ends and landing.reward_ends:
            axis.plot(landing.loss_ends, (y, y), color=OBSERVED, lw=0.8)
            axis.plot((x, x), landing.reward_ends, color=OBSERVED, lw=0.8)
        axis.plot(x, y, "o", color=OBSERVED, ms=5)
        near = np.abs((points - points[index]) / size).max(axis=1) < SAME_PLACE
        labels.setdefault(int(np.argmax(near)), []).append(index + 1)
    for first, numbers in labels.items():
        text = ", ".join(map(str, numbers))
        axis.annotate(text, points[first], xytext=(6, -12), textcoords="offset points", color=INK)
    names = ", ".join(f"{i + 1} {landing.title}" for i, landing in enumerate(landings))
    axis.set_title(names, fontsize=8, loc="left", color=INK, wrap=True)
