"""A forecast as one self-contained HTML page, which leads with its picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nondecoupling.forecast.answers import AtBeta, AtReward, AtStart, Estimate, Recommendation
from nondecoupling.forecast.support import Unsupported, UnsupportedBeta, UnsupportedRecipe

if TYPE_CHECKING:
    from nondecoupling.forecast.forecasts import Forecast

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
svg { width: 100%; max-width: 36rem; height: auto }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid #ddd }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
td small { display: block; min-width: 12rem }
small { color: #666 }
"""
NAMES = {
    "reward": "average reward",
    "own_loss": "SFT loss, own data",
    "expert_loss": "SFT loss, expert data",
    "own_loss_change": "SFT loss change, own data",
    "expert_loss_change": "SFT loss change, expert data",
    "kl": "KL from the start policy",
    "soft_value": "soft value",
    "price": "least SFT loss change of any algorithm",
    "trained_price": "SFT loss change where training reaches it",
    "beta": "beta that reaches it",
}
# Of the picture in inches: its labels are as large as the text around it where there is room, and 9 px on a phone.
SIZE = (4.4, 4.8)
LIMITS = (
    "Losses and KL in nats per response, on the law that the prompts were drawn from; each interval by itself at its "
    "level. Bands around paths are of the loss at a beta; where one goes below the floor, the floor holds. About the "
    "optimum of training, which a run approaches; the floor needs no such assumption. Forgetting on other prompts is "
    "not in it."
)


def document(title: str, body: Iterable[str]) -> str:
    """A page of its own, as wide as the screen that shows it."""
    head = (
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>",
    )
    return "\n".join([*head, *body, "</html>", ""])


def picture(plan: Forecast, run: Sequence[tuple[float, float]]) -> str:
    """``Forecast.plot`` as an SVG element, with the legend below.

    Errors: ``ImportError`` without matplotlib.
    """
    from nondecoupling.plot import in_style, subplots, svg

    with in_style():
        figure, axes = subplots(size=SIZE)
        plan.plot(axes, run=run)
        axes.get_legend().remove()
        figure.legend(loc="outside lower left")
        text = svg(figure)
    return text[text.index("<svg") :]


def html(
    plan: Forecast, recommendation: Recommendation | None, run: Sequence[tuple[float, float]]
) -> str:
    """
    Errors: as ``picture``.
    """
    samples = plan.samples
    parts = [
        picture(plan, run),
        f"<p>{escape(repr(samples))}. Level of each interval: {1 - plan.delta:g}.</p>",
    ]
    if plan.recipe is not None:
        parts.append(f"<p>The recipe: {escape(str(plan.recipe))}.</p>")
    if recommendation is not None:
        parts += _advice(recommendation)
    parts += ["<h2>At the start</h2>", _table(plan.at_start())]
    for beta in plan.betas:
        parts += [f"<h2>At beta = {beta:.4g}</h2>", _table(plan.at_beta(beta))]
    for target in plan.targets:
        parts += [f"<h2>At an average reward of {target:g}</h2>", _table(plan.at_reward(target))]
    return document("What RL will cost", [*parts, f"<p><small>{escape(LIMITS)}</small></p>"])


def _advice(advice: Recommendation) -> Iterable[str]:
    yield f"<h2>Recommended for {escape(advice.asked)}</h2>"
    for name, choice in (("guaranteed", advice.guaranteed), ("plug-in", advice.plug_in)):
        at = f", beta = {choice.beta:.4g}" if isinstance(choice, AtBeta) else ""
        yield f"<h3>{name}{at}</h3>"
        yield "<p>no beta is sure to do it</p>" if choice is None else _table(choice)
    if advice.cheapest is not None:
        yield f"<p>The cheapest recipe would pay {escape(str(advice.cheapest))} for the same reward: "
        yield f"{escape(str(advice.cheapest_recipe))}.</p>"
    yield f"<p>{escape(advice.why)}.</p>"


def _table(answer: AtStart | AtBeta | AtReward | Unsupported) -> str:
    if isinstance(answer, (UnsupportedBeta, UnsupportedRecipe)):
        return f"<p>{escape(str(answer))}</p>"
    rows, seen = [], set()
    for name, text in NAMES.items():
        number = getattr(answer, name, None)
        if isinstance(number, Estimate):
            ends = (_shown(end) for end in (number.value, number.low, number.high))
            cells = "".join(f"<td class='n'>{end}</td>" for end in ends)
            rows.append(f"<tr><td>{text}</td>{cells}<td><small>{escape(number.how)}</small></td>")
        elif isinstance(number, (UnsupportedBeta, UnsupportedRecipe)):
            seen.add(str(number))
    head = "<tr><th></th><th>estimate</th><th>from</th><th>to</th><th>how</th></tr>"
    notes = "".join(f"<p>{escape(note)}</p>" for note in seen)
    return f"<div class='wide'><table>{head}{''.join(rows)}</table></div>{notes}"


def _shown(end: float) -> str:
    return "open" if math.isinf(end) or math.isnan(end) else f"{end:.4g}"
