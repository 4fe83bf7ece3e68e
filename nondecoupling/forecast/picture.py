"""A forecast in the plane of reward and SFT loss: the floor, the paths of RL, where the run starts and where it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nondecoupling import plot
from nondecoupling.forecast.answers import AtBeta
from nondecoupling.forecast.planning import Plans

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR_POINTS = 12
REWARD = "average reward"
LOSS = "change of SFT loss on the start policy's own data, nats per response"


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
    tops = [_path(exact, "exact RL", plot.line(0), ax)]
    if recipe is not None and recipe.trainer.refusal is None:
        tops.append(_path(recipe, "the recipe", plot.line(1), ax))
    rewards = [mark.reward.value for mark in marks] + [reward for reward, _ in run]
    furthest = max([*(top for top in tops if top is not None), *rewards, start])
    if not start < furthest < high:
        furthest = start + 0.9 * (high - start)
    _floor(exact, np.linspace(start, furthest, FLOOR_POINTS + 1)[1:], ax)
    for mark in marks:
        dot = (mark.reward.value, mark.own_loss_change.value)
        ax.plot(*dot, "o", color=plot.line(0 if recipe is None else 1)["color"])
        ax.annotate(f"beta {mark.beta:.3g}", dot, xytext=(5, -9), textcoords="offset points")
    ax.plot(start, 0.0, "D", color=plot.BLACK, label="start policy")
    if run:
        ax.plot(*zip(*run, strict=True), "x-", color=plot.PURPLE, label="the run")
    ax.set(xlabel=REWARD, ylabel=LOSS)
    ax.set_ylim(bottom=min(0.0, *(loss for _, loss in run), 0.0))
    ax.legend(loc="upper left")


def _floor(plans: Plans, rewards: np.ndarray, ax: Axes) -> None:
    """What no algorithm gets below, by the lower end, and up to the plug-in price."""
    prices = [plans.price(float(reward)) for reward in rewards]
    at = np.concatenate([[plans.trainer.samples.mean_reward], rewards])
    low, value = (np.array([0.0, *(getattr(p, name) for p in prices)]) for name in ("low", "value"))
    level = 1 - plans.delta
    ax.plot(at, low, color=plot.BLACK, label=f"floor of any algorithm, at level {level:g}")
    shown = np.where(np.isfinite(value), np.maximum(value, low), low)
    ax.fill_between(at, low, shown, color=plot.GREY, alpha=0.3, lw=0, label="up to its estimate")


def _path(plans: Plans, name: str, look: dict[str, Any], ax: Axes) -> float | None:
    """The plug-in path over the supported betas, and between the ends of its loss; the last reward."""
    path = plans.path
    if not path.supported:
        return None
    shown = slice(path.supported)
    reward, loss = (
        np.asarray(interval.estimate)[shown] for interval in (path.rewards, path.losses)
    )
    finite = np.isfinite(reward) & np.isfinite(loss)
    if not finite.any():
        return None
    low, high = (np.asarray(end)[shown][finite] for end in (path.losses.low, path.losses.high))
    reward, loss = reward[finite], loss[finite]
    ax.plot(reward, loss, label=name, **look)
    capped = np.minimum(high, 1.5 * max(float(loss.max()), math.ulp(1.0)))
    ax.fill_between(reward, low, np.maximum(capped, low), color=look["color"], alpha=0.15, lw=0)
    return float(reward.max())
