"""A watched run as one self-contained HTML page: where it is in the plane of reward and SFT loss, and its readings."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nondecoupling.forecast import Estimate, forecast
from nondecoupling.forecast.page import STYLE
from nondecoupling.monitor.prices import Bounded
from nondecoupling.monitor.readings import Reading

if TYPE_CHECKING:
    from nondecoupling.monitor.monitors import CouplingMonitor

__all__ = ["COLUMNS", "html", "shown"]

# Of a reading, in the order of tables.
COLUMNS = {
    "reward": "reward",
    "price": "price",
    "price_tilt": "price, exact RL",
    "beta_equivalent": "beta",
    "sft_loss_rise": "SFT loss",
    "overpayment_ratio": "overpaid",
}
LIMITS = (
    "Losses and prices in nats per response, averages over prompts. The SFT loss is that on the start policy's own "
    "data; its lower limit, and those of alarms, hold at every look together. The path and the floor are a forecast "
    "from samples of the start policy, each interval by itself at its level."
)


def html(monitor: CouplingMonitor) -> str:
    """The picture of the forecast with the run in it, alarms, and a table of the readings; extra ``plot``.

    Errors: ``ImportError`` without matplotlib.
    """
    from nondecoupling.plot import in_style, subplots, svg

    run = [
        (reading.reward.value, reading.sft_loss_rise.value)
        for reading in monitor.readings
        if reading.reward is not None and reading.sft_loss_rise is not None
    ]
    with in_style():
        figure, axes = subplots(size=(7.2, 4.8))
        forecast(monitor.samples, delta=monitor.delta).plot(axes, run=run)
        picture = svg(figure)
    title = "What the run pays for its reward"
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>",
        picture[picture.index("<svg") :],
        *(
            f"<p><b>step {reading.step}: {escape(alarm)}</b></p>"
            for reading in monitor.readings
            for alarm in reading.alarms
        ),
        f"<p>{escape(repr(monitor.samples))}.</p>",
        _table(monitor.readings),
        f"<p><small>{escape(LIMITS)}</small></p></html>",
        "",
    ]
    return "\n".join(parts)


def shown(number: Estimate | Bounded | None) -> str:
    """A number of a reading in a cell of a table."""
    if number is None:
        return "-"
    return f"{number.value:.4g}" if isinstance(number, Estimate) else str(number)


def _table(readings: list[Reading]) -> str:
    names = ["step", *COLUMNS.values(), "at least"]
    rows = ["".join(f"<th>{name}</th>" for name in names)]
    for reading in readings:
        rise = reading.sft_loss_rise
        cells = [str(reading.step), *(shown(getattr(reading, name)) for name in COLUMNS)]
        cells.append("-" if rise is None else f"{rise.low:.4g}")
        rows.append("".join(f"<td class='n'>{escape(cell)}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"
