"""The command ``monitor``: what a run pays for its reward, from the rollouts that its trainer wrote down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nondecoupling.cli.exits import ExitStatus, fail
from nondecoupling.cli.options import AsJson
from nondecoupling.cli.report import console, print_json
from nondecoupling.collected import CollectedSamples
from nondecoupling.forecast import Samples
from nondecoupling.monitor import CouplingMonitor, Reading
from nondecoupling.monitor.page import COLUMNS, html, shown
from nondecoupling.monitor.rollout_files import read_rollouts


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

    The rise of the SFT loss is shown for steps whose checkpoints nondecoupling score has added to SAMPLES. Leaves with
    status 1 where an alarm was raised.
    """
    try:
        source = _source(samples, reward_low, reward_high)
        watching = CouplingMonitor(
            source, loss_budget=loss_budget, max_overpayment=max_overpayment, delta=delta
        )
        later = source.later if isinstance(source, CollectedSamples) else []
        for rollouts in read_rollouts(files, prompt=prompt, rewards=reward):
            log_p = None
            if isinstance(source, CollectedSamples) and str(rollouts.step) in later:
                log_p = source.log_p(rollouts.step)
            watching.update(rollouts.step, log_p, rollouts.rewards)
    except (ValueError, OSError, ImportError) as error:
        fail(str(error))
    if as_json:
        print_json({"readings": [reading.to_dict() for reading in watching.readings]})
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


def _source(path: Path, low: float | None, high: float | None) -> CollectedSamples | Samples:
    if (low is None) != (high is None):
        given, missing = ("low", "high") if high is None else ("high", "low")
        raise ValueError(
            f"--reward-{given} without --reward-{missing}: give both, or neither for a file that collect wrote"
        )
    if low is None or high is None:
        if path.suffix == ".jsonl":
            raise ValueError(
                f"--samples {path}: a file that collect did not write does not say its rewards' bounds; "
                "give --reward-low and --reward-high"
            )
        return CollectedSamples.read(path)
    read = Samples.from_parquet if path.suffix == ".parquet" else Samples.from_jsonl
    return read(path, reward_bounds=(low, high))


def _print(readings: list[Reading]) -> None:
    table = Table("step", *COLUMNS.values(), "at least")
    for reading in readings:
        rise = reading.sft_loss_rise
        cells = (shown(getattr(reading, name)) for name in COLUMNS)
        table.add_row(str(reading.step), *cells, "-" if rise is None else f"{rise.low:.4g}")
    out = console()
    out.print(table)
    for reading in readings:
        for alarm in reading.alarms:
            out.print(f"step {reading.step}: {alarm}", markup=False)
