"""The plots of a run, as PNG bytes."""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from nondecoupling.verdict import Status
from validate.checks import Checkpoint, Episode, World
from validate.digest import Digest
from validate.stages import STAGES

__all__ = ["plots"]

INK, OBSERVED, SECOND, PREDICTED, BOUND = "#222222", "#1f5fa8", "#3f8f6b", "#c8641b", "#a02c5a"
SHADES = ("#eef3fa", "#fdf3ea", "#eef7f1")
COLORS = {
    Status.HOLDS: OBSERVED,
    Status.UNDECIDED: PREDICTED,
    Status.REFUTED: "#c00000",
}
SETTINGS: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def plots(result: Digest) -> dict[str, bytes]:
    """File name -> PNG: one course per RL stage, the price of reward, the margins."""
    with matplotlib.rc_context(SETTINGS):
        made = {
            f"course-{episode.rl[-1].stage}.png": _course(result.world, episode)
            for episode in result.episodes
        }
        made["price-of-reward.png"] = _price(result)
        made["margins.png"] = _margins(result)
    return made


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    # Without a date and a version the same run gives the same bytes.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def _course(world: World, episode: Episode) -> bytes:
    """SFT loss, reward and KL along the stages, with what the statements predict."""
    d, log_ref, beta = world.log_d, episode.ref.log_p, world.beta
    tilt = world.tilt(log_ref)
    stages = [stage for stage in (episode.before, episode.rl, episode.after) if stage]
    starts = [0]
    for stage in stages:
        starts.append(starts[-1] + stage[-1].step)
    points = [
        (start + checkpoint.step, checkpoint)
        for start, stage in zip(starts, stages, strict=False)
        for checkpoint in stage
    ]
    along = [x for x, _ in points]

    def curve(axis: Any, function: Any, color: str, label: str, **style: Any) -> None:
        axis.plot(along, [function(c.log_p) for _, c in points], color=color, label=label, **style)

    def level(axis: Any, value: float, label: str, stage: int | None = None) -> None:
        span = (starts[0], starts[-1]) if stage is None else (starts[stage], starts[stage + 1])
        style = {"color": INK, "ls": ":"} if stage is None else {"color": PREDICTED, "ls": "--"}
        axis.plot(span, [value, value], lw=1.4, label=label, **style)

    figure, (loss, reward, kl) = plt.subplots(
        3, 1, figsize=(8.4, 8.6), sharex=True, layout="constrained"
    )
    curve(loss, lambda p: world.ce(d, p), OBSERVED, "SFT loss CE(d,p)", marker="o", ms=3)
    curve(
        loss,
        lambda p: world.data_entropy + world.price(d, p),
        BOUND,
        "least SFT loss of any policy with this reward (S5)",
        lw=1,
    )
    level(loss, world.ce(d, tilt), "predicted at the RL optimum (S1)", 1)
    level(loss, world.data_entropy, "smallest possible, H(d)")
    loss.set_ylabel("nats per response")
    trained = [world.ce(d, c.log_p) for _, c in points if c.step > 0]
    low = world.data_entropy
    high = max(*trained, world.ce(d, tilt))
    loss.set_ylim(low - 0.08 * (high - low), high + 0.12 * (high - low))

    curve(reward, world.j, OBSERVED, "reward J(p)", marker="o", ms=3)
    level(reward, world.j(tilt), "J at the RL optimum", 1)
    level(reward, world.data_reward, "reward of the data, J(d): where SFT leads")
    reward.set_ylabel("reward")

    after_ref = [(x, c) for x, c in points if x >= starts[1]]
    for function, color, label in (
        (lambda p: world.kl(p, log_ref), OBSERVED, "KL(p||ref)"),
        (lambda p: world.kl(p, tilt), SECOND, "KL(p||tilt) = lost J_b / beta (R1)"),
    ):
        xs = [x for x, c in after_ref if c is not episode.ref]
        values = [function(c.log_p) for _, c in after_ref if c is not episode.ref]
        kl.plot(xs, values, color=color, label=label, marker="o", ms=3)
    level(kl, world.kl(tilt, log_ref), "KL(tilt||ref): predicted KL(p||ref)", 1)
    if episode.after:
        level(kl, world.kl(d, tilt), "KL(d||tilt): predicted KL(p||tilt)", 2)
    kl.set_yscale("log")
    kl.set_ylabel("nats per response")
    kl.set_xlabel(f"training steps (beta = {beta:g})")

    for axis in (loss, reward, kl):
        for index, shade in enumerate(SHADES[: len(stages)]):
            axis.axvspan(starts[index], starts[index + 1], color=shade, zorder=0, lw=0)
        axis.margins(x=0)
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
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
    return _png(figure)


