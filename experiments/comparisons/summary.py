"""The table and the figures of a comparison, from its outcomes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from validate.enumerated.means import PromptMeans

from comparisons.methods import shares_of_cycles, steps_of_cycles
from comparisons.outcomes import MethodOutcome, Paid
from nondecoupling import plot
from nondecoupling.bounds.schedules import After

__all__ = [
    "ComparedModel",
    "figure",
    "figure_of_fineness",
    "number_or_dash",
    "table",
    "table_of_models",
]

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
AFTER: dict[After, str] = {
    "sft": "after SFT",
    "half-rl": "after half an RL phase",
    "rl": "after RL",
}
# What a table of several models leaves out, to be narrow.
OF_ONE_MODEL = ("paid / the tilt's", "beyond own prices, nats")


class TrainedOutcome(NamedTuple):
    """What a method reached, and what was predicted of it."""

    trained: Paid
    predicted: Paid


class ComparedModel(NamedTuple):
    """The outcomes of one model, how many prompts it has, 0 for all of a file, and its steps of SFT and of RL."""

    model: str
    prompts: int
    steps: str
    outcomes: Sequence[MethodOutcome]


def table(outcomes: Sequence[MethodOutcome]) -> str:
    """Markdown: a line per method, mean ± standard deviation over seeds; refused methods below, with the reason."""
    refused = {outcome.method: outcome.refused for outcome in outcomes if outcome.refused}
    return "\n".join([*_markdown(HEAD, _rows(outcomes)), *_not_trained(refused)]) + "\n"


def table_of_models(compared: Sequence[ComparedModel]) -> str:
    """Markdown: the lines of ``table`` of each model, behind its name and sizes, without ``OF_ONE_MODEL``."""
    kept = [i for i, title in enumerate(HEAD) if title not in OF_ONE_MODEL]
    head = ("model", "prompts", "steps of SFT, RL", *(HEAD[i] for i in kept))
    rows: list[list[str]] = []
    refused: dict[str, str] = {}
    for one in compared:
        for row in _rows(one.outcomes):
            rows.append([one.model, str(one.prompts or "all"), one.steps, *(row[i] for i in kept)])
        refused |= {f"{one.model}, {o.method}": o.refused for o in one.outcomes if o.refused}
    return "\n".join([*_markdown(head, rows), *_not_trained(refused)]) + "\n"


def number_or_dash(value: float, form: str) -> str:
    """A dash where there is no number, as for the tilt with a reward that no tilt has."""
    return "-" if np.isnan(value) else format(value, form)


def _not_trained(refused: Mapping[str, str]) -> list[str]:
    if not refused:
        return []
    return ["", "Not trained:", "", *(f"- {name}: {why}" for name, why in refused.items())]


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
        text = number_or_dash(values.mean(), form)
        if len(values) == 1 or np.isnan(values).any():
            return text
        return f"{text} ± {format(values.std(ddof=1), form)}"

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


def figure_of_fineness(outcomes: Sequence[MethodOutcome]) -> str | None:
    """SVG: paid over the least against how coarse the cycles of alternation are; None without two kinds of cycles.

    By natural gradient: against SFT's share of a cycle, where T6 says what each of its three ends pays. By AdamW:
    against the steps of a cycle, beside the tilt with the same reward. Bars are the standard deviation over seeds.
    """
    shares = {
        share
        for after in AFTER
        for name, share in shares_of_cycles(after).items()
        if _done(outcomes, [name])
    }
    steps = _done(outcomes, steps_of_cycles())
    drawn = [
        draw
        for draw, kinds in ((_natural_cycles, shares), (_adamw_cycles, steps))
        if len(kinds) > 1
    ]
    if not drawn:
        return None
    with plot.in_style():
        drawing, axes = plot.subplots(1, len(drawn), size=(4.8 * len(drawn), 3.8), squeeze=False)
        for draw, axis in zip(drawn, axes[0], strict=True):
            draw(axis, outcomes)
            axis.set_ylabel("paid / least")
            axis.legend(fontsize=8)
        return plot.svg(drawing)


def _natural_cycles(axis: Axes, outcomes: Sequence[MethodOutcome]) -> None:
    for index, (after, said) in enumerate(AFTER.items()):
        shares, color = shares_of_cycles(after), plot.line(index)["color"]
        done = _done(outcomes, shares)
        at = [shares[name] for name in done]
        predicted = [np.mean([o.predicted.times for o in some]) for some in done.values()]
        axis.plot(at, predicted, ls="--", color=color, label=f"{said}: T6")
        axis.errorbar(
            at,
            *_times(done),
            ls="",
            color=color,
            marker=MARKERS[index],
            capsize=3,
            label="trained",
        )
    axis.set_xlabel("share of SFT in a cycle, natural gradient")


def _adamw_cycles(axis: Axes, outcomes: Sequence[MethodOutcome]) -> None:
    steps = steps_of_cycles()
    done = _done(outcomes, steps)
    at = [steps[name] for name in done]
    tilts = [np.mean([o.trained.tilt_times for o in some]) for some in done.values()]
    axis.errorbar(at, *_times(done), color=plot.BLUE, marker="o", capsize=3, label="trained")
    label = "the tilt with the same reward"
    axis.plot(at, tilts, color=plot.VERMILION, marker="s", ls=":", label=label)
    axis.axhline(1, color=plot.BLACK, ls="--", lw=1, label="the limit of short cycles (T6)")
    axis.set_xscale("log")
    axis.set_xticks(at, [str(steps) for steps in at])
    axis.minorticks_off()
    axis.set_xlabel("steps of a cycle, AdamW")


def _done(
    outcomes: Sequence[MethodOutcome], names: Iterable[str]
) -> dict[str, list[TrainedOutcome]]:
    """Of each of these methods that was trained, its outcomes over seeds."""
    found: dict[str, list[TrainedOutcome]] = {}
    for name in names:
        for one in outcomes:
            if one.method == name and one.trained is not None and one.predicted is not None:
                found.setdefault(name, []).append(TrainedOutcome(one.trained, one.predicted))
    return found


def _times(done: Mapping[str, Sequence[TrainedOutcome]]) -> tuple[list[float], list[float]]:
    """Paid over the least: means and standard deviations over seeds."""
    each = [np.array([one.trained.times for one in some]) for some in done.values()]
    return [float(x.mean()) for x in each], [
        float(x.std(ddof=1)) if len(x) > 1 else 0.0 for x in each
    ]
