"""The command ``monitor``: what a run pays for its reward, from the rollouts that its trainer wrote down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nondecoupling.cli.exits import ExitStatus, fail
from nondecoupling.cli.options import AsJson, RewardWeights, weights_in
from nondecoupling.cli.recipe import print_recipe, recipe_and_weights_of_file
from nondecoupling.cli.report import console, print_json
from nondecoupling.cli.sample_files import Columns, SamplesFile, in_options
from nondecoupling.collected import CollectedSamples
from nondecoupling.estimate.arguments import Array
from nondecoupling.forecast import Samples
from nondecoupling.forecast.answers import recipe_to_dict
from nondecoupling.monitor import CouplingMonitor, Reading
from nondecoupling.monitor.page import cells_of, columns_of, html
from nondecoupling.monitor.rollout_files import read_rollouts, sum_of_columns
from nondecoupling.monitor.scored_steps import ScoredSteps, expert_log_ratio, scored_steps
from nondecoupling.recipes import Recipe

# By the arguments of ``CouplingMonitor``.
OPTIONS = {
    "loss_budget": "--loss-budget",
    "max_overpayment": "--max-overpayment",
    "delta": "--delta",
}


def monitor_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILES",
            help="Rollouts: TRL's output_dir or its completions, verl's dumps (.jsonl).",
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
    reward_weights: RewardWeights = None,
    samples_prompt: Annotated[
        str | None, typer.Option(help="Column of the prompt in SAMPLES, if collect did not.")
    ] = None,
    samples_reward: Annotated[
        str | None, typer.Option(help="Column of the reward in SAMPLES, likewise.")
    ] = None,
    samples_step: Annotated[
        int | None, typer.Option(help="The step of SAMPLES that the start policy made, likewise.")
    ] = None,
    samples_ragged: Annotated[
        bool, typer.Option(help="Prompts in SAMPLES may have different numbers of responses.")
    ] = False,
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What this trainer would pay, too: TRL's options, .yaml or .json; also their reward_weights.",
        ),
    ] = None,
    trainer: Annotated[
        str | None, typer.Option(help="Whose options they are: grpo, as without it, or rloo.")
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
        float,
        typer.Option(
            help="At most this chance of a false alarm ever, where one SAMPLES has all that was scored."
        ),
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
    trained, of_recipe = recipe_and_weights_of_file("--recipe", recipe, trainer)
    try:
        weights = _weights(reward_weights, f"--recipe {recipe}", trained, of_recipe, reward)
        columns = Columns(prompt=samples_prompt, reward=samples_reward)
        source = SamplesFile(
            samples, reward_low, reward_high, columns, samples_step, samples_ragged, "samples-"
        ).read()
        with in_options(**OPTIONS):
            watching = CouplingMonitor(
                source,
                recipe=trained,
                loss_budget=loss_budget,
                max_overpayment=max_overpayment,
                delta=delta,
            )
        with in_options(
            prompt="--prompt", rewards="--reward", reward_bounds="--reward-low --reward-high"
        ):
            found = read_rollouts(
                files,
                prompt=prompt,
                rewards=reward,
                reward_weights=weights or None,
                reward_bounds=watching.samples.reward_bounds,
            )
        rewards = {rollouts.step: rollouts.rewards for rollouts in found}
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
    refusal = watching.prices.refusal
    if as_json:
        print_json(
            {
                "recipe": None if trained is None else recipe_to_dict(trained),
                "recipe_unsupported": None if refusal is None else str(refusal),
                "reward_columns": reward,
                "reward_weights": weights,
                "readings": [reading.to_dict() for reading in watching.readings],
                "scored": {str(step): name for step, name in losses.names.items()},
                "not_used": losses.without_step,
            }
        )
    else:
        if trained is not None:
            print_recipe(trained)
        if refusal is not None:
            console().print(str(refusal), markup=False)
        if weights:
            console().print(f"the reward: {sum_of_columns(reward, weights)}", markup=False)
        _print(watching.readings)
    if (
        page is not None
    ):  # after what was asked for first: a picture that fails takes nothing with it
        try:
            page.write_text(html(watching), encoding="utf-8")
        except (ValueError, OSError, ImportError) as error:
            fail(f"--html {page}: {error}")
    if any(reading.alarms for reading in watching.readings):
        raise typer.Exit(ExitStatus.REFUTED)


def _weights(
    given: str | None,
    option: str,
    recipe: Recipe | None,
    of_recipe: list[float],
    columns: Sequence[str],
) -> list[float]:
    """Of the columns of the reward, by ``--reward-weights`` or else by TRL's options; none where each counts once."""
    if given is not None:
        weights, told = weights_in(given), f"--reward-weights {given}"
    else:
        weights, told = of_recipe, f"{option}, reward_weights={of_recipe}"
        unsaid = recipe is not None and any(name == "reward_weights" for name, _ in recipe.outside)
        if unsaid and not weights:
            raise ValueError(
                f"{option}: its trainer weights rewards, and a recipe's fields do not say how; give --reward-weights"
            )
    if weights and len(weights) != len(columns):
        raise ValueError(
            f"{told}: {_count(weights, 'weight')}, and {_count(columns, 'column')} named as --reward; name one for "
            "each weight, in the order of the trainer's reward_funcs, or the weighted sum itself with "
            "--reward-weights 1"
        )
    return weights


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _losses(source: CollectedSamples | Samples, path: Path, only: Sequence[str]) -> ScoredSteps:
    if isinstance(source, CollectedSamples):
        with in_options(only="--scored"):
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
    """Numbered by what later calls do not change, so that a checkpoint at a time has the limits of all at once.

    Odd numbers are those of checkpoints, in the order in which ``score`` added them to the file; even ones are those of
    steps without.
    """
    if name is None or watching.collected is None:
        try:
            watching.update(step, None, rewards, look=2 * (step + 1))
        except ValueError as error:
            raise ValueError(f"FILES, step {step}: {error}") from error
        return
    try:
        watching.update(
            step,
            watching.collected.log_p(name),
            rewards,
            expert_log_ratio=expert_log_ratio(watching.collected, name),
            look=2 * watching.collected.later.index(name) + 1,
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
