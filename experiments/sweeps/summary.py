"""One table and one figure of a sweep: the SFT-loss increase against beta and against lambda."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from validate.configuration import (
    Asked,
    EnumeratedConfiguration,
    RunConfiguration,
    configuration,
    of_order,
)
from validate.enumerated.inputs import inputs_of
from validate.enumerated.task import EnumeratedTask

from nondecoupling import bounds, plot
from sweeps.grid import Trial
from sweeps.running import FAILED, last_attempts, report_of

__all__ = ["rows_of", "table", "write_summary"]

SETTINGS = ("model", "order", "reward", "beta", "weight")
CURVE = 101
MARKERS = "osD^vP*X"


def rows_of(folder: Path, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One line per trial and stage of RL or joint training; a trial without a report is one line that says why."""
    attempts, lines = last_attempts(folder), []
    for trial in trials:
        report = report_of(folder, trial)
        if report is None:
            attempt = attempts.get(trial.name, {"exit": None, "messages": "not run yet"})
            why = (attempt["messages"].strip().splitlines() or [f"exit {attempt['exit']}"])[-1]
            lines.append({"trial": trial.name, "status": FAILED, "why": why})
            continue
        config = report["config"]
        settings = {name: config[name] for name in (*SETTINGS, "seed")}
        for change in report["changes"]:
            lines.append({"trial": trial.name, "status": report["outcome"], **settings, **change})
    return lines


def _grouped(
    lines: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[dict[str, Any], list[Mapping[str, Any]]]]:
    """Lines that differ in their seed only."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if line["status"] != FAILED:
            key = json.dumps([line[name] for name in (*SETTINGS, "stage")])
            groups.setdefault(key, []).append(line)
    for key, some in groups.items():
        yield dict(zip((*SETTINGS, "stage"), json.loads(key), strict=True)), some


def _spread(some: Sequence[Mapping[str, Any]], name: str) -> str:
    values = np.array([line[name] for line in some])
    return (
        f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
    )


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: mean and standard deviation over seeds; failed trials at the end, each with its message."""
    head = ["model", "order", "stage", "reward", "beta", "lambda", "seeds"]
    head += ["SFT loss change", "predicted", "by", "J", "predicted J", "violated"]
    text = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for settings, some in _grouped(lines):
        weight = f"{settings['weight']:g}" if some[0]["statement"] == "J1" else ""
        cells = [settings["model"], settings["order"], settings["stage"], settings["reward"]]
        cells += [f"{settings['beta']:g}", weight, str(len(some))]
        cells += [
            _spread(some, "loss_change"),
            _spread(some, "predicted_loss_change"),
            some[0]["statement"],
        ]
        cells += [_spread(some, "J"), _spread(some, "predicted_J")]
        cells.append(str(sum(line["status"] == "violated" for line in some)))
        text.append(f"| {' | '.join(cells)} |")
    failed = [line for line in lines if line["status"] == FAILED]
    if failed:
        text += ["", f"{len(failed)} trials have no report:", ""]
        text += [f"- `{line['trial']}`: {line['why']}" for line in failed]
    return "\n".join(text) + "\n"