def _price(result: Digest) -> bytes:
    """Excess SFT loss of every checkpoint against the least that its reward costs."""
    world = result.world
    figure, axis = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    groups: dict[str, list[Checkpoint]] = {}
    for episode in result.episodes:
        for checkpoint in [*episode.before, *episode.rl, *episode.after]:
            if checkpoint.stage != "base":
                groups.setdefault(checkpoint.stage, []).append(checkpoint)
    largest = 0.0
    for index, (name, checkpoints) in enumerate(groups.items()):
        xs = [world.price(world.log_d, c.log_p) for c in checkpoints]
        ys = [world.kl(world.log_d, c.log_p) for c in checkpoints]
        largest = max(largest, *xs)
        axis.plot(xs, ys, "osD^vP"[index % 6], ms=4.5, alpha=0.8, label=STAGES[name].title)
    edge = max(largest * 1.1, 1e-3)
    axis.plot([0, edge], [0, edge], color=BOUND, lw=1.2, label="S5: nothing can lie below")
    axis.fill_between([0, edge], [0, edge], color=BOUND, alpha=0.08, lw=0)
    axis.set_xlim(-0.03 * edge, edge)
    axis.set_ylim(bottom=-0.02 * edge)
    axis.set_xlabel("price of the reward reached, K_inf(d, J(p))  [nats per response]")
    axis.set_ylabel("SFT loss above its minimum  [nats per response]")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return _png(figure)


def _margins(result: Digest) -> bytes:
    """Left: how far the sides of identities lie apart. Right: the smallest margin of each inequality."""
    identities = [s for s in result.statements if s.identities]
    claims: dict[tuple[str, str], Any] = {}
    for summary in result.statements:
        for row in summary.inequalities:
            key = (row.statement, "".join(row.claim.split(":")[-1:]).strip())
            if key not in claims or row.margin < claims[key].margin:
                claims[key] = row
    rows = len(identities), len(claims)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11.5, 1.4 + 0.34 * max(*rows, 4)), layout="constrained", width_ratios=(2, 3)
    )
    smallest = 1e-17
    for y, summary in enumerate(reversed(identities)):
        row = summary.worst_identity
        assert row is not None
        left.plot(max(abs(row.lhs - row.rhs), smallest), y, "o", color=COLORS[row.status])
        left.plot(row.tolerance, y, "|", color=INK, ms=14)
    left.set_yticks(range(len(identities)), [s.statement for s in reversed(identities)])
    left.set_xlabel("dot: largest |left - right|; bar: allowed", loc="left")
    left.set_title("Identities (fail only through a bug)", loc="left", fontsize=9)
    names = []
    for y, ((statement, claim), tight) in enumerate(reversed(claims.items())):
        marker = "X" if tight.status is Status.REFUTED else "o"
        right.plot(max(abs(tight.margin), smallest), y, marker, color=COLORS[tight.status])
        right.plot(tight.tolerance, y, "|", color=INK, ms=14)
        names.append(f"{claim}  {statement}")
    right.set_yticks(range(len(names)), names, fontsize=7.5)
    label = "dot: smallest margin (cross: violated by that much); bar: rounding allowance"
    right.set_xlabel(label, loc="right")
    right.set_title("Inequalities", loc="left", fontsize=9)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.grid(axis="x", color="#dddddd", lw=0.6)
    return _png(figure)
