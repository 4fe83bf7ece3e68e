"""The command ``monitor``: what a run pays for its reward, from the rollouts that its trainer wrote down."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nondecoupling.cli.exits import ExitStatus, fail
from nondecoupling.cli.options import AsJson
from nondecoupling.cli.report import console, print_json
from nondecoupling.collected import KEY, CollectedSamples
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast import Samples
from nondecoupling.forecast.files import parquet_metadata
from nondecoupling.monitor import CouplingMonitor, Reading
from nondecoupling.monitor.page import cells_of, columns_of, html
from nondecoupling.monitor.rollout_files import read_rollouts
from nondecoupling.monitor.scored_steps import ScoredSteps, expert_log_ratio, scored_steps


def monitor_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="Rollouts: TRL's completions (.parquet), verl's dumps (.jsonl), folders.",
        ),
    ],
    samples: Annotated[Path, typer.Option(help="Scored responses of the start policy.")],
    reward_low: Annotated[
        float | None,
        typer.Option(help="The lowest reward possible, if collect did not write SAMPLES."),
    ] = None,
    reward_high: Annotated[float | None, typer.Option(help="The highest, likewise.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Column of the prompt in FILES.")] = None,
    reward: Annotated[
        list[str], typer.Option(help="Column of the reward in FILES; several are added up.")
    ] = [],  # noqa: B006
    samples_prompt: Annotated[
        str | None, typer.Option(help="Column of the prompt in SAMPLES, if collect did not.")
    ] = None,
    samples_reward: Annotated[
        str | None, typer.Option(help="Column of the reward in SAMPLES, likewise.")
    ] = None,
    samples_step: Annotated[
        int | None, typer.Option(help="The step of SAMPLES that the start policy made, likewise.")
    ] = None,
    scored: Annotated[
        list[str],
        typer.Option(help="Only these checkpoints of score, if SAMPLES has those of other runs."),
    ] = [],  # noqa: B006
    loss_budget: Annotated[
        float | None, typer.Option(help="Alarm where the SFT loss has risen by more nats.")
    ] = None,
    max_overpayment: Annotated[
        float | None, typer.Option(help="Alarm where more times the price was paid.")
    ] = None,
    delta: Annotated[
        float, typer.Option(help="A false alarm is ever raised with at most this chance.")
    ] = 0.05,
    page: Annotated[
        Path | None, typer.Option("--html", help="Also write a page with a picture; extra plot.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a run pays in SFT loss for its reward, step by step.

    The rise of the SFT loss is shown for steps whose checkpoints nondecoupling score has added to SAMPLES, named by
    their step or with it at the end, as checkpoint-200. Leaves with status 1 where an alarm was raised, and with 2
    where an alarm was asked for and nothing could raise it.
    """
    try:
        source = SamplesFile(
            samples, reward_low, reward_high, samples_prompt, samples_reward, samples_step
        ).read()
        watching = CouplingMonitor(
            source, loss_budget=loss_budget, max_overpayment=max_overpayment, delta=delta
        )
        rewards = {r.step: r.rewards for r in read_rollouts(files, prompt=prompt, rewards=reward)}
        losses = _losses(source, samples, scored)
        _require_alarms_possible(watching, samples, losses, list(rewards))
        for step in sorted({*rewards, *losses.names}):
            _look(watching, samples, step, losses.names.get(step), rewards.get(step))
    except (ValueError, OSError, ImportError) as error:
        fail(str(error))
    for step, name in losses.names.items():
        if name != str(step):
            typer.echo(f"step {step}: the SFT loss is that of the scores {name!r}", err=True)
    if losses.without_step:
        typer.echo(
            f"Warning: {samples}: the scores {', '.join(map(repr, losses.without_step))} are not used, as they say no "
            f"step: nondecoupling score CHECKPOINT {samples} --name STEP",
            err=True,
        )
    if as_json:
        print_json(
            {
                "readings": [reading.to_dict() for reading in watching.readings],
                "scored": {str(step): name for step, name in losses.names.items()},
                "not_used": losses.without_step,
            }
        )
    else:
        _print(watching.readings)
    if (
        page is not None
    ):  # after what was asked for first: a picture that fails takes nothing with it
        try:
            page.write_text(html(watching), encoding="utf-8")
        except (ValueError, OSError, ImportError) as error:
            fail(str(error))
    if any(reading.alarms for reading in watching.readings):
        raise typer.Exit(ExitStatus.REFUTED)


