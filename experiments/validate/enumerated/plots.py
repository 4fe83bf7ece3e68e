"""The plots of a run, as SVG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nondecoupling import plot
from nondecoupling.deciding.verdict import Status
from validate.enumerated.checks import Check
from validate.enumerated.digest import Digest
from validate.enumerated.endings import Ending
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.means import PromptMeans
from validate.orders import BASE, STAGES
from validate.pareto import SIZE, Landing, Landscape, plane_plot, regularized_plot

__all__ = ["plots"]

Law = NDArray[np.float64]
Function = Callable[[Law], float]
Measure = Callable[[PromptMeans, Law], float]
MARKERS = "osD^vP*"
SHADES = ("#eef3fa", "#fdf3ea", "#eef7f1")
COLORS = {
    Status.HOLDS: plot.BLUE,
    Status.UNDECIDED: plot.VERMILION,
    Status.REFUTED: plot.PURPLE,
}
MARKS = {Status.HOLDS: "o", Status.UNDECIDED: "s", Status.REFUTED: "X"}


def plots(result: Digest) -> dict[str, str]:
    """File name -> SVG: one course per RL stage, two Pareto plots per ref, the price of reward, the margins."""
    with plot.in_style():
        made = {f"course-{e.rl[-1].stage}.svg": _course(result.experts, e) for e in result.episodes}
        for ref in dict.fromkeys(e.ref.stage for e in result.episodes):
            shown = _landings([e for e in result.episodes if e.ref.stage == ref])
            made[f"plane-{ref}.svg"] = plane_plot(*shown)
            made[f"pareto-{ref}.svg"] = regularized_plot(*shown)
        made["price-of-reward.svg"] = _price(result)
        made["margins.svg"] = _margins(result)
    return made


def _landings(episodes: list[Episode]) -> tuple[Landscape, list[Landing]]:
    """Where the policies trained from one ref landed, and in which world."""
    mean, ref = episodes[0].mean, episodes[0].ref
    stages: list[tuple[Checkpoint, Ending | None]] = [(ref, None)]
    for episode in episodes:
        stages.append((episode.rl[-1], episode.best))
        stages += [(episode.after[-1], None)] if episode.after else []
    return (
        Landscape(
            mean.log_d,
            ref.log_p,
            mean.reward,
            mean.beta,
            mean.reward.max(axis=1, keepdims=True),
        ),
        [
            Landing(
                STAGES[result.stage].title,
                mean.kl(mean.log_d, result.log_p),
                mean.j(result.log_p),
                mean.jb(result.log_p, ref.log_p),
                predicted=(mean.j(end.log_p), mean.kl(mean.log_d, end.log_p)) if end else None,
            )
            for result, end in stages
        ],
    )


def _course(experts: PromptMeans, episode: Episode) -> str:
    """SFT loss, reward and KL along the stages, with what the statements predict.

    Up to ref the data are the experts'. Where they are others from there on, the lines jump at ref.
    """
    mean = episode.mean
    d, log_ref, beta = mean.log_d, episode.ref.log_p, mean.beta
    best, name, source = episode.best.log_p, episode.best.name, episode.best.statement
    stages = [stage for stage in (episode.before, episode.rl, episode.after) if stage]
    starts = [0]
    for stage in stages:
        starts.append(starts[-1] + stage[-1].step)
    points = [
        (start + checkpoint.step, checkpoint)
        for start, stage in zip(starts, stages, strict=False)
        for checkpoint in stage
    ]
    first = len(episode.before)
    on_data = [(x, c.log_p, experts if i < first else mean) for i, (x, c) in enumerate(points)]
    if mean is not experts:
        on_data.insert(first, (starts[1], log_ref, mean))
    along = [x for x, _, _ in on_data]

    def curve(axis: Axes, function: Measure, label: str, **style: Any) -> None:
        axis.plot(along, [function(own, p) for _, p, own in on_data], label=label, **style)

    def level(axis: Axes, value: float, label: str, stage: int = 1) -> None:
        span = starts[stage], starts[stage + 1]
        axis.plot(span, [value, value], lw=1.4, label=label, color=plot.VERMILION, ls="--")

    figure, (loss, reward, kl) = plot.subplots(3, 1, size=(5.4, 9.6), sharex=True)
    dotted: dict[str, Any] = {"color": plot.BLUE, "marker": "o", "markersize": 3}
    of_data: dict[str, Any] = {"color": plot.BLACK, "ls": ":", "lw": 1.4}
    curve(loss, lambda own, p: own.ce(own.log_d, p), "SFT loss CE(d,p)", **dotted)
    curve(
        loss,
        lambda own, p: own.data_entropy + own.price(own.log_d, p),
        "least SFT loss of any policy with this reward (S5)",
        color=plot.PURPLE,
        linewidth=1,
    )
    level(loss, mean.ce(d, best), f"predicted at the {name} ({source})")
    curve(loss, lambda own, _: own.data_entropy, "smallest possible, H(d)", **of_data)
    loss.set_ylabel("nats per response")
    trained = [own.ce(own.log_d, p) for x, p, own in on_data if x > 0]
    low = min(mean.data_entropy, experts.data_entropy)
    high = max(*trained, mean.ce(d, best))
    loss.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))

    curve(reward, lambda own, p: own.j(p), "reward J(p)", **dotted)
    level(reward, mean.j(best), f"J at the {name}")
    words = "reward of the data, J(d): where SFT leads"
    curve(reward, lambda own, _: own.data_reward, words, **of_data)
    reward.set_ylabel("reward")

    after_ref = [(x, c) for x, c in points if x >= starts[1]]
    distance: Function = lambda p: mean.kl(p, best)  # noqa: E731
    words = "KL(p||joint)" if episode.is_joint else "KL(p||tilt) = lost J_b / beta (R1)"
    if episode.ending is not None:
        # p* may have no mass where p has some.
        distance, words = lambda p: mean.kl(best, p), f"KL({name}||p)"
    for function, color, label in (
        (lambda p: mean.kl(p, log_ref), plot.BLUE, "KL(p||ref)"),
        (distance, plot.GREEN, words),
    ):
        xs = [x for x, c in after_ref if c is not episode.ref]
        values = [function(c.log_p) for _, c in after_ref if c is not episode.ref]
        kl.plot(xs, values, color=color, label=label, marker="o", ms=3)
    level(kl, mean.kl(best, log_ref), "predicted KL(p||ref)")
    if episode.after and episode.ending is None:
        level(kl, mean.kl(d, best), "KL(d||tilt): predicted KL(p||tilt)", 2)
    kl.set_yscale("log")
    kl.set_ylabel("nats per response")
    kl.set_xlabel(f"training steps (beta = {beta:g})")

    for axis in (loss, reward, kl):
        for index, shade in enumerate(SHADES[: len(stages)]):
            axis.axvspan(starts[index], starts[index + 1], color=shade, zorder=0, lw=0)
        axis.margins(x=0)
        below = -0.02 if axis is not kl else -0.26
        axis.legend(loc="upper left", bbox_to_anchor=(0.0, below))
    for index, stage in enumerate(stages):
        middle = (starts[index] + starts[index + 1]) / 2
        name = STAGES[stage[-1].stage].title.replace(" (cycle)", "")
        narrow = starts[index + 1] - starts[index] < 0.12 * starts[-1]
        loss.annotate(
            name,
            (starts[index] if narrow else middle, 1.02),
            xycoords=("data", "axes fraction"),
            ha="left" if narrow else "center",
            va="bottom",
            rotation=25 if narrow else 0,
        )
    return plot.svg(figure)


def _price(result: Digest) -> str:
    """Excess SFT loss of every checkpoint against the least that its reward costs."""
    figure, axis = plot.subplots(size=SIZE)
    groups: dict[str, tuple[PromptMeans, list[Checkpoint]]] = {}
    for episode in result.episodes:
        groups[episode.ref.stage] = result.experts, episode.before
        for stage in (episode.rl, episode.after):
            if stage:
                groups[stage[-1].stage] = episode.mean, stage
    largest = 0.0
    for marker, (name, (mean, checkpoints)) in zip(MARKERS, groups.items(), strict=False):
        trained = [c.log_p for c in checkpoints if c.stage != BASE]
        xs = [mean.price(mean.log_d, log_p) for log_p in trained]
        ys = [mean.kl(mean.log_d, log_p) for log_p in trained]
        largest = max(largest, *xs)
        axis.plot(xs, ys, marker, ms=4.5, alpha=0.8, label=STAGES[name].title)
    edge = max(largest * 1.1, 1e-3)
    axis.plot([0, edge], [0, edge], color=plot.PURPLE, lw=1.2, label="S5: nothing can lie below")
    axis.fill_between([0, edge], [0, edge], color=plot.PURPLE, alpha=0.08, lw=0)
    axis.set_xlim(-0.03 * edge, edge)
    axis.set_ylim(bottom=-0.02 * edge)
    axis.set_xlabel("price of the reward reached, K_inf(d, J(p))  [nats per response]")
    axis.set_ylabel("SFT loss above its minimum  [nats per response]")
    figure.legend(loc="outside lower center", ncols=2)
    return plot.svg(figure)


def _margins(result: Digest) -> str:
    """Left: how far the sides of identities lie apart. Right: the smallest margin of each inequality."""
    identities = [s for s in result.statements if s.identities]
    claims: dict[tuple[str, str], Check] = {}
    for summary in result.statements:
        for row in summary.inequalities:
            key = (row.statement, "".join(row.claim.split(":")[-1:]).strip())
            if key not in claims or row.margin < claims[key].margin:
                claims[key] = row
    rows = len(identities), len(claims)
    figure, (left, right) = plot.subplots(
        1, 2, size=(11.5, 1.4 + 0.34 * max(*rows, 4)), width_ratios=(2, 3)
    )
    smallest = 1e-17
    for y, summary in enumerate(reversed(identities)):
        worst = summary.worst_identity
        assert worst is not None
        difference = max(abs(worst.lhs - worst.rhs), smallest)
        left.plot(difference, y, MARKS[worst.status], color=COLORS[worst.status])
        left.plot(worst.tolerance, y, "|", color=plot.BLACK, ms=14)
    left.set_yticks(range(len(identities)), [s.statement for s in reversed(identities)])
    left.set_xlabel("dot: largest |left - right| (square: undecided); bar: allowed", loc="left")
    left.set_title("Identities (fail only through a bug)", loc="left", fontsize=9)
    names = []
    for y, ((statement, claim), tight) in enumerate(reversed(claims.items())):
        size = max(abs(tight.margin), smallest)
        right.plot(size, y, MARKS[tight.status], color=COLORS[tight.status])
        right.plot(tight.tolerance, y, "|", color=plot.BLACK, ms=14)
        names.append(f"{claim}  {statement}")
    right.set_yticks(range(len(names)), names, fontsize=7.5)
    label = "dot: smallest margin (square: undecided, cross: violated); bar: rounding allowance"
    right.set_xlabel(label, loc="right")
    right.set_title("Inequalities", loc="left", fontsize=9)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.grid(axis="x", color="#dddddd", lw=0.6)
    return plot.svg(figure)
