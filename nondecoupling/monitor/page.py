"""A watched run as one self-contained HTML page: where it is in the plane of reward and SFT loss, and its readings."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from nondecoupling.forecast import Estimate, forecast
from nondecoupling.forecast.page import document, picture
from nondecoupling.monitor.prices import Bounded
from nondecoupling.monitor.readings import Reading

if TYPE_CHECKING:
    from nondecoupling.monitor.monitors import CouplingMonitor

__all__ = ["cells_of", "columns_of", "html"]

LOWER_LIMIT = "at least"
# Of a reading, in the order of tables.
COLUMNS = {
    "reward": "reward",
    "price_floor": "floor",
    "price": "price",
    "price_tilt": "price, exact RL",
    "beta_equivalent": "beta",
    "price_recipe": "price, the recipe",
    "beta_recipe": "beta of the recipe",
    "sft_loss_rise": "SFT loss, rise",
    LOWER_LIMIT: LOWER_LIMIT,
    "expert_loss_rise": "on expert data, rise",
    "overpayment_ratio": "overpaid, times",
    "overpayment_nats": "overpaid, nats",
}
# Most runs have none: shown where one reading has it.
SELDOM = {"expert_loss_rise", "price_recipe", "beta_recipe"}
LIMITS = (
    "Losses and prices in nats per response, averages over prompts. The SFT loss is that on the start policy's own "
    "data, and its rise is from there; the lower limit of the rise, and those of alarms, hold at every look together. "
    "Paths and the floor are a forecast from samples of the start policy, each interval by itself at its level. A "
    "price >= is the floor and a beta <= an upper limit, where the reward lies beyond the samples; an overpayment <= "
    "is the rise against that floor."
)


def html(monitor: CouplingMonitor) -> str:
    """The picture of the forecast with the run in it, the recipe, alarms, and a table of readings; extra ``plot``.

    Errors: ``ImportError`` without matplotlib.
    """
    run = [
        (reading.reward.value, reading.sft_loss_rise.value)
        for reading in monitor.readings
        if reading.reward is not None and reading.sft_loss_rise is not None
    ]
    plan = forecast(monitor.samples, delta=monitor.delta, recipe=monitor.recipe)
    parts = [
        picture(plan, run),
        *(
            f"<p><b>step {reading.step}: {escape(alarm)}</b></p>"
            for reading in monitor.readings
            for alarm in reading.alarms
        ),
        f"<p>{escape(repr(monitor.samples))}.</p>",
        *_recipe(monitor),
        _table(monitor.readings),
        f"<p><small>{escape(LIMITS)}</small></p>",
    ]
    return document("What the run pays for its reward", parts)


def _recipe(monitor: CouplingMonitor) -> Iterable[str]:
    if monitor.recipe is None:
        return
    yield f"<p>The recipe: {escape(str(monitor.recipe))}.</p>"
    if monitor.prices.refusal is not None:
        yield f"<p>{escape(str(monitor.prices.refusal))}.</p>"


def columns_of(readings: list[Reading]) -> dict[str, str]:
    """The columns of a table of these readings next to the step, with their titles."""
    return {
        name: title
        for name, title in COLUMNS.items()
        if name not in SELDOM or any(getattr(reading, name) is not None for reading in readings)
    }


def cells_of(reading: Reading, columns: dict[str, str]) -> list[str]:
    """A row of that table; "-" where nothing was measured."""
    rise = reading.sft_loss_rise
    low = None if rise is None else rise.low
    return [_shown(low if name == LOWER_LIMIT else getattr(reading, name)) for name in columns]


def _shown(number: Estimate | Bounded | float | None) -> str:
    if number is None:
        return "-"
    if isinstance(number, Bounded):
        return str(number)
    return f"{number.value if isinstance(number, Estimate) else number:.4g}"


def _table(readings: list[Reading]) -> str:
    columns = columns_of(readings)
    rows = ["".join(f"<th>{name}</th>" for name in ["step", *columns.values()])]
    for reading in readings:
        cells = [str(reading.step), *cells_of(reading, columns)]
        rows.append("".join(f"<td class='n'>{escape(cell)}</td>" for cell in cells))
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    # On a phone the table scrolls, and not the page.
    return f"<div style='overflow-x:auto'><table>{lines}</table></div>"