@dataclass(frozen=True)
class SamplesFile:
    """SAMPLES, and what the command line says of it."""

    path: Path
    low: float | None
    high: float | None
    prompt: str | None
    reward: str | None
    step: int | None

    def read(self) -> CollectedSamples | Samples:
        """With its scores where collect wrote it, whatever else the command line says."""
        if not self.path.exists():
            raise FileNotFoundError(f"--samples {self.path}: no such file; collect makes it")
        if self._is_parquet and KEY in parquet_metadata(self.path):
            return self._collected()
        if (self.low is None) != (self.high is None):
            given, missing = ("low", "high") if self.high is None else ("high", "low")
            raise ValueError(
                f"--reward-{given} without --reward-{missing}: give both, or neither for a file that collect wrote"
            )
        if self.low is None or self.high is None:
            raise ValueError(
                f"--samples {self.path}: a file that collect did not write does not say its rewards' bounds; "
                "give --reward-low and --reward-high"
            )
        read = Samples.from_parquet if self._is_parquet else Samples.from_jsonl
        try:
            return read(
                self.path,
                reward_bounds=(self.low, self.high),
                prompt=self.prompt,
                reward=self.reward,
                step=self.step,
            )
        except ValueError as error:
            # It names the options of ``forecast``; without prefix they are here those of FILES.
            text = re.sub(r"--(prompt|reward|step)(?![\w-])", r"--samples-\1", str(error))
            raise ValueError(f"--samples {text}") from error

    @property
    def _is_parquet(self) -> bool:
        if self.path.suffix == ".parquet" or self.path.is_dir():
            return True
        with self.path.open("rb") as file:
            return file.read(4) == b"PAR1"

    def _collected(self) -> CollectedSamples:
        found = CollectedSamples.read(self.path)
        for name, bound in zip(("low", "high"), found.origin.reward_bounds, strict=True):
            given = getattr(self, name)
            if given is not None and given != bound:
                raise ValueError(
                    f"--reward-{name} {given:g}: {self.path} was collected with rewards from "
                    f"{found.origin.reward_bounds[0]:g} to {found.origin.reward_bounds[1]:g}; leave the option away, "
                    "or collect again"
                )
        for name in ("prompt", "reward", "step"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"--samples-{name} {getattr(self, name)}: {self.path} was written by collect, whose columns are "
                    "known; leave the option away"
                )
        return found


def _losses(source: CollectedSamples | Samples, path: Path, only: Sequence[str]) -> ScoredSteps:
    if isinstance(source, CollectedSamples):
        return scored_steps(source, only)
    if only:
        raise ValueError(
            f"--scored {only[0]}: {path} was not written by collect and has no scored checkpoints; leave it away"
        )
    return ScoredSteps({}, [])


def _require_alarms_possible(
    watching: CouplingMonitor, path: Path, losses: ScoredSteps, rewarded: Sequence[int]
) -> None:
    """An alarm that nothing can raise would pass for a run within its limits."""
    have = f"no scored checkpoint named by its step (nondecoupling score CHECKPOINT {path} --name STEP)"
    if losses.without_step:
        have += f", but {', '.join(map(repr, losses.without_step))}"
    if watching.collected is None:
        have = "no scores, as collect did not write it: collect the samples, and score checkpoints"
    if watching.loss_budget is not None and not losses.names:
        raise ValueError(
            f"--loss-budget {watching.loss_budget:g}: no step has an SFT loss that could exceed it; {path} has {have}"
        )
    if watching.max_overpayment is None or set(losses.names) & set(rewarded):
        return
    if losses.names:
        have = f"scores of the steps {_listed(losses.names)}, FILES rewards of {_listed(rewarded)}"
    raise ValueError(
        f"--max-overpayment {watching.max_overpayment:g}: no step has both a reward and an SFT loss; {path} has {have}"
    )


def _listed(steps: Iterable[int]) -> str:
    """Of many the first and the last."""
    words = [str(step) for step in sorted(steps)]
    return ", ".join(words if len(words) < 8 else [*words[:3], "...", words[-1]])


def _look(
    watching: CouplingMonitor, path: Path, step: int, name: str | None, rewards: Array | None
) -> None:
    if name is None or watching.collected is None:
        watching.update(step, None, rewards)
        return
    try:
        watching.update(
            step,
            watching.collected.log_p(name),
            rewards,
            expert_log_ratio=expert_log_ratio(watching.collected, name),
        )
    except ValueError as error:
        raise ValueError(f"{path}, the scores {name!r}, step {step}: {error}") from error


def _print(readings: list[Reading]) -> None:
    columns = columns_of(readings)
    table = Table("step", *columns.values())
    for reading in readings:
        table.add_row(str(reading.step), *cells_of(reading, columns))
    out = console()
    out.print(table)
    for reading in readings:
        for alarm in reading.alarms:
            out.print(f"step {reading.step}: {alarm}", markup=False)
