"""The command ``forecast``: what RL will cost, from a file of scored responses of the start policy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nondecoupling.cli.exits import fail
from nondecoupling.cli.options import AsJson
from nondecoupling.cli.recipe import print_recipe, recipe_of_file
from nondecoupling.cli.report import console, print_json
from nondecoupling.cli.sample_files import Columns, SamplesFile, in_options
from nondecoupling.forecast import (
    AtBeta,
    AtReward,
    AtStart,
    Estimate,
    Forecast,
    Recommendation,
    Samples,
    UnsupportedBeta,
    UnsupportedRecipe,
    forecast,
)

# By the arguments of ``forecast`` and ``Forecast.recommend``.
OPTIONS = {
    "betas": "--beta",
    "targets": "--target",
    "delta": "--delta",
    "loss_budget": "--loss-budget",
    "reward_target": "--reward-target",
}


def forecast_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Scored responses, .jsonl or .parquet; what collect wrote."
        ),
    ],
    reward_low: Annotated[
        float | None,
        typer.Option(help="The lowest reward possible, if collect did not write FILE."),
    ] = None,
    reward_high: Annotated[float | None, typer.Option(help="The highest, likewise.")] = None,
    beta: Annotated[list[float], typer.Option(help="What RL at this beta has and costs.")] = [],  # noqa: B006
    target: Annotated[list[float], typer.Option(help="What this average reward costs.")] = [],  # noqa: B006
    loss_budget: Annotated[
        float | None, typer.Option(help="Recommend the beta that spends at most so many nats.")
    ] = None,
    reward_target: Annotated[
        float | None, typer.Option(help="Recommend the beta that reaches this average reward.")
    ] = None,
    delta: Annotated[
        float, typer.Option(help="Each interval misses with at most this chance.")
    ] = 0.05,
    prompt: Annotated[str | None, typer.Option(help="Column of the prompt.")] = None,
    reward: Annotated[str | None, typer.Option(help="Column of the reward.")] = None,
    expert_reward: Annotated[
        str | None,
        typer.Option(help="Column of the rewards of expert responses, equally many each."),
    ] = None,
    log_prob: Annotated[
        str | None, typer.Option(help="Column of log-probabilities: says the SFT loss now, too.")
    ] = None,
    expert_log_prob: Annotated[
        str | None, typer.Option(help="Column of those of expert responses; with --expert-reward.")
    ] = None,
    weight: Annotated[str | None, typer.Option(help="Column of the weights of prompts.")] = None,
    step: Annotated[
        int | None,
        typer.Option(help="Only rows of this step of training: column step, global_step, ..."),
    ] = None,
    ragged: Annotated[
        bool, typer.Option(help="Prompts may have different numbers of responses.")
    ] = False,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Forecast this trainer: TRL's options, .yaml or .json."),
    ] = None,
    trainer: Annotated[
        str | None, typer.Option(help="Whose options they are: grpo, as without it, or rloo.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a page with a picture, too.")
    ] = None,
    run: Annotated[
        list[str],
        typer.Option(metavar="REWARD,LOSS", help="With --html: where a checkpoint of the run is."),
    ] = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """What RL will cost in SFT loss, before it is run.

    From rewards of responses of the start policy: one line per response, or one per prompt with a list of rewards.
    Of a file that collect wrote nothing more need be said: bounds, log-probabilities and experts are in it.
    Losses are in nats per response; ``not supported`` says how many responses would do.
    """
    checkpoints = _checkpoints(run)
    if checkpoints and html is None:
        fail(f"--run {run[0]} is drawn into a page: name it with --html")
    trained = recipe_of_file("--recipe", recipe, trainer)
    try:
        columns = Columns(
            prompt=prompt,
            reward=reward,
            expert_reward=expert_reward,
            log_prob=log_prob,
            expert_log_prob=expert_log_prob,
            weight=weight,
        )
        samples = SamplesFile(file, reward_low, reward_high, columns, step, ragged).samples()
        _require_rewards(checkpoints, samples.reward_bounds)
        with in_options(**OPTIONS):
            plan = forecast(samples, betas=beta, targets=target, delta=delta, recipe=trained)
            advice = _advice(plan, loss_budget, reward_target)
    except (ValueError, OSError, ImportError) as error:
        fail(str(error))
    if as_json:
        print_json(plan.to_dict() | {"recommendation": advice.to_dict() if advice else None})
    else:
        _print(samples, plan, advice)
    if (
        html is not None
    ):  # after what was asked for first: a picture that fails takes nothing with it
        try:
            html.write_text(plan.html(advice, run=checkpoints), encoding="utf-8")
        except (ValueError, OSError, ImportError) as error:
            fail(f"--html {html}: {error}")


def _print(samples: Samples, plan: Forecast, advice: Recommendation | None) -> None:
    console().print(repr(samples), markup=False)
    if plan.recipe is not None:
        print_recipe(plan.recipe)
    _print_at_start(plan.at_start())
    if not (plan.betas or plan.targets or advice):
        console().print("nothing was asked: add --beta, --target, --loss-budget or --reward-target")
    for b in plan.betas:
        _print_at_beta(plan.at_beta(b))
    for c in plan.targets:
        _print_at_reward(plan.at_reward(c))
    if advice:
        _print_advice(advice)


def _checkpoints(run: list[str]) -> list[tuple[float, float]]:
    found = []
    for text in run:
        try:
            reward, loss = map(float, text.split(","))
        except ValueError:
            reward, loss = math.nan, math.nan
        if not (math.isfinite(reward) and math.isfinite(loss)):
            fail(
                f"--run {text!r}: give a reward and a change of SFT loss, both finite, as 0.55,0.09"
            )
        found.append((reward, loss))
    return found


def _require_rewards(checkpoints: list[tuple[float, float]], bounds: tuple[float, float]) -> None:
    low, high = bounds
    for reward, loss in checkpoints:
        if not low <= reward <= high:
            raise ValueError(
                f"--run {reward:g},{loss:g}: the samples have rewards from {low:g} to {high:g}; give the average "
                "reward of the checkpoint, then its change of SFT loss"
            )


def _advice(
    plan: Forecast, loss_budget: float | None, reward_target: float | None
) -> Recommendation | None:
    if loss_budget is None and reward_target is None:
        return None
    return plan.recommend(loss_budget=loss_budget, reward_target=reward_target)


def _print_at_start(answer: AtStart) -> None:
    losses = {"SFT loss, own data": answer.own_loss, "SFT loss, expert data": answer.expert_loss}
    if not any(losses.values()):
        return
    table = _table("The start policy")
    table.add_row("reward", *_numbers(answer.reward))
    for name, estimate in losses.items():
        if estimate:
            table.add_row(name, *_numbers(estimate))
    console().print(table)


def _print_at_beta(answer: AtBeta | UnsupportedBeta | UnsupportedRecipe) -> None:
    if not isinstance(answer, AtBeta):
        console().print(str(answer), markup=False)
        return
    rows: dict[str, Estimate | None] = {
        "reward": answer.reward,
        "KL from the start policy": answer.kl,
        "SFT loss change, own data": answer.own_loss_change,
        "SFT loss change, expert data": answer.expert_loss_change,
        "soft value": answer.soft_value,
    }
    table = _table(f"RL at beta = {answer.beta:.4g}")
    for name, estimate in rows.items():
        if estimate:
            table.add_row(name, *_numbers(estimate))
    console().print(table)


def _print_at_reward(answer: AtReward) -> None:
    table = _table(f"average reward {answer.target:g}")
    table.add_row("least SFT loss change of any algorithm", *_numbers(answer.price))
    for name, estimate in (("SFT loss change of RL", answer.trained_price), ("beta", answer.beta)):
        if isinstance(estimate, Estimate):
            table.add_row(name, *_numbers(estimate))
    out = console()
    out.print(table)
    if not isinstance(answer.beta, Estimate):
        out.print(str(answer.beta), markup=False)


def _print_advice(advice: Recommendation) -> None:
    out = console()
    out.print(f"Recommended for {advice.asked}", markup=False)
    for name, choice in (("guaranteed", advice.guaranteed), ("plug-in", advice.plug_in)):
        out.print(f"{name}:", markup=False)
        if choice is None:
            out.print("no beta is sure to do it", markup=False)
        else:
            _print_at_beta(choice)
    if advice.cheapest:
        out.print(f"The cheapest recipe would pay {advice.cheapest}", markup=False)
        out.print(f"  for that reward: {advice.cheapest_recipe}", markup=False)
    out.print(advice.why, markup=False)


def _table(title: str) -> Table:
    return Table("", "estimate", "from", "to", title=title)


def _numbers(estimate: Estimate) -> list[str]:
    """An end that the samples do not give is open."""
    ends = (estimate.low, estimate.high)
    return [f"{estimate.value:.4g}", *("open" if math.isinf(e) else f"{e:.4g}" for e in ends)]
