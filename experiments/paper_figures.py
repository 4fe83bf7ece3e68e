#!/usr/bin/env python
"""The paper's two figures from a sampled run: SFT loss and reward over the stages of an order, beside the theory.

    python experiments/qwen_validate.py --protocol sampled --order cycle --data CoLA/train.tsv --out runs/cola
    python experiments/paper_figures.py runs/cola --out runs/cola-figures

Of the run, which must be complete and of one order: at the end of each stage the SFT loss above its least, KL(d||p),
the average of the training reward, of the last-label reward and of the regularised reward, each with its 95 %
interval; what the trainers logged of their batches in between; what an exact optimum would have (S1, F3), as ref's
responses estimate it, which puts it too low on average (Jensen); what SFT that reaches the data has after RL (R1, R2);
and two limits: the least SFT loss of any policy with the reward that was reached (S5, S7), and the most regularised
reward of any (F3), by an upper end. The model before any training is measured here on the same prompts, the reference
that RL may or may not go past; its measurement is kept in OUT, so a second start only draws.

OUT receives figures.svg, figures.json, run.json, and table.md: the changes of each stage with paired intervals beside
what the theory says of them (S1, S7, G1, R1, R2, R8), and the run's verdicts.

Exit status: 0 done, 2 usage error, or a run that has no such figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console
from validate.configuration import SampledConfiguration, from_json
from validate.disk import Line, read_json, replace_file
from validate.errors import InputError, RunError, RunFolderError
from validate.finished_runs import Reached
from validate.models import model_of_run
from validate.orders import BASE, ORDERS, STAGES, Stage
from validate.reports import Change, strict_json
from validate.run_folder import MEASUREMENTS, RunFolder
from validate.sampled.chat import as_asked
from validate.sampled.claims import SELF_TEST, Evidence
from validate.sampled.digest import Result, digest
from validate.sampled.inputs import Inputs, inputs_of
from validate.sampled.landscape import estimated_by, highest_value
from validate.sampled.measuring import Measurement, Measurer, load_measurement
from validate.sampled.resampling import resampled
from validate.sampled.tables import changes
from validate.sampled.task import SampledTask
from validate.sampled.training import planned
from validate.session import Session

from nondecoupling import plot
from nondecoupling.estimate import mean_interval
from nondecoupling.lm import LanguageModel, LanguageModelError
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.tokens import response_tokens

RUN = "run.json"
DISPLAY = 0.05
LAST_LABEL = (0.0, 1.0)
# Where a stage ends that does not end at an optimum, and its mark.
ENDS = {
    "R2": ("data law", "s"),
    "T6": ("limit of short cycles", "D"),
    "T7": ("law of the best of n", "D"),
    "T9": ("end of weighted SFT", "D"),
}
# What says of the rewards at an end what another statement says of its loss, or of its plain reward.
OF_REWARDS = {
    ("S1", "predicted_reward"): "F3",
    ("S1", "predicted_regularized"): "F3",
    ("R2", "predicted_regularized"): "R1, R8",
}


@dataclass(frozen=True)
class MeasuredEnd:
    """The policy at the end of a stage, ``step`` training steps from the start.

    ``by_label``: the last-label reward at the prompts with each right label, which shows an answer that is always the
    same. ``regularized``: J_b, None before there is a ref. ``least_loss``: of any policy with the lower end of its
    reward, by S5. ``predicted_loss``, ``predicted_reward``, ``predicted_regularized``: at the exact optimum of E[r] -
    beta KL(p||ref), by S1, or of the joint objective, by J1, whatever the trainer; where short cycles of
    alternation end, by T6; at the end of SFT on ref's own responses, by T7 or T9; after SFT from there at the data law,
    by R2. ``predicted_by`` says which. None where nothing is predicted.
    """

    title: str
    step: int
    loss: Reached
    reward: Reached
    last_label: Reached
    by_label: dict[str, float]
    regularized: Reached | None
    least_loss: float
    predicted_by: str | None = None
    predicted_loss: float | None = None
    predicted_reward: float | None = None
    predicted_regularized: float | None = None


@dataclass(frozen=True)
class ExpectedChange:
    """What a statement says of a change: an equality at some end, or a limit for any policy."""

    statement: str
    says: str
    value: float


@dataclass(frozen=True)
class StageChange:
    """What one stage did to one quantity, on the same prompts before and after: a paired 95 % interval."""

    stage: str
    quantity: str
    unit: str
    before: float
    after: float
    change: Reached
    expected: tuple[ExpectedChange, ...]


@dataclass(frozen=True)
class LoggedStep:
    """What RL's trainer logged of its rollouts.

    ``regularized``: J_b, about, as KL is logged per token; None where RL has no leash, so that no KL was logged.
    """

    step: int
    reward: float
    regularized: float | None


@dataclass(frozen=True)
class Story:
    """What the figures and the table show.

    ``batches``: (step, SFT loss above that of d on the same responses), about, as the loss is logged per token.
    ``ceiling``: the upper end for beta log Z of the order's ref, which no policy's J_b exceeds (F3). ``estimated`` says
    from what the exact ends are estimated.
    """

    ends: tuple[MeasuredEnd, ...]
    changes: tuple[StageChange, ...]
    logged: tuple[LoggedStep, ...]
    batches: tuple[tuple[int, float], ...]
    ceiling: float
    estimated: str


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
    records = folder.all_records(planned(config))
    measured = {
        name: load_measurement(run / MEASUREMENTS / f"{name}.jsonl", prompts)
        for name in ORDERS[config.order]
    }
    result = digest(config, inputs.task, inputs.reward, measured, {})
    language_model = model_of_run(config, inputs.task.texts)
    asked = as_asked(inputs.task, config.prompt_format, language_model.tokenizer)
    inputs = replace(inputs, task=asked)
    untrained = _untrained(config, inputs, language_model, folder.load_policy(BASE), out, console)
    (ref,) = result.refs
    return Story(
        tuple(_ends(result, untrained)),
        tuple(_changes(result, untrained)),
        _logged(config, records),
        _batches(config, asked, language_model, records),
        highest_value(result.on_ref(ref), DISPLAY),
        estimated_by(result.on_ref(ref), next(changes(result)).statement),
    )


def _untrained(
    config: SampledConfiguration,
    inputs: Inputs,
    language_model: LanguageModel,
    kept: State,
    out: Path,
    console: Console,
) -> Measurement:
    """The model before any training, whose parameters the run ``kept``, on the evaluation prompts.

    Raises:
        RunError: what is in ``out`` belongs to another run, or is damaged.
    """
    about = {"settings": config.as_json(), "inputs": inputs.digests}
    out.mkdir(parents=True, exist_ok=True)
    if (out / RUN).exists() and not _is_of(read_json(out / RUN), config, inputs):
        raise RunError(
            f"{out} has figures of a run with other settings or data; give another --out"
        )
    replace_file(out / RUN, f"{json.dumps(about, indent=1)}\n".encode())
    scratch = Session(RunFolder(out), console, Processes(), resumed=False)
    state = {name: value.to(language_model.device) for name, value in kept.items()}
    questions = inputs.task.evaluation
    measurer = Measurer(config, scratch, language_model, questions, inputs.reward)
    place = measurer.place(BASE)
    try:
        for line in measurer.measure(BASE, BASE, state, state):
            console.print(f"the model before training: {line} of {measurer.lines}", highlight=False)
        return load_measurement(place, len(questions))
    except RunFolderError:
        raise RunError(f"{place} is damaged; remove it, and start again") from None


def _is_of(kept: Line, config: SampledConfiguration, inputs: Inputs) -> bool:
    """Whether run.json says the same; an earlier version knew fewer settings."""
    try:
        return from_json(kept["settings"]) == config and kept["inputs"] == inputs.digests
    except (InputError, KeyError):
        return False


def _before_training(result: Result, untrained: Measurement) -> Evidence:
    base = untrained.part(result.pilot, None)
    return Evidence(result.experts.part(result.pilot, None), base, base)


def _at(result: Result, stage: Stage) -> Evidence:
    return result.on_ref(stage.name) if stage.ref is None else result.evidence(stage.name)


def _ends(result: Result, untrained: Measurement) -> list[MeasuredEnd]:
    of_rl = {change.stage: change for change in changes(result)}
    found, step = [_end("before training", 0, _before_training(result, untrained), result)], 0
    for stage in (STAGES[name] for name in ORDERS[result.config.order]):
        step += stage.steps(result.config)
        e = _at(result, stage)
        regularized = Reached.of(resampled(e.regularized)(DISPLAY))
        end = replace(_end(stage.title, step, e, result), regularized=regularized)
        if stage.name in of_rl:
            end = _with_optimum(end, result, of_rl[stage.name])
        elif stage.ref is not None:
            end = _with_data(end, result, stage.ref)
        found.append(end)
    return found


def _end(title: str, step: int, e: Evidence, result: Result) -> MeasuredEnd:
    labels = np.array([question.label for question in result.task.evaluation[result.pilot :]])
    reward = Reached.of(mean_interval(e.reward, result.experts.reward.bounds, DISPLAY))
    (ref,) = result.refs
    return MeasuredEnd(
        title,
        step,
        Reached.of(resampled(e.excess)(DISPLAY)),
        reward,
        Reached.of(mean_interval(e.last_label, LAST_LABEL, DISPLAY)),
        {str(label): float(e.last_label[labels == label].mean()) for label in np.unique(labels)},
        regularized=None,
        least_loss=result.landscapes[ref].price(reward.low),
    )


def _with_optimum(end: MeasuredEnd, result: Result, change: Change) -> MeasuredEnd:
    ref = STAGES[change.stage].ref
    assert ref is not None
    before, is_rl = float(result.on_ref(ref).ref_excess.mean()), change.statement == "S1"
    return replace(
        end,
        predicted_by=change.statement,
        predicted_loss=before + change.predicted_loss_change,
        predicted_reward=change.predicted_reward,
        predicted_regularized=result.predicted[ref]["soft_value"] if is_rl else None,
    )


def _with_data(end: MeasuredEnd, result: Result, ref: str) -> MeasuredEnd:
    """Where SFT after RL ends that reaches the data law."""
    found = result.predicted[ref]
    return replace(
        end,
        predicted_by="R2",
        predicted_loss=0.0,
        predicted_reward=float(result.on_ref(ref).data_reward.mean()),
        predicted_regularized=found["soft_value"] - found["regularized_drop"],
    )


def _changes(result: Result, untrained: Measurement) -> Iterator[StageChange]:
    before = _before_training(result, untrained)
    for stage in (STAGES[name] for name in ORDERS[result.config.order]):
        after = _at(result, stage)
        says = _expected(result, stage, before, after)
        sides = {
            ("SFT loss", "nats"): (before.excess, after.excess),
            ("training reward", "reward"): (before.reward, after.reward),
            ("last label right", "reward"): (before.last_label, after.last_label),
        }
        if stage.ref is not None:
            sides["regularised reward", "reward"] = (before.regularized, after.regularized)
        for (quantity, unit), (old, new) in sides.items():
            change = Reached.of(resampled(new - old)(DISPLAY))
            ends = float(old.mean()), float(new.mean())
            yield StageChange(stage.title, quantity, unit, *ends, change, says.get(quantity, ()))
        before = after


def _expected(
    result: Result, stage: Stage, before: Evidence, after: Evidence
) -> dict[str, tuple[ExpectedChange, ...]]:
    """By quantity, what is said of the changes of a stage that has a ref."""
    if stage.ref is None:
        return {}
    found = result.predicted[stage.ref]
    room = found["soft_value"] - float(before.regularized.mean())
    if stage.objective == "sft":
        return _expected_of_sft(found, room, before)
    (change,) = (one for one in changes(result) if one.stage == stage.name)
    by, reached = change.statement, float(before.reward.mean())
    end = f"at the {ENDS.get(by, ('exact optimum',))[0]}"
    of_reward = OF_REWARDS.get((by, "predicted_reward"), by)
    low = mean_interval(after.reward, result.experts.reward.bounds, DISPLAY).low
    floor = result.landscapes[stage.ref].price(float(low)) - float(before.excess.mean())
    most = highest_value(result.on_ref(stage.ref), DISPLAY) - float(before.regularized.mean())
    rows = [row.claim for row in result.rows if row.claim.policy == stage.name]
    return {
        "SFT loss": (
            ExpectedChange(by, end, change.predicted_loss_change),
            ExpectedChange("S7", "at least, for the lower end of the reward", floor),
        ),
        "training reward": (ExpectedChange(of_reward, end, change.predicted_reward - reached),),
        "last label right": tuple(
            ExpectedChange(
                "G1", f"at least{', by definition' * (after.most_overrated == 1)}", row.rhs
            )
            for row in rows
            if row.statement == "G1"
        ),
        "regularised reward": (ExpectedChange("F3", "at most", most),),
    }


def _expected_of_sft(
    found: dict[str, float], room: float, before: Evidence
) -> dict[str, tuple[ExpectedChange, ...]]:
    """After RL, to the data law: from what RL reached, ``room`` below the optimum of J_b, and from that optimum."""
    here, from_optimum = "at the data law", "from the exact optimum to the data law"
    loss, reward = float(before.excess.mean()), float((before.data_reward - before.reward).mean())
    drop = found["regularized_drop"]
    return {
        "SFT loss": (ExpectedChange("F1", here, -loss),),
        "training reward": (
            ExpectedChange("R2", from_optimum, -found["reward_drop"]),
            ExpectedChange("R2", here, reward),
        ),
        "regularised reward": (
            ExpectedChange("R1", from_optimum, -drop),
            ExpectedChange("R8", here, room - drop),
        ),
    }


def _logged(config: SampledConfiguration, records: Sequence[Line]) -> tuple[LoggedStep, ...]:
    """Steps counted from the start of the order."""
    points, before = [], 0
    for name in ORDERS[config.order]:
        for line in records:
            if line["stage"] == name and "reward" in line:
                regularized = None
                if "kl" in line:
                    kl = line["kl"] * line["completions/mean_length"]
                    regularized = line["reward"] - config.beta * kl
                points.append(LoggedStep(before + line["step"], line["reward"], regularized))
        before += STAGES[name].steps(config)
    return tuple(points)


def _batches(
    config: SampledConfiguration,
    task: SampledTask,
    language_model: LanguageModel,
    records: Sequence[Line],
) -> tuple[tuple[int, float], ...]:
    """Of SFT's batches since the log before. The log d of their responses takes most of the noise out."""
    points, before = [], 0
    for name in ORDERS[config.order]:
        steps = STAGES[name].steps(config)
        if STAGES[name].objective == "sft":
            questions = task.sft_draws(name, steps * config.sft_batch)
            texts = task.expert_draws(name, questions)
            tokens = [len(response_tokens(language_model.tokenizer, text)) for text in texts]
            pairs = zip(questions, texts, strict=True)
            log_d = np.log([q.law[q.responses.index(text)] for q, text in pairs])
            first = 0
            for line in records:
                if line["stage"] == name:
                    last = line["step"] * config.sft_batch
                    loss = line["loss"] * np.mean(tokens[first:last]) + log_d[first:last].mean()
                    points.append((before + line["step"], float(loss)))
                    first = last
        before += steps
    return tuple(points)


