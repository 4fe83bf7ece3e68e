#!/usr/bin/env python
"""The paper's two figures from a sampled run: SFT loss and reward over the stages of an order, beside the theory.

    python experiments/qwen_validate.py --protocol sampled --order cycle --data CoLA/train.tsv --out runs/cola
    python experiments/paper_figures.py runs/cola --out runs/cola-figures

Of the run, which must be complete and of one order: at the end of each stage the SFT loss above its least, KL(d||p),
and the average of the training reward and of the last-label reward, each with its 95 % interval; during RL the
rewards that the trainer logged; what an exact optimum would have (S1, F3), and the least SFT loss of any policy with
the reward that was reached (S5). The model before any training is measured here on the same prompts, the reference
that RL may or may not go past; its measurement is kept in OUT, so a second start only draws.

OUT receives figures.svg, figures.json and run.json.

Exit status: 0 done, 2 usage error, or a run that has no such figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from validate.configuration import SampledConfiguration
from validate.disk import Line, read_json, replace_file
from validate.errors import RunError, RunFolderError
from validate.finished_runs import Reached
from validate.models import model_of_run
from validate.orders import BASE, ORDERS, STAGES
from validate.reports import Change, strict_json
from validate.run_folder import MEASUREMENTS, RunFolder
from validate.sampled.chat import as_asked
from validate.sampled.claims import Evidence
from validate.sampled.digest import Result, digest
from validate.sampled.inputs import Inputs, inputs_of
from validate.sampled.measuring import Measurement, Measurer, load_measurement
from validate.sampled.resampling import resampled
from validate.sampled.tables import changes
from validate.sampled.training import planned
from validate.session import Session

from nondecoupling import plot
from nondecoupling.estimate import mean_interval
from nondecoupling.lm import LanguageModelError
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes

RUN = "run.json"
DISPLAY = 0.05
LAST_LABEL = (0.0, 1.0)


@dataclass(frozen=True)
class MeasuredEnd:
    """The policy at the end of a stage, ``step`` training steps from the start.

    ``by_label``: the last-label reward at the prompts with each right label, which shows an answer that is always the
    same. ``predicted_loss``, ``predicted_reward``: at the exact optimum of E[r] - beta KL(p||ref), by S1, or of the
    joint objective, by J1, whatever the trainer; ``predicted_by`` says which. ``least_loss``: of any policy with the
    lower end of its reward. None where no RL was done.
    """

    title: str
    step: int
    loss: Reached
    reward: Reached
    last_label: Reached
    by_label: dict[str, float]
    predicted_by: str | None = None
    predicted_loss: float | None = None
    predicted_reward: float | None = None
    least_loss: float | None = None


@dataclass(frozen=True)
class Story:
    """What both figures show. ``logged``: (step, average reward of the rollouts) of the RL stage."""

    ends: tuple[MeasuredEnd, ...]
    logged: tuple[tuple[int, float], ...]


def story_of(run: Path, out: Path, console: Console) -> Story:
    """
    Raises:
        RunError: not a complete sampled run of one order, or it rests on other sentences or rewards now.
    """
    folder = RunFolder(run, writes=False)
    if not folder.is_complete():
        raise RunError(f"{run} has no complete run in it; give a folder of qwen_validate.py")
    config = folder.configuration({})
    if not isinstance(config, SampledConfiguration) or config.order not in ORDERS:
        raise RunError(
            f"{run}: a run of --protocol {config.protocol}, --order {config.order}; these figures follow one order of "
            "--protocol sampled, such as cycle or rl-sft"
        )
    if config.self_distilled:
        raise RunError(
            f"{run}: --data-law self; before SFT there is no such data, so give a run on the experts' responses"
        )
    inputs, prompts = inputs_of(config, folder), config.pilot_prompts + config.eval_prompts
    logged = _logged(config, folder.all_records(planned(config)))
    measured = {
        name: load_measurement(run / MEASUREMENTS / f"{name}.jsonl", prompts)
        for name in ORDERS[config.order]
    }
    result = digest(config, inputs.task, inputs.reward, measured, {})
    untrained = _untrained(config, inputs, folder.load_policy(BASE), out, console)
    return Story(tuple(_ends(result, untrained)), logged)


def _untrained(
    config: SampledConfiguration, inputs: Inputs, kept: State, out: Path, console: Console
) -> Measurement:
    """The model before any training, whose parameters the run ``kept``, on the evaluation prompts.

    Raises:
        RunError: what is in ``out`` belongs to another run, or is damaged.
    """
    about = {"settings": config.as_json(), "inputs": inputs.digests}
    out.mkdir(parents=True, exist_ok=True)
    if (out / RUN).exists() and read_json(out / RUN) != about:
        raise RunError(
            f"{out} has figures of a run with other settings or data; give another --out"
        )
    replace_file(out / RUN, f"{json.dumps(about, indent=1)}\n".encode())
    scratch = Session(RunFolder(out), console, Processes(), resumed=False)
    language_model = model_of_run(config, inputs.task.texts)
    state = {name: value.to(language_model.device) for name, value in kept.items()}
    asked = as_asked(inputs.task, config.prompt_format, language_model.tokenizer)
    questions = asked.evaluation
    measurer = Measurer(config, scratch, language_model, questions, inputs.reward)
    place = measurer.place(BASE)
    try:
        for line in measurer.measure(BASE, BASE, state, state):
            console.print(f"the model before training: {line} of {measurer.lines}", highlight=False)
        return load_measurement(place, len(questions))
    except RunFolderError:
        raise RunError(f"{place} is damaged; remove it, and start again") from None


def _ends(result: Result, untrained: Measurement) -> list[MeasuredEnd]:
    base, config = untrained.part(result.pilot, None), result.config
    experts = result.experts.part(result.pilot, None)
    of_rl = {change.stage: change for change in changes(result)}
    found, step = [_end("before training", 0, Evidence(experts, base, base), result)], 0
    for name in ORDERS[config.order]:
        stage = STAGES[name]
        step += stage.steps(config)
        e = result.on_ref(name) if stage.ref is None else result.evidence(name)
        end = _end(stage.title, step, e, result)
        if name in of_rl:
            end = _with_predictions(end, result, of_rl[name])
        found.append(end)
    return found


def _end(title: str, step: int, e: Evidence, result: Result) -> MeasuredEnd:
    last_label = e.policy.robust.mean(axis=1)
    labels = np.array([question.label for question in result.task.evaluation[result.pilot :]])
    return MeasuredEnd(
        title,
        step,
        Reached.of(resampled(e.excess)(DISPLAY)),
        Reached.of(mean_interval(e.reward, result.experts.reward.bounds, DISPLAY)),
        Reached.of(mean_interval(last_label, LAST_LABEL, DISPLAY)),
        {str(label): float(last_label[labels == label].mean()) for label in np.unique(labels)},
    )


def _with_predictions(end: MeasuredEnd, result: Result, change: Change) -> MeasuredEnd:
    ref = STAGES[change.stage].ref
    assert ref is not None
    before = float(result.on_ref(ref).ref_excess.mean())
    return replace(
        end,
        predicted_by=change.statement,
        predicted_loss=before + change.predicted_loss_change,
        predicted_reward=change.predicted_reward,
        least_loss=result.landscapes[ref].price(end.reward.low),
    )


def _logged(config: SampledConfiguration, records: Sequence[Line]) -> tuple[tuple[int, float], ...]:
    """Steps counted from the start of the order."""
    points, before = [], 0
    for name in ORDERS[config.order]:
        lines = [line for line in records if line["stage"] == name and "reward" in line]
        points += [(before + line["step"], float(line["reward"])) for line in lines]
        before += STAGES[name].steps(config)
    return tuple(points)


def draw(story: Story) -> str:
    """SVG: SFT loss above, reward below, over training steps."""
    with plot.in_style():
        figure, (loss, reward) = plot.subplots(2, 1, size=(5.2, 6.8), sharex=True)
        _loss(loss, story)
        _reward(reward, story)
        for axis, below in ((loss, -0.03), (reward, -0.16)):  # the lower one has labels there
            for end in story.ends[1:-1]:
                axis.axvline(end.step, color=plot.GREY, lw=0.8)
            axis.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, below))
        for before, end in zip(story.ends, story.ends[1:], strict=False):
            at = (before.step + end.step) / 2
            loss.annotate(
                end.title,
                (at, 1.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=8,
            )
        reward.set_xlabel("training steps")
    return plot.svg(figure)


def _loss(axis: Axes, story: Story) -> None:
    first = story.ends[0].loss.value
    axis.set_yscale("log")  # untrained, a model is tens of nats away
    _with_intervals(axis, story, "loss", plot.BLUE, "measured")
    axis.axhline(first, color=plot.BLACK, ls="--", lw=1, label="before any training")
    for statement in dict.fromkeys(end.predicted_by for end in story.ends if end.predicted_by):
        label = f"at the exact optimum ({statement})"
        _marks(axis, story, "predicted_loss", "D", plot.VERMILION, label)
    _marks(axis, story, "least_loss", "_", plot.BLACK, "least for the reward reached (S5)")
    axis.set_ylabel("SFT loss above H(d), nats per response")


def _reward(axis: Axes, story: Story) -> None:
    axis.plot(*zip(*story.logged, strict=True), color=plot.SKY, lw=1, label="rollouts, logged")
    _with_intervals(axis, story, "reward", plot.GREEN, "training reward")
    _with_intervals(axis, story, "last_label", plot.ORANGE, "last label right")
    _marks(axis, story, "predicted_reward", "D", plot.VERMILION, "at the exact optimum")
    axis.set_ylabel("average reward")


def _with_intervals(axis: Axes, story: Story, name: str, color: str, label: str) -> None:
    points: list[Reached] = [getattr(end, name) for end in story.ends]
    steps, values = [end.step for end in story.ends], [point.value for point in points]
    below = [p.value - p.low if np.isfinite(p.low) else 0.0 for p in points]
    above = [p.high - p.value if np.isfinite(p.high) else 0.0 for p in points]
    axis.errorbar(
        steps, values, [below, above], color=color, marker="o", ms=4, ls=":", capsize=3, label=label
    )


def _marks(axis: Axes, story: Story, name: str, marker: str, color: str, label: str) -> None:
    found = [(end.step, getattr(end, name)) for end in story.ends]
    logs = axis.get_yscale() == "log"  # where 0, a least loss, has no place
    points = [(step, value) for step, value in found if value is not None and (value or not logs)]
    if points:
        look: dict[str, Any] = {"marker": marker, "color": color, "ls": "", "fillstyle": "none"}
        axis.plot(*zip(*points, strict=True), **look, ms=9, mew=1.5, label=label)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("run", type=Path, metavar="FOLDER", help="a sampled run of one order")
    parser.add_argument("--out", type=Path, required=True, help="where the figures go")
    given = parser.parse_args(arguments)
    try:
        story = story_of(given.run, given.out, Console(stderr=True))
        content = json.dumps(strict_json(asdict(story)), indent=1)
        replace_file(given.out / "figures.json", f"{content}\n".encode())
        replace_file(given.out / "figures.svg", draw(story).encode())
    except (RunError, LanguageModelError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
