"""The plots of a sampled run, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nondecoupling import plot
from validate.disk import Line
from validate.orders import STAGES
from validate.pareto import plane_plot, regularized_plot
from validate.sampled.digest import Result
from validate.sampled.landscape import NEARLY_ALL, least_loss
from validate.sampled.tables import DISPLAY, landings

__all__ = ["plots"]

# What a loss is of, by the objective of the stage: a policy gradient's is no measure of anything.
LOSSES = {"sft": "SFT loss per token", "distil": "weighted SFT loss per response"}
# Between the reward of ref and nearly the highest.
POINTS = 65
CURVES = (
    ("reward", "reward", plot.GREEN),
    ("kl", "KL to ref per token", plot.VERMILION),
)


def plots(result: Result, metrics: Sequence[Line]) -> dict[str, str]:
    """File name -> SVG: two Pareto plots per ref, and what the trainers logged."""
    with plot.in_style():
        made = {}
        for ref in result.refs:
            shown = result.landscapes[ref], landings(result, ref)
            made[f"plane-{ref}.svg"] = plane_plot(*shown, _lower_ends(result, ref))
            made[f"pareto-{ref}.svg"] = regularized_plot(*shown, "joint optima (J1), estimated")
        made["training.svg"] = _training(metrics)
    return made


def _lower_ends(result: Result, ref: str) -> tuple[np.ndarray, np.ndarray] | None:
    """None for the experts' law, which is known."""
    if not result.experts.self_distilled:
        return None
    e, (low, high) = result.on_ref(ref), result.experts.reward.bounds
    rewards = np.linspace(float(e.reward.mean()), low + NEARLY_ALL * (high - low), POINTS)
    return rewards, least_loss(e, rewards, DISPLAY)


def _training(metrics: Sequence[Line]) -> str:
    """The trainers' own logs."""
    stages = list(dict.fromkeys(line["stage"] for line in metrics))
    figure, axes = plot.subplots(1, len(stages), size=(2.2 + 2.6 * len(stages), 3.0), squeeze=False)
    for axis, stage in zip(axes[0], stages, strict=True):
        lines = [line for line in metrics if line["stage"] == stage]
        loss = LOSSES.get(STAGES[stage].objective)
        curves = (("loss", loss, plot.BLUE), *CURVES) if loss else CURVES
        for name, label, color in curves:
            points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
            if points:
                axis.plot(*zip(*points, strict=True), color=color, marker="o", ms=2.5, label=label)
        axis.set_title(STAGES[stage].title, fontsize=8)
        axis.set_xlabel("step")
        axis.legend(fontsize=7)
    return plot.svg(figure)