def draw(story: Story) -> str:
    """SVG: SFT loss, reward and regularised reward below each other, over training steps."""
    with plot.in_style():
        figure, axes = plot.subplots(3, 1, size=(5.2, 9.6), sharex=True)
        for axis, panel in zip(axes, (_loss, _reward, _regularized), strict=True):
            panel(axis, story)
            for end in story.ends[1:-1]:
                axis.axvline(end.step, color=plot.GREY, lw=0.8)
            below = -0.16 if axis is axes[-1] else -0.03  # the last one has labels there
            axis.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, below))
        for place, (before, end) in enumerate(zip(story.ends, story.ends[1:], strict=False)):
            axes[0].annotate(
                end.title,
                # At two heights, as a short stage may have a long title.
                ((before.step + end.step) / 2, 1.02 + 0.06 * (place % 2)),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=8,
            )
        axes[-1].set_xlabel("training steps")
        if story.estimated:
            figure.supxlabel(f"exact ends{story.estimated}", fontsize=8)
    return plot.svg(figure)


def _loss(axis: Axes, story: Story) -> None:
    axis.set_yscale("log")  # untrained, a model is tens of nats away
    batches = [(step, loss) for step, loss in story.batches if loss > 0]
    if batches:
        look: dict[str, Any] = {"marker": ".", "ls": "", "color": plot.SKY}
        axis.plot(*zip(*batches, strict=True), **look, ms=5, label="SFT's batches, logged")
    _with_intervals(axis, story, "loss", plot.BLUE, "measured")
    axis.axhline(
        story.ends[0].loss.value, color=plot.BLACK, ls="--", lw=1, label="before any training"
    )
    _predictions(axis, story, "predicted_loss")
    _marks(axis, story.ends, "least_loss", "_", plot.BLACK, "least for the reward reached (S5, S7)")
    axis.set_ylabel("SFT loss above H(d), nats per response")


