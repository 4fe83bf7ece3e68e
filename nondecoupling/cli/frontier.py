"""The command ``frontier``: the least SFT loss increase that buys each reward."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from nondecoupling import bounds, plot
from nondecoupling.cli.exits import fail, need
from nondecoupling.cli.options import AsJson, between
from nondecoupling.cli.report import console, number, print_json
from nondecoupling.cli.world_options import LAW, REALS, world_of_fields
from nondecoupling.theory.fields import Field, Law, Positive, Reward

Point = dict[str, float]  # reward, price, tilt_price and beta


def frontier(
    data: Annotated[str, typer.Option(metavar=LAW, help="The data law d.")],
    reward: Annotated[str, typer.Option(metavar=REALS, help="Reward of each response.")],
    beta: Annotated[
        str | None, typer.Option(metavar="X", help="Also say where the tilt at this beta lies.")
    ] = None,
    points: Annotated[
        int, typer.Option(callback=between(2, 100_000), help="Rewards between J(d) and max r.")
    ] = 11,
    drawing: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .svg, .png or .pdf.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The least SFT loss increase that buys each reward (S5), beside what KL-regularised RL pays.

    The policy starts at the data law. Losses are in nats per response.
    """
    fields: dict[str, Field] = {"log_d": Law(), "reward": Reward()}
    texts = {"log_d": data, "reward": reward}
    if beta is not None:
        fields["beta"], texts["beta"] = Positive(), beta
    world = world_of_fields("frontier", fields, texts).floats(fields)
    log_d, rewards = world.log_d[0], world.reward[0]
    try:
        curve = _curve(log_d, rewards, points)
        tilt = _tilt_point(log_d, rewards, float(world.beta[0, 0])) if beta is not None else None
    except ValueError as error:
        fail(str(error))
    if drawing is not None:
        _draw(drawing, log_d, rewards, tilt["beta"] if tilt else None)
    if as_json:
        drawn = str(drawing) if drawing else None
        print_json({"data": data, "reward": reward, "points": curve, "tilt": tilt, "plot": drawn})
        return
    table = Table(
        "reward", "least SFT loss increase", "SFT loss increase of RL", "at beta",
        title="Price of reward, in nats per response",
    )  # fmt: skip
    for point in curve:
        table.add_row(*(number(point[key]) for key in ("reward", "price", "tilt_price", "beta")))
    out = console()
    out.print(table)
    if tilt:
        out.print(
            f"RL at beta = {beta} reaches reward {number(tilt['reward'])} and raises the SFT loss "
            f"by {number(tilt['tilt_price'])}; the least for that reward is "
            f"{number(tilt['price'])}."
        )
    if drawing:
        out.print(f"drawn in {drawing}", markup=False)


def _curve(log_d: np.ndarray, reward: np.ndarray, points: int) -> list[Point]:
    """Targets from J(d) up to, but without, max r, where the price is infinite or a corner."""
    least, top = float(bounds.expected_reward(log_d, reward)), float(reward.max())
    if least == top:
        fail(
            "--reward: all the data's mass has the highest reward already, so there is no frontier"
        )
    targets = np.linspace(least, top, points + 1)[:-1]
    laws, rewards = (np.broadcast_to(row, (points, row.size)) for row in (log_d, reward))
    prices = bounds.price_of_reward(laws, rewards, targets)
    betas = _betas_reaching(log_d, reward, targets)
    gaps = bounds.coupling_gap(laws, rewards, np.where(np.isfinite(betas), betas, 1.0))
    tilt_prices = np.select([np.isinf(betas), np.isnan(betas)], [0.0, np.inf], gaps)
    return [
        {"reward": float(c), "price": float(k), "tilt_price": float(t), "beta": float(b)}
        for c, k, t, b in zip(targets, prices, tilt_prices, betas, strict=True)
    ]


def _betas_reaching(log_d: np.ndarray, reward: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """beta with J(tilt) = target, by bisection in log beta; inf at J(d), nan where none is."""
    laws, rewards = (np.broadcast_to(row, (targets.size, row.size)) for row in (log_d, reward))
    spread = float(np.ptp(reward))
    low = np.full(targets.shape, math.log(1e-9 * spread))
    high = np.full(targets.shape, math.log(1e9 * spread))

    def reached(log_beta: np.ndarray) -> np.ndarray:
        return bounds.expected_reward(bounds.gibbs_tilt(laws, rewards, np.exp(log_beta)), rewards)

    reachable = reached(low) > targets
    for _ in range(80):
        middle = 0.5 * (low + high)
        enough = reached(middle) >= targets
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    at_data = targets == float(bounds.expected_reward(log_d, reward))
    return np.select([at_data, reachable], [np.inf, np.exp(low)], np.nan)


def _tilt_point(log_d: np.ndarray, reward: np.ndarray, beta: float) -> Point:
    tilt = bounds.gibbs_tilt(log_d, reward, beta)
    return {
        "beta": beta,
        "reward": float(bounds.expected_reward(tilt, reward)),
        "price": float(bounds.price_of_policy(log_d, tilt, reward)),
        "tilt_price": float(bounds.coupling_gap(log_d, reward, beta)),
    }


def _draw(path: Path, log_d: np.ndarray, reward: np.ndarray, beta: float | None) -> None:
    need("matplotlib", "--plot", "plot")
    with plot.in_style():
        figure, axes = plot.subplots(size=(6.4, 4.2))
        plot.frontier(log_d, reward, ax=axes, above_floor=True)
        plot.tilt_path(log_d, reward, beta=beta, ax=axes, above_floor=True)
        try:
            if path.suffix == ".svg":
                path.write_text(plot.svg(figure))
            else:
                figure.savefig(path, dpi=150)
        except (OSError, ValueError) as error:
            fail(f"--plot {str(path)!r}: cannot be written: {error}")