def verdicts(folder: Path, trials: Sequence[Trial]) -> str:
    """Markdown: how often each kind of row of each statement came out how, over all trials with a report."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for report in filter(None, (report_of(folder, trial) for trial in trials)):
        for row in report["rows"]:
            outcome = row.get("outcome") or row["status"].lower().replace("_", " ")
            counts.setdefault((row["statement"], row["kind"]), Counter())[outcome] += 1
    outcomes = list(
        dict.fromkeys(outcome for found in counts.values() for outcome in sorted(found))
    )
    text = [
        f"| statement | kind | {' | '.join(outcomes)} |",
        f"| --- | --- |{' --- |' * len(outcomes)}",
    ]
    for (statement, kind), found in sorted(counts.items()):
        text.append(f"| {statement} | {kind} | {' | '.join(str(found[o]) for o in outcomes)} |")
    return "\n".join(text) + "\n"


def write_summary(folder: Path, trials: Sequence[Trial], shared: Asked) -> list[dict[str, Any]]:
    """table.md, summary.json and sweep.svg, from the reports of the trials alone."""
    lines = rows_of(folder, trials)
    (folder / "table.md").write_text(
        f"{table(lines)}\nRows of all reports:\n\n{verdicts(folder, trials)}"
    )
    (folder / "summary.json").write_text(json.dumps(lines, indent=1) + "\n")
    with plot.in_style():
        (folder / "sweep.svg").write_text(_figure(lines, shared))
    return lines


def _figure(lines: Sequence[Mapping[str, Any]], shared: Asked) -> str:
    figure, (left, right) = plot.subplots(1, 2, size=(11.0, 4.4))
    done = [line for line in lines if line["status"] != FAILED]
    rl = [line for line in done if line["statement"] == "S1"]
    joint = [line for line in done if line["statement"] == "J1"]
    _points(left, rl, "beta", "model")
    _points(right, joint, "weight", "beta")
    if task := _common_task(done, shared):
        if rl:
            _curves_of_beta(left, rl, task)
        if joint:
            _curves_of_lambda(right, joint, task)
    for axis, name, some in (
        (left, "beta, the weight of KL in RL", rl),
        (right, "lambda, the weight of the SFT loss", joint),
    ):
        axis.set_xlabel(name)
        axis.set_ylabel("change of the SFT loss  [nats per response]")
        if some:
            axis.set_xscale("log")
            axis.legend()
        else:
            axis.set_title("no such trial in this sweep", fontsize=8)
    return plot.svg(figure)


def _points(axis: Axes, some: Sequence[Mapping[str, Any]], x: str, by: str) -> None:
    """Observed (full) and predicted (hollow) changes, a marker per value of ``by`` and stage."""
    kinds = list(dict.fromkeys((line[by], line["stage"]) for line in some))
    for marker, (value, stage) in zip(MARKERS * len(kinds), kinds, strict=False):
        mine = [line for line in some if (line[by], line["stage"]) == (value, stage)]
        label = f"{by.replace('weight', 'lambda')} {value}, {stage}"
        xs = [line[x] for line in mine]
        axis.plot(
            xs,
            [line["predicted_loss_change"] for line in mine],
            marker,
            mfc="none",
            color=plot.VERMILION,
            ms=6,
            label="predicted at the exact optimum" if (value, stage) == kinds[0] else None,
        )
        axis.plot(
            xs,
            [line["loss_change"] for line in mine],
            marker,
            color=plot.BLUE,
            ms=4,
            alpha=0.8,
            label=label,
        )


def _common_task(lines: Sequence[Mapping[str, Any]], shared: Asked) -> EnumeratedTask | None:
    """The task of all trials, on which predictions are curves; None where they have several, or none that is listed."""
    of_all, tasks = of_order(shared, RunConfiguration.order), {}
    for line in lines:
        config = configuration({**of_all, "model": line["model"], "reward": line["reward"]})
        if not isinstance(config, EnumeratedConfiguration) or config.self_distilled:
            return None
        tasks[config.task, config.prompts, config.reward] = config
    return inputs_of(tasks.popitem()[1]).task if len(tasks) == 1 else None


def _curves_of_beta(axis: Axes, some: Sequence[Mapping[str, Any]], task: EnumeratedTask) -> None:
    """S2-S4 for ref = d: the coupling gap, convex and increasing in 1/beta, between its two-sided bounds."""
    betas = [line["beta"] for line in some]
    grid = np.geomspace(min(betas) / 1.2, max(betas) * 1.2, CURVE)
    worlds = task.log_d[None], task.reward[None], grid[:, None]
    lower, upper = (side.mean(axis=1) for side in bounds.coupling_gap_bounds(*worlds))
    axis.plot(
        grid,
        bounds.coupling_gap(*worlds).mean(axis=1),
        color=plot.BLACK,
        lw=1.2,
        label="S2, S4: coupling gap at ref = d",
    )
    axis.fill_between(
        grid, lower, upper, color=plot.PURPLE, alpha=0.12, lw=0, label="S3: two-sided bounds"
    )


def _curves_of_lambda(axis: Axes, some: Sequence[Mapping[str, Any]], task: EnumeratedTask) -> None:
    """J1 for ref = d, and J3's first order, per beta."""
    weights = [line["weight"] for line in some]
    grid = np.geomspace(min(weights) / 1.5, max(weights) * 1.5, CURVE)
    for beta in sorted({line["beta"] for line in some}):
        gap = bounds.coupling_gap(task.log_d, task.reward, beta).mean()
        # A data law has no mass on `other`; ref must have some.
        ref = np.logaddexp(task.log_d + np.log1p(-1e-6), np.log(1e-6 / task.log_d.shape[1]))
        worlds = task.log_d[None], ref[None], task.reward[None], beta, grid[:, None]
        joint = bounds.joint_optimum(*worlds)
        rise = (bounds.cross_entropy(task.log_d, joint) - bounds.entropy(task.log_d)).mean(axis=1)
        _, saving = bounds.joint_saving_bounds(*worlds)
        first = gap - saving.mean(axis=1)
        axis.plot(grid, rise, color=plot.GREEN, lw=1.2, label=f"J1 at ref = d, beta {beta:g}")
        inside = first > 0
        if not inside.any():  # the first order has left the range of the plot
            continue
        axis.plot(
            grid[inside],
            first[inside],
            color=plot.GREEN,
            ls=":",
            lw=1.2,
            label=f"J3, first order, beta {beta:g}",
        )