def _reward(axis: Axes, story: Story) -> None:
    _rollouts(axis, [(one.step, one.reward) for one in story.logged])
    _with_intervals(axis, story, "reward", plot.GREEN, "training reward")
    _with_intervals(axis, story, "last_label", plot.ORANGE, "last label right")
    _before_the_stage(axis, story, "reward")
    _predictions(axis, story, "predicted_reward")
    axis.set_ylabel("average reward")


def _regularized(axis: Axes, story: Story) -> None:
    logged = [(one.step, one.regularized) for one in story.logged]
    _rollouts(axis, [(step, value) for step, value in logged if value is not None])
    _with_intervals(axis, story, "regularized", plot.PURPLE, "measured")
    _before_the_stage(axis, story, "regularized")
    axis.axhline(
        story.ceiling, color=plot.BLACK, ls="--", lw=1, label="most of any policy (F3), upper end"
    )
    _predictions(axis, story, "predicted_regularized")
    axis.set_ylabel("regularised reward J_b")


def _rollouts(axis: Axes, logged: Sequence[tuple[int, float]]) -> None:
    if logged:
        axis.plot(*zip(*logged, strict=True), color=plot.SKY, lw=1, label="rollouts, logged")


def _with_intervals(axis: Axes, story: Story, name: str, color: str, label: str) -> None:
    found = [(end.step, getattr(end, name)) for end in story.ends if getattr(end, name)]
    steps, points = [step for step, _ in found], [point for _, point in found]
    values = [point.value for point in points]
    below = [p.value - p.low if np.isfinite(p.low) else 0.0 for p in points]
    above = [p.high - p.value if np.isfinite(p.high) else 0.0 for p in points]
    axis.errorbar(
        steps, values, [below, above], color=color, marker="o", ms=4, ls=":", capsize=3, label=label
    )
    unknown = [
        (step, p.value)
        for step, p in found
        if not (np.isfinite(p.low) and np.isfinite(p.high))  # a bootstrap that does not cover
    ]
    if unknown:
        axis.plot(
            *zip(*unknown, strict=True),
            marker="o",
            color=color,
            mfc="white",
            ls="",
            ms=4,
            zorder=3,
            label=f"{label}, no interval",
        )


