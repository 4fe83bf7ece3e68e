"""From a run's records to what a reader wants to know: verdicts per statement, and predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status
from validate.enumerated.checks import (
    CONSEQUENCE,
    IDENTITY,
    NEAR_OPTIMAL,
    STATEMENTS,
    Row,
    mass_rows,
    rows_of,
)
from validate.enumerated.facts import embedded_task
from validate.enumerated.world import Checkpoint, Episode, World, measures
from validate.orders import EPISODES, STAGES, policies_table

__all__ = ["Digest", "Prediction", "StatementSummary", "changes", "digest", "title_of"]


@dataclass(frozen=True)
class Prediction:
    """A number that a statement predicts, and what training gave; ``is_bound`` where it predicts a limit only."""

    quantity: str
    statement: str
    predicted: float
    observed: float
    unit: str
    is_bound: bool = False

    @property
    def difference(self) -> float:
        return self.observed - self.predicted


@dataclass(frozen=True)
class StatementSummary:
    """All rows of one statement in one line."""

    statement: str
    title: str
    status: Status
    identities: list[Row]
    consequences: list[Row]
    inequalities: list[Row]
    out_of_scope: list[Row]

    @property
    def worst_identity(self) -> Row | None:
        """The identity whose two sides lie farthest apart, in units of its tolerance."""
        return max(
            self.identities, key=lambda row: abs(row.lhs - row.rhs) / row.tolerance, default=None
        )

    @property
    def tightest(self) -> Row | None:
        return min(self.inequalities, key=lambda row: row.margin, default=None)


@dataclass(frozen=True)
class Digest:
    """Everything that report.json, report.html and the plots show."""

    config: dict[str, Any]
    model: str
    layout: str
    enumeration: tuple[float, float]
    experts: World
    episodes: list[Episode]
    checkpoints: list[dict[str, Any]]
    rows: list[Row]
    statements: list[StatementSummary]
    policies: list[dict[str, str]]
    predictions: list[tuple[str, list[Prediction]]]

    def count(self, status: Status) -> int:
        return sum(row.status is status for row in self.rows)

    @property
    def never_applied(self) -> list[str]:
        return [s.statement for s in self.statements if s.status is Status.OUT_OF_SCOPE]

    @property
    def outcome(self) -> str:
        if self.count(Status.REFUTED):
            return "violated"
        return "undecided" if self.count(Status.UNDECIDED) else "holds"

    @property
    def smallest_p(self) -> float:
        return min(line["smallest_p"] for line in self.checkpoints)


def digest(config: dict[str, Any], records: Sequence[dict[str, Any]]) -> Digest:
    task = embedded_task(config["prompts"], config["reward"])
    experts = World(task.log_d, task.reward, config["beta"], config["weight"])
    by_stage: dict[str, list[Checkpoint]] = {}
    for record in records:
        checkpoint = Checkpoint(record["stage"], record["step"], np.array(record["log_p"]))
        by_stage.setdefault(record["stage"], []).append(checkpoint)
    episodes = _episodes(by_stage, experts, config["data_law"])
    rows = mass_rows([checkpoint for stage in by_stage.values() for checkpoint in stage])
    rows += rows_of(experts, episodes)
    return Digest(
        config=config,
        model=records[0]["model"],
        layout=records[0]["layout"],
        enumeration=(records[0]["enumeration_difference"], records[0]["enumeration_tolerance"]),
        experts=experts,
        episodes=episodes,
        checkpoints=_checkpoints(episodes),
        rows=rows,
        statements=[_summary(name, title, rows) for name, title in STATEMENTS.items()],
        policies=policies_table(config["order"], config["data_law"]),
        predictions=[(title_of(e), list(_predictions(e))) for e in episodes],
    )


def _episodes(
    by_stage: dict[str, list[Checkpoint]], experts: World, data_law: str
) -> list[Episode]:
    base = by_stage["base"]
    episodes = []
    for before, rl, after in EPISODES:
        if rl in by_stage:
            ref = by_stage[before][-1].log_p
            own = World(ref, experts.reward, experts.beta, experts.weight)
            world = own if data_law == "self" else experts
            path = by_stage[rl], by_stage.get(after, []) if after else []
            episodes.append(Episode(world, [*base, *by_stage[before]], *path))
    return episodes


def title_of(episode: Episode) -> str:
    names = [episode.before[-1].stage, episode.rl[-1].stage]
    names += [episode.after[-1].stage] if episode.after else []
    return " -> ".join(STAGES[name].title for name in names)


def _checkpoints(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """The measures of every checkpoint, with ref the policy at the start of the episode's RL."""
    lines = {
        checkpoint.place: {
            "stage": checkpoint.stage,
            "step": checkpoint.step,
            **measures(episode.world, checkpoint.log_p, episode.ref.log_p),
        }
        for episode in episodes
        for checkpoint in [*episode.before, *episode.rl, *episode.after]
    }
    return list(lines.values())


