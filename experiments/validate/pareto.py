"""The Pareto plots: SFT loss against reward, the limits that the theory sets, and where trained policies landed.

The curves belong to a finite world [prompts, responses]; with enumerated responses it is the model's own law, with
sampled ones it is estimated. Losses are shown above their smallest value H(d), so both protocols share an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nondecoupling import bounds, plot
from nondecoupling.plot.plane import sharing_a_label
from nondecoupling.recipes import Recipe

__all__ = ["SIZE", "Landing", "Landscape", "plane_plot", "regularized_plot"]

POINTS = 129
# In inches: small, so that the text is still read where a phone shrinks the picture.
SIZE = (4.7, 4.7)
# How many times the highest dot the axis goes up, to show where exact RL ends.
MOST_BEYOND = 2.0


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
    def with_best(self) -> tuple[np.ndarray, np.ndarray]:
        """log_d and reward with one more response, to which d gives no mass: one of the highest reward."""
        nothing = np.full((len(self.log_d), 1), -np.inf)
        return np.hstack([self.log_d, nothing]), np.hstack([self.reward, self.best])

    def price(self, reward: float) -> float:
        """S5: the least SFT loss above H(d) of any policy with this average reward."""
        return float(bounds.price_of_average_reward(*self.with_best, reward))

    @property
    def tilt(self) -> np.ndarray:
        return bounds.gibbs_tilt(self.log_ref, self.reward, self.beta)


@dataclass(frozen=True)
class Landing:
    """A trained policy: its averages, with the ends of their intervals where they are estimates.

    ``predicted``: reward and SFT loss above H(d) at the end that the theory gives the stage.
    """

    title: str
    excess_loss: float
    reward: float
    regularized_reward: float
    loss_ends: tuple[float, float] | None = None
    reward_ends: tuple[float, float] | None = None
    predicted: tuple[float, float] | None = None


def plane_plot(
    land: Landscape,
    landings: Sequence[Landing],
    lower_ends: tuple[np.ndarray, np.ndarray] | None = None,
) -> str:
    """SVG: reward against SFT loss with what the theory says of both, S5, S4, T2 and J1.

    ``lower_ends``: rewards, and lower ends for the least SFT loss of any policy there, where d is estimated: the price
    under the estimated law is no limit.
    """
    figure, axis = plot.subplots(size=SIZE)
    label = "least of any policy (S5)"
    if lower_ends:
        look: dict[str, Any] = {"color": plot.BLACK, "linewidth": 4, "alpha": 0.25}
        axis.plot(*lower_ends, **look, label=f"{label}, lower end")
    else:
        # A response with the best reward may exist although ref never gave it: d has no mass there.
        plot.frontier(*land.with_best, ax=axis, points=POINTS, above_floor=True, label=label)
    recipes = {
        f"RL, {recipe.leash.replace('-', ' ')} ({statement})": recipe
        for recipe, statement in (
            (Recipe("leave-one-out", "k1-in-reward", land.beta), "S4"),
            (Recipe("leave-one-out", "k3-in-loss", land.beta), "T2"),
        )
    }
    world = land.log_d, land.reward, recipes
    plot.recipes(*world, log_ref=land.log_ref, ax=axis, above_floor=True)
    axis.plot([], [], "o", color="0.5", ms=5, label="on RL's paths: at this run's beta")
    joint = bounds.joint_path(land.log_d, land.log_ref, land.reward, land.beta, points=POINTS)
    label = "joint training, lambda rising (J1)"
    plot.policies(land.log_d, joint, land.reward, ax=axis, above_floor=True, label=label)
    ends = [landing.predicted for landing in landings if landing.predicted]
    if ends:
        look = {"marker": "D", "color": plot.BLACK, "fillstyle": "none", "linestyle": ""}
        axis.plot(*zip(*ends, strict=True), **look, ms=8, label="predicted ends")
    _draw_landings(axis, landings, "reward")
    predicted = float(bounds.kl_divergence(land.log_d, land.tilt).mean())
    _scale(axis, landings, predicted)
    return _with_legend(figure, axis)


def regularized_plot(
    land: Landscape, landings: Sequence[Landing], of_frontier: str = "least of any policy (J1)"
) -> str:
    """SVG: the regularised reward against SFT loss, with J1's frontier, which is no limit where ``land`` is estimated.

    ``of_frontier`` says what it is in the legend.
    """
    figure, axis = plot.subplots(size=SIZE)
    loss, best = bounds.pareto_frontier(
        land.log_d, land.reward, log_ref=land.log_ref, beta=land.beta, points=POINTS
    )
    axis.plot(best, loss - land.floor, **plot.line(2), label=of_frontier)
    axis.set_xlabel("regularised reward J_b(p)")
    axis.set_ylabel("SFT loss above H(d), nats per response")
    _draw_landings(axis, landings, "regularized_reward")
    reached = [landing.regularized_reward for landing in landings]
    room = 0.1 * (max(*reached, best.max()) - min(reached))
    _scale(axis, landings)
    axis.set_xlim(min(reached) - room, max(*reached, best.max()) + room)
    return _with_legend(figure, axis)


def _draw_landings(axis: Axes, landings: Sequence[Landing], name: str) -> None:
    """Numbered dots, with their intervals; those that lie on top of each other share a label."""
    points = np.array([(getattr(landing, name), landing.excess_loss) for landing in landings])
    for landing, (x, y) in zip(landings, points, strict=True):
        if name == "reward" and landing.loss_ends and landing.reward_ends:
            axis.plot((x, x), landing.loss_ends, "-", color=plot.BLACK, lw=0.8)
            axis.plot(landing.reward_ends, (y, y), "-", color=plot.BLACK, lw=0.8)
        axis.plot(x, y, "o", color=plot.BLACK, ms=5)
    for first, places in sharing_a_label(points).items():
        text = ", ".join(str(place + 1) for place in places)
        axis.annotate(text, points[first], xytext=(6, -12), textcoords="offset points")
    for number, landing in enumerate(landings, start=1):
        mark, black = f"${number}$", plot.BLACK
        axis.plot([], [], marker=mark, color=black, ls="", ms=6, label=landing.title)


def _scale(axis: Axes, landings: Sequence[Landing], predicted: float = 0.0) -> None:
    """Losses up to the highest dot, and up to the predicted one where it does not make the others small."""
    highest = max(landing.excess_loss for landing in landings) or 1.0
    top = 1.25 * max(highest, min(predicted, MOST_BEYOND * highest))
    axis.set_ylim(-0.04 * top, top)


def _with_legend(figure: Figure, axis: Axes) -> str:
    """The legend below the axes, where a phone has room for it."""
    if (inside := axis.get_legend()) is not None:
        inside.remove()
    figure.legend(loc="outside lower center", ncols=2)
    return plot.svg(figure)