def _before_the_stage(axis: Axes, story: Story, name: str) -> None:
    """A light line at the height from which each stage after RL starts."""
    label = "before SFT after RL"
    for before, end in zip(story.ends, story.ends[1:], strict=False):
        if end.predicted_by == "R2":
            height = getattr(before, name).value
            axis.hlines(height, before.step, end.step, plot.GREY, ls="--", lw=1, label=label)


def _predictions(axis: Axes, story: Story, name: str) -> None:
    for statement in dict.fromkeys(end.predicted_by for end in story.ends if end.predicted_by):
        ends = [end for end in story.ends if end.predicted_by == statement]
        place, marker = ENDS.get(statement, ("exact optimum", "D"))
        label = f"at the {place} ({OF_REWARDS.get((statement, name), statement)})"
        _marks(axis, ends, name, marker, plot.VERMILION, label)


def _marks(
    axis: Axes, ends: Sequence[MeasuredEnd], name: str, marker: str, color: str, label: str
) -> None:
    found = [(end.step, getattr(end, name)) for end in ends]
    logs = axis.get_yscale() == "log"  # where 0, a least loss, has no place
    points = [(step, value) for step, value in found if value is not None and (value or not logs)]
    if points:
        look: dict[str, Any] = {"marker": marker, "color": color, "ls": "", "fillstyle": "none"}
        axis.plot(*zip(*points, strict=True), **look, ms=9, mew=1.5, label=label)