def _summary(name: str, title: str, rows: Sequence[Row]) -> StatementSummary:
    mine = [row for row in rows if row.statement == name]
    applied = [row for row in mine if row.status is not Status.OUT_OF_SCOPE]
    found = {row.status for row in applied}
    ranked = (Status.REFUTED, Status.UNDECIDED, Status.HOLDS)
    return StatementSummary(
        statement=name,
        title=title,
        status=next((status for status in ranked if status in found), Status.OUT_OF_SCOPE),
        identities=[row for row in applied if row.kind == IDENTITY],
        consequences=[row for row in applied if row.kind == CONSEQUENCE],
        inequalities=[row for row in applied if row.kind not in (IDENTITY, CONSEQUENCE)],
        out_of_scope=[row for row in mine if row.status is Status.OUT_OF_SCOPE],
    )


def _predictions(episode: Episode) -> Iterator[Prediction]:
    if episode.is_joint:
        yield from _joint_predictions(episode)
        return
    world = episode.world
    d, log_ref, p1 = world.log_d, episode.ref.log_p, episode.rl[-1].log_p
    tilt = world.tilt(log_ref)
    rise = world.ce(d, p1) - world.ce(d, log_ref)
    exact = world.of_tilt(bounds.sft_loss_increase, d, log_ref)
    near = world.kl(d, log_ref) < NEAR_OPTIMAL
    yield Prediction("SFT loss change by RL, from ref", "S1", exact, rise, "nats")
    if near:
        yield Prediction("SFT loss change by RL, if ref were d", "S2", world.gap(d), rise, "nats")
    yield Prediction("reward after RL", "F3", world.j(tilt), world.j(p1), "reward")
    value = world.soft_value(log_ref)
    yield Prediction("regularised reward after RL", "F3", value, world.jb(p1, log_ref), "reward")
    moved = world.kl(tilt, log_ref)
    yield Prediction("KL(p||ref) after RL", "F3", moved, world.kl(p1, log_ref), "nats")
    if episode.after:
        p2 = episode.after[-1].log_p
        yield Prediction("reward after SFT", "F2", world.data_reward, world.j(p2), "reward")
        drop = world.j(p1) - world.j(p2)
        back = world.of_tilt(bounds.reward_drop, d, log_ref)
        yield Prediction("reward lost by SFT, from ref", "R2", back, drop, "reward")
        if near:
            cycle = world.of_tilt(bounds.cycle_loss, d)
            claim = "reward lost by SFT, if ref were d"
            yield Prediction(claim, "R6", cycle, drop, "reward")
        drop = world.jb(p1, log_ref) - world.jb(p2, log_ref)
        back = world.of_tilt(bounds.regularized_reward_drop, d, log_ref)
        yield Prediction("regularised reward lost by SFT", "R1", back, drop, "reward")


def _joint_predictions(episode: Episode) -> Iterator[Prediction]:
    world, log_ref, p = episode.world, episode.ref.log_p, episode.rl[-1].log_p
    joint, tilt = world.joint_optimum(log_ref), world.tilt(log_ref)
    start = world.ce(world.log_d, log_ref)
    predicted, observed = (world.ce(world.log_d, law) - start for law in (joint, p))
    yield Prediction("SFT loss change by joint training", "J1", predicted, observed, "nats")
    yield Prediction("reward after it", "J1", world.j(joint), world.j(p), "reward")
    best = world.jb(joint, log_ref), world.jb(p, log_ref)
    yield Prediction("regularised reward after it", "J1", *best, "reward")
    saved = [world.ce(world.log_d, tilt) - world.ce(world.log_d, law) for law in (joint, p)]
    yield Prediction("SFT loss saved against the RL optimum", "J1", *saved, "nats")
    first_order = float(world.joint_saving(log_ref)[1].mean())
    claim = "the same, at most (first order in lambda; of the exact joint optimum)"
    yield Prediction(claim, "J3", first_order, saved[0], "nats", is_bound=True)


def changes(result: Digest) -> Iterator[dict[str, Any]]:
    """What RL or joint training did in each episode, next to what the theory predicts of the exact optimum."""
    for episode in result.episodes:
        world, log_ref, p = episode.world, episode.ref.log_p, episode.rl[-1].log_p
        best = world.joint_optimum(log_ref) if episode.is_joint else world.tilt(log_ref)
        start = world.ce(world.log_d, log_ref)
        yield {
            "stage": episode.rl[-1].stage,
            "statement": "J1" if episode.is_joint else "S1",
            "loss_change": world.ce(world.log_d, p) - start,
            "predicted_loss_change": world.ce(world.log_d, best) - start,
            "J": world.j(p),
            "predicted_J": world.j(best),
        }
