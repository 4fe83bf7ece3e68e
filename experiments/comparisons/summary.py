"""The table and the figure of a comparison, from its outcomes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from validate.enumerated.means import PromptMeans

from comparisons.outcomes import MethodOutcome
from nondecoupling import plot

__all__ = ["figure", "table", "table_of_models"]

MARKERS = "osD^vPX*<>hpd"
HEAD = (
    "method",
    "by",
    "seeds",
    "reward",
    "predicted",
    "paid, nats",
    "paid / least",
    "predicted",
    "the tilt's / least",
    "paid / the tilt's",
    "beyond own prices, nats",
    "KL(predicted, trained)",
)


def table(outcomes: Sequence[MethodOutcome]) -> str:
    """Markdown: a line per method, mean ± standard deviation over seeds; refused methods below, with the reason."""
    lines = _markdown(HEAD, _rows(outcomes))
    refused = {outcome.method: outcome.refused for outcome in outcomes if outcome.refused}
    if refused:
        lines += ["", "Not trained:", ""]
        lines += [f"- {name}: {why}" for name, why in refused.items()]
    return "\n".join(lines) + "\n"


def table_of_models(outcomes: Mapping[str, Sequence[MethodOutcome]]) -> str:
    """Markdown: the lines of ``table`` of each model, by its name."""
    rows = [[name, *row] for name, mine in outcomes.items() for row in _rows(mine)]
    return "\n".join(_markdown(("model", *HEAD), rows)) + "\n"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _rows(outcomes: Sequence[MethodOutcome]) -> Iterator[list[str]]:
    for name in dict.fromkeys(outcome.method for outcome in outcomes):
        done = [o for o in outcomes if o.method == name and not o.refused]
        if done:
            yield [name, done[0].statement, str(len(done)), *_cells(done)]


def _cells(some: Sequence[MethodOutcome]) -> list[str]:
    def spread(value: Callable[[MethodOutcome], float], form: str = ".3f") -> str:
        values = np.array([value(outcome) for outcome in some])
        text = format(values.mean(), form)
        return f"{text} ± {format(values.std(ddof=1), form)}" if len(values) > 1 else text

    def trained(name: str) -> Callable[[MethodOutcome], float]:
        return lambda outcome: float(getattr(outcome.trained, name))

    def predicted(name: str) -> Callable[[MethodOutcome], float]:
        return lambda outcome: float(getattr(outcome.predicted, name))

    paid, tilt = trained("paid"), trained("tilt")
    return [
        spread(trained("reward")),
        spread(predicted("reward")),
        spread(paid),
        spread(trained("times")),
        spread(predicted("times")),
        spread(trained("tilt_times")),
        spread(lambda outcome: paid(outcome) / tilt(outcome)),
        spread(trained("overpaid")),
        spread(lambda outcome: float(outcome.distance or 0.0), ".1e"),
    ]


def figure(outcomes: Sequence[MethodOutcome], mean: PromptMeans) -> str:
    """SVG: SFT loss above its least (up) against reward (right), the frontier, the tilt's path, and every outcome."""
    done = [outcome for outcome in outcomes if outcome.trained is not None]
    names = list(dict.fromkeys(outcome.method for outcome in done))
    with plot.in_style():
        drawing, axis = plot.subplots(size=(9.6, 5.2))
        label = "frontier: nothing lies below (S5)"
        plot.frontier(mean.log_d, mean.reward, ax=axis, above_floor=True, label=label)
        label = "tilts of the data (S4)"
        plot.tilt_path(mean.log_d, mean.reward, ax=axis, above_floor=True, label=label)
        for index, name in enumerate(names):
            points = [o.trained for o in done if o.method == name and o.trained is not None]
            axis.plot(
                [point.reward for point in points],
                [point.paid for point in points],
                **{**plot.line(index), "linestyle": "none"},
                marker=MARKERS[index % len(MARKERS)],
                mec=plot.BLACK,
                mew=0.4,
                ms=6,
                label=name,
            )
        rewards = [outcome.trained.reward for outcome in done if outcome.trained is not None]
        highest = max(outcome.trained.paid for outcome in done if outcome.trained is not None)
        low = mean.data_reward
        axis.set_xlim(low, low + 1.06 * (max(rewards) - low))
        axis.set_ylim(-0.02 * highest, 1.08 * highest)
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7.5)
        return plot.svg(drawing)