def table_of(story: Story, report: Line) -> str:
    """Markdown: the changes of each stage beside what is said of them, and the verdicts of the run's report."""
    lines = [
        "| stage | what | before | after | change, paired 95 % interval | unit | by the theory |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in story.changes:
        change = one.change
        sure = np.isfinite(change.low)  # a bootstrap says nothing at both ends or at none
        ends = (
            f"{change.low:+.3f} to {change.high:+.3f}" if sure else "too few prompts, or too skewed"
        )
        said = "; ".join(f"{e.value:+.3f} {e.says} ({e.statement})" for e in one.expected)
        lines.append(
            f"| {one.stage} | {one.quantity} | {one.before:.3f} | {one.after:.3f} "
            f"| {change.value:+.3f} ({ends}) | {one.unit} | {said} |"
        )
    if story.estimated:
        lines += ["", f"Exact ends{story.estimated}."]
    lines += [
        "",
        f"Verdicts of the run, together at level {1 - report['config']['delta']:g}; ~: by a bootstrap's end.",
        "",
        "| statement | claim | policy | left side | right side | unit | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        if row["kind"] != SELF_TEST:
            claim = row["claim"].replace("|", "\\|")
            verdict = row["outcome"] + " ~" * row["by_bootstrap"]
            if note := row.get("note"):  # reports of earlier versions have none
                verdict += f": {note}"
            sides = f"{row['lhs']:.3f} | {row['rhs']:.3f} | {row['unit']}"
            policy = row["policy"]
            lines.append(f"| {row['statement']} | {claim} | {policy} | {sides} | {verdict} |")
    return "\n".join(lines) + "\n"


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
        table = table_of(story, read_json(given.run / "report.json"))
        replace_file(given.out / "table.md", table.encode())
    except (RunError, LanguageModelError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
