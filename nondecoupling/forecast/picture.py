"""A forecast in the plane of reward and SFT loss: the floor, the paths of RL, where the run starts and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nondecoupling import plot
from nondecoupling.forecast.answers import AtBeta
from nondecoupling.forecast.planning import Plans

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR_POINTS = 12
# Of the way from the start policy to the most that RL reaches: beyond it prices leave the page. Dots may lie further.
FAR = 0.9
REWARD = "average reward"
LOSS = "change of SFT loss, nats per response"


def draw(
    exact: Plans,
    recipe: Plans | None,
    marks: Sequence[AtBeta],
    run: Sequence[tuple[float, float]],
    ax: Axes,
) -> None:
    """``marks``: answers to show as dots; ``run``: (reward, loss change) of checkpoints."""
    samples = exact.trainer.samples
    start, (_, high) = samples.mean_reward, samples.reward_bounds
    dots = [mark.reward.value for mark in marks] + [reward for reward, _ in run]
    # Prompts without a success keep the average from the highest reward.
    most = min(high, float(np.max(exact.path.rewards.estimate)))
    furthest = max(
        start + FAR * (most - start), *(reward for reward in (start, *dots) if reward < high)
    )
    _path(exact, furthest, "exact RL", plot.line(0), ax)
    if recipe is not None and recipe.trainer.refusal is None:
        _path(recipe, furthest, "the recipe", plot.line(1), ax)
    _floor(exact, np.linspace(start, furthest, FLOOR_POINTS + 1)[1:], ax)
    for mark in marks:
        dot = (mark.reward.value, mark.own_loss_change.value)
        ax.plot(*dot, "o", color=plot.line(0 if recipe is None else 1)["color"])
        ax.annotate(f"beta {mark.beta:.3g}", dot, xytext=(5, 4), textcoords="offset points")
    ax.plot(start, 0.0, "D", color=plot.BLACK, label="start policy")
    if run:
        ax.plot(*zip(*run, strict=True), "x-", color=plot.PURPLE, label="the run")
    ax.set(xlabel=REWARD, ylabel=LOSS)
    ax.legend(loc="upper left")


def _floor(plans: Plans, rewards: np.ndarray, ax: Axes) -> None:
    """What no algorithm gets below, by lower ends that hold together, and up to the plug-in price."""
    at = np.concatenate([[plans.trainer.samples.mean_reward], rewards])
    low = np.concatenate([[0.0], plans.floor(rewards)])
    value = np.concatenate([[0.0], plans.plug_in_prices(rewards)])
    level = 1 - plans.delta
    ax.plot(
        at, low, color=plot.BLACK, label=f"floor of any algorithm, all of it at level {level:g}"
    )
    shown = np.where(np.isfinite(value), np.maximum(value, low), low)
    ax.fill_between(at, low, shown, color=plot.GREY, alpha=0.3, lw=0, label="up to its estimate")


def _path(plans: Plans, furthest: float, name: str, look: dict[str, Any], ax: Axes) -> None:
    """The plug-in path over the supported betas, and between the ends of its loss."""
    path = plans.path
    reward, loss = (np.asarray(found.estimate) for found in (path.rewards, path.losses))
    shown = np.arange(len(reward)) < path.supported
    shown &= np.isfinite(loss) & (reward <= furthest)
    if not shown.any():
        return
    low, high = (np.asarray(end)[shown] for end in (path.losses.low, path.losses.high))
    reward, loss = reward[shown], loss[shown]
    ax.plot(reward, loss, label=name, **look)
    capped = np.clip(high, low, 1.5 * loss.max())
    ax.fill_between(reward, low, capped, color=look["color"], alpha=0.15, lw=0)
